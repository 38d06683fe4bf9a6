"""Which electrodes of a whole recording cannot be believed, by the thresholds of the live guard.

What the guard sees in 98 ms is judged here over all of it: a channel is bad if it is flat, at the
converter's end in 1 % of the samples, far louder than the others, or mostly mains unlike them.
"""

from __future__ import annotations

import numpy as np

from spikewire.runtime.quality import COMMON_SHARE, JUMP, MAINS_HZ, MAINS_SHARE
from spikewire.signals import FLAT_SHARE, Recording

BLOCK = 200  # samples, as long as the guard's memory
AT_END = 0.01
END_SHARE = 0.999  # of the largest value: at the converter's end


def bad_channels(recording: Recording) -> dict[int, str]:
    """Reason for each channel that is bad.

    Parameters
    ----------
    recording : Recording
        At least 200 samples.
    """
    emg = recording.emg
    amplitude = emg.std(axis=0, dtype=np.float64)
    usual = float(np.median(amplitude)) or 1.0
    end = float(np.abs(emg).max())
    clipped = (np.abs(emg) >= END_SHARE * end).mean(axis=0)
    blocks = emg[: len(emg) // BLOCK * BLOCK].reshape(-1, BLOCK, emg.shape[1])
    blocks = blocks - blocks.mean(axis=1, keepdims=True)  # an offset leaks into the mains' line
    wave = np.exp(-2j * np.pi * np.outer(MAINS_HZ, np.arange(BLOCK)) / recording.fs_hz)
    hum = np.abs(np.einsum("ft,btc->fbc", wave.astype(np.complex64), blocks)) / BLOCK
    power = np.maximum(np.square(amplitude), 1e-12)
    share = (2 * np.square(hum).mean(axis=1)).max(axis=0) / power
    unlike = float(np.median(share)) < COMMON_SHARE
    judged = (
        ("flat", amplitude < FLAT_SHARE * usual), ("at the converter's end", clipped > AT_END),
        ("louder than the others", amplitude > JUMP * usual),
        ("mostly mains", (share > MAINS_SHARE) & unlike),
    )
    out: dict[int, str] = {}
    for reason, which in judged:
        for channel in np.flatnonzero(which):
            out.setdefault(int(channel), reason)
    return dict(sorted(out.items()))
