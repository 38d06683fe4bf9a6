"""Cutting channels, on networks whose answer is known: dead channels carry nothing."""

from __future__ import annotations

from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from spikewire import channels as cutting
from spikewire import network
from spikewire.model import Model, build
from spikewire.recipe import Recipe

WIDE = Recipe(trunk=(10, 12), heads=(6, 8, 9))
NARROW = replace(WIDE, trunk=(6, 5), heads=(4, 3, 7))
UNITS, CHANNELS = 3, 5
KINDS = ("recommended", "mo_dcnn")
WIDTHS = dict(zip(cutting.LAYERS, WIDE.trunk + WIDE.heads, strict=True))


def random_model(kind: str, samples: int = 120) -> Model:
    """A network whose every weight is random, biases and F2 too."""
    recipe = replace(WIDE, kind=kind)
    front = SimpleNamespace(thresholds=np.full(UNITS, 0.6, np.float32))
    keras.utils.set_random_seed(4)
    net = build(recipe, front, CHANNELS, samples)
    rng = np.random.default_rng(5)
    net.set_weights([rng.normal(0, 0.3, w.shape) for w in net.get_weights()])
    return Model(recipe, net, front, {"channels": CHANNELS, "n_mu": UNITS}, None)


def some_channels(kind: str) -> cutting.Scores:
    """Scores that keep other channels in every layer and unit."""
    rng = np.random.default_rng(6)
    return {k: rng.permuted(np.tile(np.arange(w, dtype=float),
                                    (1 if k in ("c1", "c2") else UNITS, 1)), axis=1)
            for k, w in WIDTHS.items()}


def outputs(model: Model) -> list[np.ndarray]:
    x = np.random.default_rng(7).normal(0, 1, (6, *model.net.input_shape[1:])).astype(np.float32)
    return [o.numpy() for o in network.as_pair(model.net(x)) if o is not None]


def kill(model: Model, kept: cutting.Kept) -> None:
    """Zero the kernel, bias and (recommended) own input of every channel that is not kept."""
    for name, group in cutting.variables_of(model.net, model.recipe).items():
        layer = cutting.layer_of(name)
        if layer not in kept:
            continue
        for k, variable in enumerate(group):
            value = variable.numpy()
            for unit, keep in enumerate(kept[layer]):
                dead = np.setdiff1d(np.arange(value.shape[-1]), keep)
                if len(group) > 1 and unit != k:
                    continue
                whole = len(kept[layer]) == 1 or len(group) > 1
                value[... if whole else unit][..., dead] = 0
            variable.assign(value)


@pytest.mark.parametrize("kind", KINDS)
def test_dead_channels_change_nothing_when_cut(kind: str) -> None:
    model, scores = random_model(kind), some_channels(kind)
    narrow = replace(NARROW, kind=kind)
    kill(model, cutting.strongest(scores, narrow))
    small = cutting.smaller(model, narrow, scores)
    for a, b in zip(outputs(model), outputs(small), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)
        assert np.ptp(a) > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_living_channels_are_missed(kind: str) -> None:
    model = random_model(kind)
    small = cutting.smaller(model, replace(NARROW, kind=kind), some_channels(kind))
    assert np.abs(outputs(model)[0] - outputs(small)[0]).max() > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_keeping_all_keeps_the_outputs(kind: str) -> None:
    model = random_model(kind)
    same = cutting.smaller(model, model.recipe, some_channels(kind))
    for a, b in zip(outputs(model), outputs(same), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_stretch_is_cut_like_a_window() -> None:
    model, scores = random_model("recommended", 420), some_channels("recommended")
    assert cutting.smaller(model, NARROW, scores).net.input_shape == (None, 420, UNITS)


def test_the_number_of_weights() -> None:
    """Recommended, three units: C1, C2, then C3 with own inputs, C4, F1, F2 and the linear head."""
    small = cutting.smaller(random_model("recommended"), NARROW, some_channels("recommended"))
    by_hand = (3 * 3 * 6 + 6) + (3 * 6 * 5 + 5) + 3 * (
        (15 + 6) * 4 + 4 + 12 * 3 + 3 + 27 * 3 * 7 + 7 + 7 * 21 + 21) + 3 * 3
    assert small.net.count_params() == small.facts["weights"] == by_hand
    assert small.facts["recipe"] == asdict(NARROW)
    paper = cutting.smaller(random_model("mo_dcnn"), replace(NARROW, kind="mo_dcnn"),
                            some_channels("mo_dcnn"))
    by_hand = (3 * 5 * 6 + 6) + (3 * 6 * 5 + 5) + 3 * (
        15 * 4 + 4 + 12 * 3 + 3 + 27 * 3 * 7 + 7 + 7 + 1)
    assert paper.net.count_params() == by_hand


def test_one_unit_is_a_case_of_many() -> None:
    recipe = replace(WIDE, kind="so_dcnn")
    front = SimpleNamespace(thresholds=np.full(1, 0.6, np.float32))
    model = Model(recipe, build(recipe, front, CHANNELS, 120), front, {"channels": CHANNELS}, None)
    scores = {k: s[:1] for k, s in some_channels("mo_dcnn").items()}
    small = cutting.smaller(model, replace(NARROW, kind="so_dcnn"), scores)
    assert small.net.output_shape == (None, 1, 1)
