"""Augmented pieces keep their labels at the discharges, whatever happens to the signal."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("scipy")

from spikewire.augment import Augment, followed, moved
from spikewire.crossfit import CrossFit
from spikewire.score import nearest


@pytest.fixture(scope="module")
def fitted(synthetic):
    trains = replace(synthetic.truth, times=[t + 15 for t in synthetic.truth.times])
    fit = CrossFit(synthetic.recording.emg, trains, [(0, len(synthetic.recording.emg))], 16)
    front, _ = fit.front([1e-3])
    return fit, front


def test_labels_sit_on_the_peaks_of_the_changed_sources(fitted) -> None:
    fit, front = fitted
    pieces = itertools.islice(Augment(fit, front, None, np.random.default_rng(0)), 20)
    near = []
    for piece in pieces:
        assert piece.x.shape == piece.hit.shape
        for unit in range(4):
            x, labels = piece.x[:, unit], np.flatnonzero(piece.hit[:, unit])
            tall = np.flatnonzero(x > 0.6 * front.height[unit])
            if len(labels) and len(tall):
                near.append(np.mean(np.abs(nearest(tall, labels)) <= 2))
    assert np.mean(near) > 0.9


def test_it_is_endless_and_the_same_for_a_seed(fitted) -> None:
    fit, front = fitted
    runs = [[p.x for p in itertools.islice(
        Augment(fit, front, None, np.random.default_rng(3)), 15)] for _ in range(2)]
    assert all(np.array_equal(a, b) for a, b in zip(*runs, strict=True))
    assert len(fit.parts) < 15


def test_the_noise_is_what_the_filters_tolerate(fitted) -> None:
    fit, front = fitted
    made = Augment(fit, front, None, np.random.default_rng(0))
    for power in made.levels:
        bank = fit.moments(0).noisier(np.full(16, power)).solve(front.loading)
        assert np.median(np.sqrt(power * np.square(bank).sum(axis=0))) < 0.15


def test_moved_shifts_by_whole_samples_as_numpy_does() -> None:
    x = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    taps = np.zeros((5, 3, 3))
    taps[4] = np.eye(3)  # two samples later
    assert np.allclose(moved(x, taps)[2:], x[:-2])
    taps = np.zeros((5, 3, 3))
    taps[1, 0, 2] = 1  # channel 0 becomes channel 2, one sample earlier
    out = moved(x, taps)
    assert np.allclose(out[:-1, 0], x[1:, 2])
    assert not out[:, 1:].any()


def test_followed_brings_peaks_to_the_trained_height() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(0, 0.02, (8000, 2)).astype(np.float32)
    x[100::200, 0] = 0.4
    x[50, 1] = 0.4  # one peak says nothing of a unit's height: it goes with the other
    out = followed(x, np.array([1.0, 1.0]))
    assert out[:, 1] == pytest.approx(x[:, 1] * out[100, 0] / x[100, 0], rel=1e-5)
    assert out[100::200, 0] == pytest.approx(1, abs=0.05)
