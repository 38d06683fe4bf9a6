"""SocketCAN: the CAN interfaces of Linux, through python-can or the kernel's own sockets.

The only file that imports python-can. Both ways end at the same kind of socket; without python-can
nothing is missing. The socket's memory tells which frames have not left yet, so that nothing piles
up in the interface's queue.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from spikewire.link.caninterface import check_interface, restart
from spikewire.link.canlink import ERROR_MASK, OPTIONS, CanLink, every_step
from spikewire.link.load import CLASSIC_MAX
from spikewire.link.profile import PROFILES, Info
from spikewire.link.table import ARM
from spikewire.link.transport import CanFrame, LinkError, Uri, options

# linux/can.h: struct can_frame and struct canfd_frame; an identifier's upper bits say what it is
CLASSIC, FD = struct.Struct("=IB3x8s"), struct.Struct("=IBB2x64s")
HEAD = struct.Struct("=IB3x")
EXTENDED, REMOTE, ERROR, IDENTIFIER = 1 << 31, 1 << 30, 1 << 29, (1 << 29) - 1
SOL_CAN_RAW, RAW_FILTER, RAW_ERR_FILTER, RAW_FD_FRAMES = 101, 1, 2, 5
FILTER = struct.Struct("=II")
BIT_RATE_SWITCH = 0x01  # the data of an FD frame go at the faster rate
SO_MEMINFO, MEMORY = 55, struct.Struct("=9I")  # its third word: bytes that wait to be sent
FRAME_MEMORY = 1024  # bytes of the kernel's for a frame at most; 768 in Linux 6
MOST = 64  # frames of one `receive`
GONE = (errno.ENODEV, errno.ENXIO)


class Wire(Protocol):
    """One open CAN socket; frames go in and out singly, nothing blocks, failures are OSErrors."""

    sock: Any

    def put(self, frame: CanFrame) -> None:
        """Hand over one frame."""
        ...

    def take(self) -> CanFrame | None:
        """Return one frame if there is one."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class KernelWire:
    """A CAN socket through the standard library.

    Parameters
    ----------
    sock : socket, open and bound
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def put(self, frame: CanFrame) -> None:
        """Hand over one frame; 8 bytes or less are always a classic one."""
        size = len(frame.data)
        if size <= CLASSIC_MAX:
            self.sock.send(CLASSIC.pack(frame.identifier, size, frame.data))
        else:
            self.sock.send(FD.pack(frame.identifier, size, BIT_RATE_SWITCH, frame.data))

    def take(self) -> CanFrame | None:
        """Return one frame if there is one."""
        try:
            packet = self.sock.recv(FD.size)
        except BlockingIOError:
            return None
        identifier, size = HEAD.unpack_from(packet)
        return _frame(identifier, packet[HEAD.size : HEAD.size + size])

    def close(self) -> None:
        """Let go of it."""
        self.sock.close()


class PythonCanWire:
    """A bus of python-can.

    Parameters
    ----------
    bus : can.BusABC
    """

    def __init__(self, bus: Any) -> None:
        import can

        self._bus, self._message, self._error = bus, can.Message, can.CanError
        self.sock = getattr(bus, "socket", None)

    def put(self, frame: CanFrame) -> None:
        """Hand over one frame; 8 bytes or less are always a classic one."""
        is_fd = len(frame.data) > CLASSIC_MAX
        message = self._message(
            arbitration_id=frame.identifier, is_extended_id=False, data=frame.data,
            is_fd=is_fd, bitrate_switch=is_fd,
        )
        try:
            self._bus.send(message, timeout=0)
        except self._error as error:  # without a number: its own wait for room ended
            raise OSError(error.error_code or errno.EAGAIN, str(error)) from error

    def take(self) -> CanFrame | None:
        """Return one frame if there is one."""
        try:
            message = self._bus.recv(timeout=0)
        except self._error as error:
            raise OSError(error.error_code or errno.EIO, str(error)) from error
        if message is None:
            return None
        marks = EXTENDED * message.is_extended_id | REMOTE * message.is_remote_frame
        marks |= ERROR * message.is_error_frame
        return _frame(message.arbitration_id | marks, bytes(message.data))

    def close(self) -> None:
        """Let go of it."""
        self._bus.shutdown()


def _frame(identifier: int, data: bytes) -> CanFrame:
    """Return a frame as it came; error frames lose their marks."""
    if identifier & ERROR:
        return CanFrame(identifier & IDENTIFIER, data, error=True)
    return CanFrame(identifier, data)


class SocketBus:
    """A CAN interface; see `canlink.Bus`.

    Parameters
    ----------
    name : str
        Such as can0.
    open_wire : callable -> Wire
    restart : callable of name
        Take the interface down and up; PermissionError where that is not allowed.
    room : int
        Frames of one step: so many may still wait when the next is sent.
    """

    def __init__(
        self, name: str, open_wire: Callable[[], Wire], restart: Callable[[str], None], room: int,
    ) -> None:
        self._name, self._open_wire, self._restart = name, open_wire, restart
        self._room = room * FRAME_MEMORY
        self._closed = False
        self._wire = open_wire()

    def send(self, frames: Sequence[CanFrame]) -> bool:
        """Send the frames of one step; False if more than those of one are still queued."""
        if self.queued() > self._room:
            return False
        try:
            for frame in frames:
                self._wire.put(frame)
        except OSError as error:
            raise self._judged(error) from error
        return True

    def queued(self) -> int:
        """Return the kernel's bytes for frames that have not left; 0 where it does not say."""
        with suppress(OSError, AttributeError):
            memory = self._wire.sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, MEMORY.size)
            return int(MEMORY.unpack(memory)[2])
        return 0

    def receive(self) -> list[CanFrame]:
        """Return up to 64 frames that have come."""
        frames: list[CanFrame] = []
        try:
            while len(frames) < MOST and (frame := self._wire.take()) is not None:
                frames.append(frame)
        except OSError as error:
            if not frames:  # else it shows again at the next step
                raise self._judged(error) from error
        return frames

    def _judged(self, error: OSError) -> OSError:
        """Return the error, or a LinkError if the interface is no more."""
        if error.errno in GONE:
            return LinkError(f"CAN interface {self._name} went away; plug it in and start again")
        return error

    def recover(self) -> None:
        """Take the interface down and up, or, where that is not allowed, open another socket.

        Not while frames of ours wait: another socket would not know of them, and each new one
        would add some. They may only wait for a cable.
        """
        try:
            self._restart(self._name)
        except PermissionError:
            if self.queued() == 0:
                old, self._wire = self._wire, self._open_wire()
                old.close()
                if self._closed:
                    self._wire.close()

    def close(self) -> None:
        """Let go of the interface."""
        self._closed = True
        self._wire.close()


def open_wire(name: str, fd: bool, identifier: int | None) -> Wire:
    """Open a socket on an interface.

    Parameters
    ----------
    name : str
    fd : bool
        Allow CAN FD frames; without it the kernel refuses them.
    identifier : int or None
        The only one to hear; None hears all.
    """
    wire = _python_can(name, fd) or _kernel(name, fd)
    wire.sock.setblocking(False)
    wire.sock.setsockopt(SOL_CAN_RAW, RAW_ERR_FILTER, struct.pack("=I", ERROR_MASK))
    if identifier is not None:
        mask = 0x7FF | EXTENDED | REMOTE
        wire.sock.setsockopt(SOL_CAN_RAW, RAW_FILTER, FILTER.pack(identifier, mask))
    return wire


def _python_can(name: str, fd: bool) -> Wire | None:
    """Through python-can, if it is installed."""
    try:
        import can
    except ImportError:
        return None
    return PythonCanWire(can.Bus(interface="socketcan", channel=name, fd=fd))


def _kernel(name: str, fd: bool) -> Wire:
    """Through the standard library."""
    sock = socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW)
    try:
        sock.setsockopt(SOL_CAN_RAW, RAW_FD_FRAMES, int(fd))
        sock.bind((name,))
    except OSError:
        sock.close()
        raise
    return KernelWire(sock)


def open_bus(name: str, fd: bool, room: int = 1, identifier: int | None = None) -> SocketBus:
    """Open an interface that `check_interface` has let pass.

    Parameters
    ----------
    name, fd, identifier
        As for `open_wire`.
    room : int
        Frames of one step.
    """
    return SocketBus(name, lambda: open_wire(name, fd, identifier), restart, room)


def open_can(uri: Uri, info: Info) -> CanLink:
    """Open `can:can0?profile=classic|counts|fd&base=0x680&arm=0|1`."""
    chosen = options(uri, OPTIONS)
    profile, base = chosen["profile"], int(chosen["base"], 0)
    check_interface(uri, profile == "fd")
    room = every_step(PROFILES[profile], info.units)
    bus = open_bus(uri.path, profile == "fd", room, ARM.data_id(base=base))
    return CanLink(bus, uri.text, profile, chosen["arm"] == "1", info, base)
