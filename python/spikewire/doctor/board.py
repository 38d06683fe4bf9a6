"""The board itself: system, packages, power, clocks, rights, heat, disk, time."""

from __future__ import annotations

import json
import math
import os
import re
import sys
import time
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path

from spikewire.doctor.finding import FAIL, NONE, WARN, Asked, Finding, judged
from spikewire.doctor.machine import (
    Machine,
    gpu_limits,
    jetpack_of,
    package_version,
    power_mode,
    power_modes,
    tegra,
)
from spikewire.runtime.realtime import PRIORITY
from spikewire.runtime.thermal import hottest

NEEDED = {"numpy": "numpy", "serial": "pyserial", "mcap": "mcap", "rich": "rich"}
OPTIONAL = {"onnxruntime": "onnxruntime", "cuda": "cuda-bindings", "can": "python-can",
            "pylsl": "pylsl"}
OLDEST_L4T, PYTHONS = (36, 4), ((3, 10), (3, 13))
SYS_NICE, IPC_LOCK = 23, 14  # linux/capability.h
HOT = 85.0  # degrees Celsius at which the guard says so
FEWEST_MB, FEW_MB = 100, 1000
BUILT = 1767225600  # the first second of 2026: no clock that is set shows less
LIMITS = "/etc/security/limits.d/spikewire.conf"


def jetpack(machine: Machine, asked: Asked) -> Iterator[Finding]:
    """Which board, and which JetPack on it."""
    model = machine.line("/proc/device-tree/model")
    release = tegra(machine)
    where = f"{model or 'a computer'}, {os.uname().machine}, Linux {os.uname().release}"
    if not release:
        yield Finding("board", NONE, f"{where}: no Jetson, as far as its files say")
        return
    parts = tuple(int(p) for p in release.split(".")) if release != "?" else ()
    yield judged("board", f"{model or 'a Jetson'}, L4T {release}, JetPack {jetpack_of(release)}", [
        (release == "?", WARN, "/etc/nv_tegra_release names no release: dpkg -l nvidia-l4t-core"),
        (bool(parts) and parts < OLDEST_L4T, WARN,
         "its Python or TensorRT is too old: flash JetPack 6.2 or 7.2"),
        (jetpack_of(release) == "?" and parts >= OLDEST_L4T, WARN,
         "a release that nobody has tried with spikewire; 6.2 and 7.2 are known"),
    ])


def python(machine: Machine, asked: Asked) -> Iterator[Finding]:
    """The interpreter that runs this."""
    version, (oldest, newest) = sys.version_info[:2], PYTHONS
    yield judged("Python", f"{sys.version.split()[0]}, {sys.executable or 'embedded'}", [
        (not oldest <= version <= newest, WARN,
         f"spikewire is tested on {oldest[0]}.{oldest[1]} to {newest[0]}.{newest[1]}"),
    ])


def version_of(module: str, package: str) -> str:
    """Version of a package; "" if its module is not there, "?" if it does not tell."""
    try:
        if util.find_spec(module) is None:
            return ""
    except (ImportError, ValueError):  # a parent that is broken, or an import half done
        return ""
    return installed(package) or installed(f"{package}-gpu") or "?"


def installed(package: str) -> str:
    """Version that a package's own notes name, or nothing."""
    try:
        return metadata.version(package) or ""
    except (metadata.PackageNotFoundError, KeyError, ValueError):
        return ""


def packages(machine: Machine, asked: Asked) -> Iterator[Finding]:
    """What is installed beside the standard library."""
    found = {p: version_of(m, p) for m, p in (NEEDED | OPTIONAL).items()}
    missing = [p for p in NEEDED.values() if not found[p]]
    there = ", ".join(f"{name} {version}" for name, version in found.items() if version)
    gone = ", ".join(name for name, version in found.items() if not version)
    yield judged("packages", there + (f"; not installed: {gone}" if gone else ""), [
        (bool(missing), WARN, f"deploy the release again, or: pip install {' '.join(missing)}"),
    ])


def tensorrt(machine: Machine, asked: Asked) -> Iterator[Finding]:
    """TensorRT's library, its Python binding, and CUDA's."""
    library = package_version(machine, r"libnvinfer\d+")
    binding, cuda = version_of("tensorrt", "tensorrt"), version_of("cuda", "cuda-bindings")
    wanted = asked.engine == "tensorrt"
    if not (library or binding or wanted or tegra(machine)):
        yield Finding("TensorRT", NONE, "not installed; the native engine needs none")
        return
    words = [f"library {library or 'missing'}", f"binding {binding or 'missing'}",
             f"cuda-bindings {cuda or 'missing'}"]
    bad = FAIL if wanted else WARN
    yield judged("TensorRT", ", ".join(words), [
        (not binding, bad, "sudo apt install tensorrt python3-libnvinfer"),
        (not cuda, bad, "pip install 'spikewire[tensorrt]'"),
    ])


def wanted_mode(asked: Asked) -> str:
    """Name of the power mode that the release beside the bundle asks for; "" if none does."""
    if not asked.bundle:
        return ""
    try:
        with open(Path(asked.bundle).with_name("board.json"), "rb") as file:
            mode = json.loads(file.read(1 << 20))["power"]["mode"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""
    return mode if isinstance(mode, str) else ""


def power(machine: Machine, asked: Asked) -> Iterator[Finding]:
    """The power mode, by name: mode 0 is the fastest on one board and a slow one on the next."""
    modes, now = power_modes(machine), power_mode(machine)
    if not modes and now is None:
        yield Finding("power mode", NONE, "no nvpmodel here")
        return
    name = modes.get(now, "") if now is not None else ""
    wanted = wanted_mode(asked)
    number = next((k for k, v in modes.items() if v == wanted), None)
    cores = f"; cores {machine.line('/sys/devices/system/cpu/online') or '?'} online"
    evidence = f"{name or '?'} (mode {'?' if now is None else now}), of {', '.join(modes.values())}"
    fastest = max((machine.number(p / "max_freq") for p in gpus(machine)), default=math.nan)
    allowed = gpu_limits(machine).get(now if now is not None else -1, math.inf)
    yield judged("power mode", evidence + cores, [
        (fastest > allowed, WARN, f"the GPU may run at {fastest / 1e6:.0f} MHz, the mode allows "
         f"{allowed / 1e6:.0f}: it was set but not applied; sudo systemctl status nvpmodel"),
        (not name, WARN, "ask for it: sudo nvpmodel -q"),
        (bool(wanted) and number is None, WARN,
         f"the board file wants {wanted}, which this board has not: correct the board file"),
        (number is not None and name != wanted, WARN,
         f"the board file wants {wanted}: sudo nvpmodel -m {number}"),
    ])


def gpus(machine: Machine) -> list[Path]:
    """Folders of the GPU's clocks; their names differ between boards and releases."""
    return [p for p in machine.glob("sys/class/devfreq/*") if re.search("gpu|ga10b|gb10b", p.name)]


def _mhz(machine: Machine, folder: Path, names: tuple[str, str], per_mhz: float) -> tuple[
        float, float]:
    """Lowest and highest frequency that a clock may take."""
    low, high = (machine.number(folder / name) / per_mhz for name in names)
    return low, high


def clocks(machine: Machine, asked: Asked) -> Iterator[Finding]:
    """Whether clocks may fall: our load is a short burst every 9.8 ms, which looks like idling."""
    found, moving = [], False
    cpus = machine.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq")
    for folder, kind, names, per_mhz in [
        *((p, "CPU", ("scaling_min_freq", "scaling_max_freq"), 1e3) for p in cpus),
        *((p, "GPU", ("min_freq", "max_freq"), 1e6) for p in gpus(machine)),
    ]:
        low, high = _mhz(machine, folder, names, per_mhz)
        held = low == high or machine.line(folder / "scaling_governor") == "performance"
        moving |= not held
        words = f"at {high:.0f}" if held else f"{low:.0f} to {high:.0f}"
        found.append(f"{kind} {words} MHz" if not math.isnan(high) else f"{kind} unknown")
    if not found:
        yield Finding("clocks", NONE, "neither cpufreq nor a GPU that can be asked")
        return
    times = {words: found.count(words) for words in found}
    evidence = ", ".join(f"{n} x {w}" if n > 1 else w for w, n in times.items())
    remedy = "sudo jetson_clocks" if tegra(machine) else \
        "sudo cpupower frequency-set -g performance"
    yield judged("clocks", evidence, [(moving, WARN, f"they may fall between two steps: {remedy}")])


def _limit(said: str, name: str) -> float:
    """The soft limit of a row of /proc/self/limits; NaN if it is not there."""
    found = re.search(rf"^{name} +(\d{{1,19}}|unlimited)", said, re.MULTILINE | re.ASCII)
    if not found:
        return math.nan
    return math.inf if found[1] == "unlimited" else float(found[1])


def rights(machine: Machine, asked: Asked) -> Iterator[Finding]:
    """Whether mu-run --realtime, started from here, would be granted what it asks for."""
    limits = machine.text("/proc/self/limits")
    priority = _limit(limits, "Max realtime priority")
    memory = _limit(limits, "Max locked memory")
    caps = re.search(r"^CapEff:\s*([0-9a-fA-F]{1,16})$", machine.text("/proc/self/status"),
                     re.MULTILINE)
    bits = int(caps[1], 16) if caps else 0
    fifo = bool(bits >> SYS_NICE & 1) or priority >= PRIORITY
    locked = bool(bits >> IPC_LOCK & 1) or math.isinf(memory)
    kernel = "PREEMPT_RT" if machine.line("/sys/kernel/realtime") == "1" else "ordinary kernel"
    words = [f"SCHED_FIFO {'yes' if fifo else 'no'}", f"locked memory {'yes' if locked else 'no'}"]
    remedy = (f"a service of mu-flash has them; for a shell: printf '* - rtprio 90\\n* - memlock "
              f"unlimited\\n' | sudo tee {LIMITS}; then log in again")
    yield judged("real-time rights", f"{', '.join(words)} (here), {kernel}", [
        (not (fifo and locked), WARN, remedy)])


def heat(machine: Machine, asked: Asked) -> Iterator[Finding]:
    """The hottest thermal zone."""
    zones = machine.glob("sys/class/thermal/thermal_zone*")
    celsius = hottest(machine.at("sys/class/thermal"))
    if math.isnan(celsius):
        yield Finding("temperature", NONE, f"{len(zones)} thermal zones, none says a temperature")
        return
    yield judged("temperature", f"{celsius:.0f} degC, the hottest of {len(zones)} zones", [
        (celsius >= HOT, WARN, f"above {HOT:.0f} degC clocks fall: a fan, or a lower power mode")])


def _near(machine: Machine, path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    while not machine.at(path).is_dir() and path != path.parent:
        path = path.parent
    return path


def disk(machine: Machine, asked: Asked) -> Iterator[Finding]:
    """Room on, and rights to write on, what releases, plans and states lie on."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    places = ["/", "/opt/spikewire", "/var/lib/spikewire",
              cache if os.path.isabs(cache) else Path("~/.cache").expanduser()]
    seen: dict[int, tuple[Path, float, bool]] = {}
    for path in (_near(machine, Path(place)) for place in places):
        try:
            stat, device = os.statvfs(machine.at(path)), machine.at(path).stat().st_dev
        except OSError:
            continue
        free_mb = stat.f_bavail * stat.f_frsize / 1e6
        seen.setdefault(device, (path, free_mb, bool(stat.f_flag & os.ST_RDONLY)))
    evidence = ", ".join(f"{path} {free / 1e3:.1f} GB free{', read-only' if only else ''}"
                         for path, free, only in seen.values())
    least = min((free for _, free, _ in seen.values()), default=math.nan)
    yield judged("disk", evidence or "no file system can be asked", [
        (not seen, WARN, "df -h"),
        (least < FEWEST_MB, FAIL, "sudo apt clean; sudo journalctl --vacuum-size=100M"),
        (least < FEW_MB, WARN, "sudo apt clean; sudo journalctl --vacuum-size=100M"),
        (any(only for _, _, only in seen.values()), WARN,
         "a card with errors is mounted so: sudo dmesg | grep -i 'error\\|remount'"),
    ])


def time_source(machine: Machine, asked: Asked) -> Iterator[Finding]:
    """What counts the nanoseconds, and whether the date is one."""
    source = machine.line("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    date = time.time()
    synchronised = any(machine.exists(p) for p in (
        "/run/systemd/timesync/synchronized", "/run/chrony/chronyd.pid", "/run/ntpd.pid",
        "/run/chrony/chronyd.sock"))
    words = [f"counter {source or '?'}", time.strftime("%Y-%m-%d", time.gmtime(date)),
             "a time service runs" if synchronised else "no time service seen"]
    yield judged("time", ", ".join(words), [
        (source in ("jiffies", "refined-jiffies", "acpi_pm", "pit"), WARN,
         "a slow or coarse counter; on a PC boot with clocksource=tsc"),
        (date < BUILT, WARN, "the date is wrong (no battery?), so are names of logs: sudo "
         "timedatectl set-ntp true"),
    ])

