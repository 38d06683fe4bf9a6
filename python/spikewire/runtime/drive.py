"""Neural drive: the cumulative spike train, smoothed causally with a stated delay."""

from __future__ import annotations

import math

from spikewire.signals import STEP

TAU_S = 0.05


class Drive:
    """Two equal first-order low-passes on the spikes per second of all units.

    Critically damped, so the drive never overshoots and never turns negative. A slow change comes
    out 2 tau later: `delay_s` = 100 ms, within the electromechanical delay's order.

    Attributes
    ----------
    value : float, pulse/s
    """

    def __init__(self, fs_hz: float, tau_s: float = TAU_S) -> None:
        self._period_s = STEP / fs_hz
        self._share = 1 - math.exp(-self._period_s / tau_s)
        self.delay_s = 2 * tau_s
        self.reset()

    def reset(self) -> None:
        """Back to zero, after a gap."""
        self._first = self.value = 0.0

    def step(self, spikes: int | None) -> float:
        """Take the spikes of one step over all units; None (not decoded) holds the input."""
        rate = self._first if spikes is None else spikes / self._period_s
        self._first += self._share * (rate - self._first)
        self.value += self._share * (self._first - self.value)
        return self.value
