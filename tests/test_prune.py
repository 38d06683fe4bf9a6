"""Pruning a trained network on the synthetic record."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
pytest.importorskip("scipy")

from test_train import PAPER, TINY, fitted, labels

from spikewire import channels, dataset, prune, train
from spikewire import model as folders
from spikewire.signals import InputError, Labels, SpikeTrains

QUICK = replace(TINY, trunk=(12, 12), heads=(8, 8, 12), steps=40, check_every=40, augmented=0.0,
                refit=False)


@pytest.fixture(scope="module")
def model(synthetic, tmp_path_factory) -> folders.Model:
    return fitted(synthetic, QUICK, tmp_path_factory.mktemp("model"))


def data_of(synthetic, model: folders.Model) -> prune.Data:
    x = model.front.outputs(synthetic.recording.emg)
    return prune.Data(dataset.pieces([x], [(0, len(x))], labels(synthetic)))


def test_importance_is_the_squared_change_to_first_order(synthetic, model) -> None:
    """Its truth: the loss with all weights of one channel scaled by 1 +- h, one batch."""
    data = data_of(synthetic, model)
    scores = prune.importance(model.net, model.recipe, data, 9)
    stream = dataset.batches(data.pieces, Labels(20), 4, QUICK.gain_jitter,
                             np.random.default_rng(9))
    batches = [tuple(map(tf.constant, next(stream))) for _ in range(prune.BATCHES)]
    heads = model.net.get_layer("heads")
    unit, channel, h = 2, 3, 1e-2
    kept = [v.numpy() for v in (heads.f1, heads.f1_bias)]
    losses = {}
    for sign in (1, -1):
        for variable, value in zip((heads.f1, heads.f1_bias), kept, strict=True):
            moved = value.copy()
            moved[unit, :, channel] *= 1 + sign * h
            variable.assign(moved)
        losses[sign] = np.array([float(train.loss(model.net, QUICK, *b, False)) for b in batches])
    for variable, value in zip((heads.f1, heads.f1_bias), kept, strict=True):
        variable.assign(value)
    wanted = np.square((losses[1] - losses[-1]) / (2 * h)).sum()
    assert scores["f1"][unit, channel] == pytest.approx(wanted, rel=0.1)
    assert {k: s.shape for k, s in scores.items()} == {
        "c1": (1, 12), "c2": (1, 12), "c3": (4, 8), "c4": (4, 8), "f1": (4, 12)}


def test_a_dead_channel_has_no_importance(synthetic, model) -> None:
    net = folders.build(model.recipe, model.front, 16, dataset.STRETCH)
    net.set_weights(model.net.get_weights())
    variables = channels.variables_of(net, model.recipe)
    for name in ("c2", "c2_bias"):
        (variable,) = variables[name]
        value = variable.numpy()
        value[..., 5] = 0
        variable.assign(value)
    scores = prune.importance(net, model.recipe, data_of(synthetic, model), 0)
    assert scores["c2"].argmin() == 5
    assert scores["c2"].min() == 0


def test_the_papers_network_is_judged_as_it_is(synthetic, tmp_path, monkeypatch) -> None:
    """It was not trained again on everything, so it needs no predecessor; all of it is itself."""
    monkeypatch.setattr(prune, "ROUNDS", 2)
    monkeypatch.setattr(prune, "tune", lambda *_: None)
    recipe = replace(PAPER, kind="so_dcnn", steps=4, check_every=4)
    one = SpikeTrains(labels(synthetic).times[:1], 2048.0)
    paper = train.fit(synthetic.recording, one, recipe, [(0, 30000)], tmp_path / "l", seed=3)
    same, rows = prune.prune(paper, synthetic.recording, one, 1.0, tmp_path / "l")
    assert [r["step"] for r in rows] == ["before"]
    assert rows[0]["f1"] == paper.facts["validation"]["network"]["f1"]
    for a, b in zip(paper.net.get_weights(), same.net.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    small, rows = prune.prune(paper, synthetic.recording, one, 0.3, tmp_path / "l",
                              time_ms=lambda m: float(m.net.count_params()))
    assert [r["step"] for r in rows] == ["before", "round 1", "after"]
    assert rows[-1]["ms"] == small.net.count_params() < paper.net.count_params()
    assert rows[-1]["operations"] <= 0.3 * rows[0]["operations"]


def test_the_validation_part_is_unseen_until_the_choice(
    synthetic, model, tmp_path, monkeypatch
) -> None:
    """A model that was trained again on everything: first its predecessor, on the fit part."""
    again = replace(model, recipe=replace(model.recipe, refit=True),
                    facts=model.facts | {"decoder": "?"})
    trained_on = []

    def choose(trainer, spans, logs):
        return prune.stretched(model).net, model.front, {}

    def tune(now, data, share, seed):
        trained_on.append((share, sum(len(p.x) for p in data.pieces)))

    monkeypatch.setattr(train.Trainer, "choose", choose)
    monkeypatch.setattr(prune, "tune", tune)
    monkeypatch.setattr(prune, "BATCHES", 2)
    small, rows = prune.prune(again, synthetic.recording, labels(synthetic), 0.5, tmp_path)
    steps = [prune.BETWEEN] * (len(rows) - 2) + [prune.AT_THE_END]
    assert [share for share, _ in trained_on] == steps * 2
    samples = [n for _, n in trained_on]
    whole = sum(b - a for a, b in prune.training_spans(model, synthetic.recording))
    assert set(samples[: len(steps)]) == {samples[0]}
    assert samples[0] < 0.76 * whole
    assert set(samples[len(steps) :]) == {whole}
    assert small.facts["decoder"] in ("network", "linear")
    assert small.facts["validation"]["network"]["f1"] == rows[-1]["f1"]
    assert small.facts["validation"]["span_s"] == model.facts["validation"]["span_s"]


@pytest.mark.parametrize(("emg", "units", "words"), [
    (lambda e: e[::-1], 4, "is not the recording that the model was trained on"),
    (lambda e: e[: len(e) // 2], 4, "is not the recording that the model was trained on"),
    (lambda e: e, 3, "the labels hold 3 motor units, the model 4"),
])
def test_what_does_not_fit_is_named(synthetic, model, tmp_path, emg, units, words) -> None:
    recording = replace(synthetic.recording, emg=emg(synthetic.recording.emg))
    trains = labels(synthetic)
    with pytest.raises(InputError, match=words):
        prune.prune(model, recording, replace(trains, times=trains.times[:units]), 0.5, tmp_path)
    assert not list(tmp_path.iterdir())
