"""How spike-like a unit's source is: the peaks of its filter output, in two clusters.

Peaks are counted once per step, as the runtime sees them: the largest output of 20 samples, if its
neighbours have none that is larger. Runs on numpy alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikewire.signals import STEP, Floats, Times

Doubles = NDArray[np.float64]

# Noise alone has a silhouette of .75 to .86 here: its height is refused by its size, see `clear`.
CLEAR_SIL, MIN_PEAKS = 0.8, 10
REGULAR_COV = 0.5  # noise has .51 to .68
# Factors between units' changes of height: of those with a clear source, of regular ones.
ALIKE, FAR = 1.25, 2.0
INTERVAL_STEPS, FEWEST_INTERVALS = (3, 25), 10
DUPLICATE = 0.5  # agreement, within a step, beyond which two sources are one unit


@dataclass(frozen=True)
class Peaks:
    """What the peaks of every unit say.

    Attributes
    ----------
    height : float64 (n_mu,), median of the high cluster; NaN without one
    sil : float64 (n_mu,), silhouette of the two clusters of squared peaks
    count : int64 (n_mu,), peaks in the high cluster
    cov : float64 (n_mu,), coefficient of variation of their intervals of 30 to 250 ms; NaN if few
    fired : bool (steps, n_mu), where they are
    """

    height: Doubles
    sil: Doubles
    count: NDArray[np.int64]
    cov: Doubles
    fired: NDArray[np.bool_]

    def clear(self) -> NDArray[np.bool_]:
        """Units whose height may be believed: (n_mu,)."""
        return np.asarray((self.sil > CLEAR_SIL) & (self.count >= MIN_PEAKS))

    def regular(self) -> NDArray[np.bool_]:
        """Units of their own whose intervals are no noise's: (n_mu,)."""
        enough = self.count >= MIN_PEAKS
        return np.asarray(enough & (np.nan_to_num(self.cov, nan=1.0) < REGULAR_COV)
                          & self.distinct())

    def height_ratio(self, usual: Doubles, lowest: float = 0.0) -> Doubles:
        """Height against the usual one (n_mu,); the others' median where it is not known.

        What changes one unit's height changes the others' alike: one far from their median has
        taken the peaks of another unit for its own, unless its intervals are a unit's. A shift that
        is interpolated badly takes up to half of one unit's height and none of its neighbour's.

        Parameters
        ----------
        usual : float64 (n_mu,)
        lowest : float
            Ratios below it are no discharges; 1 for all if there is nothing else.
        """
        ratio = np.nan_to_num(self.height, nan=1.0) / usual
        regular = self.regular()
        known = (self.clear() | regular) & (ratio > lowest)
        if not known.any():
            return np.ones_like(ratio)
        middle = float(np.median(ratio[known]))
        far = np.where(regular, FAR, ALIKE)
        return np.where(known, ratio.clip(middle / far, middle * far), middle)

    def distinct(self) -> NDArray[np.bool_]:
        """Units that are not the poorer copy of another one: (n_mu,)."""
        # A neighbouring step counts as common, since two filters may peak at different delays.
        wide = self.fired.copy()
        wide[1:] |= self.fired[:-1]
        wide[:-1] |= self.fired[1:]
        common = self.fired.astype(np.float32).T @ wide.astype(np.float32)
        total = self.count[:, None] + self.count[None, :]
        copy = common > DUPLICATE * np.maximum(total - common, 1)
        copy |= copy.T
        poorer = self.sil[:, None] < self.sil[None, :]
        return np.asarray(~(copy & poorer).any(axis=1))


def two_clusters(heights: Floats | Doubles) -> float:
    """Threshold between the low and the high cluster of values (2-means in one dimension)."""
    ordered = np.sort(np.asarray(heights, np.float64))
    total = np.concatenate([[0.0], np.cumsum(ordered, dtype=np.float64)])
    low, high = np.percentile(ordered, 10), ordered[-1]
    for _ in range(100):
        cut = int(np.searchsorted(ordered, (low + high) / 2))
        if not 0 < cut < len(ordered):
            break
        new = total[cut] / cut, (total[-1] - total[cut]) / (len(ordered) - cut)
        if new == (low, high):
            break
        low, high = new
    return float((low + high) / 2)


def silhouette(heights: Floats | Doubles, threshold: float) -> float:
    """SIL of the two clusters of squared source peaks (Negro et al. 2016)."""
    return silhouette_of(heights[heights >= threshold], heights[heights < threshold])


def silhouette_of(above: Floats | Doubles, below: Floats | Doubles) -> float:
    """The same of squared peaks that are in two clusters already."""
    if not len(above) or not len(below):
        return 0.0
    within = float(np.sum(np.square(above - above.mean())))
    between = float(np.sum(np.square(above - below.mean())))
    return (between - within) / max(between, within, 1e-30)


def maxima(outputs: Floats) -> Floats:
    """Largest output of every 20 samples: (steps, n_mu)."""
    steps = len(outputs) // STEP
    return np.asarray(outputs[: steps * STEP].reshape(steps, STEP, -1).max(axis=1))


def judge(steps: Floats) -> Peaks:
    """Peaks among the `maxima` of a stretch: (steps, n_mu)."""
    middle = steps[1:-1]
    peak = (middle > steps[:-2]) & (middle >= steps[2:]) & (middle > 0)
    n_mu = steps.shape[1]
    height, sil, cov = np.full(n_mu, np.nan), np.zeros(n_mu), np.full(n_mu, np.nan)
    count, fired = np.zeros(n_mu, np.int64), np.zeros(steps.shape, bool)
    for unit in range(n_mu):
        at = np.flatnonzero(peak[:, unit])
        if len(at) < 3:
            continue
        high, sil[unit], cov[unit] = highest(at, middle[at, unit])
        if len(high) < MIN_PEAKS:
            # A few artefacts make a fine cluster of their own. Below them is a unit if it shows
            # the intervals of one; else it was one that discharged a few times.
            rest = at[~np.isin(at, high)]
            below = highest(rest, middle[rest, unit]) if len(rest) >= 3 else None
            if below and len(below[0]) >= MIN_PEAKS and below[2] < REGULAR_COV:
                high, sil[unit], cov[unit] = below
        height[unit], count[unit] = np.median(middle[high, unit]), len(high)
        fired[1 + high, unit] = True
    return Peaks(height, sil, count, cov, fired)


def highest(
    at: NDArray[np.int64], heights: Floats
) -> tuple[NDArray[np.int64], float, float]:
    """Which of the peaks are in the high cluster, its silhouette, and how its intervals vary.

    Parameters
    ----------
    at : int64 (peaks,), steps, at least three
    heights : float32 (peaks,)
    """
    power = np.square(heights, dtype=np.float64)
    threshold = two_clusters(power)
    high = at[power >= threshold]
    gaps = np.diff(high)
    gaps = gaps[(gaps >= INTERVAL_STEPS[0]) & (gaps <= INTERVAL_STEPS[1])]
    cov = float(gaps.std() / gaps.mean()) if len(gaps) >= FEWEST_INTERVALS else np.nan
    return high, silhouette(power, threshold), cov


def times_of(outputs: Floats, peaks: Peaks) -> list[Times]:
    """Samples of the peaks that `judge` found in the maxima of these outputs: one array per unit.

    Parameters
    ----------
    outputs : float32 (samples, n_mu)
    """
    steps = len(outputs) // STEP
    at = outputs[: steps * STEP].reshape(steps, STEP, -1).argmax(axis=1)
    fired = [np.flatnonzero(f) for f in peaks.fired.T]
    return [STEP * k + at[k, unit] for unit, k in enumerate(fired)]
