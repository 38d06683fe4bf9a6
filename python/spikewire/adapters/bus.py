"""The CAN bus of a machine: three methods, with python-can behind them or inside one process.

The only file that imports python-can. Frames are classic, with 11-bit identifiers.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

from spikewire.link.transport import LinkError, parse_uri

Frame = tuple[int, bytes]  # identifier, data
MOST = 256  # frames per read: a 1 Mbit/s bus carries about 90 in a tick
# scheme -> python-can's name, and what it needs to be told; `ip link` sets the rate of SocketCAN
BACKENDS: dict[str, tuple[str, dict[str, Any]]] = {
    "can": ("socketcan", {}),
    "slcan": ("slcan", {"bitrate": 1_000_000}),
    "pcan": ("pcan", {"bitrate": 1_000_000}),
    "virtual": ("virtual", {}),  # inside one process only
}
EXAMPLE = "can:can0"


class Bus(Protocol):
    """Frames in both directions; reading never waits, and a lost bus is a LinkError."""

    def send(self, identifier: int, data: bytes) -> None:
        """Send one frame."""
        ...

    def read(self) -> list[Frame]:
        """Return the frames that came, oldest first, without those sent here."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class LocalBus:
    """One end of a bus with two ends in one process; see `local_pair`.

    It simulates neither arbitration nor time on the wire.

    Attributes
    ----------
    broken : bool
        While set, sending is a LinkError.
    """

    def __init__(self, here: deque[Frame], there: deque[Frame]) -> None:
        self.broken = False
        self._here, self._there = here, there

    def send(self, identifier: int, data: bytes) -> None:
        if self.broken:
            raise LinkError("the local bus is broken; it was told to be")
        self._there.append((identifier, data))

    def read(self) -> list[Frame]:
        frames = list(self._here)
        self._here.clear()
        return frames

    def close(self) -> None:
        self._here.clear()


def local_pair() -> tuple[LocalBus, LocalBus]:
    """Return the two ends of a bus inside this process."""
    one: deque[Frame] = deque()
    other: deque[Frame] = deque()
    return LocalBus(one, other), LocalBus(other, one)


class CanBus:
    """A bus of python-can.

    Parameters
    ----------
    text : str
        `can:can0` (SocketCAN), `slcan:/dev/ttyACM0`, `pcan:PCAN_USBBUS1` or `virtual:NAME`.

    Raises
    ------
    LinkError
        Another scheme, no channel, python-can is missing, or it cannot open the bus.
    """

    def __init__(self, text: str) -> None:
        uri = parse_uri(text)
        if uri.scheme not in BACKENDS or not uri.path or uri.query:
            known = ", ".join(f"{scheme}:" for scheme in BACKENDS)
            raise LinkError(f"bus {text!r} is none; allowed: {known} and a channel; "
                            f"type for instance {EXAMPLE}")
        try:
            import can
        except ImportError as error:
            raise LinkError(f"bus {text!r} needs the package {error.name}, which is not "
                            "installed; type: pip install 'spikewire[can]'") from error
        self.text, self._can = text, can
        interface, more = BACKENDS[uri.scheme]
        try:
            self._bus = can.Bus(interface=interface, channel=uri.path, **more)
        except (can.CanError, OSError, ValueError, ImportError) as error:
            raise LinkError(f"bus {text!r} cannot be opened ({error}); a SocketCAN bus is brought "
                            "up with: sudo ip link set can0 up type can bitrate 1000000") from error

    def send(self, identifier: int, data: bytes) -> None:
        message = self._can.Message(arbitration_id=identifier, data=data, is_extended_id=False)
        try:
            self._bus.send(message)
        except (self._can.CanError, OSError) as error:
            raise LinkError(f"bus {self.text!r} takes nothing ({error}); look at its cable, "
                            "its power and its 120 ohm ends") from error

    def read(self) -> list[Frame]:
        frames: list[Frame] = []
        try:
            while len(frames) < MOST and (message := self._bus.recv(0)) is not None:
                if not (message.is_extended_id or message.is_remote_frame
                        or message.is_error_frame or message.is_fd):
                    frames.append((message.arbitration_id, bytes(message.data)))
        except (self._can.CanError, OSError) as error:
            raise LinkError(f"bus {self.text!r} went away ({error}); start again when it is "
                            "back") from error
        return frames

    def close(self) -> None:
        self._bus.shutdown()
