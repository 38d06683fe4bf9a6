"""What samples and spikes say about themselves: bad electrodes, artefacts, firing that cannot be.

Thresholds are those of the link's contract. A channel is judged against the others, so that neither
a contraction nor hum that all of them carry passes for a fault.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spikewire.signals import STEP, Floats

STEPS = 10  # of memory: 98 ms
RAIL_SAMPLES = 3  # at the converter's end within the memory; 1 % of it
JUMP = 5.0  # of a channel's amplitude against the others', and against what it was
MAINS_HZ, MAINS_SHARE, COMMON_SHARE = (50.0, 60.0), 0.5, 0.25
SLOW = 1 / 1024  # of a step: what a channel was is forgotten in ten seconds
SETTLED = 205  # steps after which a jump can be judged
ARTEFACT = 8  # more saturated channels than this at once
FASTEST_HZ, FIRING_S, TOGETHER = 60.0, 0.2, 0.6
FEWEST_UNITS = 5  # for "most of them at once" to mean anything

Flags = NDArray[np.bool_]


def middle(values: NDArray[np.floating]) -> float:
    """About the median; np.median takes five times as long."""
    at = len(values) // 2
    return float(np.partition(values, at)[at])


class Samples:
    """Which channels can be believed.

    Parameters
    ----------
    channels : int
    fs_hz, lsb_uv, rail_uv : float, rate, size of a count, and the converter's end

    Attributes
    ----------
    flat, saturated, loose : bool (channels,)
        Constant; at the converter's end; louder than it was or mostly mains, unlike the others.
    """

    def __init__(self, channels: int, fs_hz: float, lsb_uv: float, rail_uv: float) -> None:
        self._lsb, self._rail = np.float32(lsb_uv), np.float32(rail_uv - lsb_uv / 2)
        phase = 2j * np.pi * np.outer(MAINS_HZ, np.arange(STEP)) / fs_hz
        self._wave = np.exp(-phase).astype(np.complex64)
        self._turn = np.exp(-2j * np.pi * np.array(MAINS_HZ) * STEP / fs_hz)
        self._high = np.zeros((STEPS, channels), np.float32)
        self._low = np.zeros((STEPS, channels), np.float32)
        self._power = np.zeros((STEPS, channels), np.float32)
        self._ends = np.zeros((STEPS, channels), np.int16)
        self._hum = np.zeros((STEPS, len(MAINS_HZ), channels), np.complex64)
        self.flat, self.saturated, self.loose = np.zeros((3, channels), bool)
        self.reset()

    def reset(self) -> None:
        """After a gap: what was before it is no memory."""
        self._seen, self._usual, self._now = 0, np.ones(self._high.shape[1]), np.ones(2, complex)

    @property
    def bad(self) -> Flags:
        """Channels not to be used."""
        return self.flat | self.saturated | self.loose

    @property
    def artefact(self) -> bool:
        """Many channels at their end at once: the limb moved, or somebody touched the grid."""
        return int(self.saturated.sum()) > ARTEFACT

    def step(self, emg: Floats) -> None:
        """Take 20 samples, float32 (20, channels), microvolt."""
        at = self._seen % STEPS
        np.max(emg, axis=0, out=self._high[at])
        np.min(emg, axis=0, out=self._low[at])
        high, low = self._high.max(axis=0), self._low.min(axis=0)
        if max(high.max(), -low.min()) >= self._rail:
            self._ends[at] = (np.abs(emg) >= self._rail).sum(axis=0)
        else:
            self._ends[at] = 0
        self._power[at] = np.einsum("tc,tc->c", emg, emg) / STEP - np.square(emg.mean(axis=0))
        self._hum[at] = self._now[:, None] * (self._wave @ emg)
        self._now *= self._turn
        self._seen += 1
        if self._seen < STEPS:
            return
        self.flat = high - low < self._lsb
        self.saturated = self._ends.sum(axis=0) >= RAIL_SAMPLES
        self._judge_loose()

    def _judge_loose(self) -> None:
        """Amplitude and share of mains, each against the other channels."""
        power = np.maximum(self._power.mean(axis=0), 0) + 1e-12  # a difference of large numbers
        amplitude = np.sqrt(power)
        against = amplitude / middle(amplitude)
        hum = np.abs(self._hum.sum(axis=0)).max(axis=0) / (STEPS * STEP)
        share = 2 * np.square(hum) / power
        usual = middle(share) < COMMON_SHARE
        settled = self._seen > SETTLED
        self.loose = ((share > MAINS_SHARE) & usual) | ((against > JUMP * self._usual) & settled)
        pace = SLOW if settled else 1 / self._seen
        self._usual += np.where(self.loose, 0.0, pace * (against - self._usual))


class Firing:
    """Whether motor units fire as motor units can.

    Parameters
    ----------
    n_mu : int
    period_s : float, of a step
    """

    def __init__(self, n_mu: int, period_s: float) -> None:
        steps = round(FIRING_S / period_s)
        self._memory, self._sum = np.zeros((steps, n_mu), np.int16), np.zeros(n_mu, np.int16)
        self._most = FASTEST_HZ * steps * period_s + 1  # where the window begins is chance
        self._at = 0
        self.implausible = False

    def step(self, counts: NDArray[np.uint8] | None) -> None:
        """Take the counts of a step, uint8 (n_mu,); None if they are not known."""
        old = self._memory[self._at]
        self._sum -= old
        old[:] = 0 if counts is None else counts
        self._sum += old
        self._at = (self._at + 1) % len(self._memory)
        n_mu = len(self._sum)
        together = n_mu >= FEWEST_UNITS and int((old > 0).sum()) > TOGETHER * n_mu
        self.implausible = together or bool(n_mu and self._sum.max() > self._most)
