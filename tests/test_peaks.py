"""Clusters by exhaustive search, and sources whose peaks are known."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from spikewire.peaks import judge, maxima, silhouette, times_of, two_clusters


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
