"""What Linux does with CAN frames, for kernels without CAN; and an interface of it where there is.

`Kernel` was compared with Linux 6.1: an interface queues 10 frames, a socket's memory counts 768
bytes for each that waits, ENOBUFS when it is full, ENETDOWN when it is down, ENXIO and then ENODEV
when it is gone; taking it down empties the queue.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from pathlib import Path

QUEUE = 10  # txqueuelen of a CAN interface
MEMORY_OF_FRAME = 768
SOL_CAN_RAW, RAW_FD_FRAMES = 101, 5
ERROR = 1 << 29
INTERFACE = "vcan0"


class Kernel:
    """One interface.

    Attributes
    ----------
    up, off, stuck, gone : bool
        Up; off the bus; nothing leaves the queue; unplugged.
    permitted : bool
        May take it down and up.
    wire : list of bytes
        Packets that left.
    """

    def __init__(self, permitted: bool = True) -> None:
        self.up, self.permitted = True, permitted
        self.off = self.stuck = self.gone = False
        self.queue: list[tuple[Sock, bytes]] = []
        self.wire: list[bytes] = []
        self.sockets: list[Sock] = []
        self.restarts = 0

    def socket(self, fd: bool = False) -> Sock:
        """Open a socket and bind it."""
        sock = Sock(self, fd)
        self.sockets.append(sock)
        return sock

    def restart(self, name: str) -> None:
        """Down and up."""
        if self.gone:
            raise OSError(errno.ENODEV, "No such device")
        if not self.permitted:
            raise PermissionError(errno.EPERM, "Operation not permitted")
        self.restarts += 1
        self.queue.clear()
        self.up, self.off = True, False

    def down(self) -> None:
        """As by another program."""
        self.up = False
        self.queue.clear()

    def free(self) -> None:
        """Let the queue go."""
        self.stuck = False
        self.wire += [packet for _, packet in self.queue]
        self.queue.clear()

    def say(self, identifier: int, data: bytes) -> None:
        """Deliver a frame to every open socket; with `ERROR` in it an error frame."""
        packet = struct.pack("=IB3x8s", identifier, len(data), data)
        for sock in self.sockets:
            sock.inbox.append(packet)


class Sock:
    """An AF_CAN socket that does not block."""

    def __init__(self, kernel: Kernel, fd: bool) -> None:
        self.kernel, self.fd = kernel, fd
        self.inbox: list[bytes] = []
        self.closed = False

    def send(self, packet: bytes) -> int:
        k = self.kernel
        refusals = (
            (self.closed, errno.EBADF), (k.gone, errno.ENXIO), (not k.up, errno.ENETDOWN),
            (len(packet) != 16 and not (self.fd and len(packet) == 72), errno.EINVAL),
            (k.off or len(k.queue) >= QUEUE, errno.ENOBUFS),
        )
        for refused, code in refusals:
            if refused:
                raise OSError(code, os.strerror(code))
        if k.stuck:
            k.queue.append((self, packet))
        else:
            k.wire.append(packet)
        return len(packet)

    def recv(self, size: int) -> bytes:
        if self.inbox:
            return self.inbox.pop(0)
        if self.kernel.gone:
            raise OSError(errno.ENODEV, "No such device")
        if not self.kernel.up:
            raise OSError(errno.ENETDOWN, "Network is down")
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    def getsockopt(self, level: int, name: int, size: int) -> bytes:
        assert (level, name, size) == (socket.SOL_SOCKET, 55, 36)
        waiting = sum(sock is self for sock, _ in self.kernel.queue)
        return struct.pack("=9I", 0, 212992, MEMORY_OF_FRAME * waiting, 212992, 0, 0, 0, 0, 0)

    def close(self) -> None:
        self.closed = True
        if self in self.kernel.sockets:
            self.kernel.sockets.remove(self)


def unpack(packet: bytes) -> tuple[int, bytes]:
    """Identifier and data of a struct can_frame or canfd_frame."""
    identifier, size = struct.unpack_from("=IB", packet)
    assert len(packet) == (16 if size <= 8 else 72)
    return identifier, packet[8 : 8 + size]


def has_interface() -> bool:
    """Whether there is a virtual CAN interface; sudo ip link add vcan0 type vcan makes one."""
    flags = Path(f"/sys/class/net/{INTERFACE}/flags")
    return flags.exists() and bool(int(flags.read_text(), 0) & 1)


def foreign(fd: bool = False) -> socket.socket:
    """Another program's socket on that interface."""
    sock = socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW)
    sock.setsockopt(SOL_CAN_RAW, RAW_FD_FRAMES, int(fd))
    sock.bind((INTERFACE,))
    sock.setblocking(False)
    return sock


def take(sock: socket.socket) -> list[tuple[int, bytes]]:
    """Frames that have come to it."""
    frames = []
    while True:
        try:
            frames.append(unpack(sock.recv(72)))
        except BlockingIOError:
            return frames
