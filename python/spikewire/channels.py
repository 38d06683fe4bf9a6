"""The channels of a network's layers: all weights by layer, and the same with fewer channels.

The recommended network holds the weights of all heads in one variable each, the paper's networks
in a layer per unit; here both are (1 or n_mu, inputs, outputs), inputs in time order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from spikewire.model import Model, build
from spikewire.network import POOLED
from spikewire.recipe import Recipe
from spikewire.signals import Floats

Kept = dict[str, NDArray[np.int64]]  # layer -> channels (1 or n_mu, number)
Scores = dict[str, NDArray[np.float64]]  # layer -> importance (1 or n_mu, channels)

# layer -> the layer before it, and how many of its columns one output sees (network.unfold)
INPUTS = {"c2": ("c1", 3), "c3": ("c2", 3), "c4": ("c3", 3), "f1": ("c4", POOLED), "f2": ("f1", 1)}
LAYERS = ("c1", "c2", "c3", "c4", "f1")  # that lose channels, in the order of a recipe's widths


def variables_of(net: keras.Model, recipe: Recipe) -> dict[str, list[Any]]:
    """Kernels and biases by layer: one variable, or one per unit."""
    found: dict[str, list[Any]] = {}
    for name in ("c1", "c2"):
        layer = net.get_layer(name)
        found |= {name: [layer.kernel], f"{name}_bias": [layer.bias]}
    if recipe.kind == "recommended":
        heads = net.get_layer("heads")
        names = [*(k for k in INPUTS if k != "c2"), "own"]
        found |= {k: [getattr(heads, k)] for k in names}
        return found | {f"{k}_bias": [getattr(heads, f"{k}_bias")] for k in names if k != "own"}
    units = range(net.output_shape[-1])
    for name, pattern in (("c3", "c3_{}"), ("c4", "c4_{}"), ("f1", "f1_{}"), ("f2", "mu{}")):
        layers = [net.get_layer(pattern.format(unit)) for unit in units]
        found |= {name: [x.kernel for x in layers], f"{name}_bias": [x.bias for x in layers]}
    return found


def stacked(values: Sequence[Any], batched: bool) -> Floats:
    """Values of a layer's variables as (1 or n_mu, inputs, outputs), columns in time order."""
    arrays = [np.asarray(v) for v in values]
    return arrays[0] if batched else np.stack([a.reshape(-1, a.shape[-1]) for a in arrays])


def is_batched(recipe: Recipe, name: str) -> bool:
    """Whether one variable holds the weights of all units, unit axis first."""
    return recipe.kind == "recommended" and not name.startswith(("c1", "c2"))


def matrices(net: keras.Model, recipe: Recipe) -> dict[str, Floats]:
    """All weights as (1 or n_mu, inputs, outputs), by layer."""
    return {name: stacked([v.numpy() for v in variables], is_batched(recipe, name))
            for name, variables in variables_of(net, recipe).items()}


def layer_of(name: str) -> str:
    """The layer whose channels are the outputs of this kernel or bias."""
    return "c3" if name == "own" else name.removesuffix("_bias")


def strongest(scores: Scores, recipe: Recipe) -> Kept:
    """The most important channels of every layer, as many as the recipe has, in their order."""
    widths = dict(zip(LAYERS, (*recipe.trunk, *recipe.heads), strict=True))
    return {k: np.sort(np.argsort(-s, axis=1, kind="stable")[:, : widths[k]], axis=1)
            for k, s in scores.items()}


def cut(weights: dict[str, Floats], kept: Kept) -> dict[str, Floats]:
    """Weights without the channels that are not kept, on both sides of every layer."""
    made = {}
    for name, w in weights.items():
        if name in INPUTS:
            before, columns = INPUTS[name]
            first = w.shape[1] // columns * np.arange(columns)
            rows = (first[None, :, None] + kept[before][:, None, :]).reshape(len(kept[before]), -1)
            w = np.take_along_axis(w, rows[:, :, None], axis=1)
        if layer_of(name) in kept:
            w = np.take_along_axis(w, kept[layer_of(name)][:, None, :], axis=2)
        made[name] = w
    return made


def smaller(model: Model, recipe: Recipe, scores: Scores) -> Model:
    """The model with the recipe's widths, holding the most important channels."""
    old = model.net
    net = build(recipe, model.front, model.facts["channels"], old.input_shape[1])
    left = cut(matrices(old, model.recipe), strongest(scores, recipe))
    for name, group in variables_of(net, recipe).items():
        parts = [left[name]] if is_batched(recipe, name) else list(left[name])
        for variable, part in zip(group, parts, strict=True):
            variable.assign(part.reshape(variable.shape))
    if recipe.kind == "recommended":
        net.get_layer("linear").set_weights(old.get_layer("linear").get_weights())
    return replace(model, net=net, recipe=recipe,
                   facts=model.facts | {"recipe": asdict(recipe), "weights": net.count_params()})
