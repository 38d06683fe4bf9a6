"""CAN adapters on a serial port that speak slcan, the text protocol of Lawicel's CAN232.

A frame is `t`, three hexadecimal digits of identifier, one of length, the data, and a carriage
return; the adapter answers a command with a carriage return, or with BEL if it refused it.
"""

from __future__ import annotations

from collections.abc import Sequence

from spikewire.link.canlink import OPTIONS, REFUSED, CanLink, every_step
from spikewire.link.load import CLASSIC_MAX, SERIAL_BITS, classic_bits
from spikewire.link.profile import PROFILES, Info
from spikewire.link.transport import CanFrame, LinkError, Uri, options
from spikewire.link.uart import BAUDS, STEP_S, FrameWriter, Port, SerialPort

END, BEL = b"\r", b"\a"
SPEEDS = {  # bit/s on the bus, the default first -> digit of the command S
    "500000": 6, "10000": 0, "20000": 1, "50000": 2, "100000": 3, "125000": 4, "250000": 5,
    "800000": 7, "1000000": 8,
}  # fmt: skip
FRAME_BYTES = 22  # on the serial line, of a frame with 8 bytes
LONGEST = 32  # bytes of a line of an adapter
EXCUSED = 2  # refusals at the start: of what an interrupted line left, and of closing the closed


def line(frame: CanFrame) -> bytes:
    """Return a frame as it goes to the adapter."""
    text = f"t{frame.identifier:03X}{len(frame.data):X}{frame.data.hex().upper()}"
    return text.encode() + END


def parse(text: bytes) -> CanFrame | None:
    """Return the frame of a line without its end; None if it is none of 11 bits with data."""
    try:
        identifier, size = int(text[1:4], 16), int(text[4:5], 16)
        data = bytes.fromhex(text[5 : 5 + 2 * size].decode())
    except ValueError:
        return None
    whole = text[:1] == b"t" and len(data) == size <= CLASSIC_MAX
    return CanFrame(identifier, data) if whole else None


class SlcanBus:
    """An adapter's bus; see `canlink.Bus`.

    Parameters
    ----------
    port : Port
    speed : int
        Digit of the command S, see `SPEEDS`.
    room : int
        Frames of one step: so many may still wait when the next is sent.
    """

    def __init__(self, port: Port, speed: int, room: int = 1) -> None:
        self._port = port
        self._begin = END.join((b"", b"C", b"S%d" % speed, b"O", b""))
        self._writer = FrameWriter(port, room * FRAME_BYTES, END)
        self._part = b""
        self._excused = EXCUSED
        self.recover()

    def recover(self) -> None:
        """Close the adapter's channel, set its bit rate and open it."""
        self._writer.write(self._begin)

    def send(self, frames: Sequence[CanFrame]) -> bool:
        """Write the frames of one step; False if more than those of one are still queued."""
        return self._writer.write(b"".join(line(frame) for frame in frames))

    def receive(self) -> list[CanFrame]:
        """Return the frames that came, and an error frame for each refusal."""
        *lines, part = (self._part + self._port.read().replace(BEL, BEL + END)).split(END)
        self._part = part[-LONGEST:]
        found = [self._answer() if text == BEL else parse(text) for text in lines]
        return [frame for frame in found if frame is not None]

    def _answer(self) -> CanFrame | None:
        """Return what a refusal says."""
        self._excused -= 1
        return CanFrame(REFUSED, b"", error=True) if self._excused < 0 else None

    def close(self) -> None:
        """Let go of the port; the channel stays open, so that the last frames still go out."""
        self._port.close()


def _must_fit(uri: Uri, frames: int, chosen: dict[str, str]) -> None:
    """Refuse a bus or a port that cannot carry every step."""
    what = "a frame takes" if frames == 1 else f"{frames} frames take"
    instead = "" if chosen["profile"] == "classic" else ", or take profile=classic"
    for name, bits in (("bitrate", classic_bits(CLASSIC_MAX)), ("baud", FRAME_BYTES * SERIAL_BITS)):
        took_s = frames * bits / int(chosen[name])
        if took_s > STEP_S:
            raise LinkError(
                f"link {uri.text!r}: {what} {1e3 * took_s:.0f} ms at {name} {chosen[name]}, a step "
                f"{1e3 * STEP_S:.1f} ms; raise {name}{instead}"
            )


def open_bus(uri: Uri, chosen: dict[str, str], room: int = 1) -> SlcanBus:
    """Open the adapter of a `slcan:` URI.

    Raises
    ------
    LinkError
        The port cannot be opened.
    """
    if not uri.path:
        raise LinkError(f"link {uri.text!r} names no port; type for instance slcan:/dev/ttyACM0")
    port = SerialPort(uri.path, int(chosen["baud"]))
    return SlcanBus(port, SPEEDS[chosen["bitrate"]], room)


SLCAN_OPTIONS = {**OPTIONS, "bitrate": tuple(SPEEDS), "baud": BAUDS}


def open_slcan(uri: Uri, info: Info) -> CanLink:
    """Open `slcan:/dev/ttyACM0?bitrate=500000&profile=classic|counts&base=0x680&arm=0|1`.

    `baud` is that of the port, which adapters on USB do not look at.
    """
    chosen = options(uri, SLCAN_OPTIONS)
    profile = chosen["profile"]
    frames = every_step(PROFILES[profile], info.units)
    _must_fit(uri, frames, chosen)
    bus = open_bus(uri, chosen, frames)
    return CanLink(bus, uri.text, profile, chosen["arm"] == "1", info, int(chosen["base"], 0))
