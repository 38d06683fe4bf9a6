"""From per-unit probabilities to spikes: causal, and one function for training, scoring and mu-run.

A unit's presence above its threshold is a spike at the most likely sample of the bin. The first
spike is kept and later ones within the refractory time are dropped: a count once sent is final.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spikewire.signals import STEP, Floats, InputError, Labels, Times

NEVER = np.iinfo(np.int64).min // 2
REFRACTORY_SAMPLES = 30  # 15 ms at 2048 Hz, shorter than any sustained inter-spike interval


class Decide:
    """The decision of one stream; `step` is called once per window, in order.

    Parameters
    ----------
    thresholds : float32 (n_mu,), probabilities
    label_lag : int64 (n_mu,), samples
        How long after the labelled discharge the unit's filter peaks; subtracted from the times.
    labels : Labels
        Where the bin lies in the window.
    refractory : int, samples
    """

    def __init__(
        self,
        thresholds: Floats,
        label_lag: Times,
        labels: Labels,
        refractory: int = REFRACTORY_SAMPLES,
    ) -> None:
        if thresholds.shape != label_lag.shape:
            raise InputError(
                f"{len(thresholds)} thresholds for {len(label_lag)} label lags: one each per unit"
            )
        self.thresholds, self.label_lag = thresholds, label_lag
        self.refractory = refractory
        self._bin_from_end = labels.look_ahead + STEP // 2
        self._last = np.full(len(thresholds), NEVER, np.int64)

    def reset(self) -> None:
        """Forget the last spikes, after a gap in the samples."""
        self._last[:] = NEVER

    def step(
        self, end: int, presence: Floats, position: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint8], Times]:
        """Decide one step.

        Parameters
        ----------
        end : int
            Sample index one past the newest sample of the window.
        presence : float32 (n_mu,)
            Probability of a discharge in the bin.
        position : int64 (n_mu,)
            Most likely sample of the bin, 0..19.

        Returns
        -------
        counts : uint8 (n_mu,), spikes of this step
        times : int64 (n_mu,), discharge times; only those with a count mean something
        """
        peaks = end - self._bin_from_end + position
        fired = (presence > self.thresholds) & (peaks - self._last >= self.refractory)
        self._last[fired] = peaks[fired]
        return fired.astype(np.uint8), peaks - self.label_lag


def decide_all(
    decide: Decide, first_end: int, presence: Floats, position: NDArray[np.int64]
) -> list[Times]:
    """Run `decide` over successive steps: presence and position are (steps, n_mu)."""
    fired = np.zeros(presence.shape, bool)
    times = np.zeros(presence.shape, np.int64)
    for k in range(len(presence)):
        count, times[k] = decide.step(first_end + STEP * k, presence[k], position[k])
        fired[k] = count > 0
    return [times[fired[:, unit], unit] for unit in range(presence.shape[1])]
