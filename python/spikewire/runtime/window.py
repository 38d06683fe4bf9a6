"""Cut a stream of blocks into steps of 20 samples; a gap starts afresh."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from spikewire.io.source import Block
from spikewire.signals import STEP, Floats

RESTARTED = 512  # samples: a counter that goes back further is that of a restarted amplifier


@dataclass(frozen=True)
class Cut:
    """20 new samples.

    Attributes
    ----------
    end : int
        Amplifier's counter one past the newest sample.
    emg : float32 (20, channels), microvolt
    gap : int
        Samples lost before these (negative: the counter went back), the largest loss if there
        were several; 0 in an unbroken stream.
    """

    end: int
    emg: Floats
    gap: int


class Window:
    """Collect samples into steps; keeps less than one step.

    Parameters
    ----------
    channels : int
    lsb_uv : float

    Attributes
    ----------
    duplicates : int
        Samples that had come before, and were thrown away.
    """

    def __init__(self, channels: int, lsb_uv: float) -> None:
        self._rest = np.zeros((STEP, channels), np.float32)
        self._filled = 0
        self._next: int | None = None
        self._lsb_uv = np.float32(lsb_uv)
        self._gap = 0
        self.duplicates = 0

    def push(self, block: Block) -> Iterator[Cut]:
        """Take a block; yield every step that it completes.

        Samples of an incomplete step before a gap are dropped: the step would span the hole.
        """
        expected = block.first if self._next is None else self._next
        end, at = block.first + len(block.counts), 0
        if 0 < expected - block.first <= RESTARTED:
            at = min(expected - block.first, len(block.counts))  # these have come before
            self.duplicates += at
            end = max(end, expected)
        elif block.first != expected:
            self._gap = max(self._gap, block.first - expected, key=abs)
            self._filled = 0
        while at < len(block.counts):
            take = min(STEP - self._filled, len(block.counts) - at)
            np.multiply(block.counts[at : at + take], self._lsb_uv,
                        out=self._rest[self._filled : self._filled + take], casting="unsafe")
            self._filled += take
            at += take
            if self._filled == STEP:
                yield Cut(block.first + at, self._rest.copy(), self._gap)
                self._filled, self._gap = 0, 0
        self._next = end
