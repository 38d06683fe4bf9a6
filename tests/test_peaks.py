"""Clusters by exhaustive search, and sources whose peaks are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikewire.peaks import ALIKE, judge, maxima, silhouette, times_of, two_clusters


@given(st.lists(st.floats(0, 1, width=32), min_size=4, max_size=30, unique=True))
def test_the_threshold_is_a_fixed_point_of_two_means(values: list[float]) -> None:
    v = np.array(values)
    threshold = two_clusters(v)
    low, high = v[v < threshold], v[v >= threshold]
    if len(low) and len(high):
        assert abs((low.mean() + high.mean()) / 2 - threshold) < 1e-6


def test_clear_clusters_are_split_between_them() -> None:
    rng = np.random.default_rng(0)
    v = np.r_[rng.normal(0.1, 0.02, 500), rng.normal(1, 0.05, 60)]
    threshold = two_clusters(v)
    assert 0.3 < threshold < 0.8
    assert silhouette(v, threshold) > 0.98


def source(times: np.ndarray, height: float, steps: int, noise: float, seed: int) -> np.ndarray:
    out = noise * np.random.default_rng(seed).normal(size=20 * steps)
    out[times] += height
    return out.astype(np.float32)


def test_judge_finds_height_and_number() -> None:
    times = np.arange(30, 20 * 500, 210)
    x = np.stack([source(times, 1.5, 500, 0.05, 1), source(times, 0.02, 500, 0.05, 2)], 1)
    found = judge(maxima(x))
    assert found.count[0] == len(times)
    assert abs(found.height[0] - 1.5) < 0.05
    assert found.sil[0] > 0.95 > found.sil[1]
    assert found.fired[:, 0].sum() == len(times)


def test_a_silent_source_has_no_height() -> None:
    found = judge(np.zeros((100, 1), np.float32))
    assert np.isnan(found.height[0])
    assert (found.sil[0], found.count[0]) == (0, 0)


def test_the_poorer_copy_is_not_distinct() -> None:
    a, b = np.arange(30, 20 * 500, 210), np.arange(100, 20 * 500, 170)
    x = np.stack([source(a, 1.0, 500, 0.03, 1), source(a + 15, 1.0, 500, 0.12, 2),
                  source(b, 1.0, 500, 0.03, 3)], 1)
    assert judge(maxima(x)).distinct().tolist() == [True, False, True]


def test_noise_is_irregular_and_a_unit_is_not() -> None:
    times = np.cumsum(np.random.default_rng(1).normal(200, 25, 90).astype(int)) + 50
    unit = source(times, 1.0, 1000, 0.1, 1)
    noise = np.random.default_rng(2).normal(size=len(unit)).astype(np.float32)
    found = judge(maxima(np.stack([unit, noise], 1)))
    assert found.cov[0] < 0.2
    assert found.cov[1] > 0.5


def test_times_are_those_of_the_peaks() -> None:
    times = np.arange(30, 20 * 500, 213)
    x = np.stack([source(times, 1.5, 500, 0.05, 1), source(times + 7, 1.0, 500, 0.05, 2)], 1)
    found = times_of(x, judge(maxima(x)))
    assert [t.tolist() for t in found] == [times.tolist(), (times + 7).tolist()]


def unit_times(seed: int, steps: int = 500) -> np.ndarray:
    gaps = np.random.default_rng(seed).normal(200, 25, 20 * steps // 200).astype(int)
    times = np.cumsum(gaps) + 50
    return times[times < 20 * steps - 50]


@pytest.mark.parametrize("artefacts", [1, 4, 9])
def test_a_unit_is_seen_below_a_few_artefacts(artefacts: int) -> None:
    """Two clusters of all peaks are the artefacts and the rest."""
    times = unit_times(1)
    x = source(times, 1.0, 500, 0.1, 1)
    x[times[np.linspace(3, len(times) - 3, artefacts).astype(int)] + 95] += 6.0
    found = judge(maxima(x[:, None]))
    assert abs(found.height[0] - 1.0) < 0.1
    assert len(times) - artefacts - 2 <= found.count[0] <= len(times)
    assert found.regular().all()


def test_a_unit_that_has_just_begun_is_not_taken_for_an_artefact() -> None:
    """Below its five discharges is only noise, whose intervals are no unit's."""
    times = unit_times(2)[-5:]
    noise = np.random.default_rng(3).normal(0, 0.15, 20 * 500)
    noise[times] += 1.5
    found = judge(maxima(noise[:, None].astype(np.float32)))
    assert found.count[0] == 5
    assert not found.regular().any()


def test_a_unit_at_half_its_height_is_followed_and_one_that_took_anothers_peaks_is_not() -> None:
    """By its intervals; what is neither clear nor regular goes with the others."""
    x = np.stack([source(unit_times(k), h, 500, 0.05, k)
                  for k, h in enumerate((0.9, 0.9, 0.9, 0.45))], 1)
    wild = np.flatnonzero(np.random.default_rng(5).random(490) < 0.15) * 20 + 100
    x = np.column_stack([x, source(wild, 0.3, 500, 0.03, 9), np.zeros(len(x))])
    found = judge(maxima(x.astype(np.float32)))
    assert found.regular().tolist() == [True] * 4 + [False] * 2
    made = found.height_ratio(np.ones(6), lowest=0.2)
    assert made[:4] == pytest.approx([0.9, 0.9, 0.9, 0.45], abs=0.08)
    assert made[4] == pytest.approx(np.median(made[:4]) / ALIKE, abs=0.1)
    assert made[5] == pytest.approx(0.9, abs=0.1)


def test_at_rest_all_heights_stay() -> None:
    x = np.random.default_rng(0).normal(0, 0.05, (20 * 500, 3)).astype(np.float32)
    assert judge(maxima(x)).height_ratio(np.ones(3), lowest=0.3).tolist() == [1, 1, 1]
