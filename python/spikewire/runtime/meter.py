"""Percentiles of a run of any length in constant memory."""

from __future__ import annotations

import numpy as np

BINS, BIN_MS = 4000, 0.05  # 0 to 200 ms; anything longer counts in the last bin, and in the maximum


class Meter:
    """A histogram of milliseconds.

    Attributes
    ----------
    counts : int64 (4000,)
    maximum : float, ms
    """

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, np.int64)
        self.maximum = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        ms = 1e3 * seconds
        self.counts[min(max(int(ms / BIN_MS), 0), BINS - 1)] += 1
        self.maximum = max(self.maximum, ms)

    def percentile(self, q: float) -> float:
        """Upper edge of the bin that holds the q-th percentile, ms; 0 without data."""
        total = int(self.counts.sum())
        if not total:
            return 0.0
        reached = np.searchsorted(np.cumsum(self.counts), np.ceil(q / 100 * total))
        return min(float(reached + 1) * BIN_MS, self.maximum)

    def summary(self, plus_ms: float = 0.0) -> dict[str, float]:
        """p50, p99 and maximum in ms, a constant added to each."""
        values = {"p50": self.percentile(50), "p99": self.percentile(99), "max": self.maximum}
        return {name: round(value + plus_ms, 3) for name, value in values.items()}
