"""Decomposition of a synthetic record whose discharges are known, and its parts by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("scipy")

from spikewire import decompose as d
from spikewire.score import agreement, match
from spikewire.separate import Settings
from spikewire.signals import InputError, Recording

QUICK = Settings(starts=32, rounds=2)


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


def test_two_contractions_give_the_same_units_in_the_same_order(synthetic) -> None:
    """Apart, the second is the record after 12 s; together, its units are those of the first."""
    fs = int(synthetic.recording.fs_hz)
    emg, cut = synthetic.recording.emg, 12 * fs
    parts = [replace(synthetic.recording, emg=emg[:cut]),
             replace(synthetic.recording, emg=np.ascontiguousarray(emg[cut:]))]
    made = d.decompose_together(parts, QUICK)
    truth = [[t[t < cut] for t in synthetic.truth.times],
             [t[t >= cut] - cut for t in synthetic.truth.times]]
    who = [match(m.times, t) for m, t in zip(made, truth, strict=True)]
    assert [unit for unit, _ in who[0]] == [unit for unit, _ in who[1]]
    assert len({unit for unit, _ in who[0]}) == 4
    assert min(rate for part in who for _, rate in part) > 0.95
    for times in made[1].times:
        assert ((times >= QUICK.delays - 1) & (times < len(emg) - cut)).all()


def test_recordings_of_other_electrodes_are_refused(synthetic) -> None:
    other = replace(synthetic.recording, emg=synthetic.recording.emg[:, :12])
    with pytest.raises(InputError, match="12 channels at 2048 Hz, synthetic has 16"):
        d.decompose_together([synthetic.recording, other], QUICK)


def test_whitening_gives_unit_covariance(synthetic) -> None:
    z = d.whiten([synthetic.recording.emg], 4)
    covariance = z.T @ z / len(z)
    np.testing.assert_allclose(covariance, np.eye(z.shape[1]), atol=0.02)


@pytest.mark.parametrize("spoil", ["dead", "doubled"])
def test_whitening_survives_channels_without_information(synthetic, spoil: str) -> None:
    """Their eigenvalues are rounding, of either sign, and far more than half of all."""
    x = synthetic.recording.emg[:8192].copy()
    x[:, 3:] = 0 if spoil == "dead" else x[:, :1]
    z = d.whiten([x], 4)
    assert np.isfinite(z).all()
    assert z.shape[1] <= 16


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
