"""Training on a synthetic record of known discharges, small enough for seconds."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("scipy")

from spikewire import dataset, train
from spikewire import model as folders
from spikewire.recipe import Recipe
from spikewire.signals import InputError, SpikeTrains

TINY = Recipe(trunk=(8, 8), heads=(4, 4, 8), delays=12, loadings=(1e-4, 1e-2), steps=60,
              check_every=30)
PAPER = replace(TINY, name="paper", kind="mo_dcnn", trunk=(16, 16), heads=(16, 8, 16), dropout=0.5,
                optimizer="rmsprop", learning_rate=1e-3, one_cycle=False, clip_norm=0.0,
                look_ahead=60, noise=0.0, gain_jitter=0.0, refit=False)
HOLD_OUT = (12 * 2048, 15 * 2048)


def labels(synthetic) -> SpikeTrains:
    return SpikeTrains([t + 16 for t in synthetic.truth.times], synthetic.truth.fs_hz)


def fitted(synthetic, recipe: Recipe, folder: Path, emg=None) -> folders.Model:
    recording = synthetic.recording if emg is None else replace(synthetic.recording, emg=emg)
    spans = dataset.spans_without(len(recording.emg), [HOLD_OUT], train.guard_samples(recipe))
    return train.fit(recording, labels(synthetic), recipe, spans, folder, seed=3)


@pytest.fixture(scope="module")
def louder(synthetic, tmp_path_factory) -> tuple[folders.Model, Path]:
    """Two steps on the record with other EMG inside the held-out span."""
    emg = synthetic.recording.emg.copy()
    emg[HOLD_OUT[0] : HOLD_OUT[1]] = 1000
    folder = tmp_path_factory.mktemp("louder")
    model = fitted(synthetic, replace(TINY, steps=2, check_every=2), folder, emg)
    folders.save(folder, model)
    return model, folder


def test_it_decodes_what_it_never_saw(synthetic, trained) -> None:
    model, _ = trained
    x = model.front.outputs(synthetic.recording.emg)[HOLD_OUT[0] : HOLD_OUT[1]]
    figures = train.evaluate(model.net, x, HOLD_OUT[0], labels(synthetic), dataset.Labels(20), 0.5)
    assert figures["f1"] > 0.9
    assert figures["units"] == 4


def test_both_decoders_are_validated_and_the_better_one_named(trained) -> None:
    facts = trained[0].facts
    network, linear = (facts["validation"][k]["f1"] for k in ("network", "linear"))
    assert facts["decoder"] == ("network" if network >= linear else "linear")
    assert linear > 0.9
    start, stop = facts["validation"]["span_s"]
    assert not start * 2048 < HOLD_OUT[1] <= stop * 2048
    json.loads((trained[1] / "model.json").read_text())


def test_a_model_folder_comes_back_whole(synthetic, trained) -> None:
    model, folder = trained
    back = folders.load(folder)
    x = model.front.outputs(synthetic.recording.emg[:5000])
    for a, b in zip(train.probabilities(model.net, x, 40), train.probabilities(back.net, x, 40),
                    strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert back.recipe == TINY
    assert list((folder / "logs").glob("events.out.tfevents*"))


def test_the_held_out_block_changes_nothing(trained, louder) -> None:
    """Other EMG inside the held-out span: the filters are the same to the bit."""
    np.testing.assert_array_equal(louder[0].front.kernels, trained[0].front.kernels)
    np.testing.assert_array_equal(louder[0].front.thresholds, trained[0].front.thresholds)


def test_the_papers_network_trains_the_same_way(synthetic, tmp_path) -> None:
    """Its input scale, too, is that of the training spans; the held-out block is louder."""
    emg = synthetic.recording.emg.copy()
    emg[HOLD_OUT[0] : HOLD_OUT[1]] *= 10
    model = fitted(synthetic, PAPER, tmp_path, emg)
    losses = [h["loss"] for h in model.facts["history"]]
    assert losses[-1] < losses[0]
    assert model.facts["validation"]["linear"]["f1"] > 0.9  # the baseline stands beside it
    guard = train.guard_samples(PAPER)
    seen = np.r_[emg[: HOLD_OUT[0] - guard], emg[HOLD_OUT[1] + guard :]]
    assert model.facts["input_scale"] == pytest.approx(1 / np.abs(seen).max())


def test_one_cycle_rises_and_ends_at_zero() -> None:
    rates = [train.rate_at(TINY, k / 100) for k in range(101)]
    assert max(rates) == pytest.approx(TINY.learning_rate, rel=1e-3)
    assert rates.index(max(rates)) == 10
    assert rates[100] == pytest.approx(0, abs=1e-9)
    assert train.rate_at(PAPER, 0.3) == PAPER.learning_rate


def test_the_longest_training_within_noise_is_taken() -> None:
    f1 = [0.90, 0.97, 0.99, 0.988, 0.95]
    history = [{"step": 10 * k, "validation_f1": f} for k, f in enumerate(f1)]
    assert train.longest_as_good(history) == 30


@pytest.mark.parametrize(("change", "words"), [
    (lambda t: SpikeTrains(t.times, 2000.0), "labels count at 2000 Hz"),
    (lambda t: t, "so_dcnn decodes one motor unit, the labels hold 4"),
])
def test_labels_that_do_not_fit_are_named(synthetic, tmp_path, change, words) -> None:
    recipe = replace(PAPER, kind="so_dcnn")
    with pytest.raises(InputError, match=words):
        train.fit(synthetic.recording, change(labels(synthetic)), recipe, [(0, 40000)], tmp_path)


def test_a_recording_too_short_for_the_golden_windows_is_named(synthetic) -> None:
    with pytest.raises(InputError, match="the longest training span"):
        train.golden_excerpt(synthetic.recording, [(0, 3000)], TINY)


def test_it_is_named_before_the_training(synthetic, tmp_path) -> None:
    with pytest.raises(InputError, match="the longest training span"):
        train.fit(synthetic.recording, labels(synthetic), TINY, [(0, 4000)], tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_mixture_of_two_trainings_is_noticed(trained, louder, tmp_path) -> None:
    shutil.copytree(louder[1], tmp_path / "o")
    folders.load(tmp_path / "o")
    shutil.copy(trained[1] / "network.weights.h5", tmp_path / "o")
    with pytest.raises(InputError, match="of another training"):
        folders.load(tmp_path / "o")


def test_a_damaged_model_folder_is_named(trained, tmp_path) -> None:
    with pytest.raises(InputError, match="no model folder"):
        folders.load(tmp_path)
    for name in ("model.json", "front.npz", "network.weights.h5", "golden.npz"):
        for path in trained[1].glob("*.*"):
            (tmp_path / path.name).write_bytes(path.read_bytes())
        (tmp_path / name).write_bytes(b"{}")
        with pytest.raises(InputError):
            folders.load(tmp_path)


@pytest.mark.parametrize("changes", [
    {"decoder": None}, {"fs_hz": None}, {"channels": 15}, {"n_mu": 5}, {"recipe": None},
])
def test_a_model_folder_that_does_not_fit_is_named(trained, tmp_path, changes) -> None:
    for path in trained[1].glob("*.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    facts = json.loads((tmp_path / "model.json").read_text()) | changes
    facts = {k: v for k, v in facts.items() if v is not None}
    (tmp_path / "model.json").write_text(json.dumps(facts))
    with pytest.raises(InputError, match="not a readable model folder"):
        folders.load(tmp_path)
