"""The motor units of one muscle: sizes, fibres, end-plates, conduction velocity, recruitment.

Wen et al. 2021, section 3.1 (150 motor units, 125,664 fibres, size principle); recruitment and rate
coding after Fuglevand et al. 1993.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

FIBRES_PER_MM2 = 20.0  # of one motor unit inside its territory
SMALLEST, LARGEST = 52, 3191  # fibres of a motor unit
HIGHEST_THRESHOLD = 75.0  # % of maximal excitation
RECRUITMENT_RANGE = 54.6  # 110 of 150 motor units are recruited at 25 % excitation
RATE_AT_RECRUITMENT_HZ = (5.0, 10.0)  # first to last recruited
RATE_AT_MAXIMUM_HZ = (40.0, 30.0)
SAMPLED_FIBRES, GROUPS = 40, 6  # fibres that stand for a unit, and end-plates they share
HALF_LENGTH_MM = (100.0, 5.0)  # mean, sd
END_PLATE_SD_MM = (2.5, 2.0)  # between and within motor units
VELOCITY_M_S = (3.8, 0.5)
SLOWEST, FASTEST = 2.5, 5.2


@dataclass(frozen=True)
class Pool:
    """All motor units of a muscle, in order of recruitment.

    Attributes
    ----------
    fibres : float64 (n_mu,), innervated fibres
    threshold : float64 (n_mu,), % of maximal excitation
    velocity : float64 (n_mu,), m/s = mm/ms
    radius_mm, angle : float64 (n_mu, 40), places of the sampled fibres
    group : int64 (40,), which end-plate a fibre has
    end_plate_mm : float64 (n_mu, 6), from the muscle's middle
    half_mm : float64 (n_mu, 2, 6), end-plate to the tendons, towards larger and smaller z
    """

    fibres: Doubles
    threshold: Doubles
    velocity: Doubles
    radius_mm: Doubles
    angle: Doubles
    group: NDArray[np.int64]
    end_plate_mm: Doubles
    half_mm: Doubles

    def __len__(self) -> int:
        return len(self.fibres)

    def rate_hz(self, excitation: Doubles, unit: int) -> Doubles:
        """Mean discharge rate at an excitation (%), 0 below the threshold."""
        place = unit / max(len(self) - 1, 1)
        low = np.interp(place, [0, 1], RATE_AT_RECRUITMENT_HZ)
        high = np.interp(place, [0, 1], RATE_AT_MAXIMUM_HZ)
        threshold = self.threshold[unit]
        rate = low + (high - low) * (excitation - threshold) / (100 - threshold)
        return np.where(excitation > threshold, rate, 0.0)


def ranked_velocities(n_mu: int, rng: np.random.Generator) -> Doubles:
    """Larger motor units conduct faster, loosely."""
    velocity = np.sort(rng.normal(*VELOCITY_M_S, n_mu).clip(SLOWEST, FASTEST))
    out = np.empty(n_mu)
    out[np.argsort(np.arange(n_mu) / n_mu + rng.normal(0, 0.3, n_mu))] = velocity
    return out


def make_pool(seed: int, n_mu: int = 150, muscle_mm: float = 10.0) -> Pool:
    """Draw one muscle; the same seed gives the same muscle."""
    rng = np.random.default_rng([seed, 1])
    place = np.arange(1, n_mu + 1) / n_mu
    fibres = SMALLEST * (LARGEST / SMALLEST) ** ((place - place[0]) / (1 - place[0]))
    threshold = HIGHEST_THRESHOLD * (RECRUITMENT_RANGE ** place - 1) / (RECRUITMENT_RANGE - 1)
    centre = muscle_mm * np.sqrt(rng.random(n_mu)) * np.exp(2j * np.pi * rng.random(n_mu))
    reach = np.sqrt(fibres / FIBRES_PER_MM2 / np.pi)
    where = np.empty((n_mu, SAMPLED_FIBRES), complex)
    for unit in range(n_mu):
        found = np.zeros(0, complex)
        while len(found) < SAMPLED_FIBRES:
            r = reach[unit] * np.sqrt(rng.random(200))
            tried = centre[unit] + r * np.exp(2j * np.pi * rng.random(200))
            found = np.r_[found, tried[np.abs(tried) < muscle_mm - 0.1]]
        where[unit] = found[:SAMPLED_FIBRES]
    between, within = END_PLATE_SD_MM
    end_plate = rng.normal(0, between, (n_mu, 1)) + rng.normal(0, within, (n_mu, GROUPS))
    tendons = rng.normal(*HALF_LENGTH_MM, (n_mu, 2, GROUPS))
    # Tendons stay where they are; an end-plate off the middle makes one half longer.
    half = tendons + end_plate[:, None] * np.array([-1, 1])[:, None]
    return Pool(fibres, threshold, ranked_velocities(n_mu, rng), np.abs(where), np.angle(where),
                np.arange(SAMPLED_FIBRES) % GROUPS, end_plate, half)
