"""Discharge times as other programs store them, made into spike trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from spikewire.io.matfile import is_numbers
from spikewire.signals import LONGEST_SAMPLES, InputError, SpikeTrains, Times

MOST_UNITS = 1024


def whole(path: Path, value: Any) -> Times:
    """Times as stored, sorted; none where there are no numbers.

    Raises
    ------
    InputError
        Fractions, NaN, or numbers that no recording is long enough for.
    """
    if not is_numbers(value) or not value.size:
        return np.zeros(0, np.int64)
    flat = np.asarray(value, np.float64).ravel()
    if not ((flat == np.round(flat)) & (np.abs(flat) < LONGEST_SAMPLES)).all():
        raise InputError(f"{path}: discharge times are no whole numbers below {LONGEST_SAMPLES}")
    return np.sort(flat.astype(np.int64))


def trains(path: Path, times: list[Times], fs_hz: float, method: str) -> SpikeTrains:
    """Spike trains of the units that discharge at all.

    Raises
    ------
    InputError
        None does, there are too many, or a time lies before the recording.
    """
    times = [t for t in times if t.size]
    if not 1 <= len(times) <= MOST_UNITS:
        raise InputError(f"{path}: holds {len(times)} units with discharges, allowed are 1 to "
                         f"{MOST_UNITS}")
    if min(int(t[0]) for t in times) < 0:
        raise InputError(f"{path}: a discharge lies before the first sample")
    return SpikeTrains(times, fs_hz, method=method)
