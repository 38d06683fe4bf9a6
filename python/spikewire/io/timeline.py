"""An index of samples that never goes back, from a counter that wraps, repeats, jumps and restarts.

A jump of the index is a gap, with its length. Where the counter cannot tell how much is missing,
because the amplifier was restarted or the connection was lost, the host's clock does.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikewire.io.words import Samples

MEMORY = 128  # samples within which one that comes again is known by its content
AHEAD_S = 0.1  # a sample that comes earlier than this before its time has another counter's number
FOLLOWS = 1e-3  # of the time: how fast the clock's origin follows a slow amplifier
UNBROKEN_S = 0.1
BUCKET_S, BUCKETS = 1.0, 5
WRONG_RATE = 0.005  # of the rate; quartz clocks differ by less than 0.0001
LATE_S = 0.02


class Timeline:
    """Counter to index; see the module.

    Parameters
    ----------
    fs_hz : float
    bits : int
        Of the amplifier's counter.

    Attributes
    ----------
    troubles : dict of str to int
        gaps, lost_samples, duplicates, resets, and seconds that came late or at a wrong rate.
    rate_error : float
        Share by which samples come too fast (positive) or too slow, if that is beyond 0.5 % and
        has been so for four seconds; else 0.
    """

    def __init__(self, fs_hz: float, bits: int = 16) -> None:
        self._fs_hz, self._wrap = fs_hz, 1 << bits
        self._raw: int | None = None
        self._index: int | None = None
        self._past: NDArray[Any] | None = None
        self._start, self._arrival = np.inf, -np.inf  # when sample 0 came; the newest arrival
        self._lowest: list[float] = []  # of (arrival - index / fs), a second each
        self._bucket = -2  # none before the first
        self.troubles = dict.fromkeys(
            ("gaps", "lost_samples", "duplicates", "resets", "late_s", "wrong_rate_s"), 0)
        self.rate_error = 0.0

    def lost_touch(self) -> None:
        """The connection was lost: the counter says nothing about what is missing."""
        self._raw = None

    def place(self, samples: Samples, arrival_s: float) -> list[tuple[int, slice]]:
        """Index of the first, and which samples, of every unbroken run of new ones.

        Parameters
        ----------
        samples : Samples
        arrival_s : float
            When they came.
        """
        raw = samples.raw
        breaks = np.flatnonzero(np.diff(raw) % self._wrap != 1) + 1
        runs = []
        for start, stop in pairwise([0, *breaks.tolist(), len(raw)]):
            if start == stop:
                continue
            first, skip = self._judge(samples, start, stop, arrival_s)
            if skip == stop - start:
                continue
            runs.append((first, slice(start + skip, stop)))
            self._index, self._raw = first + stop - start - skip - 1, int(raw[stop - 1])
            new = samples.counts[start + skip : stop]
            past = new[:0] if self._past is None else self._past
            self._past = np.concatenate([past, new])[-MEMORY:]
        if runs:
            self._watch(arrival_s)
        return runs

    def _judge(self, samples: Samples, start: int, stop: int, arrival_s: float) -> tuple[int, int]:
        """Index of a run's first new sample, and how many before it had come already."""
        raw = int(samples.raw[start])
        if self._index is None:
            return raw, 0
        if self._raw is None:
            return self._gap(self._by_clock(stop - start, arrival_s)), 0
        ahead = (raw - self._raw) % self._wrap
        if ahead == 1:
            return self._index + 1, 0
        again = min(-ahead % self._wrap + 1, stop - start)
        if self._has_come(samples, start, again, -ahead % self._wrap):
            self.troubles["duplicates"] += again
            return self._index + 1, again
        return self._gap(self._after(ahead, stop - start, arrival_s)), 0

    def _has_come(self, samples: Samples, start: int, again: int, back: int) -> bool:
        """Whether these are samples that had come before, word by word."""
        assert self._past is not None
        at = len(self._past) - 1 - back
        return at >= 0 and np.array_equal(
            self._past[at : at + again], samples.counts[start : start + again])

    def _gap(self, first: int) -> int:
        """Count what is missing before `first`."""
        assert self._index is not None
        self.troubles["gaps"] += 1
        self.troubles["lost_samples"] += first - self._index - 1
        return first

    def _after(self, ahead: int, length: int, arrival_s: float) -> int:
        """Index of a run whose counter is so far ahead, or by the clock if that cannot be."""
        assert self._index is not None
        expected = (arrival_s - self._start) * self._fs_hz
        first = self._index + ahead
        first += self._wrap * max(0, round((expected - first - length) / self._wrap))
        if ahead and first + length - 1 <= expected + AHEAD_S * self._fs_hz:
            return first
        self.troubles["resets"] += 1
        return self._by_clock(length, arrival_s)

    def _by_clock(self, length: int, arrival_s: float) -> int:
        """Index of a run whose last sample is as old as the youngest ever are; after a hole."""
        assert self._index is not None
        newest = round((arrival_s - self._start) * self._fs_hz)
        return max(self._index + 2, newest - length + 1)

    def _watch(self, arrival_s: float) -> None:
        """Follow the amplifier's clock; notice a wrong rate, and samples that come late."""
        assert self._index is not None
        seen = arrival_s - self._index / self._fs_hz
        passed = arrival_s - self._arrival
        self._arrival = arrival_s
        unbroken = passed < UNBROKEN_S
        self._start = min(seen, self._start + (FOLLOWS * passed if unbroken else 0.0))
        bucket = int(arrival_s / BUCKET_S)
        if bucket != self._bucket:
            self._second(bucket == self._bucket + 1)
            self._bucket = bucket
            self._lowest.append(seen)
        self._lowest[-1] = min(self._lowest[-1], seen)

    def _second(self, successive: bool) -> None:
        """Judge the seconds that are over."""
        if not successive:
            self._lowest = []
            return
        if self._lowest[-1] - self._start > LATE_S:
            self.troubles["late_s"] += 1
        del self._lowest[:-BUCKETS]
        steps = np.diff(self._lowest) / BUCKET_S
        # Each second must say so: a backlog that comes or goes is one step.
        sure = len(steps) == BUCKETS - 1 and (
            bool((steps > WRONG_RATE).all()) or bool((steps < -WRONG_RATE).all()))
        self.rate_error = -float(steps.mean()) if sure else 0.0
        self.troubles["wrong_rate_s"] += sure
