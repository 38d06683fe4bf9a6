"""Find how the electrodes and the muscle have changed, from seconds of signal without labels.

Three numbers are common to all units: the grid's shift along the fibres, its shift around the limb,
and a factor on the conduction velocity. Each setting gives other moments, hence other filters; the
right one makes the units' sources most spike-like (silhouette).

What a shift does to the moments, and where that ends, is in `shift.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spikewire import filters
from spikewire.moments import Moments, Places, measure
from spikewire.peaks import judge, maxima, times_of
from spikewire.shift import along_taps, around_mix
from spikewire.signals import Floats

Doubles = NDArray[np.float64]

HEARD = 0.5  # share of the new signal's own covariance, where it is trusted
DEAD = 0.2  # amplitude against the other channels', relative to training
NOISY = 1.5  # white noise, times the channel's whole amplitude in training
GAIN_RANGE = (0.4, 2.5)
SHARPNESS = 8
COST = 0.01  # quality that each changed number must bring
MIN_RISE = 0.01  # quality that the whole must bring over the filters in use
PRIOR = 200.0  # discharges that a predicted potential is worth
HEARD_LITTLE = 0.2  # share of the new signal's own covariance, once potentials are of it, too
HEARD_SIL = 0.85  # of regular units whose discharges may be learned from
LIMIT_MM, LIMIT_AROUND_MM, SLOWEST, FASTEST = 9.0, 6.5, 0.8, 1.15


@dataclass(frozen=True)
class Setting:
    """What has changed; the defaults say nothing has."""

    along_mm: float = 0.0
    around_mm: float = 0.0
    velocity: float = 1.0

    @property
    def changed(self) -> int:
        """How many of the numbers are not their default."""
        return sum((self.along_mm != 0, self.around_mm != 0, self.velocity != 1))


class Trust(NamedTuple):
    """What filters take over from the new signal beside its level and its white noise.

    Attributes
    ----------
    gains : bool
        Each channel's change of amplitude is a gain, and not another activity of the muscle.
    covariance : bool
        It knows interference that nothing else explains, but from ten seconds instead of 40: where
        the rest is explained it makes filters worse.
    """

    gains: bool = False
    covariance: bool = False


SEARCHING = Trust(covariance=True)  # far from the right setting nothing else explains the signal


def moments_at(moments: Moments, places: Places | None, setting: Setting) -> Moments:
    """Moments of the same muscle under a setting; without places the grid has not moved."""
    made = moments
    if places and setting.along_mm:
        taps, error = along_taps(moments, places, setting.along_mm)
        made = made.filtered(taps).noisier(error)
    if places and setting.around_mm:
        made = made.mixed(around_mix(moments, places, setting.around_mm))
    return made.slowed(setting.velocity)


def gains(moments: Moments, heard: Moments) -> tuple[Doubles, NDArray[np.bool_]]:
    """Gain of each channel against the others' since training, and which channels live.

    A change of activity also changes the channels' amplitudes: whether these are gains shows in the
    silhouette of the filters that believe it.

    Returns
    -------
    gain : float64 (channels,), median 1
    good : bool (channels,), neither dead nor drowned in white noise
    """
    was = np.diag(moments.lagged[0]) - moments.noise()
    now = np.diag(heard.lagged[0]) - heard.noise()
    gain = np.sqrt(np.maximum(now, 0) / np.maximum(was, 1e-12))
    gain = gain / max(float(np.median(gain)), 1e-12)
    noise = np.sqrt(heard.noise() / np.maximum(np.diag(moments.lagged[0]), 1e-12))
    amplitude = np.sqrt(np.diag(heard.lagged[0]) / np.maximum(was, 1e-12))
    good = (amplitude > DEAD * np.median(amplitude)) & (amplitude > 0)
    good &= noise <= NOISY * max(float(np.median(amplitude)), 1.0)
    return gain.clip(*GAIN_RANGE), good


def refitted(
    moments: Moments, heard: Moments, trust: Trust, good: NDArray[np.bool_]
) -> Moments:
    """Moments of the labelled record as it would be now: level, white noise, and what is trusted.

    Parameters
    ----------
    moments, heard : Moments, of the training record and of the new signal (without units)
    trust : Trust
    good : bool (channels,), channels that set the common level; at least one
    """
    gain, _ = gains(moments, heard)
    made = moments.mixed(np.diag(gain)) if trust.gains else moments
    level = float(np.median((np.diag(heard.lagged[0]) / np.maximum(
        np.diag(made.lagged[0]), 1e-12))[good]))
    made = replace(made, lagged=level * made.lagged)
    made = made.noisier(np.maximum(heard.noise() - made.noise(), 0))
    if not trust.covariance:
        return made
    return replace(made, lagged=(1 - HEARD) * made.lagged + HEARD * heard.lagged)


def quality(emg: Floats, kernels: Floats) -> float:
    """How spike-like the sources are, 0 to 1: mean of silhouette^8 over the units, copies zero.

    The power listens to clear units: a weak one that slips over to a neighbour keeps a fair
    silhouette, a clear one tells half a millimetre. At a wrong place several filters may follow one
    strong unit, each with a fine silhouette.

    Parameters
    ----------
    emg : float32 (samples, channels)
    kernels : float32 (delays * channels, n_mu)
    """
    found = judge(maxima(filters.apply(emg, kernels)))
    return float(np.mean(np.where(found.distinct(), found.sil, 0) ** SHARPNESS))


def reheard(
    emg: Floats, heard: Moments, moments: Moments, loading: float, good: NDArray[np.bool_],
    kernels: Floats,
) -> tuple[Floats, Moments]:
    """Filters and moments that also know how the units' potentials look now.

    Along the fibres some rows cannot be interpolated well (see shift.py). Discharges that are clear
    already show what was missed. Ten seconds hold about a hundred of each unit, so a predicted
    potential keeps its weight.

    Parameters
    ----------
    emg, heard, moments, loading, good : as in `search`; moments as predicted
    kernels : float32 (delays * channels, n_mu), solved from `moments`
    """
    made = moments
    for _ in range(2):
        outputs = filters.apply(emg, kernels)
        found = judge(maxima(outputs))
        known = (found.sil > HEARD_SIL) & found.regular()
        new = measure([emg], [times_of(outputs, found)], moments.delays)
        weight = np.where(known, new.counts / (new.counts + PRIOR), 0)[:, None, None]
        made = replace(moments, means=moments.means + weight * (new.means - moments.means),
                       lagged=(1 - HEARD_LITTLE) * moments.lagged + HEARD_LITTLE * heard.lagged)
        kernels = made.solve(loading, good)
    return kernels, made


@dataclass(frozen=True)
class Found:
    """Result of a search.

    Attributes
    ----------
    setting : Setting
    trust : Trust
    good : bool (channels,)
    kernels : float32 (delays * channels, n_mu)
    moments : Moments that the kernels were solved from
    before, after : quality of the filters in use, and of those predicted for the setting
    """

    setting: Setting
    trust: Trust
    good: NDArray[np.bool_]
    kernels: Floats
    moments: Moments
    before: float
    after: float

    @property
    def better(self) -> bool:
        """Whether the new filters may replace the old."""
        return self.after > self.before + MIN_RISE


def search(
    emg: Floats, heard: Moments, moments: Moments, loading: float, places: Places | None,
    kernels: Floats, progress: Callable[[float, str], None] = lambda share, words: None,
) -> Found:
    """Find shift, velocity and gains that make the sources of unlabelled EMG most spike-like.

    Parameters
    ----------
    emg : float32 (samples, channels), about 10 s
    heard : Moments of `emg`, without units
    moments : Moments of the training record
    loading : float, ridge as a share of the mean eigenvalue
    places : Places or None
        Without them only velocity and gains are searched.
    kernels : the filters in use
    """
    _, good = gains(moments, heard)
    known: dict[tuple[Setting, Trust], tuple[float, Floats, Moments]] = {}

    def value(setting: Setting, trust: Trust) -> float:
        if (setting, trust) not in known:
            made = refitted(moments_at(moments, places, setting), heard, trust, good)
            bank = made.solve(loading, good)
            known[setting, trust] = quality(emg, bank), bank, made
            progress(min(len(known) / 50, 0.99), f"{len(known)} settings tried")
        return known[setting, trust][0] - COST * (setting.changed + sum(trust))

    def most_credible() -> Trust:
        return max((Trust(g, c) for g in (False, True) for c in (False, True)),
                   key=lambda trust: value(best, trust))

    best, trust = Setting(), SEARCHING

    def tryout(name: str, steps: Sequence[float]) -> bool:
        nonlocal best
        centre, moved = best, False
        for step in steps:
            new = replace(centre, **{name: round(getattr(centre, name) + step, 4)})
            if allowed(new) and value(new, trust) > value(best, trust):
                best, moved = new, True
        return moved

    axes = ("along_mm", "velocity", "around_mm") if places else ("velocity",)
    coarse = {"along_mm": (-8, -6, -4, -2, 2, 4, 6, 8), "velocity": (-0.15, -0.1, -0.05, 0.05),
              "around_mm": (-6, -4, -2, 2, 4, 6)}
    for name in axes:
        tryout(name, coarse[name])
    trust = most_credible()
    for along, velocity, around in ((2, 0.05, 2), (1, 0.025, 1), (0.5, 0.025, 1)):
        fine = {"along_mm": along, "velocity": velocity, "around_mm": around}
        for _ in range(2):
            # Every axis is tried: a sum, since any() would stop at the first that moves.
            if not sum(tryout(name, (-fine[name], fine[name])) for name in axes):
                break
    trust = most_credible()
    after, bank, made = known[best, trust]
    if best.along_mm:
        clearer = reheard(emg, heard, made, loading, good, bank)
        # They learned from these very seconds and look better on them: no evidence for the setting.
        if quality(emg, clearer[0]) > after:
            bank, made = clearer
    progress(1.0, f"{len(known)} settings tried")
    return Found(best, trust, good, bank, made, quality(emg, kernels), after)


def allowed(setting: Setting) -> bool:
    """Whether a setting lies where interpolation can be trusted."""
    return (abs(setting.along_mm) <= LIMIT_MM and abs(setting.around_mm) <= LIMIT_AROUND_MM
            and SLOWEST <= setting.velocity <= FASTEST)
