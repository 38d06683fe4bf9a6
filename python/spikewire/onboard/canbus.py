"""CAN up with its full bit timing: nothing of it persists over a reboot on these boards."""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path
from typing import Any

from spikewire.onboard import programs
from spikewire.onboard.say import OK, Line, Stop

# board.json's key -> ip's word, for every interface and for those with FD
TIMING = {"bitrate": "bitrate", "sample_point": "sample-point", "sjw": "sjw"}
DATA_TIMING = {"dbitrate": "dbitrate", "dsample_point": "dsample-point", "dsjw": "dsjw"}


def words(name: str, can: dict[str, Any]) -> list[list[str]]:
    """Return the commands that bring an interface up, in their order."""
    keys = TIMING | (DATA_TIMING if can.get("fd") else {})
    timing = [part for key, word in keys.items() if can.get(key)
              for part in (word, f"{can[key]:.3f}" if isinstance(can[key], float)
                           else str(can[key]))]
    fd = ["fd", "on" if can.get("fd") else "off"]
    queue = ["txqueuelen", str(can["txqueuelen"])] if can.get("txqueuelen") else []
    link = ["ip", "link", "set", name]
    return [[*link, "down"], [*link, "type", "can", *timing, *fd, "berr-reporting", "on"],
            *([[*link, *queue]] if queue else []), [*link, "up"]]


def up(root: Path, board: dict[str, Any], name: str) -> Line:
    """Switch the pins to CAN where that is needed, then bring an interface up.

    Raises
    ------
    Stop
        The board file has no such interface, or a step of it fails.
    """
    can = board.get("can", {}).get(name)
    if can is None:
        raise Stop("can", f"{name} is not in the board file, there are "
                   f"{', '.join(board.get('can', {})) or 'none'}", "start mu-can@ with one of them")
    if can.get("pinmux", "sfio") != "sfio":
        set_pins(root / "dev/mem", can["pinmux"])
    for command in words(name, can):
        done = programs.run(command, 30)
        if done.code and command[-1] != "down":
            raise Stop("can", f"{' '.join(command)}: {done.last}",
                       "look at modprobe mttcan, and at the transceiver")
    return Line("can", OK, f"{name} up, {can.get('bitrate')} bit/s"
                + (f", data {can.get('dbitrate')} bit/s" if can.get("fd") else ""))


def set_pins(memory: Path, registers: list[list[int]]) -> None:
    """Write 32-bit registers of the pin multiplexer through /dev/mem.

    Raises
    ------
    Stop
        The kernel does not let anyone at them.
    """
    try:
        handle = os.open(memory, os.O_RDWR | os.O_SYNC)
        try:
            for address, value in registers:
                page = address & ~(mmap.PAGESIZE - 1)
                with mmap.mmap(handle, mmap.PAGESIZE, offset=page) as mapped:
                    struct.pack_into("<I", mapped, address - page, value)
        finally:
            os.close(handle)
    except (OSError, ValueError) as error:
        raise Stop("can", f"/dev/mem: {error}; the pins stay as they are",
                   "set them with Jetson-IO or a device-tree overlay") from None
