"""Where frames leave the board: CAN interfaces and serial ports."""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spikewire.doctor.board import version_of
from spikewire.doctor.finding import FAIL, NONE, WARN, Asked, Finding, judged, shown
from spikewire.doctor.machine import Machine

CAN_HARDWARE, IS_UP, FD_MTU = "280", 1, 72  # linux/if_arp.h, linux/if.h, linux/can.h
SHORT_QUEUE = 10  # the kernel's own choice: two steps of a full decoder
SET_UP = "sudo ip link set {0} down; sudo ip link set {0} up type can bitrate 500000 restart-ms 100"
WIRING = ("is a second node on the bus, at the same bit rate, with 120 ohm at both ends? then: "
          + SET_UP)
PORTS = ("dev/spikewire-*", "dev/ttyTHS*", "dev/ttyUSB*", "dev/ttyACM*")
GETTYS = ("agetty", "getty", "nvgetty", "login")


def _told(machine: Machine) -> dict[str, dict[str, Any]]:
    """What the kernel tells of every CAN interface, by name; only `ip` can ask it."""
    said = machine.program("ip", "-details", "-statistics", "-json", "link", "show")
    try:
        links = json.loads(said or "[]")
    except (ValueError, RecursionError):
        return {}
    told = {}
    for link in links if isinstance(links, list) else []:
        info = link.get("linkinfo") if isinstance(link, dict) else None
        if isinstance(info, dict) and isinstance(link.get("ifname"), str):
            told[link["ifname"]] = info
    return told


def _inner(table: dict[str, Any], *names: str) -> dict[str, Any]:
    """A table inside a table; empty if there is none."""
    for name in names:
        inner = table.get(name)
        table = inner if isinstance(inner, dict) else {}
    return table


def _number(table: dict[str, Any], name: str) -> float:
    """A number of a table; NaN if it is none."""
    value = table.get(name)
    return float(value) if type(value) is int and abs(value) < 1 << 62 else math.nan


def can(machine: Machine, asked: Asked) -> Iterator[Finding]:
    """Every CAN interface, and those that a link names."""
    wanted = [uri.path or "can0" for uri in asked.uris() if uri.scheme == "can"]
    there = [path.parent.name for path in machine.glob("sys/class/net/*/type")
             if machine.line(path) == CAN_HARDWARE]
    for name in dict.fromkeys(wanted):
        if name not in there:
            yield Finding(f"CAN {name}"[:40], FAIL, f"no such interface; there are: "
                          f"{', '.join(there) or 'none'}", "load its driver: sudo modprobe mttcan "
                          "(Jetson), gs_usb or peak_usb (adapters)")
    told = _told(machine) if there else {}
    for name in there:
        yield interface(machine, name, told.get(name), FAIL if name in wanted else WARN)
    if not (there or wanted):
        yield Finding("CAN", NONE, "no CAN interface")


def interface(
    machine: Machine, name: str, told: dict[str, Any] | None, bad: str
) -> Finding:
    """One CAN interface; `bad` is what a state is worth in which it cannot send."""
    folder = Path("/sys/class/net", name)
    try:
        up = bool(int(machine.line(folder / "flags") or "0", 16) & IS_UP)
    except ValueError:
        up = False
    queue = machine.number(folder / "tx_queue_len")
    errors = [machine.number(folder / "statistics" / n) for n in ("tx_errors", "rx_errors")]
    data, virtual = _inner(told or {}, "info_data"), (told or {}).get("info_kind") == "vcan"
    state = data.get("state")
    state = state if isinstance(state, str) and re.fullmatch("[A-Z-]{1,20}", state) else "?"
    rate = _number(_inner(data, "bittiming"), "bitrate") / 1e3
    fast = _number(_inner(data, "data_bittiming"), "bitrate") / 1e3
    restart = _number(data, "restart_ms")
    offs = _number(_inner(told or {}, "info_xstats"), "bus_off")
    counters = [_number(_inner(data, "berr_counter"), n) for n in ("tx", "rx")]
    words = ["up" if up else "down", *([] if virtual else [state, shown(rate, "kbit/s")])]
    if machine.number(folder / "mtu") == FD_MTU:
        words.append("FD" + ("" if math.isnan(fast) else f" {fast:g} kbit/s"))
    words += [f"queue {shown(queue, 'frames')}", f"restart {shown(restart, 'ms')}"]
    words += [f"{n} {v:.0f}" for n, v in zip(("tx errors", "rx errors", "bus-offs"),
                                             [*errors, offs], strict=True) if v > 0]
    words += [f"error counters {counters[0]:.0f}/{counters[1]:.0f}"] if max(counters) > 0 else []
    return judged(f"CAN {name}"[:40], ", ".join(words), [
        (not up, bad, f"sudo systemctl start mu-can@{name}, or: {SET_UP.format(name)}"),
        (state == "BUS-OFF", bad, WIRING.format(name)),
        (state in ("ERROR-PASSIVE", "ERROR-WARNING") or max(counters) > 0, WARN,
         WIRING.format(name)),
        (told is None, WARN, "bit rate unknown, ip tells it: sudo apt install iproute2"),
        (up and restart == 0 and state == "ERROR-ACTIVE", WARN,
         f"after bus-off it stays silent: {SET_UP.format(name)}"),
        (queue <= SHORT_QUEUE, WARN, f"sudo ip link set {name} txqueuelen 100"),
    ])


def serial(machine: Machine, asked: Asked) -> Iterator[Finding]:
    """The serial ports that links name, or else all that a controller could be on."""
    uris = [uri for uri in asked.uris() if uri.scheme in ("serial", "slcan")]
    if uris and not version_of("serial", "pyserial"):
        yield Finding("pyserial", FAIL, "not installed, and a link needs it",
                      "deploy the release again, or: pip install pyserial")
    ports = [Path(uri.path) for uri in uris] or [p for pattern in PORTS
                                                 for p in machine.glob(pattern)]
    for path in dict.fromkeys(ports):
        yield port(machine, path, FAIL if uris else WARN)
    if not ports:
        yield Finding("serial", NONE, f"no port: {', '.join('/' + p for p in PORTS)}")


def _target(machine: Machine, path: Path) -> Path:
    """Where a port's links end, as a path below the root."""
    for _ in range(8):
        try:
            path = path.parent / os.readlink(machine.at(path))
        except (OSError, ValueError):
            break
    return path


def _group(machine: Machine, number: int) -> str:
    """Name of a group."""
    found = re.search(rf"^([\w-]+):[^:\n]*:{number}:", machine.text("/etc/group"), re.MULTILINE)
    return found[1] if found else str(number)


def holders(machine: Machine, path: Path) -> list[str]:
    """Programs that have a port open, as far as we may see."""
    found = set()
    for open_file in machine.glob("proc/[0-9]*/fd/*"):
        try:
            held = os.readlink(machine.at(open_file)) == str(path)
        except OSError:
            continue
        if held:
            name = machine.line(open_file.parents[1] / "comm") or "?"
            found.add(f"{name} ({open_file.parts[2]})")
    return sorted(found)


def logins(machine: Machine, name: str) -> list[str]:
    """Services that will take a port for a login."""
    wanted = [f"serial-getty@{name}.service"]
    if name.startswith("ttyTHS"):
        wanted.append("nvgetty.service")
    return [unit for unit in wanted if machine.glob(f"etc/systemd/system/*.wants/{unit}")]


def port(machine: Machine, path: Path, bad: str) -> Finding:
    """One serial port; `bad` is what a port is worth that cannot be used."""
    step, end = f"serial {path}"[:40], _target(machine, path)
    try:
        there = machine.at(end).stat()
    except (OSError, ValueError):
        return Finding(step, bad, "not there", "plug it in; list the ports: ls -l /dev/tty*; the "
                       "header's UART is ttyTHS1 on JetPack 6, ttyTHS0 on 5")
    if not stat.S_ISCHR(there.st_mode):
        return Finding(step, bad, "no port but a file or folder", "ls -l " + str(path))
    group, held = _group(machine, there.st_gid), holders(machine, end)
    allowed = os.access(machine.at(end), os.R_OK | os.W_OK)
    units = logins(machine, end.name)
    getty = any(words.split(" (")[0].removesuffix(".sh") in GETTYS for words in held)
    console = f"console={end.name}" in machine.text("/proc/cmdline").replace(",", " ").split()
    words = [str(end)] if end != path else []
    words += [f"group {group}, mode {stat.S_IMODE(there.st_mode):03o}",
              "may be opened" if allowed else "may not be opened"]
    words += [f"open in {', '.join(held)}"] if held else []
    words += [f"{', '.join(units)} enabled"] if units else []
    words += ["the kernel's console"] if console else []
    return judged(step, ", ".join(words), [
        (not allowed, bad, f"sudo usermod -aG {group} $USER; then log in again"),
        (bool(units), bad, "; ".join(f"sudo systemctl disable --now {u}" for u in units)),
        (getty and not units, bad, f"a login holds it: sudo fuser -k {end}"),
        (console, bad, f"take console={end.name} out of /boot/extlinux/extlinux.conf, reboot"),
        (bool(held) and not getty, WARN, "if that is not mu-run, end it"),
    ])
