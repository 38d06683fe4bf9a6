"""Cross-fitting on a synthetic record with known discharges."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("scipy")

from spikewire.crossfit import FOLDS, CrossFit, followed
from spikewire.recipe import Recipe
from spikewire.signals import InputError, SpikeTrains

LOADINGS = (1e-4, 1e-2)


@pytest.fixture(scope="module")
def fit(synthetic):
    return CrossFit(synthetic.recording.emg, shifted(synthetic), [(0, 16000), (20000, 40960)], 12)


def shifted(synthetic) -> SpikeTrains:
    """Labels where a filter that looks back over 12 samples can see the waveform."""
    return SpikeTrains([t + 16 for t in synthetic.truth.times], synthetic.truth.fs_hz)


def test_parts_tile_the_spans(fit) -> None:
    assert fit.parts[0][0] == 0
    assert fit.parts[-1][1] == 40960
    assert sum(b - a for a, b in fit.parts) == 16000 + 20960


def test_front_separates_the_units(fit, synthetic) -> None:
    front, outputs = fit.front(LOADINGS)
    assert front.f1.min() > 0.97
    assert front.kernels.shape == (12 * 16, 4)
    assert [o.shape for o in outputs] == [(16000, 4), (20960, 4)]
    full = front.outputs(synthetic.recording.emg)
    for unit, times in enumerate(shifted(synthetic).times):
        assert np.median(full[times, unit]) == pytest.approx(1, abs=0.25)
        assert 0.3 < front.thresholds[unit] < 0.9


def test_outputs_of_a_part_do_not_know_its_own_labels(fit, synthetic) -> None:
    """Other labels inside one fold leave that fold's outputs as they are, to the bit."""
    left_out = [fit.parts[k] for k in range(1, len(fit.parts), FOLDS)]
    trains = shifted(synthetic)

    def moved(times: np.ndarray) -> np.ndarray:
        inside = np.zeros(len(times), bool)
        for a, b in left_out:
            inside |= (times >= a + 20) & (times < b - 20)
        return np.unique(np.where(inside, times + 9, times))

    other = replace(trains, times=[moved(t) for t in trains.times])
    changed = CrossFit(synthetic.recording.emg, other, fit.spans, 12)
    one, two = (np.concatenate(f.cross_outputs(1e-3)) for f in (fit, changed))
    where = np.concatenate([np.arange(a, b) for a, b in fit.spans])
    inside = np.zeros(40960, bool)
    for a, b in left_out:
        inside[a:b] = True
    np.testing.assert_array_equal(one[inside[where]], two[inside[where]])
    assert not np.array_equal(one[~inside[where]], two[~inside[where]])


def test_cross_fitted_outputs_are_lower_than_in_sample_ones(synthetic) -> None:
    """The reason for all this: in-sample outputs at the labels are too good."""
    fit = CrossFit(synthetic.recording.emg, shifted(synthetic), [(0, 12000)], 24)
    cross = fit.cross_outputs(1e-6)[0]
    plain = CrossFit(synthetic.recording.emg[:12000], shifted(synthetic), [(0, 12000)], 24)
    bank = plain.moments().solve(1e-6)
    from spikewire import filters

    own = filters.apply(synthetic.recording.emg[:12000], bank)
    times = [t[t < 12000] for t in shifted(synthetic).times]
    at = [(cross[t, u].mean(), own[t, u].mean()) for u, t in enumerate(times)]
    assert np.mean([a for a, _ in at]) < np.mean([b for _, b in at])


def test_a_silent_unit_is_named(synthetic) -> None:
    trains = replace(synthetic.truth, times=[*synthetic.truth.times[:3], np.array([100])])
    fit = CrossFit(synthetic.recording.emg, trains, [(0, 40960)], 4)
    with pytest.raises(InputError, match=r"motor units \[3\] have no discharge"):
        fit.front(LOADINGS)


def test_a_unit_that_no_filter_follows_is_left_out(synthetic) -> None:
    """Regular intervals that nothing in the signal answers to are no unit, a real one is kept."""
    trains = shifted(synthetic)
    nothing = SpikeTrains([np.arange(500, 40000, 170), *trains.times], trains.fs_hz)
    spans, recipe = [(0, len(synthetic.recording.emg))], Recipe(delays=12, loadings=(1e-3,))
    units, f1 = followed(synthetic.recording.emg, nothing, spans, recipe)
    assert units == [1, 2, 3, 4]
    assert f1[0] < 0.5
    with pytest.raises(InputError, match=r"no filter follows its motor unit to F1 0\.95.*min_f1"):
        followed(synthetic.recording.emg, nothing.only([0]), spans, recipe)
    assert followed(synthetic.recording.emg, nothing.only([0]), spans,
                    replace(recipe, min_f1=0.0))[0] == [0]
