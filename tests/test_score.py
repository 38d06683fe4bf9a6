"""Scores by examples that can be counted by hand, and invariances."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikewire import score
from spikewire.signals import SpikeTrains

TRAIN = np.arange(100, 4000, 137)


def test_best_lag_finds_a_constant_shift() -> None:
    for lag in (-40, -18, 0, 7, 30, 40):
        assert score.best_lag(TRAIN, TRAIN + lag) == lag


def test_best_lag_ignores_foreign_spikes() -> None:
    rng = np.random.default_rng(0)
    mixed = np.sort(np.r_[TRAIN + 12, rng.integers(0, 4000, 10)])
    assert score.best_lag(TRAIN, mixed) == 12


def test_agreement_counted_by_hand() -> None:
    """Of 4 and 5 spikes 3 lie within one sample: 3 / (4 + 5 - 3)."""
    a = np.array([100, 200, 300, 400])
    b = np.array([101, 199, 300, 402, 500])
    assert score.agreement(a, b, 0) == pytest.approx(3 / 6)


def test_strict_bin_and_neighbour_bin() -> None:
    """Bins of 20 from 0: reference in bins 1 and 5; found in bin 1 and, one sample late, in 6."""
    reference, found = np.array([30, 119]), np.array([30, 120])
    u = score.unit_score(reference, found, 0, 200)
    assert (u.lag_samples, u.f1, u.f1_near, u.agreement) == (0, 0.5, 1.0, 1.0)


def test_sensitivity_and_precision() -> None:
    u = score.unit_score(np.arange(50, 2000, 200), np.arange(50, 1000, 200), 0, 2000)
    assert (u.sensitivity, u.precision) == (0.5, 1.0)
    assert u.f1 == pytest.approx(2 / 3)


@given(st.lists(st.integers(0, 5000), unique=True, max_size=30),
       st.lists(st.integers(0, 5000), unique=True, max_size=30), st.integers(0, 12))
def test_pairs_are_one_to_one_and_symmetric(a: list[int], b: list[int], tolerance: int) -> None:
    x, y = np.array(sorted(a), np.int64), np.array(sorted(b), np.int64)
    n = score.common(x, y, tolerance)
    assert n == score.common(y, x, tolerance) <= min(len(x), len(y))
    assert score.common(x, x, tolerance) == len(x)


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=30, unique=True),
       st.lists(st.integers(0, 5000), max_size=30))
def test_nearest_equals_a_plain_search(reference: list[int], times: list[int]) -> None:
    r, t = np.array(sorted(reference)), np.array(times, np.int64)
    got = np.abs(score.nearest(r, t))
    assert got.tolist() == [min(abs(x - y) for y in reference) for x in times]


def test_table_of_a_silent_unit_is_valid_json() -> None:
    """Standard JSON knows no NaN: what is not defined is null."""
    nothing = np.zeros(0, np.int64)
    trains = SpikeTrains([TRAIN, TRAIN, nothing], 2048.0)
    found = SpikeTrains([TRAIN, nothing, nothing], 2048.0)
    figures = score.table(score.score(found, trains, 0, 4000))
    json.loads(json.dumps(figures, allow_nan=False))
    assert figures["per_unit"][1]["precision"] is None
    assert figures["per_unit"][1]["sensitivity"] == 0
    assert figures["f1"] == pytest.approx(2 / 3)
    assert figures["units_above_0.7"] == 2


def test_match_pairs_units_by_agreement() -> None:
    other = np.arange(150, 4000, 211)
    pairs = score.match([other + 5, TRAIN - 9], [TRAIN, other])
    assert [k for k, _ in pairs] == [1, 0]
    assert [rate for _, rate in pairs] == [1.0, 1.0]
