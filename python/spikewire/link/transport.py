"""Links: where the frames of the decoder go, and where arm requests come from.

Every link keeps the contract of `Link`, has a file of its own and a line in `LINKS`, and is
imported only when asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, cast

from spikewire.link.codec import Arm, FrameError, Step, decode_frame
from spikewire.link.framing import Deframer, frame
from spikewire.link.profile import NOBODY, PROFILES, UNKNOWN, Info, Payload, Vitals
from spikewire.link.table import BASE

# scheme of a URI -> module and function that open it
LINKS: dict[str, tuple[str, str]] = {
    "serial": ("spikewire.link.uart", "open_serial"),
    "can": ("spikewire.link.canbus", "open_can"),
    "slcan": ("spikewire.link.slcan", "open_slcan"),
    "udp": ("spikewire.link.udp", "open_udp"),
    "lsl": ("spikewire.link.lsl", "open_lsl"),
    "null": ("spikewire.link.loopback", "open_null"),
    "loopback": ("spikewire.link.loopback", "open_loopback"),
}
# scheme -> profiles, the default first; a link that is none of these takes any
CARRIES: dict[str, tuple[str, ...]] = {
    "serial": ("full", "short"),
    "udp": ("full", "short"),
    "can": ("classic", "counts", "fd"),  # a classic-only node answers FD frames with error frames
    "slcan": ("classic", "counts"),
}
PACKAGES = {"serial": "pyserial"}  # name to import -> name to install
EXAMPLE = "serial:/dev/ttyTHS1?baud=921600&profile=full"


class LinkError(OSError):
    """A link cannot be opened or has gone away; the message is one line with what to do."""


@dataclass(frozen=True)
class Span:
    """The whole numbers that an option takes, decimal or 0x..., and the one without it."""

    default: str
    low: int
    high: int

    def __contains__(self, value: str) -> bool:
        try:
            return self.low <= int(value, 0) <= self.high
        except ValueError:
            return False

    def __str__(self) -> str:
        shown = hex if self.default.startswith("0x") else str
        return f"{shown(self.low)} to {shown(self.high)}"


# options of a URI -> values that are allowed, of words the default first
Options = Mapping[str, "tuple[str, ...] | Span"]


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
        The link cannot send at present; read only.
    recovered : int
        Times that it could again.
    """

    uri: str
    may_arm: bool
    sent: int
    dropped: int
    recovered: int

    @property
    def trouble(self) -> bool: ...

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


class Counted:
    """What every link counts: trouble begins with a failure and ends with a step that has none."""

    def __init__(self) -> None:
        self.sent = self.dropped = self.recovered = 0
        self._trouble = self._failed = False

    @property
    def trouble(self) -> bool:
        """Whether the link cannot send at present."""
        return self._trouble

    def fail(self) -> None:
        """Note a failure that no step shows, such as an error that came back."""
        self._trouble = self._failed = True

    def count(self, went: bool) -> bool:
        """Count a step by whether it went; return that."""
        self.sent += went
        self.dropped += not went
        if not went:
            self._trouble = True
        elif self._trouble and not self._failed:
            self._trouble = False
            self.recovered += 1
        self._failed = False
        return went


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


def options(uri: Uri, more: Options | None = None) -> dict[str, str]:
    """Return the options of a URI, defaults filled in.

    Parameters
    ----------
    uri : Uri
    more : mapping, optional
        Options beyond `arm` and `profile`: name -> words, the default first, or a `Span`.

    Raises
    ------
    LinkError
        An option or a value is not among those allowed.
    """
    profiles = CARRIES.get(uri.scheme, tuple(PROFILES))
    allowed: Options = {"arm": ("0", "1"), "profile": profiles, **(more or {})}
    chosen = {name: values.default if isinstance(values, Span) else values[0]
              for name, values in allowed.items()}
    for name, value in uri.query:
        if name not in allowed:
            names = ", ".join(allowed)
            raise LinkError(
                f"link {uri.text!r}: unknown option {name!r}; allowed: {names}; "
                f"type for instance {uri.scheme}:{uri.path}?arm=1"
            )
        values = allowed[name]
        if value not in values:
            words = str(values) if isinstance(values, Span) else ", ".join(values)
            example = values.default if isinstance(values, Span) else values[0]
            raise LinkError(
                f"link {uri.text!r}: {name}={value} came; allowed: {words}; "
                f"type for instance {uri.scheme}:{uri.path}?{name}={example}"
            )
        chosen[name] = value
    return chosen


def open_link(uri: str, info: Info = NOBODY) -> Link:
    """Open the link that a URI names.

    Parameters
    ----------
    uri : str
        `serial:/dev/ttyTHS1?baud=921600&profile=full|short&stop=1|2`,
        `can:can0?profile=classic|counts|fd&base=0x680`,
        `slcan:/dev/ttyACM0?bitrate=500000&profile=classic|counts&base=0x680`,
        `udp:HOST:PORT?profile=full|short&lab=1`, `lsl:NAME`, `null:` or
        `loopback:?profile=...&bitrate=...`; each takes `arm=1`: arm requests that come over it
        count.
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
            f"type: pip install {PACKAGES.get(error.name or '', error.name)}"
        ) from error
    try:
        return cast(Link, opener(parsed, info))
    except FrameError as error:  # more units or bundles than the profile has room for
        raise LinkError(f"link {uri!r}: {error}") from None


class CanFrame(NamedTuple):
    """One frame on a CAN bus.

    Attributes
    ----------
    identifier : int
        Of 11 bits; anything larger is no frame of ours, or, with `error`, the classes of an error.
    data : bytes (0..64,)
        More than 8 make it a CAN FD frame.
    error : bool
        Not a frame but what the adapter says about the bus.
    """

    identifier: int
    data: bytes
    error: bool = False


def on_can(payloads: Iterable[Payload], base: int = BASE) -> list[CanFrame]:
    """Return the messages of one step as they go on a CAN bus, in order."""
    return [CanFrame(p.message.data_id(p.slot, base), p.data) for p in payloads]


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
