"""A folder that looks like a Jetson, and shims of the programs that it would have.

Texts are typed after public dumps: /etc/nv_tegra_release and nvpmodel.conf of an Orin Nano Super
with JetPack 6.2, /proc/self/limits of Linux 6, and JSON as iproute2's iplink_can.c prints it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

RELEASE = ("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, "
           "DATE: Wed Jan  8 01:49:37 UTC 2025\n# KERNEL_VARIANT: oot\n")
MODES = """< PARAM TYPE=CLOCK NAME=EMC >
MAX_FREQ /sys/kernel/nvpmodel_emc_cap/emc_iso_cap
< POWER_MODEL ID=0 NAME=15W >
GPU MAX_FREQ 612000000
< POWER_MODEL ID=1 NAME=25W >
GPU MAX_FREQ 918000000
< POWER_MODEL ID=2 NAME=MAXN_SUPER >
GPU MAX_FREQ -1
< POWER_MODEL ID=3 NAME=7W >
< PM_CONFIG DEFAULT=1 >
"""
LIMITS = """Limit                     Soft Limit           Hard Limit           Units
Max locked memory         {memory:<20} {memory:<20} bytes
Max realtime priority     {priority:<20} {priority}
"""
DPKG = """Package: libnvinfer-bin
Status: install ok installed
Version: 9

Package: libnvinfer10
Status: install ok installed
Architecture: arm64
Version: 10.3.0.30-1+cuda12.5
"""


def put(root: Path, path: str, text: str | bytes) -> None:
    """Write a file below a root."""
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(text.encode() if isinstance(text, str) else text)


def make_jetson(root: Path) -> Path:
    """All in order: mode 25W, clocks locked, rights granted, can0 up at 500 kbit/s, no getty."""
    for path, text in {
        "proc/device-tree/model": b"NVIDIA Jetson Orin Nano Engineering Reference Developer Kit "
                                  b"Super\0",
        "proc/device-tree/compatible": b"nvidia,p3768-0000+p3767-0005-super\0nvidia,tegra234\0",
        "etc/nv_tegra_release": RELEASE, "etc/nvpmodel.conf": MODES,
        "etc/group": "root:x:0:\ndialout:x:20:ana,bo\ntty:x:5:\n",
        "var/lib/nvpmodel/status": "pmode:0001 fmode:fanNull",
        "var/lib/dpkg/status": DPKG,
        "proc/self/limits": LIMITS.format(memory="unlimited", priority=90),
        "proc/self/status": "Name:\tmu\nCapEff:\t0000000000000000\n",
        "proc/cmdline": "root=/dev/mmcblk0p1 rw console=ttyTCU0,115200 fbcon=map:0\n",
        "sys/devices/system/cpu/online": "0-5\n",
        "sys/devices/system/clocksource/clocksource0/current_clocksource": "arch_sys_counter\n",
        "sys/class/devfreq/17000000.gpu/min_freq": "918000000\n",
        "sys/class/devfreq/17000000.gpu/max_freq": "918000000\n",
        "sys/class/thermal/thermal_zone0/temp": "51250\n",
        "run/systemd/timesync/synchronized": "",
    }.items():
        put(root, path, text)
    for core in range(6):
        folder = f"sys/devices/system/cpu/cpu{core}/cpufreq"
        put(root, f"{folder}/scaling_min_freq", "1344000\n")
        put(root, f"{folder}/scaling_max_freq", "1344000\n")
        put(root, f"{folder}/scaling_governor", "schedutil\n")
    add_can(root, "can0")
    return root


def add_can(root: Path, name: str, flags: str = "0x400c1", queue: int = 100, mtu: int = 72) -> None:
    """A CAN interface as sysfs shows it."""
    for path, text in {"type": "280\n", "flags": flags, "tx_queue_len": f"{queue}\n",
                       "mtu": f"{mtu}\n", "statistics/tx_errors": "0\n",
                       "statistics/rx_errors": "0\n"}.items():
        put(root, f"sys/class/net/{name}/{path}", text)


def told_can(name: str, state: str = "ERROR-ACTIVE", restart: int = 100, tx: int = 0,
             offs: int = 0) -> dict:
    """What `ip -details -statistics -json link show` says of it."""
    return {
        "ifindex": 3, "ifname": name, "flags": ["NOARP", "UP", "LOWER_UP", "ECHO"], "mtu": 72,
        "operstate": "UP", "txqlen": 100, "link_type": "can",
        "linkinfo": {
            "info_kind": "can",
            "info_data": {
                "ctrlmode": ["FD"], "state": state, "berr_counter": {"tx": tx, "rx": 0},
                "restart_ms": restart,
                "bittiming": {"bitrate": 500000, "sample_point": "0.800", "tq": 20},
                "data_bittiming": {"bitrate": 2000000, "sample_point": "0.750", "tq": 20},
                "clock": 50000000},
            "info_xstats": {"restarts": 0, "bus_error": 0, "bus_off": offs}}}


def shim(folder: Path, name: str, text: str, code: int = 0) -> None:
    """A program that prints a text."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.txt").write_text(text)
    program = folder / name
    program.write_text(f'#!/bin/sh\n/bin/cat "{folder / name}.txt"\nexit {code}\n')
    program.chmod(0o755)


def shim_ip(folder: Path, *links: dict) -> None:
    """An `ip` that tells of these links, after the loopback interface."""
    shim(folder, "ip", json.dumps([{"ifname": "lo", "flags": ["UP"]}, *links]))


def only(findings: object, step: str):
    """The one finding of a step."""
    found = [f for f in findings if f.step == step]  # type: ignore[attr-defined]
    assert len(found) == 1, [f.step for f in found]
    return found[0]


def on_path(monkeypatch, folder: Path) -> None:
    """Nothing but shims can be found."""
    folder.mkdir(exist_ok=True)
    monkeypatch.setenv("PATH", os.fspath(folder))
