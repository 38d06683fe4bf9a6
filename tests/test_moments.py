"""Moments under a change must be the moments of the changed record: made here by plain numpy."""

from __future__ import annotations

import numpy as np
import pytest

signal = pytest.importorskip("scipy.signal")

from spikewire import filters
from spikewire.moments import (
    MARGIN,
    Moments,
    Places,
    between_samples,
    measure,
    places_of,
    pooled,
)
from spikewire.signals import Recording

DELAYS, CHANNELS, SAMPLES = 8, 5, 40_000


@pytest.fixture(scope="module")
def record() -> tuple[np.ndarray, list[np.ndarray]]:
    """Band-limited sources mixed over the channels, and times that mean something in them."""
    rng = np.random.default_rng(3)
    sos = signal.butter(4, [20, 250], "bandpass", fs=2048, output="sos")
    sources = signal.sosfiltfilt(sos, rng.normal(size=(SAMPLES, 9)), axis=0)
    x = sources @ rng.normal(size=(9, CHANNELS)) * 50
    times = np.sort(rng.choice(np.arange(200, SAMPLES - 200), 400, replace=False))
    pulse = np.exp(-0.5 * ((np.arange(40) - 20) / 4) ** 2)[:, None] * rng.normal(size=CHANNELS)
    for t in times:
        x[t - 10 : t + 30] += 100 * pulse
    return x.astype(np.float32), [times, times[::2] + 7]


@pytest.fixture(scope="module")
def moments(record: tuple[np.ndarray, list[np.ndarray]]) -> Moments:
    x, times = record
    return measure([x], [times], DELAYS)


def close(a: np.ndarray, b: np.ndarray, share: float) -> None:
    assert np.abs(a - b).max() <= share * np.abs(b).max()


def test_covariance_is_that_of_the_extended_record(record, moments) -> None:
    close(moments.covariance(), filters.extended_covariance([record[0]], DELAYS), 1e-5)


def test_means_are_the_samples_around_the_labels(record, moments) -> None:
    x, times = record
    k = MARGIN + 3  # three samples old
    wanted = np.mean([x[t - 3] for t in times[1]], axis=0)
    assert np.allclose(moments.means[1, k], wanted, atol=1e-2)
    wanted = np.mean([x[t + MARGIN] for t in times[0]], axis=0)
    assert np.allclose(moments.means[0, 0], wanted, atol=1e-2)


def test_parts_add_up_to_the_whole(record, moments) -> None:
    x, times = record
    half = SAMPLES // 2
    parts = [measure([x[:half]], [[t[t < half] for t in times]], DELAYS),
             measure([x[half:]], [[t[t >= half] - half for t in times]], DELAYS)]
    together = pooled(parts)
    close(together.lagged, moments.lagged, 1e-3)
    close(together.means, moments.means, 1e-2)
    assert together.samples == SAMPLES


def test_filters_answer_one_and_leave_bad_channels_alone(moments) -> None:
    good = np.array([True, True, False, True, True])
    bank = moments.solve(1e-3, good)
    target = moments.means[:, MARGIN : MARGIN + DELAYS].reshape(2, -1)
    assert np.einsum("kn,kn->k", bank.T, target) == pytest.approx([1, 1], abs=1e-4)
    assert not bank.reshape(DELAYS, CHANNELS, 2)[:, 2].any()


def test_the_filter_is_the_one_of_least_output_power(moments) -> None:
    """Any other filter that answers 1 lets more through (method of Lagrange)."""
    bank = moments.solve(1e-6)[:, 0].astype(float)
    target = moments.means[0, MARGIN : MARGIN + DELAYS].ravel()
    s = moments.covariance()
    rng = np.random.default_rng(0)
    for _ in range(20):
        other = bank + 0.1 * np.abs(bank).max() * rng.normal(size=len(bank))
        other /= other @ target
        assert other @ s @ other >= bank @ s @ bank


def test_mixed_is_the_record_mixed(record, moments) -> None:
    x, times = record
    mix = np.random.default_rng(1).normal(size=(CHANNELS, CHANNELS))
    wanted = measure([(x @ mix.T).astype(np.float32)], [times], DELAYS)
    made = moments.mixed(mix)
    close(made.lagged, wanted.lagged, 1e-4)
    close(made.means, wanted.means, 1e-4)


def test_filtered_is_the_record_filtered(record, moments) -> None:
    x, times = record
    taps = np.random.default_rng(2).normal(size=(7, CHANNELS, CHANNELS))
    y = np.zeros_like(x)
    for k, tap in enumerate(taps):
        y += np.roll(x, k - 3, axis=0) @ tap.T.astype(np.float32)
    wanted = measure([y], [times], DELAYS)
    made = moments.filtered(taps)
    off = ~np.eye(CHANNELS, dtype=bool)  # the diagonal gets fresh noise back
    close(made.lagged[1 : DELAYS], wanted.lagged[1 : DELAYS], 5e-3)
    close(made.lagged[0][off], wanted.lagged[0][off], 5e-3)
    close(made.means[:, 3:-3], wanted.means[:, 3:-3], 5e-3)


def test_slowed_is_the_record_stretched(record, moments) -> None:
    x, times = record
    n = round(SAMPLES / 0.9)
    stretched = signal.resample(x, n, axis=0).astype(np.float32)
    wanted = measure([stretched], [[np.rint(t * n / SAMPLES).astype(int) for t in times]], DELAYS)
    made = moments.slowed(SAMPLES / n)
    close(made.lagged[:DELAYS], wanted.lagged[:DELAYS], 0.02)
    inside = slice(MARGIN, MARGIN + DELAYS)
    close(made.means[:, inside], wanted.means[:, inside], 0.05)
    assert moments.slowed(1.0) is moments


def test_noise_is_found_above_the_signal(record) -> None:
    x, times = record
    sd = np.array([5.0, 10, 20, 2, 40])
    noisy = x + sd * np.random.default_rng(4).normal(size=x.shape)
    made = measure([noisy.astype(np.float32)], [times], DELAYS)
    assert np.sqrt(made.noise()) == pytest.approx(sd, rel=0.3)
    more = made.noisier(np.full(CHANNELS, 100.0))
    assert np.diag(more.lagged[0]) == pytest.approx(np.diag(made.lagged[0]) + 100)


def test_between_samples_interpolates_a_sine() -> None:
    t = np.arange(60.0)
    at = np.linspace(15, 40, 33)
    for cycles in (0.05, 0.1, 0.2):
        found = between_samples(at, 60) @ np.sin(2 * np.pi * cycles * t)
        assert found == pytest.approx(np.sin(2 * np.pi * cycles * at), abs=0.02)


def test_places_need_a_grid() -> None:
    emg = np.zeros((100, 6), np.float32)
    row, column = np.array([0, 1, 2, 0, 1, 2]), np.array([0, 0, 0, 1, 1, 1])
    whole = Recording(emg, 2048.0, "x", row, column, 8.0)
    found = places_of(whole)
    assert isinstance(found, Places)
    assert places_of(Recording(emg, 2048.0)) is None
    assert places_of(Recording(emg, 2048.0, "x", row, 0 * column, 8.0)) is None
    assert places_of(Recording(emg, 2048.0, "x", 0 * row, column, 8.0)) is None
