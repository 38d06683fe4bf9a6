"""Keep the front fit while the loop runs: bad channels, gains, noise, fatigue, amplitude.

A bad channel is masked at once and the filters are solved without it half a second later. Every ten
seconds they are solved again from the bundle's moments and what was just heard, for other gains and
a slightly other conduction velocity, and replaced if the sources become clearer; each unit's scale
follows the height of its own peaks. The work is done by another process, at low priority.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikewire import filters
from spikewire.bundle import Bundle
from spikewire.moments import HIGH_PASS, Moments, measure
from spikewire.peaks import Peaks, judge, maxima
from spikewire.register import DEAD, MIN_RISE, NOISY, quality, refitted
from spikewire.runtime.engine import Engine
from spikewire.signals import STEP, Floats

Doubles = NDArray[np.float64]

HEARD_S = 10.0  # of signal that the filters are solved from, and between two times
TEND_STEPS = 1024
# A result counts from a fixed step on, so that a replay of the log does the same.
LOST_DUE, TEND_DUE = 50, 300
FOLLOW = 10  # steps over which the median of a channel's power is taken
WELL_STEPS = 200  # a bad channel that is in order for two seconds is used again
VELOCITY_STEP, SLOWEST, FASTEST = 0.025, 0.85, 1.1
CLEAR_SIL, MIN_PEAKS = 0.8, 10  # of a source whose height is believed; noise alone gives 0.8
LOWEST, HIGHEST = 0.3, 3.0  # height against the one in use
MUTE_SIL, MUTE_COV = 0.87, 0.5  # peaks neither apart from the noise nor regular are no unit's
MIN_MOVE = 0.05  # of a scale
NICE = 10


@dataclass(frozen=True)
class Basis:
    """What a bundle knows of its training."""

    moments: Moments
    loading: float
    scale: Floats
    height: Doubles


@dataclass(frozen=True)
class Solved:
    """Filters in use.

    Attributes
    ----------
    moments : Moments they were solved from
    kernels : float32 (delays * channels, n_mu)
    factor : float64 (n_mu,), of each unit's scale since training
    velocity : of conduction, against training
    sil : float64 (n_mu,), silhouettes when last looked at
    lost : bool (n_mu,), sources that no longer follow a unit
    """

    moments: Moments
    kernels: Floats
    factor: Doubles
    velocity: float
    sil: Doubles
    lost: NDArray[np.bool_]


def without(basis: Basis, now: Solved, good: NDArray[np.bool_]) -> Solved:
    """The filters in use, solved for fewer channels."""
    return replace(now, kernels=now.moments.solve(basis.loading, good))


def tended(basis: Basis, now: Solved, emg: Floats, good: NDArray[np.bool_]) -> Solved:
    """Filters and scales that fit the last seconds better, or those in use.

    Parameters
    ----------
    emg : float32 (samples, channels), the last ten seconds
    """
    peaks, clear = believed_heights(basis, now, emg)
    now = heard_of(now, peaks)
    if clear.sum() < max(len(clear) / 3, 1):
        return now  # at rest, or lost: nothing to hold on to
    heard = measure([emg], [[]], now.moments.delays)
    best, made, believed = quality(emg, now.kernels) + MIN_RISE, now, False
    for turn, believe in ((0.0, False), (0.0, True), (-VELOCITY_STEP, None), (VELOCITY_STEP, None)):
        velocity = round(now.velocity + turn, 3)
        if not SLOWEST <= velocity <= FASTEST:
            continue
        believe = believed if believe is None else believe
        moments = refitted(basis.moments.slowed(velocity), heard, believe, good)
        kernels = moments.solve(basis.loading, good)
        value = quality(emg, kernels)
        if value > best:
            best, believed = value, believe
            made = replace(now, moments=moments, kernels=kernels, velocity=velocity)
    peaks, known = believed_heights(basis, made, emg)
    factor = np.where(known, np.where(known, peaks.height, 1) / basis.height, made.factor)
    moved = np.abs(factor / made.factor - 1) > MIN_MOVE
    return replace(heard_of(made, peaks), factor=np.where(moved, factor, made.factor))


def heard_of(now: Solved, peaks: Peaks) -> Solved:
    """Note how clear the sources are; one with few peaks keeps its verdict."""
    enough = peaks.count >= MIN_PEAKS
    lost = (peaks.sil < MUTE_SIL) & (np.nan_to_num(peaks.cov, nan=1.0) > MUTE_COV)
    return replace(now, sil=np.where(enough, peaks.sil, np.nan),
                   lost=np.where(enough, lost, now.lost))


def believed_heights(
    basis: Basis, now: Solved, emg: Floats
) -> tuple[Peaks, NDArray[np.bool_]]:
    """Peaks of the filter outputs, and which units' heights may be trusted."""
    peaks = judge(maxima(filters.apply(emg, now.kernels / basis.scale)))
    height = np.nan_to_num(peaks.height) / (basis.height * now.factor)
    return peaks, ((peaks.sil > CLEAR_SIL) & (peaks.count >= MIN_PEAKS)
                   & (height > LOWEST) & (height < HIGHEST))


class Electrodes:
    """Which channels live, from the running power of each and of its noise.

    Power is the variance inside a step, so that offsets and their jumps do not count; of ten steps
    the median, so that one artefact does not.
    """

    def __init__(self, moments: Moments) -> None:
        power = np.einsum("lcc->lc", moments.lagged)
        # Variance inside 20 samples of a signal with this autocorrelation.
        far = np.arange(1, STEP)
        inside = power[0] * (1 - 1 / STEP) - 2 * ((STEP - far) / STEP**2) @ power[1:STEP]
        self._was = np.maximum(inside, 1e-12)
        self._rms = np.sqrt(power[0]).clip(1e-6)
        self.good = np.ones(moments.channels, bool)
        self._before = np.zeros((len(HIGH_PASS) - 1, moments.channels), np.float32)
        self.reset()

    def reset(self) -> None:
        """Forget the signal, not the verdict."""
        self._power = np.zeros((FOLLOW, len(self._was)))
        self._noise = np.zeros((FOLLOW, len(self._was)))
        self._seen, self._well = 0, np.zeros(len(self._was), int)

    def step(self, emg: Floats) -> bool:
        """Take 20 samples (20, channels); whether the verdict has changed."""
        x = np.concatenate([self._before, emg])
        self._before = x[-len(self._before) :]
        high = sum(w * x[k : k + STEP] for k, w in enumerate(HIGH_PASS))
        at = self._seen % FOLLOW
        self._seen += 1
        self._power[at] = emg.var(axis=0)
        self._noise[at] = np.square(high).mean(axis=0) / np.square(HIGH_PASS).sum()
        if self._seen < FOLLOW:
            return False
        power, noise = np.median(self._power, axis=0), np.median(self._noise, axis=0)
        gain = np.sqrt(power / self._was)
        usual = max(float(np.median(gain)), 1e-6)
        noisy = np.sqrt(noise) > NOISY * self._rms * max(usual, 1)
        well = (power > 0) & (gain > DEAD * usual) & ~noisy
        self._well = np.where(well, self._well + 1, 0)
        good = np.where(self.good, well, self._well >= WELL_STEPS)
        changed = bool((good != self.good).any())
        self.good = good
        return changed


class Upkeep:
    """Watches one bundle's signal and swaps its front between two steps.

    Parameters
    ----------
    bundle : Bundle with moments
    engine : Engine
    inline : bool
        Work in the caller, for a clock that stands still meanwhile; else in another process.
    """

    def __init__(self, bundle: Bundle, engine: Engine, inline: bool) -> None:
        m, moments, front = bundle.manifest, bundle.moments(), bundle.front()
        assert moments is not None
        assert front is not None
        self._engine, self._map = engine, np.array(m.channel_map)
        self._input_scale = np.float32(m.input_scale)
        self._basis = Basis(moments, m.loading or 1e-3, front[1], bundle.height())
        self.now = Solved(moments, front[0], np.ones(m.inputs), 1.0, np.full(m.inputs, np.nan),
                          np.zeros(m.inputs, bool))
        self.electrodes = Electrodes(moments)
        self.muted = np.zeros(m.inputs, bool)
        self.swaps = self.late = 0
        self._ring = np.zeros((STEP * TEND_STEPS, moments.channels), np.float32)
        self._filled = self._step = self._due = 0
        self._waiting: Future[Solved] | None = None
        self._lost = False
        self._pool = None if inline else ProcessPoolExecutor(
            1, get_context("spawn"), initializer=os.nice, initargs=(NICE,))
        if self._pool:  # the process starts now, not at the first fault
            self._pool.submit(os.getpid).result()

    @property
    def good_channels(self) -> int:
        """Channels in use."""
        return int(self.electrodes.good.sum())

    def close(self) -> None:
        """End the other process."""
        if self._pool:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def reset(self) -> None:
        """After a gap: what was heard before it belongs to no common time."""
        self._filled = 0
        self.electrodes.reset()

    def step(self, emg: Floats) -> None:
        """Take the 20 samples (20, channels of the source) that the engine has just had."""
        new = emg[:, self._map] * self._input_scale
        at = STEP * (self._filled % TEND_STEPS)
        self._ring[at : at + STEP] = new
        self._filled += 1
        self._step += 1
        if self.electrodes.step(new):
            self._engine.mask(self.electrodes.good)
            self._lost = True
        self._collect()
        if self._waiting is None and self._lost:
            self._lost = False
            if self.electrodes.good.mean() >= 0.5:  # with fewer there is nothing to solve
                self._start(LOST_DUE, without, self.electrodes.good.copy())
        elif self._waiting is None and self._filled % TEND_STEPS == 0 and self._filled:
            self._start(TEND_DUE, tended, self._ring.copy(), self.electrodes.good.copy())

    def _start(self, due: int, work: Any, *what: Any) -> None:
        """Begin a piece of work whose result counts `due` steps from now."""
        self._due = self._step + due
        if self._pool:
            self._waiting = self._pool.submit(work, self._basis, self.now, *what)
        else:
            self._waiting = Future()
            self._waiting.set_result(work(self._basis, self.now, *what))

    def _collect(self) -> None:
        """Swap the front once its time has come."""
        if self._waiting is None or self._step < self._due:
            return
        if not self._waiting.done():
            self.late += 1
            return
        made, self._waiting = self._waiting.result(), None
        if made.kernels is not self.now.kernels or (made.factor != self.now.factor).any():
            scale = (self._basis.scale * made.factor).astype(np.float32)
            self._engine.set_front(made.kernels, scale)
            self.swaps += 1
        self.now = made
        self.muted = made.lost

    def summary(self) -> dict[str, Any]:
        """Figures for people, ready for JSON."""
        return {
            "swaps": self.swaps, "late_steps": self.late, "velocity": self.now.velocity,
            "bad_channels": np.flatnonzero(~self.electrodes.good).tolist(),
            "muted": np.flatnonzero(self.muted).tolist(),
            "confidence": [None if s != s else round(float(s), 3) for s in self.now.sil],
            "scale": [round(float(f), 3) for f in self.now.factor],
        }
