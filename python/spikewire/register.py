"""Find how the electrodes and the muscle have changed, from seconds of signal without labels.

Three numbers are common to all units: the grid's shift along the fibres, its shift around the limb,
and a factor on the conduction velocity. Each setting gives other moments, hence other filters; the
right one makes the units' sources most spike-like (silhouette).

Along the fibres the signal is a travelling wave, so it is interpolated along the wave's path: four
rows, each delayed by the wave's travel to the wanted place. Between columns it is interpolated by
the correlation that the columns have. Both assume fibres parallel to the columns and tissue that is
alike everywhere: pennate muscle, a tilted grid or monopolar end-of-fibre potentials break them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spikewire import filters
from spikewire.moments import MARGIN, Moments, Places, between_samples
from spikewire.peaks import judge, maxima
from spikewire.signals import Floats

Doubles = NDArray[np.float64]

REACH = MARGIN // 2  # samples of travel that an interpolated row may need
MIN_CORRELATION = 0.5  # of two rows with a common wave
NUGGET = 1e-3
# Variance missed at a distance of `gap` rows, as a share of what a left-out row's neighbours miss.
GAP_ERROR = 3.0
HEARD = 0.5  # share of the new signal's own covariance in what filters are solved from
DEAD = 0.2  # amplitude against the other channels', relative to training
NOISY = 1.5  # white noise, times the channel's whole amplitude in training
GAIN_RANGE = (0.4, 2.5)
SHARPNESS = 8
COST = 0.01  # quality that each changed number must bring
MIN_RISE = 0.01  # quality that the whole must bring over the filters in use
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


def sub_sample_peak(values: Doubles) -> tuple[float, float]:
    """Position and height of the largest value, by a parabola through it and its neighbours."""
    k = int(np.argmax(values))
    if not 0 < k < len(values) - 1:
        return float(k), float(values[k])
    a, b, c = values[k - 1 : k + 2]
    shift = 0.5 * (a - c) / (a - 2 * b + c) if a - 2 * b + c < 0 else 0.0
    return k + shift, float(b - 0.25 * (a - c) * shift)


def travel(moments: Moments, places: Places) -> tuple[Doubles, NDArray[np.bool_]]:
    """Samples that the wave takes from each row to the next, and whether there is one wave.

    Returns
    -------
    lag : float64 (rows - 1,), positive towards higher rows
    clear : bool (rows - 1,)
    """
    rows = int(places.row.max()) + 1
    lags, clear = np.zeros(rows - 1), np.zeros(rows - 1, bool)
    noise = moments.noise()
    power = np.einsum("cc->c", moments.lagged[0]) - noise
    for row in range(rows - 1):
        total, weight = np.zeros(2 * MARGIN + 1), 0.0
        for a in np.flatnonzero(places.row == row):
            for b in np.flatnonzero((places.row == row + 1) & (places.column == places.column[a])):
                later = moments.lagged[: MARGIN + 1, b, a]  # E[b(t) a(t - lag)]: b comes later
                earlier = moments.lagged[1 : MARGIN + 1, a, b]
                total += np.concatenate([earlier[::-1], later])
                weight += float(np.sqrt(max(power[a] * power[b], 0)))
        if weight:
            at, height = sub_sample_peak(total / weight)
            lags[row], clear[row] = at - MARGIN, height > MIN_CORRELATION
    return lags, clear


def lagrange(at: float, nodes: Doubles) -> Doubles:
    """Weights of values at `nodes` for the value at `at`."""
    out = np.ones(len(nodes))
    for k, node in enumerate(nodes):
        others = np.delete(nodes, k)
        out[k] = np.prod((at - others) / (node - others))
    return out


def support(at: float, rows: int, sides: Doubles, without: float = -1) -> list[int]:
    """Up to four rows around a place, all on its side of the end-plates; beyond the grid, the last.

    The row `without` is not used: what the others say in its place tells how far to trust them.
    """
    if not 0 <= at <= rows - 1:
        return [0 if at < 0 else rows - 1]
    low = int(np.clip(np.floor(at), 0, rows - 2))
    below, above = low, low + 1
    if without >= 0:
        below, above = int(without) - 1, int(without) + 1
    chosen = [r for r in (below, above) if 0 <= r < rows]
    for wanted, pair in ((below - 1, below - 1), (above + 1, above)):
        if 0 <= wanted < rows and sides[pair] == sides[low] and sides[low] != 0:
            chosen.append(wanted)
    return sorted(chosen)


def row_taps(
    at: float, use: Sequence[int], arrival: Doubles, slope: Doubles
) -> tuple[Doubles, Doubles]:
    """Taps on rows `use` for the signal at a fractional row: (2 REACH + 1, rows), and weights."""
    rows = len(arrival)
    time = float(np.interp(at, np.arange(rows), arrival))
    time += min(at, 0) * slope[0] + max(at - (rows - 1), 0) * slope[-1]
    weights = lagrange(at, np.array(use, float))
    out = np.zeros((2 * REACH + 1, rows))
    for row, weight in zip(use, weights, strict=True):
        delay = np.clip(time - arrival[row], -REACH, REACH)
        out[:, row] = weight * between_samples(np.array([delay + REACH]), 2 * REACH + 1)[0]
    return out, weights


def along_taps(moments: Moments, places: Places, shift_mm: float) -> tuple[Doubles, Doubles]:
    """Taps that turn the record into one of a grid moved along the fibres, and their trust.

    Returns
    -------
    taps : float64 (13, channels, channels), for Moments.filtered
    error : float64 (channels,), expected variance of what they miss
    """
    rows = int(places.row.max()) + 1
    lags, clear = travel(moments, places)
    sides, slope = np.sign(lags) * clear, lags * clear
    arrival = np.concatenate([[0.0], np.cumsum(slope)])
    taps = np.zeros((2 * REACH + 1, moments.channels, moments.channels))
    alone = taps.copy()
    gap = np.zeros(moments.channels)
    for c in range(moments.channels):
        here = {int(places.row[k]): k for k in np.flatnonzero(places.column == places.column[c])}
        at = places.row[c] + shift_mm / places.ied_mm
        cells = np.array([here.get(r, -1) for r in range(rows)])
        for out, place, skip in ((taps, at, -1), (alone, places.row[c], places.row[c])):
            use = [r for r in support(place, rows, sides, skip) if r in here]
            made, _ = row_taps(place, use, arrival, slope)
            out[:, c, cells[use]] = made[:, use]
        gap[c] = min(abs(at - r) for r in here)
    return taps, GAP_ERROR * gap**2 * missed(moments, alone)


def missed(moments: Moments, taps: Doubles) -> Doubles:
    """Variance of each channel that taps on the others do not explain, without the noise."""
    made = moments.filtered(taps)
    reach = len(taps) // 2
    both = np.concatenate([moments.lagged[reach:0:-1].transpose(0, 2, 1),
                           moments.lagged[: reach + 1]])
    # E[x(t) y(t)] with y = sum over a of A x(t - a).
    cross = np.einsum("kcd,kcd->c", both, taps)
    power = np.diag(moments.lagged[0])
    noise = moments.noise()
    left = np.einsum("kab,b,kab->a", taps, noise, taps)
    explained = np.diag(made.lagged[0]) - np.maximum(noise - left, 0) - left
    return np.asarray(np.maximum(power - noise - 2 * cross + explained, 0))


def around_mix(moments: Moments, places: Places, shift_mm: float) -> Doubles:
    """Mix of channels for a grid moved around the limb, by the columns' mean correlation."""
    columns = int(places.column.max()) + 1
    power = np.diag(moments.lagged[0]) - moments.noise()
    found: list[list[float]] = [[] for _ in range(columns)]
    for a in range(moments.channels):
        for b in np.flatnonzero(places.row == places.row[a]):
            apart = abs(int(places.column[b] - places.column[a]))
            size = float(np.sqrt(max(power[a] * power[b], 1e-30)))
            found[apart].append(float(moments.lagged[0, a, b]) / size if apart else 1.0)
    known = np.array([np.mean(f) if f else 0.0 for f in found]).clip(1e-3, 1)
    # One Gaussian: its width from the nearest columns, whose correlation is the surest.
    width = places.ied_mm / np.sqrt(-2 * np.log(min(known[1], 0.999)))
    mix = np.zeros((moments.channels, moments.channels))
    for c in range(moments.channels):
        here = np.flatnonzero(places.row == places.row[c])
        at = places.column[here] * places.ied_mm
        gram = np.exp(-0.5 * (np.subtract.outer(at, at) / width) ** 2) + NUGGET * np.eye(len(at))
        goal = np.exp(-0.5 * ((places.column[c] * places.ied_mm + shift_mm - at) / width) ** 2)
        mix[c, here] = np.linalg.solve(gram, goal)
    return mix


def moments_at(moments: Moments, places: Places, setting: Setting) -> Moments:
    """Moments of the same muscle under a setting."""
    made = moments
    if setting.along_mm:
        taps, error = along_taps(moments, places, setting.along_mm)
        made = made.filtered(taps).noisier(error)
    if setting.around_mm:
        made = made.mixed(around_mix(moments, places, setting.around_mm))
    return made.slowed(setting.velocity)


def gains(moments: Moments, heard: Moments) -> tuple[Doubles, NDArray[np.bool_]]:
    """Gain of each channel against the others' since training, and which channels live.

    A change of activity also changes the channels' amplitudes: whether these are gains shows in the
    silhouette of the filters that believe it.
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
    moments: Moments, heard: Moments, believe_gains: bool, good: NDArray[np.bool_]
) -> Moments:
    """Moments of the labelled record as it would be now, and half of what is heard now.

    The new signal's own covariance knows interference and noise that training has not seen; the
    old one knows 40 s instead of ten.
    """
    gain, _ = gains(moments, heard)
    made = moments.mixed(np.diag(gain)) if believe_gains else moments
    level = float(np.median((np.diag(heard.lagged[0]) / np.maximum(
        np.diag(made.lagged[0]), 1e-12))[good]))
    lagged = (1 - HEARD) * level * made.lagged + HEARD * heard.lagged
    return replace(made, lagged=lagged)


def quality(emg: Floats, kernels: Floats) -> float:
    """How spike-like the sources are: mean of silhouette^8 over the units, copies counting zero.

    The power listens to clear units: a weak one that slips over to a neighbour keeps a fair
    silhouette, a clear one tells half a millimetre. At a wrong place several filters may follow one
    strong unit, each with a fine silhouette.
    """
    found = judge(maxima(filters.apply(emg, kernels)))
    return float(np.mean(np.where(found.distinct(), found.sil, 0) ** SHARPNESS))


@dataclass(frozen=True)
class Found:
    """Result of a search.

    Attributes
    ----------
    setting : Setting
    gains : bool, whether the channels' gains were believed
    good : bool (channels,)
    kernels : float32 (delays * channels, n_mu)
    moments : Moments that the kernels were solved from
    before, after : quality of the filters in use and of these
    """

    setting: Setting
    gains: bool
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
    places : Places or None
        Without them only velocity and gains are searched.
    kernels : the filters in use
    """
    _, good = gains(moments, heard)
    known: dict[tuple[Setting, bool], tuple[float, Floats, Moments]] = {}

    def value(setting: Setting, believe: bool) -> float:
        if (setting, believe) not in known:
            here = moments_at(moments, places, setting) if places else moments.slowed(
                setting.velocity)
            made = refitted(here, heard, believe, good)
            bank = made.solve(loading, good)
            known[setting, believe] = quality(emg, bank), bank, made
            progress(min(len(known) / 50, 0.99), f"{len(known)} settings tried")
        return known[setting, believe][0] - COST * setting.changed

    best, believe = Setting(), False

    def tryout(name: str, steps: Sequence[float]) -> bool:
        nonlocal best
        centre, moved = best, False
        for step in steps:
            new = replace(centre, **{name: round(getattr(centre, name) + step, 4)})
            if allowed(new) and value(new, believe) > value(best, believe):
                best, moved = new, True
        return moved

    axes = ("along_mm", "velocity", "around_mm") if places else ("velocity",)
    coarse = {"along_mm": (-8, -6, -4, -2, 2, 4, 6, 8), "velocity": (-0.15, -0.1, -0.05, 0.05),
              "around_mm": (-6, -4, -2, 2, 4, 6)}
    for name in axes:
        tryout(name, coarse[name])
    believe = value(best, True) > value(best, False) + MIN_RISE
    for along, velocity, around in ((2, 0.05, 2), (1, 0.025, 1), (0.5, 0.025, 1)):
        fine = {"along_mm": along, "velocity": velocity, "around_mm": around}
        for _ in range(2):
            # Every axis is tried: a sum, since any() would stop at the first that moves.
            if not sum(tryout(name, (-fine[name], fine[name])) for name in axes):
                break
    believe = value(best, True) > value(best, False) + MIN_RISE
    after, bank, made = known[best, believe]
    progress(1.0, f"{len(known)} settings tried")
    return Found(best, believe, good, bank, made, quality(emg, kernels), after)


def allowed(setting: Setting) -> bool:
    """Whether a setting lies where interpolation can be trusted."""
    return (abs(setting.along_mm) <= LIMIT_MM and abs(setting.around_mm) <= LIMIT_AROUND_MM
            and SLOWEST <= setting.velocity <= FASTEST)
