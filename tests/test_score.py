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


NOTHING = np.zeros(0, np.int64)


def test_pairs_are_those_closest_in_order_and_one_to_one() -> None:
    """Of two spikes near one, one is paired; both index lists rise."""
    i, j = score.pairs(np.array([100, 200, 300, 400]), np.array([99, 102, 202, 290, 396, 405]), 5)
    assert (i.tolist(), j.tolist()) == ([0, 1, 3], [0, 2, 4])
    for a, b in ((TRAIN, NOTHING), (NOTHING, TRAIN), (NOTHING, NOTHING)):
        assert [x.tolist() for x in score.pairs(a, b, 5)] == [[], []]


@given(st.lists(st.integers(0, 300), unique=True, max_size=12),
       st.lists(st.integers(0, 300), unique=True, max_size=12), st.integers(0, 40))
def test_pairs_are_as_many_as_can_be(a: list[int], b: list[int], tolerance: int) -> None:
    """Against augmenting paths, which find the largest one-to-one assignment of any graph."""
    x, y = np.array(sorted(a), np.int64), np.array(sorted(b), np.int64)
    i, j = score.pairs(x, y, tolerance)
    assert (np.abs(x[i] - y[j]) <= tolerance).all()
    assert (np.diff(i) > 0).all()
    assert (np.diff(j) > 0).all()
    owner: dict[int, int] = {}

    def assign(k: int, seen: set[int]) -> bool:
        for m in np.flatnonzero(np.abs(y - x[k]) <= tolerance).tolist():
            if m not in seen:
                seen.add(m)
                if m not in owner or assign(owner[m], seen):
                    owner[m] = k
                    return True
        return False

    assert len(i) == sum(assign(k, set()) for k in range(len(x)))


def test_timing_counted_by_hand() -> None:
    """Distances 0, +1, -2, +4, 0; the spike at 600 has no partner, so 5 pairs.

    Intervals: between pairs 1-2, 2-3, 3-4 their ends move by 1, 3 and 6 samples; 4-5 is broken by
    the missed spike.
    """
    reference = np.array([100, 200, 300, 400, 500, 700])
    found = np.array([100, 201, 298, 404, 600, 700])
    on_time, distance, interval = score.timing(reference, found, 2000.0)
    assert on_time == pytest.approx(3 / 5)
    assert distance == pytest.approx((0 + 1 + 2 + 4 + 0) / 5 / 2)  # 2 samples are 1 ms
    assert interval == pytest.approx((1 + 3 + 6) / 3 / 2)


def test_an_interval_with_a_foreign_spike_inside_does_not_count() -> None:
    reference, found = np.array([100, 200, 300]), np.array([100, 150, 203, 303])
    assert score.timing(reference, found, 1000.0) == pytest.approx((1 / 3, 2, 0))
    assert np.isnan(score.timing(np.array([100]), np.array([101]), 1000.0)[2])
    assert np.isnan(score.timing(np.array([100]), np.array([150]), 1000.0)).all()


def test_unit_score_measures_time_after_the_lag() -> None:
    """All 12 samples late is no error; 2 of 29 spikes are 2 samples (of 1 / 2.048 ms) later."""
    late = TRAIN + 12
    late[[5, 20]] += 2
    u = score.unit_score(TRAIN, late, 0, 4100)
    assert u.lag_samples == 12
    assert u.on_time == pytest.approx(27 / 29)
    assert u.time_error_ms == pytest.approx(2 * 2 / 29 / 2.048)
    assert u.isi_error_ms == pytest.approx(4 * 2 / 28 / 2.048)
    assert u.rate_error_hz == 0


def test_agreement_within_a_millisecond_takes_two_samples() -> None:
    """At 2048 Hz 2 samples are 0.98 ms and 3 are 1.46 ms: 6 of 7 pairs count, 4 within one."""
    reference = np.arange(100, 800, 100)
    found = reference + np.array([0, 0, 0, 1, 2, -2, 3])
    u = score.unit_score(reference, found, 0, 900)
    assert u.lag_samples == 0
    assert u.agreement == pytest.approx(4 / (7 + 7 - 4))
    assert u.agreement_1ms == pytest.approx(6 / (7 + 7 - 6))


def test_rate_error_counts_what_is_missing_or_too_much() -> None:
    """3 of 10 spikes missing in 2 s are -1.5 Hz; 4 more are +2 Hz."""
    reference = np.arange(100, 4100, 400)
    less, more = reference[3:], np.sort(np.r_[reference, 333, 777, 1555, 3333])
    assert score.unit_score(reference, less, 0, 4096).rate_error_hz == pytest.approx(-1.5)
    assert score.unit_score(reference, more, 0, 4096).rate_error_hz == pytest.approx(2)


def test_the_table_holds_means_of_the_new_figures() -> None:
    trains, found = (SpikeTrains(t, 2048.0) for t in ([TRAIN] * 3, [TRAIN, TRAIN[:-1], NOTHING]))
    figures = score.table(score.score(found, trains, 0, 4096))
    assert figures["on_time"] == 1
    assert figures["agreement_1ms"] == pytest.approx((1 + 28 / 29 + 0) / 3)
    assert (figures["time_error_ms"], figures["isi_error_ms"]) == (0, 0)
    assert figures["rate_error_hz"] == pytest.approx(-(0 + 1 + 29) / 3 / 2)
    assert figures["per_unit"][2]["on_time"] is None


def renewal(seed: int, units: int = 6, seconds: float = 30.0) -> SpikeTrains:
    """Irregular trains of about 10 Hz, without anything in common."""
    rng = np.random.default_rng(seed)
    gaps = 2048 * rng.normal(0.1, 0.02, (units, int(seconds * 14))).clip(0.03)
    times = [np.cumsum(g).astype(np.int64) for g in gaps]
    return SpikeTrains([t[t < seconds * 2048] for t in times], 2048.0)


def test_identical_cumulative_trains_correlate_fully() -> None:
    trains = renewal(0)
    r = score.cst_correlation(trains, trains, 0, 30 * 2048)
    assert list(r.values()) == pytest.approx([1, 1, 1])
    assert list(r) == ["lag0", "best_lag", "whole"]


def test_a_lag_per_unit_does_not_lower_the_correlation() -> None:
    trains = renewal(0)
    moved = [t + lag for t, lag in zip(trains.times, (-30, -7, 0, 12, 25, 40), strict=True)]
    r = score.cst_correlation(SpikeTrains(moved, 2048.0), trains, 2048, 29 * 2048)
    assert list(r.values()) == pytest.approx([1, 1, 1])


def test_a_lag_of_all_units_is_found_by_the_best_lag_of_a_segment() -> None:
    """50 ms is beyond what is taken out per unit, and within the 100 ms that a segment tries."""
    trains = renewal(0)
    late = SpikeTrains([t + 102 for t in trains.times], 2048.0)  # 12.75 steps of 1/256 s
    r = score.cst_correlation(late, trains, 2048, 29 * 2048)
    assert r["lag0"] < 0.9
    assert r["best_lag"] > 0.98


def test_unrelated_trains_hardly_correlate() -> None:
    found = [score.cst_correlation(renewal(k), renewal(k + 100), 4096, 28 * 2048)
             for k in range(8)]
    assert np.mean([r["lag0"] for r in found]) == pytest.approx(0, abs=0.1)
    assert max(abs(r["lag0"]) for r in found) < 0.4


@pytest.mark.parametrize("figure", ["lag0", "whole"])
def test_the_ends_of_the_span_do_not_correlate_what_is_unrelated(figure: str) -> None:
    """All trains go on before and after the 10 s; where they are cut, neither may seem to pause."""
    found = [score.cst_correlation(renewal(k), renewal(k + 100), 10 * 2048, 20 * 2048)
             for k in range(20)]
    assert np.mean([r[figure] for r in found]) == pytest.approx(0, abs=0.1)


def test_nothing_predicted_has_no_correlation_and_is_valid_json() -> None:
    trains, silent = renewal(0), SpikeTrains([NOTHING] * 6, 2048.0)
    for a, b in ((silent, trains), (trains, silent), (silent, silent)):
        r = score.cst_correlation(a, b, 0, 30 * 2048)
        assert r == {"lag0": None, "best_lag": None, "whole": None}
        json.loads(json.dumps(r, allow_nan=False))
    short = score.cst_correlation(trains, trains, 0, 1024)  # no whole segment
    assert (short["lag0"], short["best_lag"]) == (None, None)


def test_smoothing_keeps_the_number_of_pulses_per_second() -> None:
    trains = renewal(3)
    rate = score.smoothed_cst(trains.times, 0, 30 * 2048, 2048.0)
    assert len(rate) == 30 * 256
    inside = [np.sum((t >= 2048) & (t < 29 * 2048)) for t in trains.times]
    assert rate[256:-256].mean() == pytest.approx(sum(inside) / 28, rel=0.02)
    one = score.smoothed_cst([np.array([15 * 2048])], 0, 30 * 2048, 2048.0)
    assert one.sum() / 256 == pytest.approx(1)  # one pulse
    assert np.count_nonzero(one) == pytest.approx(0.4 * 256, abs=2)  # over 400 ms
    assert one.argmax() == pytest.approx(15 * 256, abs=1)


@given(st.integers(0, 50), st.floats(0.5, 1))
def test_the_best_lag_is_never_worse_than_none(seed: int, kept: float) -> None:
    reference = renewal(seed, 3, 4.0)
    rng = np.random.default_rng(seed + 1)
    found = [np.sort(t[rng.random(len(t)) < kept] + 60) for t in reference.times]
    r = score.cst_correlation(SpikeTrains(found, 2048.0), reference, 0, 4 * 2048)
    if r["lag0"] is not None:
        assert r["best_lag"] >= r["lag0"] - 1e-12


def test_the_best_lag_averages_the_same_segments() -> None:
    """A segment in which nothing is found has no r; the tail of the one before must give it none.

    Found is the first second alone, up to 0.78 s; a smoothed spike reaches 0.2 s further, so a
    shift of 100 ms brings its end into the second segment.
    """
    reference = renewal(0, 3, 4.0)
    found = SpikeTrains([t[t < 0.78 * 2048] for t in reference.times], 2048.0)
    r = score.cst_correlation(found, reference, 0, 4 * 2048)
    assert r["best_lag"] >= r["lag0"]


def test_one_to_one_pairs_by_falling_agreement() -> None:
    """Unit 1 agrees with both references, but the first belongs to the exact copy."""
    a, b = np.arange(0, 20000, 200), np.arange(90, 20000, 310)
    half = np.sort(np.r_[a[::2], b[:40]])
    assert score.one_to_one([half, a + 7, np.arange(31, 20000, 771)], [a, b]) == [(0, 1), (1, 0)]
    assert score.one_to_one([a], []) == []
    assert score.one_to_one([], [a]) == []
