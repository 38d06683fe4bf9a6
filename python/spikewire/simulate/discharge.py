"""From an excitation to discharge times: recruitment, rate coding, common drive, irregularity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from spikewire.simulate.anatomy import Pool

Doubles = NDArray[np.float64]

COV_ISI = 0.15
SHORTEST_ISI_S = 0.02
DRIVE_BAND_HZ = 2.5  # common drive fluctuates below this (De Luca & Erim 1994)
SHAPES = ("trapezoid", "sine")


@dataclass(frozen=True)
class Contraction:
    """One contraction of a muscle.

    Attributes
    ----------
    level : float, % of maximal excitation on the plateau
    plateau_s, ramp_s_per_level : length of the plateau; seconds per % of each ramp
    rest_s : silence before and after
    shape : "trapezoid", or "sine" around the level
    sine_hz, sine_depth : of the sinusoid, as a share of the level
    common_drive : sd of the fluctuation that all units share, as a share of the excitation
    """

    level: float = 25.0
    plateau_s: float = 60.0
    ramp_s_per_level: float = 0.4
    rest_s: float = 1.0
    shape: str = "trapezoid"
    sine_hz: float = 0.5
    sine_depth: float = 0.4
    common_drive: float = 0.0

    def profile(self, fs_hz: float) -> Doubles:
        """Intended excitation: (samples,), %."""
        ramp = np.linspace(0, self.level, max(1, round(self.level * self.ramp_s_per_level * fs_hz)))
        plateau = np.full(round(self.plateau_s * fs_hz), float(self.level))
        if self.shape == "sine":
            t = np.arange(len(plateau)) / fs_hz
            plateau *= 1 + self.sine_depth * np.sin(2 * np.pi * self.sine_hz * t)
        rest = np.zeros(round(self.rest_s * fs_hz))
        return np.concatenate([rest, ramp, plateau, ramp[::-1], rest])


def fluctuation(samples: int, fs_hz: float, rng: np.random.Generator) -> Doubles:
    """Low-pass noise of sd 1."""
    sos = signal.butter(2, DRIVE_BAND_HZ, fs=fs_hz, output="sos")
    settle = round(2 * fs_hz)
    noise = signal.sosfilt(sos, rng.normal(size=samples + settle))[settle:]
    return np.asarray(noise / noise.std())


def discharge_times(
    pool: Pool, excitation: Doubles, fs_hz: float, rng: np.random.Generator
) -> list[Doubles]:
    """Discharges of every unit, in samples and fractions of one.

    A unit discharges each time that its rate has added up to one more interval; intervals are
    Gaussian around 1 with a coefficient of variation of 15 %.
    """
    out = []
    for unit in range(len(pool)):
        total = np.concatenate([[0.0], np.cumsum(pool.rate_hz(excitation, unit)) / fs_hz])
        intervals = rng.normal(1, COV_ISI, int(total[-1] * 1.3) + 20).clip(0.4)
        due = rng.random() + np.cumsum(intervals)
        due = due[due < total[-1]]
        # The running total stands still while the unit rests: only its rises are inverted.
        rises = np.flatnonzero(np.diff(total) > 0)
        ends = np.stack([rises, rises + 1], 1).ravel()
        times = np.interp(due, total[ends], ends) if len(ends) else np.zeros(0)
        out.append(times[np.diff(times, prepend=-np.inf) >= SHORTEST_ISI_S * fs_hz])
    return out
