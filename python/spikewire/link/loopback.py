"""The links that need no hardware: one whose far end is in this process, one that forgets."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from spikewire.link.codec import Arm, Step, encode_arm
from spikewire.link.framing import frame
from spikewire.link.load import Bucket, can_s, serial_s
from spikewire.link.profile import NOBODY, UNKNOWN, Framer, Info, Payload, Vitals
from spikewire.link.table import ARM
from spikewire.link.transport import (
    CARRIES,
    ArmReader,
    CanFrame,
    Counted,
    LinkError,
    Options,
    Span,
    Uri,
    on_can,
    on_serial,
    options,
)

# bit/s of the wire, 0 for one that takes all; dbitrate is that of the data of CAN FD frames
OPTIONS: Options = {
    "bitrate": Span("0", 0, 10_000_000),
    "dbitrate": Span("2000000", 10_000, 15_000_000),
}


class LoopbackLink(Counted):
    """A link whose far end is in the same process, with faults on command.

    The far end takes what `received` returns through a `Deframer`, or with a CAN profile what
    `received_can` returns, and answers with `answer`. The wire holds the last `keep` steps, 0 for
    the link that forgets all (`null:`). With a bit rate it takes no more than fits, see
    `load.Bucket`; when the bytes arrive is not simulated.

    Attributes
    ----------
    stalled : bool
        While set the wire takes nothing: `send` drops.
    lose, corrupt : int
        So many of the next steps vanish on the wire, or arrive with one bit wrong.
    delay : int
        The newest so many steps have not arrived yet.
    """

    def __init__(
        self, uri: str, profile: str = "full", may_arm: bool = False, keep: int = 64,
        info: Info = NOBODY, bitrate: int = 0, dbitrate: int = 2_000_000,
    ) -> None:
        super().__init__()
        self.uri = uri
        self.may_arm = may_arm
        self.stalled = False
        self.lose = self.corrupt = self.delay = 0
        self._framer = Framer(profile, info)
        self._is_can = profile in CARRIES["can"]
        self._bitrate, self._dbitrate = bitrate, dbitrate
        self._bucket = Bucket(info.period_s)
        self._wire: deque[tuple[bytes, list[CanFrame]]] = deque(maxlen=keep)
        self._back: deque[Arm] = deque(maxlen=64)
        self._reader = ArmReader()
        self._closed = False

    def send(self, steps: Sequence[Step], vitals: Vitals = UNKNOWN) -> bool:
        """Put a step on the wire, or drop it while the wire is stalled or full."""
        self._check_open()
        payloads = self._framer.frames(steps, vitals)
        fits = not self._bitrate or self._bucket.take(self._wire_s(payloads))
        went = self.count(fits and not self.stalled)
        if went and self.lose:
            self.lose -= 1
        elif went:
            self._put(payloads)
        return went

    def load(self) -> float:
        """Share of the wire's time that the steps so far need, 0 without a bit rate.

        Above 1 some were dropped.
        """
        return self._bucket.load()

    def _wire_s(self, payloads: list[Payload]) -> float:
        """Seconds on the wire."""
        if self._is_can:
            return can_s(payloads, self._bitrate, self._dbitrate)
        return serial_s(payloads, self._bitrate)

    def _put(self, payloads: list[Payload]) -> None:
        """Messages to the far end; if asked, the first with one bit wrong."""
        line = bytearray(b"" if self._is_can else on_serial(payloads))
        frames = on_can(payloads) if self._is_can else []
        if self.corrupt:
            self.corrupt -= 1
            first = bytearray(frames[0].data) if frames else line
            first[len(first) // 2 if frames else line.index(0) // 2] ^= 0x10
            frames[:1] = [CanFrame(f.identifier, bytes(first)) for f in frames[:1]]
        self._wire.append((bytes(line), frames))

    def received(self) -> bytes:
        """Return the bytes that arrived at the far end since the last call."""
        return b"".join(line for line, _ in self._arrived())

    def received_can(self) -> list[CanFrame]:
        """Return the CAN frames that arrived at the far end since the last call."""
        return [found for _, frames in self._arrived() for found in frames]

    def _arrived(self) -> list[tuple[bytes, list[CanFrame]]]:
        """Steps that have arrived."""
        return [self._wire.popleft() for _ in range(len(self._wire) - self.delay)]

    def answer(self, arm: Arm) -> None:
        """Send an arm request from the far end."""
        self._back.extend(self._reader.feed(frame(ARM.type_of(), encode_arm(arm))))

    def poll(self) -> list[Arm]:
        """Return the requests of the far end."""
        self._check_open()
        arms = list(self._back)
        self._back.clear()
        return arms

    def close(self) -> None:
        """End the link."""
        self._closed = True

    def _check_open(self) -> None:
        """Raise LinkError on a link that was closed."""
        if self._closed:
            raise LinkError(f"link {self.uri!r} is closed; open it again with open_link")


def _open(uri: Uri, info: Info, keep: int, more: Options) -> LoopbackLink:
    """Open either."""
    chosen = options(uri, more)
    if uri.path:
        raise LinkError(f"link {uri.text!r} takes no path; type {uri.scheme}:")
    rates = {name: int(chosen[name], 0) for name in more}
    return LoopbackLink(uri.text, chosen["profile"], chosen["arm"] == "1", keep, info, **rates)


def open_loopback(uri: Uri, info: Info) -> LoopbackLink:
    """Open `loopback:?profile=...&bitrate=500000&dbitrate=2000000`."""
    return _open(uri, info, 64, OPTIONS)


def open_null(uri: Uri, info: Info) -> LoopbackLink:
    """Open `null:`: steps are checked and encoded as for any link, then forgotten."""
    return _open(uri, info, 0, {})
