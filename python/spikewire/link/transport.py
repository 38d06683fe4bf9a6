"""Links: where the frames of the decoder go, and where arm requests come from.

Every link keeps the contract of `Link`. The two fakes that need no hardware are here; a link with
hardware has a file of its own and a line in `LINKS`, and is imported only when asked for.
"""

from __future__ import annotations

import importlib
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from spikewire.link.codec import Arm, FrameError, Step, decode_frame, encode_arm
from spikewire.link.framing import Deframer, frame
from spikewire.link.profile import NOBODY, UNKNOWN, Framer, Info, Payload, Vitals
from spikewire.link.table import ARM

# scheme of a URI -> module and function that open it
LINKS: dict[str, tuple[str, str]] = {
    "serial": ("spikewire.link.uart", "open_serial"),
    "null": ("spikewire.link.transport", "open_null"),
    "loopback": ("spikewire.link.transport", "open_loopback"),
}
# options of a URI -> values that are allowed, the default first
COMMON_OPTIONS: dict[str, tuple[str, ...]] = {"arm": ("0", "1"), "profile": ("full", "short")}
EXAMPLE = "serial:/dev/ttyTHS1?baud=921600&profile=full"


class LinkError(OSError):
    """A link cannot be opened or has gone away; the message is one line with what to do."""


class Link(Protocol):
    """What the decoder asks of a link; none of it ever blocks.

    Attributes
    ----------
    uri : str
        As it was opened.
    may_arm : bool
        Arm requests that come over this link count (option `arm=1`).
    sent, dropped : int
        Steps handed to the wire, and steps that were not.
    trouble : bool
        The wire takes nothing at present, and what can be done about it is being done.
    """

    uri: str
    may_arm: bool
    sent: int
    dropped: int
    trouble: bool

    def send(self, steps: Sequence[Step], vitals: Vitals = UNKNOWN) -> bool:
        """Send one step, a `Step` of each bundle; False if it was dropped.

        It is dropped as a whole if more than one step's frames are still queued. The link numbers
        its messages itself, dropped ones too, so that the controller sees the loss as a gap.

        Raises
        ------
        LinkError
            The link has gone away.
        FrameError
            A value fits into no frame; nothing was sent or counted.
        """
        ...

    def poll(self) -> list[Arm]:
        """Return the arm requests that came since the last call, oldest first.

        Raises
        ------
        LinkError
            The link has gone away.
        """
        ...

    def close(self) -> None:
        """Let go of the port; closing twice is fine, sending afterwards is a LinkError."""
        ...


@dataclass(frozen=True)
class Uri:
    """A link URI taken apart: `scheme:path?name=value&name=value`."""

    text: str
    scheme: str
    path: str
    query: tuple[tuple[str, str], ...]


def parse_uri(text: str) -> Uri:
    """Take a link URI apart; LinkError if it has no scheme."""
    scheme, colon, rest = text.partition(":")
    if not colon:
        raise LinkError(f"link {text!r} has no scheme; type for instance {EXAMPLE}")
    path, _, query = rest.partition("?")
    parts = [part.partition("=") for part in query.split("&") if part]
    return Uri(text, scheme, path, tuple((name, value) for name, _, value in parts))


def options(uri: Uri, more: Mapping[str, tuple[str, ...]] | None = None) -> dict[str, str]:
    """Return the options of a URI, defaults filled in.

    Parameters
    ----------
    uri : Uri
    more : mapping, optional
        Options beyond `COMMON_OPTIONS`, in the same form.

    Raises
    ------
    LinkError
        An option or a value is not among those allowed.
    """
    allowed = {**COMMON_OPTIONS, **(more or {})}
    chosen = {name: values[0] for name, values in allowed.items()}
    for name, value in uri.query:
        if name not in allowed:
            names = ", ".join(allowed)
            raise LinkError(
                f"link {uri.text!r}: unknown option {name!r}; allowed: {names}; "
                f"type for instance {uri.scheme}:{uri.path}?arm=1"
            )
        if value not in allowed[name]:
            raise LinkError(
                f"link {uri.text!r}: {name}={value} came; allowed: {', '.join(allowed[name])}; "
                f"type for instance {uri.scheme}:{uri.path}?{name}={allowed[name][0]}"
            )
        chosen[name] = value
    return chosen


def open_link(uri: str, info: Info = NOBODY) -> Link:
    """Open the link that a URI names.

    Parameters
    ----------
    uri : str
        `serial:/dev/ttyTHS1?baud=921600&profile=full|short&stop=1|2`, `null:` or `loopback:`; each
        takes `arm=1`: arm requests that come over it count.
    info : Info
        What the link will tell of the decoder.

    Raises
    ------
    LinkError
        The scheme, an option or a value is unknown, or the port cannot be opened.
    """
    parsed = parse_uri(uri)
    if parsed.scheme not in LINKS:
        known = ", ".join(f"{name}:" for name in sorted(LINKS))
        raise LinkError(
            f"link {uri!r}: unknown scheme {parsed.scheme!r}; allowed: {known}; "
            f"type for instance {EXAMPLE}"
        )
    module, function = LINKS[parsed.scheme]
    try:
        opener = getattr(importlib.import_module(module), function)
    except ImportError as error:
        raise LinkError(
            f"link {uri!r} needs the package {error.name}, which is not installed; "
            "type: pip install pyserial"
        ) from error
    try:
        return cast(Link, opener(parsed, info))
    except FrameError as error:  # more units or bundles than the profile has room for
        raise LinkError(f"link {uri!r}: {error}") from None


def on_serial(payloads: Iterable[Payload]) -> bytes:
    """Return the messages of one step as they go on a serial line, one after the other."""
    return b"".join(frame(p.message.type_of(p.slot), p.data) for p in payloads)


class ArmReader:
    """Bytes from the controller to arm requests; what is none is counted in `rejected`."""

    def __init__(self) -> None:
        self.rejected = 0
        self._deframer = Deframer()

    def feed(self, data: bytes) -> list[Arm]:
        """Return the requests that `data` completes."""
        arms = [self._decode(kind, payload) for kind, payload in self._deframer.feed(data)]
        return [arm for arm in arms if arm is not None]

    def _decode(self, kind: int, payload: bytes) -> Arm | None:
        """Return the request of one frame, or None and count it."""
        try:
            arm = decode_frame(kind, payload)
        except FrameError:
            arm = None
        if isinstance(arm, Arm):
            return arm
        self.rejected += 1
        return None


class LoopbackLink:
    """A link whose far end is in the same process, with faults on command.

    The far end takes what `received` returns through a `Deframer` and answers with `answer`. The
    wire holds the last `keep` steps, 0 for the link that forgets all (`null:`); the time that
    bytes take on it is not simulated.

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
        info: Info = NOBODY,
    ) -> None:
        self.uri = uri
        self.may_arm = may_arm
        self.sent = self.dropped = 0
        self.stalled = self.trouble = False
        self.lose = self.corrupt = self.delay = 0
        self._framer = Framer(profile, info)
        self._wire: deque[bytes] = deque(maxlen=keep)
        self._back: deque[Arm] = deque(maxlen=64)
        self._reader = ArmReader()
        self._closed = False

    def send(self, steps: Sequence[Step], vitals: Vitals = UNKNOWN) -> bool:
        """Put a step on the wire, or drop it while the wire is stalled."""
        self._check_open()
        data = bytearray(on_serial(self._framer.frames(steps, vitals)))
        if self.stalled:
            self.dropped += 1
            return False
        self.sent += 1
        if self.lose:
            self.lose -= 1
            return True
        if self.corrupt:
            self.corrupt -= 1
            data[data.index(0) // 2] ^= 0x10  # in the first frame
        self._wire.append(bytes(data))
        return True

    def received(self) -> bytes:
        """Return the bytes that arrived at the far end since the last call."""
        arrived = len(self._wire) - self.delay
        return b"".join(self._wire.popleft() for _ in range(arrived))

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


def open_loopback(uri: Uri, info: Info, keep: int = 64) -> LoopbackLink:
    """Open `loopback:`."""
    chosen = options(uri)
    if uri.path:
        raise LinkError(f"link {uri.text!r} takes no path; type {uri.scheme}:")
    return LoopbackLink(uri.text, chosen["profile"], chosen["arm"] == "1", keep, info)


def open_null(uri: Uri, info: Info) -> LoopbackLink:
    """Open `null:`: steps are checked and encoded as for any link, then forgotten."""
    return open_loopback(uri, info, keep=0)
