"""What goes wrong at the electrodes, as a table: name -> how it changes the EMG."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
NOISY_RMS = 5.0  # of a noisy channel, times the grid's RMS
RAIL_SD = 1.5  # a saturated channel is cut at this many of its standard deviations
MAINS_HZ = 50.0


def rms(x: Floats) -> float:
    """Of the whole grid."""
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))


class Draw:
    """What chance decides; no channel is given out twice, so that faults do not hide each other."""

    def __init__(self, channels: int, rng: np.random.Generator) -> None:
        self.rng, self._left = rng, rng.permutation(channels).tolist()

    def channels(self, count: float) -> list[int]:
        """The next channels, as many as are left."""
        given, self._left = self._left[: int(count)], self._left[int(count) :]
        return given


def dead(x: Floats, count: float, fs_hz: float, draw: Draw) -> None:
    """Channels that are zero."""
    x[:, draw.channels(count)] = 0


def noisy(x: Floats, count: float, fs_hz: float, draw: Draw) -> None:
    """Channels that carry white noise of 5 x the grid's RMS beside the EMG."""
    level = NOISY_RMS * rms(x)
    for channel in draw.channels(count):
        x[:, channel] += level * draw.rng.standard_normal(len(x)).astype(np.float32)


def saturated(x: Floats, count: float, fs_hz: float, draw: Draw) -> None:
    """Channels that run into the amplifier's rails."""
    for channel in draw.channels(count):
        rail = RAIL_SD * x[:, channel].std()
        x[:, channel] = x[:, channel].clip(-rail, rail)


def gain(x: Floats, factor: float, fs_hz: float, draw: Draw) -> None:
    """One factor on everything."""
    x *= np.float32(factor)


def gain_sd(x: Floats, sd: float, fs_hz: float, draw: Draw) -> None:
    """A constant factor per channel, normal around 1."""
    x *= np.asarray(1 + sd * draw.rng.standard_normal((1, x.shape[1])), np.float32)


def gain_drift(x: Floats, last: float, fs_hz: float, draw: Draw) -> None:
    """A gain that moves evenly from 1 to `last`."""
    x *= np.linspace(1, last, len(x), dtype=np.float32)[:, None]


def mains(x: Floats, share: float, fs_hz: float, draw: Draw) -> None:
    """50 Hz of one phase on all channels; its amplitude as a share of the grid's RMS."""
    turn = 2 * np.pi * (MAINS_HZ / fs_hz * np.arange(len(x)) + draw.rng.random())
    x += (share * rms(x) * np.sin(turn)).astype(np.float32)[:, None]


Fault = Callable[[Floats, float, float, Draw], None]
FAULTS: dict[str, Fault] = {
    "gain": gain, "gain_sd": gain_sd, "gain_drift": gain_drift, "mains": mains,
    "saturated": saturated, "noisy": noisy, "dead": dead,
}
