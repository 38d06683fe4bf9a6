"""Another sampling rate, as an explicit step: polyphase, with an anti-aliasing filter.

The filter is linear-phase and its delay is taken out, so discharge times only scale.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from importlib import util
from typing import Any

import numpy as np

from spikewire.signals import PLAUSIBLE_FS_HZ, InputError, Recording, SpikeTrains

LARGEST_TERM = 1000  # of the ratio: 10240 to 2048 is 1 to 5


def ratio(fs_hz: float, target_hz: float) -> Fraction:
    """Target over source as a fraction of small terms.

    Raises
    ------
    InputError
        A rate out of range, or a ratio without such a fraction.
    """
    low, high = PLAUSIBLE_FS_HZ
    if not low <= target_hz <= high:
        raise InputError(f"--resample is {target_hz:g} Hz, allowed is {low:g} to {high:g}")
    found = Fraction(target_hz / fs_hz).limit_denominator(LARGEST_TERM)
    if found.numerator > LARGEST_TERM or abs(float(found) * fs_hz / target_hz - 1) > 1e-9:
        raise InputError(f"{fs_hz:g} Hz to {target_hz:g} Hz is no ratio of numbers up to "
                         f"{LARGEST_TERM}; choose another --resample")
    return found


def resampled(recording: Recording, target_hz: float) -> Recording:
    """The recording at another rate; force and the spans of contractions go with it.

    Raises
    ------
    InputError
        An impossible ratio, or SciPy is not installed.
    """
    share = ratio(recording.fs_hz, target_hz)
    if share == 1:
        return recording
    if util.find_spec("scipy") is None:
        raise InputError("--resample needs SciPy, which is not installed; type: "
                         "pip install 'spikewire[files]'")
    from scipy.signal import resample_poly

    def other(values: Any, pad: str) -> Any:
        return resample_poly(values, share.numerator, share.denominator, padtype=pad).astype(
            np.float32)

    columns = [other(recording.emg[:, k].astype(np.float64), "constant")
               for k in range(recording.emg.shape[1])]
    emg = np.ascontiguousarray(np.stack(columns, axis=1))
    spans = recording.segments
    return replace(
        recording, emg=emg, fs_hz=float(target_hz), lsb_uv=None,
        force=None if recording.force is None else other(recording.force, "line"),
        segments=None if spans is None else
        np.round(spans * float(share)).astype(np.int64).clip(0, len(emg)),
    )


def rescaled(trains: SpikeTrains, target_hz: float) -> SpikeTrains:
    """Discharge times counted at another rate, to the nearest sample."""
    share = float(ratio(trains.fs_hz, target_hz))
    return replace(trains, fs_hz=float(target_hz),
                   times=[np.round(t * share).astype(np.int64) for t in trains.times])
