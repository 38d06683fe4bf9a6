"""What samples and spikes say about themselves: bad electrodes, artefacts, firing that cannot be.

Thresholds are those of the link's contract. A channel is judged against the others, so that neither
a contraction nor hum that all of them carry passes for a fault.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spikewire.signals import STEP, Floats

STEPS, EVERY = 10, 4  # steps of memory, 98 ms; steps from one look at it to the next
RAIL_SAMPLES = 3  # at the converter's end within the memory; 1 % of it
JUMP = 5.0  # of a channel's amplitude against the others', and against what it was
MAINS_HZ, MAINS_SHARE, COMMON_SHARE = (50.0, 60.0), 0.5, 0.25
MAINS_POWER = 9.0  # times the other channels': hum that all have alike is most of a quiet one
SLOW = EVERY / 1024  # of a look: what a channel was is forgotten in ten seconds
SETTLED = 50  # looks after which a jump can be judged: 2 s
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
    at_end : int, saturated channels
    amplitude : float (channels,), microvolt, root mean square about the mean of the last 98 ms
    """

    def __init__(self, channels: int, fs_hz: float, lsb_uv: float, rail_uv: float) -> None:
        self._lsb, self._rail = np.float32(lsb_uv), np.float32(rail_uv - lsb_uv / 2)
        phase = 2j * np.pi * np.outer(MAINS_HZ, np.arange(STEPS * STEP)) / fs_hz
        self._wave = np.exp(-phase).astype(np.complex64)
        self._of_offset = self._wave.sum(axis=1, keepdims=True)
        self._emg = np.zeros((STEPS, STEP, channels), np.float32)
        self.reset()
        self._look(self._emg.reshape(STEPS * STEP, -1))  # the first product takes 12 ms
        self.flat, self.saturated, self.loose = np.zeros((3, channels), bool)
        self.at_end = 0
        self.reset()

    def reset(self) -> None:
        """After a gap: what was before it is no memory."""
        self._seen = self._looks = 0
        self._usual = np.ones(self._emg.shape[2])

    @property
    def bad(self) -> Flags:
        """Channels not to be used."""
        return self.flat | self.saturated | self.loose

    @property
    def artefact(self) -> bool:
        """Many channels at their end at once: the limb moved, or somebody touched the grid."""
        return self.at_end > ARTEFACT

    def step(self, emg: Floats) -> bool:
        """Take 20 samples, float32 (20, channels), microvolt; whether the verdict is new."""
        self._emg[self._seen % STEPS] = emg
        self._seen += 1
        if self._seen < STEPS or self._seen % EVERY:
            return False
        self._look(self._emg.reshape(STEPS * STEP, -1))
        return True

    def _look(self, emg: Floats) -> None:
        """Judge the last 98 ms, whose steps may lie in any order: the mains' phase is that of each.

        Amplitude and share of mains are judged against the other channels.
        """
        high, low = emg.max(axis=0), emg.min(axis=0)
        self.flat = high - low < self._lsb
        if max(high.max(), -low.min()) >= self._rail:
            self.saturated = (np.abs(emg) >= self._rail).sum(axis=0) >= RAIL_SAMPLES
        else:
            self.saturated = np.zeros(emg.shape[1], bool)
        self.at_end = int(self.saturated.sum())
        at = STEP * (self._seen % STEPS)  # where the oldest step lies
        hum = self._wave[:, : len(emg) - at] @ emg[at:] + self._wave[:, len(emg) - at :] @ emg[:at]
        mean = emg.mean(axis=0)
        hum -= self._of_offset * mean  # 98 ms are no whole number of periods: an offset leaks in
        power = np.maximum(np.einsum("tc,tc->c", emg, emg) / len(emg) - mean * mean, 0) + 1e-12
        self.amplitude = amplitude = np.sqrt(power)
        against = amplitude / middle(amplitude)
        mains = 2 * np.square(np.abs(hum).max(axis=0) / len(emg))
        share = mains / power
        self._looks += 1
        settled = self._looks > SETTLED
        self.loose = (against > JUMP * self._usual) & settled
        if middle(share) < COMMON_SHARE:
            self.loose |= (share > MAINS_SHARE) & (mains > MAINS_POWER * middle(mains))
        pace = SLOW if settled else 1 / self._looks
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
