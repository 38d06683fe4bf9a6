"""Subtract what known motor units have done to a signal: the recording, or each other's sources.

Their action potentials are estimated all at once by least squares, since they overlap, and
subtracted where they discharge. Small units show themselves in what is left of the recording;
discharges that another unit has hidden or pretended show themselves in what is left of a source.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spikewire.signals import Floats, Times

BEFORE_S, AFTER_S = 0.02, 0.04  # of a potential around the marked sample
CROSSTALK_S = 0.012  # of a filter's answer to another unit, to both sides
RIDGE = 1e-3  # of a unit's number of discharges


def potentials(x: Floats, trains: Sequence[Times], before: int, after: int) -> Floats:
    """Action potentials of units whose discharges overlap.

    Parameters
    ----------
    x : float32 (samples, channels)
    trains : discharges of each unit, samples
    before, after : samples around a discharge

    Returns
    -------
    float32 (units, before + after, channels)
    """
    taps = before + after
    trains = [t[(t >= before) & (t < len(x) - after)] for t in trains]
    gram = np.zeros((len(trains), taps, len(trains), taps))
    sums = np.zeros((len(trains), taps, x.shape[1]))
    lags = np.subtract.outer(np.arange(taps), np.arange(taps)) + taps - 1
    for i, one in enumerate(trains):
        for k in range(taps):
            sums[i, k] = x[one + k - before].sum(axis=0, dtype=np.float64)
        for j, other in enumerate(trains):
            # Tap k of `one` meets tap l of `other` where other - one = k - l.
            first = np.searchsorted(other, one - taps, side="right")
            last = np.searchsorted(other, one + taps)
            apart = np.concatenate([other[a:b] - t for t, a, b in zip(one, first, last,
                                                                      strict=True)] or [one])
            counts = np.bincount(apart + taps - 1, minlength=2 * taps - 1)[: 2 * taps - 1]
            gram[i, :, j, :] = counts[lags]
    size = len(trains) * taps
    normal = gram.reshape(size, size)
    normal[np.diag_indices(size)] += RIDGE * np.repeat([max(len(t), 1) for t in trains], taps)
    made = np.linalg.solve(normal, sums.reshape(size, -1))
    return made.reshape(sums.shape).astype(np.float32)


def subtract(x: Floats, times: Times, shape: Floats, before: int) -> None:
    """Take a shape (taps, channels) out of `x`, in place, around each of `times`."""
    times = times[(times >= before) & (times < len(x) - len(shape) + before)]
    for k, row in enumerate(shape):
        x[times + k - before] -= row  # no unit discharges twice at one sample


def peeled(x: Floats, trains: Sequence[Times], fs_hz: float) -> Floats:
    """The recording without these units: float32 (samples, channels)."""
    before, after = round(BEFORE_S * fs_hz), round(AFTER_S * fs_hz)
    left = x.copy()
    if trains:
        for shape, times in zip(potentials(x, trains, before, after), trains, strict=True):
            subtract(left, times, shape, before)
    return left


def untangled(sources: Floats, trains: Sequence[Times], fs_hz: float) -> Floats:
    """Every unit's source without the other units' crosstalk: float32 (samples, units)."""
    reach = round(CROSSTALK_S * fs_hz)
    left = sources.copy()
    for unit, shape in enumerate(potentials(sources, trains, reach, reach)):
        shape[:, unit] = 0
        subtract(left, trains[unit], shape, reach)
    return left
