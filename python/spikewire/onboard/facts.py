"""What a board is and has, read from its files and from the programs that came with it."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spikewire.onboard import programs

# JetPack's conf names each mode in a line of its own.
MODE = re.compile(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=([^\s>]+)\s*>")
L4T = re.compile(r"R(\d+)\s*\(release\),\s*REVISION:\s*([\d.]+)")
ARMED = ("ACTIVE", "DEGRADED")
FRESH_S = 5.0  # mu-run says something every half second
LONGEST = 1 << 20


def machine(root: Path) -> str:
    """Return the architecture, as release.json's `arch`."""
    return platform.machine()


def compatible(root: Path) -> list[str]:
    """Return the names of the board, its own first; empty where there is no device tree."""
    raw = _read(root / "proc/device-tree/compatible")
    return [name for name in raw.split("\0") if name]


def l4t(root: Path) -> str | None:
    """Return the version of Jetson Linux, such as "36.4.3"; None where it is none."""
    found = L4T.search(_read(root / "etc/nv_tegra_release"))
    return f"{found[1]}.{found[2]}" if found else None


def python(root: Path) -> str:
    """Return the version of the python3 that runs this."""
    return ".".join(map(str, sys.version_info[:3]))


def tensorrt(root: Path) -> str | None:
    """Return the version of TensorRT's library as dpkg knows it; None without."""
    done = programs.run(["dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Version}\n",
                         "libnvinfer[0-9]*"])
    found = re.findall(r"^ii +(\d+(?:\.\d+)+)", done.text, re.MULTILINE)
    return max(found, key=numbers) if found else None


def free_bytes(root: Path) -> int:
    """Return what is free where releases lie."""
    path = root / "opt/spikewire"
    while not path.is_dir():
        path = path.parent
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def year(root: Path) -> int:
    """Return the year that the clock says."""
    return time.gmtime().tm_year


def uptime_s(root: Path) -> float | None:
    """Return the time since the kernel started."""
    words = _read(root / "proc/uptime").split()
    return float(words[0]) if words else None


def power_modes(root: Path) -> dict[str, str]:
    """Return name -> number of the power modes; the numbers differ between boards."""
    return {name: number for number, name in MODE.findall(_read(root / "etc/nvpmodel.conf"))}


def power_mode(root: Path) -> str | None:
    """Return the name of the power mode; None where there are none."""
    done = programs.run(["nvpmodel", "-q"])
    found = re.search(r"NV Power Mode:\s*(?:MODE_)?(\S+)", done.text)
    return found[1] if done.code == 0 and found else None


def clocks_khz(root: Path) -> dict[str, list[int]]:
    """Return processor -> [now, highest]."""
    out = {}
    for folder in sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq")):
        pair = [_read(folder / f"scaling_{which}_freq").strip() for which in ("cur", "max")]
        if all(word.isdigit() for word in pair):
            out[folder.parent.name] = [int(word) for word in pair]
    return out


# name -> reader; mu-doctor takes what it needs from here, too
FACTS: dict[str, Callable[[Path], Any]] = {
    "machine": machine, "compatible": compatible, "l4t": l4t, "python": python,
    "tensorrt": tensorrt, "free_bytes": free_bytes, "year": year, "uptime_s": uptime_s,
    "power_modes": power_modes, "power_mode": power_mode, "clocks_khz": clocks_khz,
}


def read(root: Path = Path("/")) -> dict[str, Any]:
    """Return all facts by name."""
    return {name: fact(root) for name, fact in FACTS.items()}


def runtime(status: Path) -> dict[str, Any]:
    """Return what mu-run last said; empty where it has not, or said it long ago.

    Parameters
    ----------
    status : Path
        /run/spikewire/status.json.
    """
    try:
        now = json.loads(_read(status))
    except (ValueError, RecursionError):
        return {}
    if not isinstance(now, dict) or type(now.get("monotonic_s")) not in (int, float):
        return {}
    return now if abs(time.monotonic() - now["monotonic_s"]) < FRESH_S else {}


def numbers(version: str) -> tuple[int, ...]:
    """Return a version as numbers that compare."""
    return tuple(int(word) for word in re.findall(r"\d+", version))


def _read(path: Path) -> str:
    """Read a small file; empty where there is none."""
    try:
        with open(path, "rb") as file:
            return file.read(LONGEST).decode(errors="replace")
    except OSError:
        return ""
