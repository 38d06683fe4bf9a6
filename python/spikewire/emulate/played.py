"""What an emulated amplifier measures: a recording over and over, or a test signal."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikewire.emulate.wire import Wire
from spikewire.signals import InputError, Recording

TEST_UV, TEST_SAMPLES = 100.0, 8191  # a prime: it falls in with no packet


class Played:
    """Counts for every sample index; past its end the signal begins again.

    Parameters
    ----------
    counts : int16 (samples, channels)
    """

    def __init__(self, counts: NDArray[Any]) -> None:
        self._counts = counts

    def between(self, start: int, stop: int) -> NDArray[Any]:
        """Samples [start, stop): int16 (stop - start, channels)."""
        return self._counts[np.arange(start, stop) % len(self._counts)]


def test_signal(wire: Wire) -> Played:
    """White noise, another on every channel, always the same."""
    rng = np.random.default_rng(64)
    noise = rng.normal(0, TEST_UV / wire.lsb_uv, (TEST_SAMPLES, wire.channels))
    return Played(np.rint(noise).clip(-32768, 32767).astype(np.int16))


def recording_signal(wire: Wire, recording: Recording) -> Played:
    """A recording in the amplifier's counts; channels that it lacks are constant.

    An amplifier that samples at a multiple of the recording's rate gets straight lines in between.

    Raises
    ------
    InputError
        Another rate, or more channels.
    """
    factor = round(wire.fs_hz / recording.fs_hz)
    if factor < 1 or abs(wire.fs_hz / recording.fs_hz - factor) > 1e-9:
        raise InputError(f"{recording.name}: rate {recording.fs_hz:g} came, {wire.name} samples at "
                         f"{wire.fs_hz:g} Hz; use a recording of that rate")
    if recording.emg.shape[1] > wire.channels:
        raise InputError(f"{recording.name}: {recording.emg.shape[1]} channels came, {wire.name} "
                         f"has {wire.channels}; use a smaller recording or another amplifier")
    counts = recording.emg / np.float32(wire.lsb_uv)
    if factor > 1:
        part = (np.arange(factor, dtype=np.float32) / factor)[:, None, None]
        after = np.concatenate([counts[1:], counts[-1:]])
        counts = (counts * (1 - part) + after * part).transpose(1, 0, 2).reshape(
            -1, counts.shape[1])
    wide = np.zeros((len(counts), wire.channels), np.int16)
    wide[:, : counts.shape[1]] = np.rint(counts).clip(-32768, 32767)
    return Played(wide)
