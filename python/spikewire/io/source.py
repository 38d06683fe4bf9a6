"""The contract of a live source, and which source answers to which URI."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from numpy.typing import NDArray

from spikewire.signals import InputError

# Named, not imported: a source is loaded when somebody asks for it.
SOURCES = {
    "replay": "spikewire.io.replay", "simulate": "spikewire.simulate.live",
    "quattrocento": "spikewire.io.quattrocento",
    "sessantaquattro": "spikewire.io.sessantaquattro", "muovi": "spikewire.io.muovi",
    "muovi+": "spikewire.io.muovi", "intan": "spikewire.io.intan",
    "lsl": "spikewire.io.lsl",
}  # fmt: skip
ANY_PACE = {"replay", "simulate"}  # the others have a pace of their own


class Clock(Protocol):
    """What tells the time to a source: the machine's monotonic clock, or a test."""

    def now(self) -> float:
        """Seconds since some fixed moment."""

    def sleep_until(self, moment: float) -> None:
        """Return at `moment`, at once if it has passed."""


@dataclass(frozen=True)
class Block:
    """Successive samples that arrived together.

    Attributes
    ----------
    first : int
        The amplifier's counter of the first sample; a jump is a gap.
    counts : int16 or int32 (samples, channels)
        Raw converter counts; microvolts are counts * lsb_uv of the source.
    arrival_s : float
        When the host received them, on the injected clock.
    """

    first: int
    counts: NDArray[Any]
    arrival_s: float


class Source(Protocol):
    """A live stream of samples.

    A live amplifier also has `montage`, `troubles` (dict of str to int: what went wrong so far, by
    name) and `faults` (frozenset of str: what is wrong now).

    Attributes
    ----------
    uri : str
    fs_hz, lsb_uv, latency_s : float
        Rate, microvolts per count, and the declared delay from skin to host.
    channels : int
    block_samples : int
        Most samples of one block; above 20 the source is not fit for control.
    ended : bool
        True after the last block of a finite source.
    note : str
        What a user should know before the run, or nothing.
    """

    uri: str
    fs_hz: float
    lsb_uv: float
    latency_s: float
    channels: int
    block_samples: int
    ended: bool
    note: str

    def read(self, timeout_s: float) -> list[Block]:
        """Blocks that have arrived; waits for the first one, at most `timeout_s`."""

    def close(self) -> None:
        """Let go of the amplifier or file."""


def open_source(uri: str, clock: Clock) -> Source:
    """Open the source that a URI names, such as `replay:rec.npz?span=18:24`.

    Raises
    ------
    InputError
        Unknown scheme or option, or the source cannot be opened.
    """
    scheme, colon, rest = uri.partition(":")
    if not colon or scheme not in SOURCES:
        raise InputError(
            f"source {uri!r}: allowed are {', '.join(f'{s}:...' for s in SOURCES)}, e.g. "
            "replay:rec.npz?span=18:24"
        )
    where, _, query = rest.partition("?")
    pairs = [part.partition("=") for part in filter(None, query.split("&"))]
    options = {key: value for key, _, value in pairs}
    if len(options) < len(pairs):
        raise InputError(f"source {uri!r}: an option stands there twice; give each once")
    source: Source = import_module(SOURCES[scheme]).open_uri(uri, where, options, clock)
    return source


def refuse_unknown(uri: str, options: dict[str, str], allowed: set[str]) -> None:
    """Name an option that this source does not have."""
    for key in options.keys() - allowed:
        raise InputError(
            f"source {uri!r}: option {key!r} is unknown, allowed are {', '.join(sorted(allowed))}"
        )


def chosen(
    uri: str, options: dict[str, str], name: str, default: str, table: dict[str, int]
) -> int:
    """What an option's word stands for; a word that is not in the table is refused."""
    value = options.get(name, default)
    if value not in table:
        raise InputError(f"source {uri!r}: {name}={value} came, allowed are {', '.join(table)}")
    return table[value]
