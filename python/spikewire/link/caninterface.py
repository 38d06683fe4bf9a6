"""A CAN interface of Linux: whether it can be used, and taking it down and up."""

from __future__ import annotations

import fcntl
import socket
import struct
from pathlib import Path

from spikewire.link.transport import LinkError, Uri

# linux/sockios.h, linux/if.h, linux/if_arp.h, linux/can.h
GET_FLAGS, SET_FLAGS, GET_MTU, IS_UP = 0x8913, 0x8914, 0x8921, 0x1
CAN_HARDWARE, FD_MTU = "280", 72
INTERFACES = Path("/sys/class/net")
SET_UP = "sudo ip link set {0} up type can bitrate 500000"


def _ask(request: int, name: str, value: int = 0) -> int:
    """Ask the kernel for a number of a network interface, or set its flags."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        answer = fcntl.ioctl(asking, request, struct.pack("16si20x", name.encode(), value))
    return int(struct.unpack_from("16si", answer)[1])


def restart(name: str) -> None:
    """Take an interface down and up, which empties its queue and ends bus-off.

    Raises
    ------
    PermissionError
        Without the capability CAP_NET_ADMIN; nothing has changed then.
    """
    flags = _ask(GET_FLAGS, name) & 0xFFFF
    _ask(SET_FLAGS, name, flags & ~IS_UP)
    _ask(SET_FLAGS, name, flags | IS_UP)


def check_interface(uri: Uri, wants_fd: bool) -> None:
    """Refuse an interface that cannot be used, with what to type.

    Raises
    ------
    LinkError
        The kernel has no CAN, or the interface is not there, none for CAN, down or classic only.
    """
    what, name = f"link {uri.text!r}", uri.path
    try:
        socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW).close()
    except (OSError, AttributeError) as error:
        raise LinkError(
            f"{what}: this kernel has no CAN ({getattr(error, 'strerror', None) or error}); type: "
            f"sudo modprobe can_raw; {SET_UP.format(name or 'can0')}; or take an adapter with a "
            "serial port: slcan:/dev/ttyACM0, or a serial line: serial:/dev/ttyUSB0"
        ) from error
    there = sorted(path.parent.name for path in INTERFACES.glob("*/type")
                   if path.read_text().strip() == CAN_HARDWARE)
    if name not in there:
        raise LinkError(f"{what}: no CAN interface {name!r}; allowed: {', '.join(there) or 'none'};"
                        f" type for instance {uri.scheme}:{(there or ['can0'])[0]}, or load the "
                        "adapter's driver: sudo modprobe mttcan (Jetson), gs_usb or peak_usb")
    if not _ask(GET_FLAGS, name) & IS_UP:
        raise LinkError(f"{what}: the interface is down; type: {SET_UP.format(name)}")
    if wants_fd and _ask(GET_MTU, name) != FD_MTU:
        raise LinkError(f"{what}: the interface is set to classic CAN; type profile=classic, or: "
                        f"sudo ip link set {name} down; {SET_UP.format(name)} dbitrate 2000000 "
                        "fd on")
