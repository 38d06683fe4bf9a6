"""Decomposition of a synthetic record whose discharges are known, and its parts by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("scipy")

from spikewire import decompose as d
from spikewire.score import agreement, match
from spikewire.signals import InputError, Recording

QUICK = d.Settings(starts=32, rounds=2)


@pytest.fixture(scope="module")
def found(synthetic):
    return d.decompose(synthetic.recording, QUICK)


def test_every_unit_is_found_and_nothing_else(synthetic, found) -> None:
    rates = [rate for _, rate in match(found.times, synthetic.truth.times)]
    assert min(rates) >= 0.98
    assert len(found) == len(synthetic.truth)


def test_quality_is_that_of_regular_discharges(found) -> None:
    """The record's intervals vary by 12 % with a floor, so the CoV of ISI lies near that."""
    assert found.sil.min() > 0.9
    assert all(0.08 < c < 0.2 for c in found.cov_isi)
    assert found.pnr_db.min() > 15


def test_the_same_seed_gives_the_same_units(synthetic, found) -> None:
    again = d.decompose(synthetic.recording, QUICK)
    assert [t.tolist() for t in again.times] == [t.tolist() for t in found.times]


def test_duplicates_are_gone(found) -> None:
    for k, one in enumerate(found.times):
        for other in found.times[k + 1 :]:
            assert agreement(one, other) < 0.3


def test_re_estimation_sees_nothing_outside_its_spans(synthetic, found) -> None:
    """The held-out part is replaced by noise: the labels elsewhere stay the same to the bit."""
    fs = int(synthetic.recording.fs_hz)
    spans = [(0, 8 * fs), (11 * fs, 20 * fs)]
    first = d.re_estimate(synthetic.recording, found, spans)
    emg = synthetic.recording.emg.copy()
    emg[8 * fs : 11 * fs] = np.random.default_rng(9).normal(0, 500, (3 * fs, emg.shape[1]))
    second = d.re_estimate(replace(synthetic.recording, emg=emg), found, spans)
    for a, b, whole in zip(first.times, second.times, found.times, strict=True):
        assert a.tolist() == b.tolist()
        assert not ((a >= 8 * fs) & (a < 11 * fs)).any()
        kept = whole[(whole < 8 * fs) | (whole >= 11 * fs)]
        assert agreement(kept, a) > 0.97


def test_clusters_and_silhouette_by_hand() -> None:
    """Clusters {0, 0.2} and {0.8, 1}: threshold 0.5, within 0.02, between (0.9 - 0)^2 sums."""
    heights = np.array([0.0, 0.2, 0.8, 1.0])
    threshold = d.two_clusters(heights)
    assert threshold == pytest.approx(0.5)
    within = 2 * 0.1**2
    between = (0.8 - 0.1) ** 2 + (1.0 - 0.1) ** 2
    assert d.silhouette(heights, threshold) == pytest.approx((between - within) / between)
    assert d.silhouette(heights, 2.0) == 0


def test_pulse_to_noise_by_hand() -> None:
    """Discharges of height 10 in a background of height 1: 20 dB."""
    source = np.ones(1000, np.float32)
    source[::100] = 10
    assert d.pulse_to_noise_db(source, np.arange(0, 1000, 100)) == pytest.approx(20)


def test_cov_isi_leaves_pauses_out() -> None:
    regular = np.arange(0, 4000, 200)
    assert d.cov_isi(np.r_[regular, regular + 9000], 2048.0) == pytest.approx(0)
    assert d.cov_isi(regular[:5], 2048.0) == float("inf")


def test_whitening_gives_unit_covariance(synthetic) -> None:
    z = d.whiten(synthetic.recording.emg, 4)
    covariance = z.T @ z / len(z)
    np.testing.assert_allclose(covariance, np.eye(z.shape[1]), atol=0.02)


@pytest.mark.parametrize("spoil", ["dead", "doubled"])
def test_whitening_survives_channels_without_information(synthetic, spoil: str) -> None:
    """Their eigenvalues are rounding, of either sign, and far more than half of all."""
    x = synthetic.recording.emg[:8192].copy()
    x[:, 3:] = 0 if spoil == "dead" else x[:, :1]
    z = d.whiten(x, 4)
    assert np.isfinite(z).all()
    assert z.shape[1] <= 16


def test_a_search_without_any_activity_left_starts_nowhere() -> None:
    rng = np.random.default_rng(0)
    assert not len(d.pick_starts(np.zeros(1000, np.float32), 8, 2048.0, rng))
    assert d.search(np.zeros((1000, 5), np.float32), 2048.0, QUICK, lambda *_: None) == []


def noise(channels: int, seconds: float) -> Recording:
    emg = np.random.default_rng(0).normal(0, 20, (int(seconds * 2048), channels))
    return Recording(emg.astype(np.float32), 2048.0, "noise")


@pytest.mark.parametrize(("recording", "words"), [
    (noise(3, 10), "3 channels cannot be separated"),
    (noise(16, 2), "2.0 s are too short"),
    (noise(16, 6), "no motor unit with SIL"),
    (Recording(np.zeros((20480, 16), np.float32), 2048.0, "flat"), "constant"),
])
def test_what_cannot_be_decomposed_is_named(recording: Recording, words: str) -> None:
    with pytest.raises(InputError, match=words):
        d.decompose(recording, QUICK)
