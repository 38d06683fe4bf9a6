"""Search, refinement and settling of sources, by hand and on signals of known discharges."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("scipy")

from spikewire import separate as s
from spikewire.decompose import whiten
from spikewire.peaks import silhouette, two_clusters
from spikewire.score import agreement

FS = 2048.0


def test_clusters_and_silhouette_by_hand() -> None:
    """Clusters {0, 0.2} and {0.8, 1}: threshold 0.5, within 0.02, between (0.9 - 0)^2 sums."""
    heights = np.array([0.0, 0.2, 0.8, 1.0])
    threshold = two_clusters(heights)
    assert threshold == pytest.approx(0.5)
    within = 2 * 0.1**2
    between = (0.8 - 0.1) ** 2 + (1.0 - 0.1) ** 2
    assert silhouette(heights, threshold) == pytest.approx((between - within) / between)
    assert silhouette(heights, 2.0) == 0


def test_pulse_to_noise_by_hand() -> None:
    """Discharges of height 10 in a background of height 1: 20 dB."""
    source = np.ones(1000, np.float32)
    source[::100] = 10
    assert s.pulse_to_noise_db(source, np.arange(0, 1000, 100)) == pytest.approx(20)


def test_cov_isi_leaves_pauses_out() -> None:
    regular = np.arange(0, 4000, 200)
    assert s.cov_isi(np.r_[regular, regular + 9000], 2048.0) == pytest.approx(0)
    assert s.cov_isi(regular[:5], 2048.0) == float("inf")


def test_a_search_without_any_activity_left_starts_nowhere() -> None:
    rng = np.random.default_rng(0)
    z = np.zeros((1000, 5), np.float32)
    assert not len(s.pick_starts(z[:, 0], 8, FS, rng))
    assert s.search(z, z, [], FS, s.Settings(), rng) == []


def test_of_directions_that_are_alike_one_is_kept(synthetic) -> None:
    """Four units cannot give more than a few skewed directions each (their delayed copies)."""
    z = whiten([synthetic.recording.emg], 8)
    starts = np.sort(np.concatenate([t[:20] + 10 for t in synthetic.truth.times]))
    w = s.fixed_points(z, starts, 12)
    np.testing.assert_allclose(np.linalg.norm(w, axis=0), 1, rtol=1e-5)
    assert 4 <= w.shape[1] < len(starts)
    alike = np.abs(w.T @ w) - np.eye(w.shape[1])
    assert alike.max() <= s.SAME_DIRECTION


def test_refinement_walks_from_half_of_the_discharges_to_all(synthetic) -> None:
    z = whiten([synthetic.recording.emg], 8)
    starts = [z[t[::2] + 12].mean(axis=0) for t in synthetic.truth.times]
    found = s.refine(z, np.stack(starts, axis=1), FS)
    assert len(found) == 4
    for unit, times in zip(found, synthetic.truth.times, strict=True):
        assert agreement(times, unit.times) > 0.95


def test_what_is_no_unit_is_not_accepted() -> None:
    times = np.arange(0, 20000, 200)
    good = s.Source(times, 0.95, 20.0, 0.15)
    assert good.accepted(s.Settings())
    for change in ({"sil": 0.8}, {"pnr_db": 10.0}, {"cov_isi": 0.4}, {"times": times[:20]}):
        assert not replace(good, **change).accepted(s.Settings())


def crossed(share: float, noise: float = 0.05) -> tuple[np.ndarray, list[np.ndarray]]:
    """Two regular units in two channels; the second channel hears the first one, too."""
    rng = np.random.default_rng(5)
    samples = 60000
    trains = [np.arange(100, samples - 100, 230), np.arange(160, samples - 100, 271)]
    trains = [t + rng.integers(-15, 16, len(t)) for t in trains]
    # No common discharges: their sum would be a third height.
    trains[1] = trains[1][[np.abs(trains[0] - t).min() > 12 for t in trains[1]]]
    x = noise * rng.standard_normal((samples, 2)).astype(np.float32)
    for unit, times in enumerate(trains):
        x[times, unit] += 1
    x[trains[0] + 3, 1] += share
    return x, trains


def test_settling_takes_another_units_discharges_out_and_keeps_the_own() -> None:
    """Crosstalk of 60 % passes for some discharges, and raises the threshold above others."""
    x, trains = crossed(0.6, 0.12)
    z = (x / x.std(axis=0)).astype(np.float32)
    first, tangled = (s.judged(z[:, k].copy(), FS) for k in (0, 1))
    assert first
    assert tangled
    calm = s.settle(z, [first, tangled], FS)[1]
    before, after = agreement(trains[1], tangled.times), agreement(trains[1], calm.times)
    assert before < 0.9 < 0.97 < after
    assert calm.cov_isi < tangled.cov_isi


def test_settling_changes_nothing_where_there_is_no_crosstalk() -> None:
    x, trains = crossed(0.0)
    z = (x / x.std(axis=0)).astype(np.float32)
    found = [s.judged(z[:, k].copy(), FS) for k in (0, 1)]
    for unit, times in zip(s.settle(z, found, FS), trains, strict=True):
        assert np.array_equal(unit.times, times)
    assert s.settle(z, [], FS) == []
