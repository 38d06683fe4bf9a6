"""The controller's end of a link: frames to a `Receiver`, arm requests back.

A controller on a desk and in tests; one in an exoskeleton does the same in C99.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Protocol

from spikewire.link import canbus, canlink, slcan, udp
from spikewire.link.caninterface import check_interface
from spikewire.link.codec import Arm, Step, encode_arm
from spikewire.link.framing import Deframer, frame
from spikewire.link.receiver import Receiver
from spikewire.link.table import ARM, BASE, BY_CAN_ID
from spikewire.link.transport import CanFrame, LinkError, Uri, options, parse_uri
from spikewire.link.uart import FrameWriter, Port, open_port

ARM_BYTES = 15  # of a request on a serial line


class End(Protocol):
    """What `mu-link watch` asks of a line; none of it blocks.

    Attributes
    ----------
    base : int
        First CAN identifier.
    """

    base: int

    def hear(self, receiver: Receiver, now: float) -> list[Step | None]:
        """Hand over what has come; a step for each frame, None for one that was not accepted."""
        ...

    def ask(self, arm: Arm) -> bool:
        """Send an arm request; False if it was dropped."""
        ...

    def rejected(self) -> Counter[str]:
        """Return what the line itself threw away, by reason."""
        ...

    def close(self) -> None:
        """Let go of the line."""
        ...


class SerialEnd:
    """An end whose line carries bytes, such as a serial port, or UDP; see `End`."""

    def __init__(self, port: Port) -> None:
        self.base = BASE
        self._port = port
        self._deframer = Deframer()
        self._writer = FrameWriter(port, ARM_BYTES)

    def hear(self, receiver: Receiver, now: float) -> list[Step | None]:
        """Take frames out of the bytes that have come."""
        frames = self._deframer.feed(self._port.read())
        return [receiver.serial(kind, payload, now) for kind, payload in frames]

    def ask(self, arm: Arm) -> bool:
        """Write a request, or drop it if more than one is still queued."""
        return self._writer.write(frame(ARM.type_of(), encode_arm(arm)))

    def rejected(self) -> Counter[str]:
        """Return what was no frame."""
        line = self._deframer
        return Counter(crc32=line.bad_crc, cobs=line.bad_cobs, too_long=line.too_long)

    def close(self) -> None:
        """Close the port."""
        self._port.close()


class CanEnd:
    """An end on a CAN bus; see `End`. Frames of others are passed over."""

    def __init__(self, bus: canlink.Bus, base: int = BASE) -> None:
        self.base = base
        self._bus = bus
        self._errors: Counter[str] = Counter()

    def hear(self, receiver: Receiver, now: float) -> list[Step | None]:
        """Take the decoder's frames off the bus."""
        try:
            frames = self._bus.receive()
        except LinkError:
            raise
        except OSError:  # the interface is down for now
            self._errors["bus"] += 1
            frames = []
        return [receiver.can(f.identifier, f.data, now) for f in frames if self._is_ours(f)]

    def _is_ours(self, found: CanFrame) -> bool:
        """Whether a decoder sent it."""
        message, _ = BY_CAN_ID.get(found.identifier - self.base + BASE, (ARM, 0))
        return message.sender == "decoder" and not found.error

    def ask(self, arm: Arm) -> bool:
        """Send a request."""
        request = CanFrame(ARM.data_id(base=self.base), encode_arm(arm, self.base))
        try:
            return self._bus.send([request])
        except LinkError:
            raise
        except OSError:
            self._errors["bus"] += 1
            return False

    def rejected(self) -> Counter[str]:
        """Return how often the bus failed."""
        return self._errors

    def close(self) -> None:
        """Let go of the bus."""
        self._bus.close()


def _serial(uri: Uri) -> End:
    return SerialEnd(open_port(uri.text))


def _udp(uri: Uri) -> End:
    options(uri, udp.OPTIONS)
    return SerialEnd(udp.UdpPort(uri))


def _can(uri: Uri) -> End:
    base = int(options(uri, canlink.OPTIONS)["base"], 0)
    check_interface(uri, wants_fd=False)
    return CanEnd(canbus.open_bus(uri.path, fd=True), base)


def _slcan(uri: Uri) -> End:
    chosen = options(uri, slcan.SLCAN_OPTIONS)
    return CanEnd(slcan.open_bus(uri, chosen), int(chosen["base"], 0))


ENDS: dict[str, Callable[[Uri], End]] = {
    "serial": _serial, "pty": _serial, "udp": _udp, "can": _can, "slcan": _slcan,
}  # fmt: skip


def open_end(text: str) -> End:
    """Open the controller's end that a URI names.

    Parameters
    ----------
    text : str
        `serial:PORT?baud=...`, `pty:PATH` (made here), `udp:HOST:PORT` (an address of this
        machine), `can:can0?base=...` or `slcan:PORT?bitrate=...`.

    Raises
    ------
    LinkError
        Another scheme, or the line cannot be opened.
    """
    uri = parse_uri(text)
    if uri.scheme not in ENDS:
        raise LinkError(f"{text!r} is no port; allowed: serial:PORT, pty:PATH, can:INTERFACE, "
                        "slcan:PORT, udp:HOST:PORT; type for instance serial:/dev/ttyUSB0 or "
                        "pty:/tmp/exo")
    return ENDS[uri.scheme](uri)
