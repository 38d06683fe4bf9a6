"""Samples of a source into a log, and what the last second says about the electrodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from spikewire.io.runlog import RunLog
from spikewire.io.source import Clock, Source
from spikewire.runtime.quality import MAINS_HZ, Samples
from spikewire.runtime.window import Window
from spikewire.signals import STEP, Floats, InputError

INT16_RAIL = 32767  # counts; most amplifiers send 16 bits
LOOK_S = 0.25  # between two looks at the electrodes
SILENT_S = 5.0  # without a sample: somebody has to do something
ENVELOPE_S = 0.25


@dataclass(frozen=True)
class Quality:
    """What a stretch of samples says about the electrodes; microvolts, without the mean.

    Attributes
    ----------
    rms_uv : float64 (channels,)
    mains : float64 (channels,)
        Share of the power at 50 or 60 Hz, whichever is more.
    clipped : float64 (channels,)
        Share of the samples at the converter's end.
    flat, saturated, loose : bool (channels,)
        As the decoder judges them while it runs.
    """

    rms_uv: Floats
    mains: Floats
    clipped: Floats
    flat: Any
    saturated: Any
    loose: Any

    @property
    def bad(self) -> list[int]:
        """Channels that the decoder would not use."""
        return [int(k) for k in np.flatnonzero(self.flat | self.saturated | self.loose)]


class Electrodes:
    """The last second of samples, cut as the decoder cuts them.

    Parameters
    ----------
    source : Source

    Attributes
    ----------
    samples, lost, twice, gaps : int
        Taken, missing between them, thrown away because they had come before; holes.
    """

    def __init__(self, source: Source) -> None:
        self._window = Window(source.channels, source.lsb_uv)
        self.rail_uv = float(getattr(source, "rail_uv", INT16_RAIL * source.lsb_uv))
        self._judge = Samples(source.channels, source.fs_hz, source.lsb_uv, self.rail_uv)
        steps = max(1, round(source.fs_hz / STEP))
        self._emg = np.zeros((steps, STEP, source.channels), np.float32)
        self._fs_hz, self._seen = source.fs_hz, 0
        self.samples = self.lost = self.gaps = 0

    @property
    def twice(self) -> int:
        """Samples that had come before."""
        return self._window.duplicates

    def push(self, block: Any) -> None:
        """Take a block."""
        for cut in self._window.push(block):
            if cut.gap:
                self.gaps += 1
                self.lost += max(cut.gap, 0)
                self._judge.reset()
            self._emg[self._seen % len(self._emg)] = cut.emg
            self._seen += 1
            self.samples += STEP
            self._judge.step(cut.emg)

    def last(self, seconds: float) -> Floats:
        """The newest samples, float32 (samples, channels), oldest first."""
        steps = min(self._seen, len(self._emg), max(1, round(seconds * self._fs_hz / STEP)))
        at = np.arange(self._seen - steps, self._seen) % len(self._emg)
        return self._emg[at].reshape(steps * STEP, self._emg.shape[2])

    @property
    def envelope_uv(self) -> float:
        """Effort, as far as EMG knows it: RMS over all channels that can be believed."""
        emg = self.last(ENVELOPE_S)
        good = ~self._judge.bad
        return float(np.sqrt(emg[:, good].var(axis=0).mean())) if len(emg) and good.any() else 0.0

    def quality(self) -> Quality:
        """What the last second says."""
        emg = self.last(1.0).astype(np.float64)
        if not len(emg):
            emg = np.zeros((STEP, self._emg.shape[2]))
        emg, clipped = emg - emg.mean(axis=0), (np.abs(emg) >= self.rail_uv).mean(axis=0)
        power = emg.var(axis=0) + 1e-12
        wave = np.exp(-2j * np.pi * np.outer(MAINS_HZ, np.arange(len(emg))) / self._fs_hz)
        mains = 2 * np.square(np.abs(wave @ emg).max(axis=0) / len(emg)) / power
        judge = self._judge
        return Quality(np.sqrt(power), np.minimum(mains, 1.0), clipped, judge.flat,
                       judge.saturated, judge.loose)


def capture(
    source: Source, log: RunLog, clock: Clock, stop: Callable[[Electrodes], bool],
    look: Callable[[Electrodes], None],
) -> Electrodes:
    """Log all that a source sends until `stop` says so, or the source ends.

    Parameters
    ----------
    stop : callable
        Asked after every read.
    look : callable
        Called four times a second, to show something.

    Raises
    ------
    InputError
        No sample for five seconds.
    """
    electrodes = Electrodes(source)
    heard = looked = clock.now()
    while not source.ended and not stop(electrodes):
        blocks = source.read(LOOK_S / 2)
        now = clock.now()
        for block in blocks:
            log.block(block)
            electrodes.push(block)
        heard = now if blocks else heard
        if now - heard > SILENT_S:
            raise InputError(
                f"source {source.uri}: no sample for {SILENT_S:g} s, {electrodes.samples} came "
                "before; is the amplifier on, near, and set to this computer's address?")
        if now - looked >= LOOK_S:
            look(electrodes)
            looked = now
    return electrodes
