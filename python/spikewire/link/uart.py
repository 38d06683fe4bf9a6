"""Serial ports, and a pseudo-terminal that plays the board's or the controller's end of one.

The only file that imports pyserial, and only to set a port up: reads and writes go to the file
descriptor, since pyserial's own write spins while a port that does not block takes nothing.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import termios
import tty
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import serial

from spikewire.link.codec import Arm, Step
from spikewire.link.framing import DELIMITER
from spikewire.link.profile import NOBODY, UNKNOWN, Framer, Info, Vitals
from spikewire.link.transport import (
    ArmReader,
    Counted,
    LinkError,
    Options,
    Uri,
    on_serial,
    options,
    parse_uri,
)

CHUNK = 4096  # bytes per read; the kernel's own buffer of a line is as large
BAUDS = (
    "115200", "9600", "19200", "38400", "57600", "230400", "256000", "460800", "500000", "921600",
    "1000000", "1500000", "2000000", "3000000", "4000000",
)  # fmt: skip
# a full frame takes 6.2 ms at 115200 baud and 0.8 ms at 921600, of a step of 9.8 ms
WIRE_BYTES = {"full": 71, "short": 23}  # with type, CRC-32 and COBS
STEP_S = 20 / 2048
DEFAULT_BAUD = {"full": "921600", "short": "115200"}
OPTIONS: Options = {"baud": ("auto", *BAUDS), "stop": ("1", "2")}

HINTS = {
    errno.ENOENT: "not there; list the ports with: python -m serial.tools.list_ports",
    errno.ENODEV: "not there; list the ports with: python -m serial.tools.list_ports",
    errno.EACCES: "not allowed; add yourself to its group: sudo usermod -aG dialout $USER",
    errno.EBUSY: "in use by another program; find it with: fuser PORT",
    errno.EAGAIN: "in use by another program; find it with: fuser PORT",
}

T = TypeVar("T")


class Port(Protocol):
    """Bytes in both directions; no method blocks, and each raises LinkError on a lost port."""

    def read(self) -> bytes:
        """Return what has come."""
        ...

    def write(self, data: bytes) -> int:
        """Write as much as fits; return how many bytes that was."""
        ...

    def queued(self) -> int:
        """Return the bytes that are written and not yet on the wire."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


def _guard(path: str, action: Callable[[], T]) -> T:
    """Do something with an open port; a port that is gone becomes one clear LinkError."""
    try:
        return action()
    except (OSError, ValueError) as error:  # ValueError: closed on our side
        reason = getattr(error, "strerror", None) or str(error)
        raise LinkError(f"port {path} went away ({reason}); plug it in and start again") from error


def _read(fd: int) -> bytes:
    """Read what has come."""
    try:
        return os.read(fd, CHUNK)
    except BlockingIOError:
        return b""


def _write(fd: int, data: bytes) -> int:
    """Write as much as fits."""
    try:
        return os.write(fd, data)
    except BlockingIOError:
        return 0


def _waiting(fd: int, which: int) -> int:
    """Ask the kernel for the bytes in one of a terminal's queues."""
    return int(struct.unpack("i", fcntl.ioctl(fd, which, b"\0\0\0\0"))[0])


class SerialPort:
    """A serial line, 8 data bits, no parity, no flow control, raw.

    Parameters
    ----------
    path : str
        Such as /dev/ttyTHS1.
    baud : int
    stop : int
        Stop bits, 1 or 2; Tegra boards of the TX2 generation need 2 above 115200 baud.

    Raises
    ------
    LinkError
        The port is not there, not allowed, in use or no serial line.
    """

    def __init__(self, path: str, baud: int = 921600, stop: int = 1) -> None:
        self.path = path
        try:
            self._serial = serial.Serial(
                path, baud, stopbits=stop, timeout=0, write_timeout=0, exclusive=True
            )
        except (OSError, ValueError) as error:
            code = getattr(error, "errno", None)
            hint = HINTS.get(code or 0, f"no serial line that can be set up ({error})")
            raise LinkError(f"port {path!r}: {hint.replace('PORT', path)}") from error

    def read(self) -> bytes:
        """Return what has come."""
        return _guard(self.path, self._read)

    def _read(self) -> bytes:
        """Read; asking for the number of bytes first is what fails on an unplugged line."""
        fd = self._serial.fileno()
        return _read(fd) if _waiting(fd, termios.FIONREAD) else b""

    def write(self, data: bytes) -> int:
        """Write as much as fits."""
        return _guard(self.path, lambda: _write(self._serial.fileno(), data))

    def queued(self) -> int:
        """Return the bytes in the driver's output queue; 0 on a pseudo-terminal, which has none."""
        return _guard(self.path, lambda: _waiting(self._serial.fileno(), termios.TIOCOUTQ))

    def close(self) -> None:
        """Close the port."""
        self._serial.close()


class PtyPort:
    """A pseudo-terminal: what opens `serial:PATH` has this object at the other end.

    It stands for the board or the controller in tests and on a desk. It does not simulate baud
    rate, bit errors or an unplugged line (close it for that).

    Parameters
    ----------
    path : str
        Where the link to the terminal is put; removed by `close`. An old link there is replaced.

    Raises
    ------
    LinkError
        Something that is no symbolic link is at `path`, or no link can be made there.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        place = Path(path)
        if place.exists() and not place.is_symlink():
            raise LinkError(f"{path!r} exists and is no link; type a new name, such as /tmp/exo")
        self._master, self._slave = os.openpty()
        # kept open: else the master fails while nobody has the other end open
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        try:
            place.unlink(missing_ok=True)
            place.symlink_to(os.ttyname(self._slave))
        except OSError as error:
            self._close_terminal()
            raise LinkError(f"no link can be made at {path!r}: {error.strerror}") from error

    def read(self) -> bytes:
        """Return what has come."""
        return _guard(self.path, lambda: _read(self._master))

    def write(self, data: bytes) -> int:
        """Write as much as fits."""
        return _guard(self.path, lambda: _write(self._master, data))

    def queued(self) -> int:
        """Return the bytes that the other end has not read."""
        # a master has no output queue of its own: ask the other end for its input
        return _guard(self.path, lambda: _waiting(self._slave, termios.FIONREAD))

    def close(self) -> None:
        """Close the terminal and remove its link."""
        if self._master >= 0:
            Path(self.path).unlink(missing_ok=True)
            self._close_terminal()

    def _close_terminal(self) -> None:
        """Close both ends."""
        os.close(self._slave)
        os.close(self._master)
        self._master = self._slave = -1


class FrameWriter:
    """Writes whole steps to a port, or drops them: it never waits and never queues.

    Parameters
    ----------
    port : Port
    room : int, bytes that may still be queued when a step is written: those of one step
    mark : bytes, ends a frame
    """

    def __init__(self, port: Port, room: int, mark: bytes = DELIMITER) -> None:
        self._port, self._room, self._mark = port, room, mark
        self._cut = False  # the last frame went out in part

    def write(self, frames: bytes) -> bool:
        """Write the frames of one step; False if they were dropped since more are still queued.

        Frames that fit only in part are given up, since their age would be wrong by the time the
        rest goes out. The next ones then begin with a mark, at which the reader finds back.
        """
        if self._port.queued() > self._room:
            return False
        data = self._mark + frames if self._cut else frames
        written = self._port.write(data)
        whole = written == len(data)
        if written > 0:
            self._cut = not whole
        return whole


class SerialLink(Counted):
    """A link over a port; see `transport.Link`."""

    def __init__(
        self, port: Port, uri: str, profile: str = "full", may_arm: bool = False,
        info: Info = NOBODY,
    ) -> None:
        super().__init__()
        self.uri = uri
        self.may_arm = may_arm
        self._port = port
        self._writer = FrameWriter(port, len(info.units) * WIRE_BYTES[profile])
        self._reader = ArmReader()
        self._framer = Framer(profile, info)

    def send(self, steps: Sequence[Step], vitals: Vitals = UNKNOWN) -> bool:
        """Write one step, or drop it if more than one is still queued."""
        return self.count(self._writer.write(on_serial(self._framer.frames(steps, vitals))))

    def poll(self) -> list[Arm]:
        """Return the arm requests that came."""
        return self._reader.feed(self._port.read())

    def close(self) -> None:
        """Close the port."""
        self._port.close()


def _serial_port(uri: Uri, chosen: dict[str, str]) -> SerialPort:
    """Open the port of a `serial:` URI."""
    if not uri.path:
        raise LinkError(f"link {uri.text!r} names no port; type for instance serial:/dev/ttyUSB0")
    baud = DEFAULT_BAUD[chosen["profile"]] if chosen["baud"] == "auto" else chosen["baud"]
    return SerialPort(uri.path, int(baud), int(chosen["stop"]))


def open_serial(uri: Uri, info: Info) -> SerialLink:
    """Open `serial:PORT?baud=921600&profile=full|short&stop=1|2&arm=0|1`."""
    chosen = options(uri, OPTIONS)
    slots = len(info.units)
    size, bits = slots * WIRE_BYTES[chosen["profile"]], 9 + int(chosen["stop"])
    baud = DEFAULT_BAUD[chosen["profile"]] if chosen["baud"] == "auto" else chosen["baud"]
    if uri.path and size * bits / int(baud) > STEP_S:
        frames = f"a frame of {size} bytes takes" if slots == 1 else \
            f"{slots} frames of {size // slots} bytes take"
        raise LinkError(
            f"link {uri.text!r}: {frames} {1e3 * size * bits / int(baud):.0f} ms at {baud} baud, "
            f"a step {1e3 * STEP_S:.1f} ms; raise baud, or take profile=short"
        )
    port = _serial_port(uri, chosen)
    return SerialLink(port, uri.text, chosen["profile"], chosen["arm"] == "1", info)


def open_port(text: str) -> Port:
    """Open the bare port of a controller's side.

    Parameters
    ----------
    text : str
        `serial:PORT?baud=...`, or `pty:PATH`: make a pseudo-terminal and link its name to PATH.

    Raises
    ------
    LinkError
        Another scheme, or the port cannot be opened.
    """
    uri = parse_uri(text)
    if uri.scheme == "serial":
        return _serial_port(uri, options(uri, OPTIONS))
    if uri.scheme == "pty" and uri.path and not uri.query:
        return PtyPort(uri.path)
    raise LinkError(
        f"{text!r} is no port; allowed: serial:PORT, pty:PATH; "
        "type for instance serial:/dev/ttyUSB0 or pty:/tmp/exo"
    )
