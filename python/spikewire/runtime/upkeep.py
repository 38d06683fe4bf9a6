"""Keep the front fit while the loop runs: bad channels, gains, noise, fatigue, drift, amplitude.

A bad channel is masked at once and the filters are solved without it half a second later. Every ten
seconds they are solved again from the bundle's moments and what was just heard, for other gains, a
slightly other conduction velocity and a grid that has crept a little, and replaced if the sources
become clearer; each unit's scale follows the height of its own peaks. The work is done by another
process, at low priority.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikewire import filters
from spikewire.bundle import Bundle
from spikewire.moments import HIGH_PASS, Moments, Places, measure
from spikewire.peaks import MIN_PEAKS, REGULAR_COV, Peaks, judge, maxima
from spikewire.register import (
    COST,
    DEAD,
    MIN_RISE,
    NOISY,
    Setting,
    Trust,
    allowed,
    moments_at,
    quality,
    refitted,
)
from spikewire.runtime.background import Background, GivenUpError, Inline, Work, WorkError
from spikewire.runtime.engine import Engine
from spikewire.signals import STEP, Floats

Doubles = NDArray[np.float64]

TEND_STEPS = 1024  # ten seconds: heard by the filters, and between two times that they are solved
# A result counts from a fixed step on, so that a replay of the log does the same.
LOST_DUE, TEND_DUE = 50, 400
GIVE_UP_STEPS = 2048  # after which the other process is taken for dead
FEWEST_GOOD = 0.5  # share of the channels below which nothing can be solved
FOLLOW = 10  # steps over which the median of a channel's power is taken
WELL_STEPS = 200  # a bad channel that is in order for two seconds is used again
# How far a setting moves in a step, and how many steps at a time. Half a millimetre changes the
# sources too little to be seen to help, so the filters would stay behind.
STEPS, MOST_STEPS = {"along_mm": 1.0, "velocity": 0.025, "around_mm": 1.0}, 4
SLOWEST, FASTEST = 0.85, 1.1
LOWEST = 0.3  # height against the one in use: at rest the peaks are lower
# Peaks neither apart from noise nor regular are no unit's. White noise has silhouettes of .74 to
# .87 and intervals that vary by .51 to .68; a unit decoded at F1 .6 still .57.
MUTE_SIL, MUTE_COV = 0.87, 0.58
MIN_MOVE = 0.05  # of a scale
TRUSTS = (Trust(), Trust(gains=True), Trust(covariance=True))


@dataclass(frozen=True)
class Basis:
    """What a bundle knows of its training."""

    moments: Moments
    loading: float
    scale: Floats
    height: Doubles
    places: Places | None


@dataclass(frozen=True)
class InUse:
    """The front that decodes now.

    Attributes
    ----------
    kernels : float32 (delays * channels, n_mu)
    factor : float64 (n_mu,), of each unit's scale since training
    setting : Setting, against training
    sil : float64 (n_mu,), silhouettes when last looked at
    lost : bool (n_mu,), sources that no longer follow a unit
    """

    kernels: Floats
    factor: Doubles
    setting: Setting
    sil: Doubles
    lost: NDArray[np.bool_]


@dataclass(frozen=True)
class State:
    """A front, the moments that it was solved from, and the training's."""

    basis: Basis
    moments: Moments
    answer: InUse


def without(
    state: State, emg: Floats, good: NDArray[np.bool_], given_up: Callable[[], bool]
) -> State:
    """The filters in use, solved for fewer channels; what is heard does not matter."""
    kernels = state.moments.solve(state.basis.loading, good)
    return replace(state, answer=replace(state.answer, kernels=kernels))


def tended(
    state: State, emg: Floats, good: NDArray[np.bool_],
    given_up: Callable[[], bool] = lambda: False,
) -> State:
    """Filters and scales that fit the last seconds better, or those in use.

    Parameters
    ----------
    emg : float32 (samples, channels), microvolt, the last ten seconds
    good : bool (channels,), at least half of them true
    given_up : asked before each set of filters

    Raises
    ------
    GivenUpError
    """
    basis, now = state.basis, state.answer
    usual = basis.height * now.factor
    peaks = judge(maxima(filters.apply(emg, now.kernels / basis.scale)))
    now = heard_of(now, peaks)
    state = replace(state, answer=now)
    clear = peaks.clear() & (np.nan_to_num(peaks.height) > LOWEST * usual)
    if clear.sum() < max(len(clear) / 3, 1):
        return state  # at rest, or lost: nothing to hold on to
    heard = measure([emg], [[]], state.moments.delays)
    best, made, used = quality(emg, now.kernels) + MIN_RISE, now, state.moments
    trusted = Trust()

    def better(trust: Trust, setting: Setting) -> bool:
        """Take these filters if they are; what assumes more must be clearer by COST."""
        nonlocal best, made, used, trusted
        if given_up():
            raise GivenUpError
        if not (SLOWEST <= setting.velocity <= FASTEST and allowed(setting)):
            return False
        moments = refitted(moments_at(basis.moments, basis.places, setting), heard, trust, good)
        kernels = moments.solve(basis.loading, good)
        assumed = sum(trust) + sum(getattr(setting, k) != getattr(now.setting, k) for k in STEPS)
        value = quality(emg, kernels) - COST * assumed
        if value <= best:
            return False
        best, trusted, used = value, trust, moments
        made = replace(now, kernels=kernels, setting=setting)
        return True

    for trust in TRUSTS:
        better(trust, now.setting)
    for name in STEPS if basis.places else ("velocity",):
        climb(made.setting, name, lambda setting: better(trusted, setting))
    peaks = judge(maxima(filters.apply(emg, made.kernels / basis.scale)))
    change = peaks.height_ratio(usual, LOWEST)
    change = np.where(np.abs(change - 1) > MIN_MOVE, change, 1.0)
    return State(basis, used, replace(heard_of(made, peaks), factor=made.factor * change))


def climb(start: Setting, name: str, better: Callable[[Setting], bool]) -> None:
    """Move one number of a setting both ways, as long as that is better."""
    for step in (-STEPS[name], STEPS[name]):
        for far in range(1, MOST_STEPS + 1):
            at = round(getattr(start, name) + far * step, 3)
            if not better(replace(start, **{name: at})):
                break


def heard_of(now: InUse, peaks: Peaks) -> InUse:
    """Note how clear the sources are; one with few peaks, or on the edge, keeps its verdict."""
    enough = peaks.count >= MIN_PEAKS
    cov = np.nan_to_num(peaks.cov, nan=1.0)
    lost = enough & (peaks.sil < MUTE_SIL) & (cov > MUTE_COV)
    well = enough & ((peaks.sil >= MUTE_SIL) | (cov < REGULAR_COV))
    return replace(now, sil=np.where(enough, peaks.sil, np.nan), lost=lost | (now.lost & ~well))


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

    def step(self, emg: Floats, bad: NDArray[np.bool_] | None = None) -> bool:
        """Take 20 samples (20, channels); whether the verdict has changed.

        `bad` (channels,) are out whatever their power says.
        """
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
        if bad is not None:
            well &= ~bad
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
        self._scale = front[1]
        self.now = InUse(front[0], np.ones(m.inputs), Setting(), np.full(m.inputs, np.nan),
                         np.zeros(m.inputs, bool))
        self.electrodes = Electrodes(moments)
        self.swaps = self.late = self.failed = 0
        self.ended = False  # the other process is gone; the filters stay as they are
        self._filled = self._step = self._due = 0
        self._waiting: Callable[[], InUse | None] | None = None
        self._lost = False
        # Halves: that waits to be listened to, that is listened to, whether it has waited before.
        self._heard: int | None = None
        self._tending: int | None = None
        self._put_off = False
        basis = Basis(moments, m.loading or 1e-3, front[1], bundle.height(), bundle.places())
        # While one half is listened to, the other is filled.
        shape = (2, STEP * TEND_STEPS, moments.channels)
        self._helper = (Inline if inline else Background)(State(basis, moments, self.now), shape)

    @property
    def good_channels(self) -> int:
        """Channels in use."""
        return int(self.electrodes.good.sum())

    @property
    def muted(self) -> NDArray[np.bool_]:
        """Units whose sources are lost: (n_mu,)."""
        return self.now.lost

    def close(self) -> None:
        """End the other process, whatever it is doing."""
        self._helper.close()

    def reset(self) -> None:
        """After a gap: what was heard before it belongs to no common time."""
        self._filled = TEND_STEPS * (self._filled // TEND_STEPS % 2)  # the same half from its start
        self._heard = None
        self.electrodes.reset()

    def step(self, emg: Floats, bad: NDArray[np.bool_] | None = None) -> None:
        """Take the 20 samples (20, channels of the source) that the engine has just had.

        `bad` (channels in use,) are channels that cannot be believed, whatever their power.
        """
        new = emg[:, self._map] * self._input_scale
        half, at = divmod(self._filled, TEND_STEPS)
        self._helper.emg[half % 2, STEP * at : STEP * (at + 1)] = new
        self._filled += 1
        self._step += 1
        if self.electrodes.step(new, bad):
            self._engine.mask(self.electrodes.good)
            self._lost = True
        if at == TEND_STEPS - 1:
            self._heard, self._put_off = half % 2, False
        self._collect()
        busy = self._waiting is not None
        put_off = busy and self._lost and self._tending is not None and not self._put_off
        if put_off:  # a lost electrode does not wait; what was heard does, once
            self._heard, self._put_off = self._tending, True
        elif busy:
            return
        if self._lost:
            self._lost = False
            self._start(LOST_DUE, without, 0, put_off)
        elif self._heard is not None:
            # Something else may have kept the other process busy until now.
            if at == TEND_STEPS - 1 or at < TEND_STEPS - TEND_DUE:
                self._start(TEND_DUE, tended, self._heard)
            self._heard = None

    def _start(self, due: int, work: Work, half: int, instead: bool = False) -> None:
        """Begin a piece of work whose result counts `due` steps from now."""
        good = self.electrodes.good.copy()
        self._tending = None
        if self.ended or good.mean() < FEWEST_GOOD:
            return
        self._due = self._step + due
        try:
            self._waiting = self._helper.start(work, half, good, instead)
        except OSError:
            self.ended = True
        self._tending = half if work is tended else None

    def _collect(self) -> None:
        """Swap the front once its time has come."""
        if self._waiting is None or self._step < self._due:
            return
        try:
            made = self._waiting()
        except WorkError:  # whatever fails over there, the loop goes on with the filters it has
            self.failed += 1
            self._waiting = None
            return
        except (EOFError, OSError):
            self.ended, self._waiting = True, None
            return
        if made is None:
            self.late += 1
            if self._step > self._due + GIVE_UP_STEPS:
                self.ended, self._waiting = True, None
            return
        self._waiting = None
        if not (np.array_equal(made.kernels, self.now.kernels)
                and np.array_equal(made.factor, self.now.factor)):
            self._engine.set_front(made.kernels, (self._scale * made.factor).astype(np.float32))
            self.swaps += 1
        self.now = made

    def summary(self) -> dict[str, Any]:
        """Figures for people, ready for JSON."""
        return {
            "swaps": self.swaps, "late_steps": self.late, "failed": self.failed,
            "ended": self.ended,
            **asdict(self.now.setting),
            "bad_channels": np.flatnonzero(~self.electrodes.good).tolist(),
            "muted": np.flatnonzero(self.muted).tolist(),
            "confidence": [None if s != s else round(float(s), 3) for s in self.now.sil],
            "scale": [round(float(f), 3) for f in self.now.factor],
        }
