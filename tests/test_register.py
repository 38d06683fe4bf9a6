"""Gains put in by hand, and the search against a simulated muscle under a shifted grid."""

from __future__ import annotations

import numpy as np
import pytest

signal = pytest.importorskip("scipy.signal")

from spikewire.moments import Moments, Places, measure
from spikewire.register import (
    MIN_RISE,
    Setting,
    Trust,
    gains,
    moments_at,
    quality,
    refitted,
    reheard,
    search,
)

PLACES = Places(np.tile(np.arange(8), 3), np.repeat(np.arange(3), 8), 8.0)


@pytest.fixture(scope="module")
def still() -> np.ndarray:
    """Noise in the EMG's band, mixed over 24 channels, and a little of the amplifier's."""
    rng = np.random.default_rng(0)
    sos = signal.butter(4, [20, 250], "bandpass", fs=2048, output="sos")
    sources = signal.sosfiltfilt(sos, rng.normal(size=(20_000, 40)), axis=0)
    x = 50 * sources @ rng.normal(size=(40, 24)) + rng.normal(size=(20_000, 24))
    return x.astype(np.float32)


@pytest.fixture(scope="module")
def moments(still: np.ndarray) -> Moments:
    return measure([still], [[np.arange(100, 19_000, 150)]], 24)


def test_gains_and_dead_channels_are_seen(moments: Moments, still: np.ndarray) -> None:
    factors = np.random.default_rng(2).uniform(0.6, 1.6, still.shape[1])
    now = still * factors.astype(np.float32)
    now[:, 5] = 0
    heard = measure([now], [[]], 24)
    found, good = gains(moments, heard)
    assert np.flatnonzero(~good).tolist() == [5]
    expected = factors / np.median(factors)
    assert found[good] == pytest.approx(expected[good], rel=0.1)


def test_a_noisy_channel_is_bad(moments: Moments, still: np.ndarray) -> None:
    now = still.copy()
    now[:, 7] += 5 * still.std() * np.random.default_rng(3).normal(size=len(now)).astype(np.float32)
    _, good = gains(moments, measure([now], [[]], 24))
    assert np.flatnonzero(~good).tolist() == [7]


def test_nothing_changed_leaves_the_moments(moments: Moments) -> None:
    assert moments_at(moments, PLACES, Setting()) is moments
    made = refitted(moments, moments, Trust(), np.ones(moments.channels, bool))
    assert np.allclose(made.lagged, moments.lagged)


def test_a_shift_along_the_fibres_is_found(muscle, contract) -> None:
    moments, places, units = muscle
    assert len(units) >= 4
    recording, _ = contract(1, along_mm=4.0)
    emg, heard = recording.emg, measure([recording.emg], [[]], 24)
    before = moments.solve(1e-3)
    found = search(emg, heard, moments, 1e-3, places, before)
    assert found.better
    assert found.setting.along_mm == pytest.approx(4, abs=1)
    assert abs(found.setting.around_mm) <= 1
    assert quality(emg, found.kernels) > quality(emg, before) + MIN_RISE


def test_potentials_that_were_heard_are_nearer_to_the_true_ones(muscle, contract) -> None:
    """Than those interpolated between electrodes, on average over the units."""
    moments, places, units = muscle
    recording, truth = contract(1, along_mm=4.0)
    emg, heard = recording.emg, measure([recording.emg], [[]], 24)
    good = np.ones(moments.channels, bool)
    predicted = refitted(moments_at(moments, places, Setting(4.0)), heard, Trust(), good)
    kernels, made = reheard(emg, heard, predicted, 1e-3, good, predicted.solve(1e-3))
    true = measure([emg], [[truth.times[k] + 15 for k in units]], 24).means

    def missed(of: Moments) -> float:
        return float(np.square(of.means - true).sum() / np.square(true).sum())

    assert missed(made) < 0.8 * missed(predicted)
    assert quality(emg, kernels) > quality(emg, predicted.solve(1e-3))


def test_slow_conduction_is_found_without_places(muscle, contract) -> None:
    moments, _, _ = muscle
    recording, _ = contract(1, velocity=0.9)
    heard = measure([recording.emg], [[]], 24)
    found = search(recording.emg, heard, moments, 1e-3, None, moments.solve(1e-3))
    assert found.better
    assert found.setting.velocity == pytest.approx(0.9, abs=0.03)
    assert (found.setting.along_mm, found.setting.around_mm) == (0, 0)


def test_where_nothing_changed_nothing_is_better(muscle, contract) -> None:
    moments, places, _ = muscle
    recording, _ = contract(2)
    heard = measure([recording.emg], [[]], 24)
    found = search(recording.emg, heard, moments, 1e-3, places, moments.solve(1e-3))
    assert abs(found.setting.along_mm) <= 1
    assert abs(found.setting.around_mm) <= 1
    assert abs(found.setting.velocity - 1) <= 0.03
