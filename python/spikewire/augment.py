"""What may happen to a recording after training, played on the training record itself.

Noise, gains, lost channels, slower conduction and a shifted grid act on raw EMG; the cross-fitted
filters, as they are or as the runtime would solve them again, make the network's inputs from it.
How much noise is set by the record: as much as its filters, solved for it, still separate.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from spikewire import filters
from spikewire.crossfit import FOLDS, CrossFit, Front
from spikewire.dataset import Piece
from spikewire.moments import Moments, Places
from spikewire.peaks import judge, maxima
from spikewire.shift import along_taps, around_mix
from spikewire.signals import Floats

VELOCITIES = (1.0, 1.0, 1.0, 0.98, 1.02, 0.96)
SHIFT_SD_MM, SHIFTS = 0.5, 6  # shifted grids that are kept ready
GAIN_SD = 0.05
MOST_LOST = 2  # channels
NOISE_POWERS = (3.0, 10.0, 30.0, 100.0)  # of the record's own white noise
TOLERATED = 0.15  # noise in a filter's output, as a share of a discharge


class Augment:
    """Endless augmented pieces of a cross-fitted training record.

    Parameters
    ----------
    fit : CrossFit
    front : Front, of all parts
    places : Places or None, where the channels lie
    rng : numpy Generator
    """

    def __init__(
        self, fit: CrossFit, front: Front, places: Places | None, rng: np.random.Generator
    ) -> None:
        self.fit, self.front, self.rng = fit, front, rng
        self._moments = [fit.moments(fold) for fold in range(min(FOLDS, len(fit.parts)))]
        self._known: dict[tuple[int, float], Floats] = {}
        noise = float(front.moments.noise().mean())
        self.levels = [p * noise for p in NOISE_POWERS if self._tolerable(p * noise)]
        self._moves: list[filters.Doubles] = []
        if places:
            for along, around in SHIFT_SD_MM * rng.standard_normal((SHIFTS, 2)):
                taps, _ = along_taps(front.moments, places, along)
                self._moves.append(around_mix(front.moments, places, around) @ taps)

    def _tolerable(self, power: float) -> bool:
        """Whether filters solved for so much noise still let the discharges stand out."""
        bank = self._bank(0, power)
        return float(np.median(np.sqrt(power * np.square(bank).sum(axis=0)))) < TOLERATED

    def _bank(self, fold: int, power: float) -> Floats:
        """Filters that saw nothing of a fold, solved for additional white noise."""
        if (fold, power) not in self._known:
            made: Moments = self._moments[fold]
            made = made.noisier(np.full(made.channels, power)) if power else made
            self._known[fold, power] = made.solve(self.front.loading)
        return self._known[fold, power]

    def __iter__(self) -> Iterator[Piece]:
        """Pieces of network inputs, one for each part of the record in random order."""
        while True:
            for number in self.rng.permutation(len(self.fit.parts)):
                yield self._piece(int(number))

    def _piece(self, number: int) -> Piece:
        """One part of the record as it might have been."""
        rng, delays = self.rng, self.fit.delays
        start, stop = self.fit.parts[number]
        before = max(0, start - delays + 1)
        x = self.fit.emg[before:stop]
        times = [t - before for t in self.fit.trains.between(start, stop).times]
        velocity = float(rng.choice(VELOCITIES))
        if velocity != 1:
            length = round(len(x) / velocity)
            times = [np.rint(t * (length / len(x))).astype(np.int64) for t in times]
            from scipy import signal  # half a second, which mu-export can do without

            x = signal.resample(x, length, axis=0)
        if self._moves and rng.random() < 0.5:
            x = moved(x, self._moves[int(rng.integers(len(self._moves)))])
        x = x * (1 + GAIN_SD * rng.standard_normal(x.shape[1]))
        power = 0.0
        if self.levels and rng.random() < 0.5:
            power = float(rng.choice(self.levels)) * rng.uniform(0.5, 1)
            x = x + np.sqrt(power) * rng.standard_normal(x.shape)
        if rng.random() < 0.2:
            lost = rng.choice(x.shape[1], int(rng.integers(1, MOST_LOST + 1)), replace=False)
            x[:, lost] = 0
        solved = max((p for p in self.levels if p <= 2 * power), default=0.0)
        bank = self._bank(number % FOLDS, solved if rng.random() < 0.8 else 0.0)
        outputs = filters.apply(np.asarray(x, np.float32), bank)[start - before :]
        outputs = followed(outputs / self.front.scale, self.front.height)
        hit = np.zeros((len(outputs), len(times)), bool)
        for unit, t in enumerate(times):
            t = t - (start - before)
            hit[t[(t >= 0) & (t < len(hit))], unit] = True
        return Piece(outputs, hit)


def moved(x: Floats, taps: filters.Doubles) -> Floats:
    """The record after taps on neighbouring samples: see Moments.filtered."""
    reach = len(taps) // 2
    padded = np.pad(x, ((reach, reach), (0, 0)))
    out = np.zeros_like(x)
    for k, tap in enumerate(taps):  # y(t) = sum over k of tap[k] x(t - (k - reach))
        if tap.any():
            at = 2 * reach - k
            out += padded[at : at + len(x)] @ tap.T.astype(x.dtype)
    return out


def followed(outputs: Floats, height: filters.Doubles) -> Floats:
    """Outputs rescaled to the trained height of a discharge, as the runtime's scale follows."""
    return np.asarray(outputs / judge(maxima(outputs)).height_ratio(height), np.float32)
