"""Whole samples out of a stream of 16-bit words, found and watched by their counter.

An amplifier of OT Bioelettronica sends its channels one after the other, one word each, and among
them a counter that goes up by 1 with every sample. A stream taken apart at the wrong width or place
looks like EMG on the wrong electrodes, so nothing is handed on whose counter does not say that it
is in place: where a stream begins the counter must have run for 32 samples, and after every jump
for 16. What stays possible: when bytes are lost, which TCP does not do, a word that is by chance
the counter's next value (1 of 65536) passes for one sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

BEGINS, CONFIRMS = 32, 16  # samples that the counter must have run
MOST_TRIES = 64  # places of the stream at which one call looks for a sample
WIDEST = 480  # words: the widths that are tried to name a stream that nobody expected


class Samples(NamedTuple):
    """Successive samples as the amplifier sent them.

    Attributes
    ----------
    raw : int64 (samples,)
        The amplifier's counter, wrapping as it does.
    counts : int16 (samples, channels)
    free_bytes : int or None
        What is left of the amplifier's own buffer, where it says so.
    """

    raw: NDArray[np.int64]
    counts: NDArray[Any]
    free_bytes: int | None = None


class Decoder(Protocol):
    """Bytes of one connection to samples; knows nothing of sockets.

    Attributes
    ----------
    framing : int
        How often the stream was lost and looked for again.
    """

    framing: int

    def feed(self, data: bytes) -> Samples:
        """Take bytes as they come, chopped anyhow; return what they complete."""

    def strangeness(self) -> str:
        """What a stream looks like in which no sample was found, or nothing."""


@dataclass(frozen=True)
class Layout:
    """Where things are in one sample.

    Attributes
    ----------
    words : int, 16 bits each
    grid : slice, the words that are EMG
    counter : int, the word that goes up by 1
    free : int or None, the word that says how many bytes of the amplifier's buffer are free
    """

    words: int
    grid: slice
    counter: int
    free: int | None = None


def ramps(
    data: bytes | bytearray, width: int, big: bool, at: int
) -> NDArray[np.int64] | None:
    """Beginnings [0, width) of samples of `width` bytes whose word at byte `at` runs 32 times.

    None if there are too few bytes to tell.
    """
    needed = (BEGINS + 1) * width
    if len(data) <= at + needed:
        return None
    b = np.frombuffer(data, np.uint8, needed + 1, at).astype(np.uint16)
    pairs = b[:-1] << 8 | b[1:] if big else b[1:] << 8 | b[:-1]
    steps = np.diff(pairs.reshape(BEGINS + 1, width), axis=0)  # modulo 2^16, as the counter
    return np.flatnonzero((steps == 1).all(axis=0))


def width_of(data: bytes | bytearray, big: bool) -> int:
    """Words per sample of a stream whose last word is a ramp, or 0: to name what came."""
    for words in range(4, WIDEST + 1):
        found = ramps(data, 2 * words, big, 2 * words - 2)
        if found is not None and 0 in found:
            return words
    return 0


class Words:
    """Decoder of interleaved words; see `Decoder`.

    Parameters
    ----------
    layouts : tuple of Layout
        What the amplifier may send; the first whose counter runs is taken.
    big : bool
        High byte first.

    Attributes
    ----------
    layout : Layout or None, as found
    """

    def __init__(self, layouts: tuple[Layout, ...], big: bool) -> None:
        self._layouts, self._big = layouts, big
        self._data = bytearray()
        self._beginning = b""
        self._passed = 0  # bytes of the connection before `_data`
        self._last: int | None = None  # counter of the sample before
        self._lost = False
        self.layout: Layout | None = None
        self.framing = 0

    def feed(self, data: bytes) -> Samples:
        """Take bytes; return the whole samples whose place the counter has confirmed."""
        self._data += data
        if len(self._beginning) < 2 * BEGINS * WIDEST:
            self._beginning += data
        channels = len(range(*self._layouts[0].grid.indices(WIDEST)))
        if self.layout is None and not self._find():
            return Samples(np.zeros(0, np.int64), np.zeros((0, channels), np.int16))
        assert self.layout is not None
        layout, width = self.layout, 2 * self.layout.words
        whole = len(self._data) // width
        words = np.frombuffer(bytes(self._data[: whole * width]), ">i2" if self._big else "<i2")
        words = words.reshape(whole, layout.words)
        raw = words[:, layout.counter].astype(np.uint16).astype(np.int64)
        good = self._confirmed(raw)
        if good:
            self._last = int(raw[good - 1])
        self._drop(good * width)
        free = None
        if layout.free is not None and good:
            free = int(words[good - 1, layout.free].astype(np.uint16))
        return Samples(raw[:good], words[:good, layout.grid].astype(np.int16), free)

    def strangeness(self) -> str:
        """Words per sample of a stream that is none of the layouts."""
        words = width_of(self._beginning, self._big)
        allowed = " or ".join(str(k.words) for k in self._layouts)
        if words:
            return f"samples of {words} words came, allowed are {allowed}"
        return f"no counter runs in samples of {allowed} words"

    def _drop(self, size: int) -> None:
        """Forget bytes."""
        del self._data[:size]
        self._passed += size

    def _confirmed(self, raw: NDArray[np.int64]) -> int:
        """How many samples may be handed on; what does not run was lost, and is looked for."""
        before = raw[:1] - 1 if self._last is None else np.array([self._last])
        steps = np.diff(raw, prepend=before) % (1 << 16)
        jumps = np.flatnonzero(steps != 1)
        for number, jump in enumerate(jumps):
            following = jumps[number + 1] if number + 1 < len(jumps) else len(raw)
            if following - jump > CONFIRMS:
                continue
            if number + 1 < len(jumps):  # jumped again too soon: this is no counter
                self.layout = None
                self.framing += 1
            return int(jump)
        return len(raw)

    def _find(self) -> bool:
        """Look for the place and width at which the counter runs."""
        for _ in range(MOST_TRIES):
            found = [self._place(layout) for layout in self._layouts]
            for layout, place in zip(self._layouts, found, strict=True):
                if place is not None and place >= 0:
                    self.layout = layout
                    # In the middle of a stream the first ones only prove the place: a hole before
                    # the counter of one may have left that counter in step.
                    proof = CONFIRMS if self._passed + place else 0
                    self._drop(place + 2 * layout.words * proof)
                    return True
            if any(place is None for place in found):
                return False  # too few bytes yet
            self._drop(2 * min(k.words for k in self._layouts))
        self._drop(max(0, len(self._data) - 2 * (BEGINS + 2) * max(k.words for k in self._layouts)))
        return False

    def _place(self, layout: Layout) -> int | None:
        """First byte of the first whole sample; -1 if there is none, None if bytes are missing."""
        width = 2 * layout.words
        places = ramps(self._data, width, self._big, 2 * layout.counter)
        if places is None:
            return None
        # A self-test sends ramps on all channels: then only the connection's own beginning tells.
        expected = -self._passed % width
        if expected in places:
            return expected
        return int(places[0]) if len(places) == 1 else -1
