"""Filters against plain loops over delays, and against numpy's least squares."""

from __future__ import annotations

import numpy as np
import pytest

from spikewire import filters

DELAYS, CHANNELS = 5, 3


def extended(x: np.ndarray) -> np.ndarray:
    """Delayed copies by a plain loop: (samples, delays * channels), zeros before the start."""
    out = np.zeros((len(x), DELAYS * CHANNELS))
    for t in range(len(x)):
        for d in range(min(DELAYS, t + 1)):
            out[t, d * CHANNELS : (d + 1) * CHANNELS] = x[t - d]
    return out


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(9000, CHANNELS)).astype(np.float32)


def test_apply_equals_a_plain_loop_also_across_chunks(x: np.ndarray) -> None:
    bank = np.random.default_rng(1).normal(size=(DELAYS * CHANNELS, 2)).astype(np.float32)
    assert len(x) > 2 * filters.CHUNK
    np.testing.assert_allclose(filters.apply(x, bank), extended(x) @ bank, atol=2e-5)


def test_covariance_is_that_of_the_delayed_copies(x: np.ndarray) -> None:
    e = extended(x)
    np.testing.assert_allclose(filters.extended_covariance([x], DELAYS), e.T @ e / len(x),
                               atol=5e-3)


def test_pieces_are_weighted_by_their_length(x: np.ndarray) -> None:
    a, b = x[:2000], x[2000:]
    one = filters.extended_covariance([a], DELAYS) * len(a)
    two = filters.extended_covariance([b], DELAYS) * len(b)
    both = filters.extended_covariance([a, b], DELAYS)
    np.testing.assert_allclose(both, (one + two) / len(x), atol=1e-6)


def test_a_piece_shorter_than_the_filter_still_counts(x: np.ndarray) -> None:
    e = extended(x[:3])
    np.testing.assert_allclose(filters.extended_covariance([x[:3]], DELAYS)[:3, :3],
                               e[:, :3].T @ e[:, :3] / 3, atol=1e-5)


def test_triggered_mean_leaves_out_what_does_not_fit(x: np.ndarray) -> None:
    times = np.array([0, DELAYS - 2, DELAYS - 1, 100, len(x) - 1, len(x)])
    total, count = filters.triggered_mean(x, times, DELAYS)
    assert count == 3
    np.testing.assert_allclose(total, extended(x)[[DELAYS - 1, 100, len(x) - 1]].sum(0), atol=1e-5)


def test_solution_is_the_ridge_regression_on_the_labels(x: np.ndarray) -> None:
    """Minimum mean square: the filter that regresses the label train, up to its scale."""
    e = extended(x)
    times = np.arange(50, 9000, 90)
    target = np.zeros(len(x))
    target[times] = 1
    load = 0.01
    ridge = load * np.trace(e.T @ e / len(x)) / e.shape[1] * len(x)
    rows = np.vstack([e, np.sqrt(ridge) * np.eye(e.shape[1])])
    wanted = np.linalg.lstsq(rows, np.r_[target, np.zeros(e.shape[1])], rcond=None)[0]
    total, count = filters.triggered_mean(x, times, DELAYS)
    mean = (total / count)[:, None]
    got = filters.solve(e.T @ e / len(x), mean, load)
    assert float(got[:, 0] @ mean[:, 0]) == pytest.approx(1.0)
    np.testing.assert_allclose(got[:, 0], wanted / (wanted @ mean[:, 0]), rtol=1e-3, atol=1e-4)
