"""The clocks of a run, and when each sample was acquired.

CLOCK_MONOTONIC only, and injected: tests and `--pace max` own the time.
"""

from __future__ import annotations

import time

import numpy as np

BUCKETS, BUCKET_S = 20, 0.5  # the lower envelope looks back 10 s
MAX_SLOPE = 100e-6  # quartz clocks differ by less than 100 ppm
MAX_RISE_S = 0.005
RESTART_S = 0.25  # a counter that goes back further than a late packet is a restarted amplifier


class MonotonicClock:
    """The machine's own clock."""

    def now(self) -> float:
        """Seconds of CLOCK_MONOTONIC."""
        return time.monotonic()

    def sleep_until(self, moment: float) -> None:
        """Return at `moment`."""
        wait = moment - time.monotonic()
        if wait > 0:
            time.sleep(wait)


class VirtualClock:
    """Time that passes only while somebody waits: a run as fast as the machine allows."""

    def __init__(self, start: float = 0.0) -> None:
        self._now = start

    def now(self) -> float:
        """Seconds waited so far."""
        return self._now

    def sleep_until(self, moment: float) -> None:
        """Jump to `moment`."""
        self._now = max(self._now, moment)


class Acquisition:
    """Acquisition time of every sample, from when blocks arrived.

    A block never arrives before its last sample was acquired, so the lower envelope over 10 s of
    (arrival - n / fs) is the time of sample 0, up to the source's constant latency. It follows a
    drift of at most 100 ppm upwards; downwards it follows at once, since too early a time only
    makes the data look older.

    Attributes
    ----------
    fault : bool
        The envelope rose by more than 5 ms in the last 10 s: the stream is falling behind,
        gap-free. Turns false again once it keeps pace; the guard latches it.
    """

    def __init__(self, fs_hz: float, latency_s: float) -> None:
        self._fs_hz, self._latency_s = fs_hz, latency_s
        self._lowest = np.full(BUCKETS, np.inf)
        self._bucket = 0
        self.reset()

    def reset(self) -> None:
        """Start afresh, after the amplifier's counter did."""
        self._lowest[:] = np.inf
        self._offset: float | None = None
        self._updated, self._end = 0.0, 0
        self._long_ago: list[float] = []
        self.fault = False

    def update(self, end: int, arrival_s: float) -> None:
        """Take a block that ended before sample `end` and arrived at `arrival_s`."""
        if self._offset is not None and end < self._end - RESTART_S * self._fs_hz:
            self.reset()
        self._end = end
        seen = arrival_s - self._latency_s - (end - 1) / self._fs_hz
        bucket = int(arrival_s / BUCKET_S)
        if self._offset is None:
            self._offset, self._bucket = seen, bucket
        for passed in range(self._bucket + 1, min(bucket, self._bucket + BUCKETS) + 1):
            self._long_ago = [*self._long_ago[-(BUCKETS - 1):], float(self._lowest.min())]
            self._lowest[passed % BUCKETS] = np.inf
        self._bucket = bucket
        self._lowest[bucket % BUCKETS] = min(self._lowest[bucket % BUCKETS], seen)
        envelope = float(self._lowest.min())
        limit = self._offset + MAX_SLOPE * max(0.0, arrival_s - self._updated)
        self._offset = min(envelope, limit)
        self._updated = arrival_s
        self.fault = bool(self._long_ago) and envelope - min(self._long_ago) > MAX_RISE_S

    def acquired(self, sample: int) -> float:
        """When `sample` was acquired, on the injected clock."""
        return (self._offset or 0.0) + sample / self._fs_hz
