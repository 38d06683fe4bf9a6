"""Percentiles against numpy on the same values."""

from __future__ import annotations

import numpy as np
import pytest

from spikewire.runtime.meter import BIN_MS, Meter


def test_percentiles_are_those_of_numpy_within_a_bin() -> None:
    values = np.random.default_rng(0).gamma(2, 2e-3, 5000)
    meter = Meter()
    for v in values:
        meter.add(float(v))
    for q in (1, 50, 90, 99):
        wanted = 1e3 * float(np.percentile(values, q, method="inverted_cdf"))
        assert meter.percentile(q) == pytest.approx(wanted, abs=BIN_MS)
        assert meter.percentile(q) >= wanted  # never better than it was
    assert meter.maximum == pytest.approx(1e3 * values.max())


def test_values_off_the_scale_count_and_nothing_is_nothing() -> None:
    meter = Meter()
    assert meter.summary() == {"p50": 0.0, "p99": 0.0, "max": 0.0}
    meter.add(5.0)
    meter.add(-1.0)
    assert meter.maximum == 5000
    assert int(meter.counts.sum()) == 2
    assert meter.summary(10.0)["max"] == 5010.0
