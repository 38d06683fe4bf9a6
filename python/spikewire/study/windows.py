"""Windows and bins of any size and step, as equations (1) and (2) of Wen et al. 2021 have them.

The rest of the package knows one window and one step (`signals`); the paper compares sixteen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikewire.signals import Floats, Span, SpikeTrains, Times

Marks = NDArray[np.bool_]
FOUND_F1 = 0.7  # a motor unit counts as identified above it (section 3.4.1)


@dataclass(frozen=True)
class Grid:
    """Successive windows over a span of samples.

    The window of centre c is [c - window / 2, c + window / 2), its bin [c - step // 2, + step): of
    an odd step the middle sample is the centre. With a step above the window the bin reaches
    beyond it.

    Attributes
    ----------
    centres : int64 (windows,), multiples of the step
    """

    window: int
    step: int
    centres: Times

    @classmethod
    def over(cls, span: Span, window: int, step: int) -> Grid:
        """All windows that lie in a span together with their bins."""
        reach = max(window // 2, step // 2 + step % 2)
        first = -(-(span[0] + reach) // step)
        last = (span[1] - reach) // step
        return cls(window, step, step * np.arange(first, last + 1, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.centres)

    @property
    def bins(self) -> Span:
        """Samples that the bins cover."""
        first = int(self.centres[0]) - self.step // 2
        return first, first + self.step * len(self)

    def cut(self, emg: Floats, which: NDArray[np.int64]) -> Floats:
        """Some of the windows: float32 (len(which), window, channels)."""
        start = self.centres[which] - self.window // 2
        return emg[start[:, None] + np.arange(self.window)]

    def marks(self, times: Sequence[Times]) -> Marks:
        """Equation (2): whether a bin holds a discharge, bool (windows, units)."""
        out = np.zeros((len(self), len(times)), bool)
        for unit, t in enumerate(times):
            bins = (np.asarray(t, np.int64) - self.bins[0]) // self.step
            out[bins[(bins >= 0) & (bins < len(self))], unit] = True
        return out

    def times(self, marks: Marks) -> list[Times]:
        """Centres of the marked windows, one array per unit."""
        return [self.centres[marks[:, unit]] for unit in range(marks.shape[1])]


def share(part: float, whole: float) -> float | None:
    """A ratio; None where there is nothing to divide by."""
    return float(part / whole) if whole else None


def binned(found: Marks, wanted: Marks) -> list[dict[str, float | None]]:
    """Sensitivity, precision (equations 3 and 4) and F1 of each unit, bin against bin.

    Parameters
    ----------
    found, wanted : bool (windows, units)
    """
    out = []
    for f, w in zip(found.T, wanted.T, strict=True):
        hits = int(np.sum(f & w))
        out.append({
            "sensitivity": share(hits, w.sum()), "precision": share(hits, f.sum()),
            "f1": share(2 * hits, f.sum() + w.sum()),
        })
    return out


def mean_f1(found: Marks, wanted: Marks) -> float:
    """Mean over the units, as the paper chooses its best epoch by; 0 if nothing is defined."""
    known = [s["f1"] for s in binned(found, wanted) if s["f1"] is not None]
    return float(np.mean(known)) if known else 0.0


def moved(trains: SpikeTrains, lags: Sequence[int]) -> SpikeTrains:
    """Every unit's times plus its lag."""
    return SpikeTrains([t + lag for t, lag in zip(trains.times, lags, strict=True)], trains.fs_hz)
