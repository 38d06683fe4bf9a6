"""Subtraction of known units against sums of waveforms that were put in."""

from __future__ import annotations

import numpy as np
import pytest

from spikewire.peel import BEFORE_S, peeled, potentials, untangled

BEFORE, AFTER, CHANNELS = 20, 10, 5


@pytest.fixture(scope="module")
def overlapping() -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Three units, 100 discharges a second: nearly every potential overlaps another."""
    rng = np.random.default_rng(0)
    samples = 30000
    trains = [np.sort(rng.choice(np.arange(200, samples - 200), 600, replace=False))
              for _ in range(3)]
    shapes = rng.standard_normal((3, BEFORE + AFTER, CHANNELS)).astype(np.float32)
    x = np.zeros((samples, CHANNELS), np.float32)
    for shape, times in zip(shapes, trains, strict=True):
        for t in times:
            x[t - BEFORE : t + AFTER] += shape
    return x, trains, shapes


def test_potentials_of_overlapping_units_are_those_put_in(overlapping) -> None:
    x, trains, shapes = overlapping
    np.testing.assert_allclose(potentials(x, trains, BEFORE, AFTER), shapes, atol=0.01)


def test_they_solve_the_least_squares_problem(overlapping) -> None:
    """Against numpy's own solution with the design matrix written out; noise, unequal windows."""
    x, trains, _ = overlapping
    x = x[:2000] + np.random.default_rng(1).standard_normal((2000, CHANNELS)).astype(np.float32)
    trains = [t[(t >= 6) & (t < 1996)] for t in trains]
    design = np.zeros((2000, 3 * 10))
    for unit, times in enumerate(trains):
        for tap in range(10):
            design[times + tap - 6, 10 * unit + tap] = 1
    wanted = np.linalg.lstsq(design, x, rcond=None)[0].reshape(3, 10, CHANNELS)
    np.testing.assert_allclose(potentials(x, trains, 6, 4), wanted, atol=0.02)


def test_peeling_leaves_what_was_not_theirs(overlapping) -> None:
    x, trains, _ = overlapping
    noise = np.random.default_rng(2).standard_normal(x.shape).astype(np.float32)
    fs_hz = BEFORE / BEFORE_S
    left = peeled(x + noise, trains, fs_hz)
    assert np.sqrt(np.mean((left - noise) ** 2)) < 0.3  # of potentials of rms 1
    assert np.array_equal(peeled(noise, [], fs_hz), noise)


def test_a_discharge_at_the_edge_is_left_alone(overlapping) -> None:
    x, trains, _ = overlapping
    near = [np.r_[3, t, len(x) - 2] for t in trains]
    assert np.isfinite(peeled(x, near, 1000.0)).all()


def test_untangling_takes_crosstalk_and_leaves_the_own_discharges() -> None:
    rng = np.random.default_rng(3)
    trains = [np.sort(rng.choice(np.arange(100, 19900), 200, replace=False)) for _ in range(2)]
    own = np.zeros((20000, 2), np.float32)
    for unit, times in enumerate(trains):
        own[times, unit] = 1
    mixed = own.copy()
    mixed[trains[0] + 2, 1] += 0.7
    np.testing.assert_allclose(untangled(mixed, trains, 2048.0), own, atol=0.02)
