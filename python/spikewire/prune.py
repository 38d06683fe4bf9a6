"""Structured pruning: a trained network with fewer channels in every layer, trained on a little.

A channel's importance is the first-order Taylor estimate of Molchanov et al. 2019, eq. 8: the
square of the sum of gradient times weight over all its weights, summed over training batches.
Every unit's head keeps as many channels as the others, so that they stay one batched product, but
each keeps its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from spikewire import dataset, train
from spikewire.channels import (
    LAYERS,
    Scores,
    is_batched,
    layer_of,
    matrices,
    smaller,
    stacked,
    variables_of,
)
from spikewire.crossfit import Front
from spikewire.model import Model, build
from spikewire.recipe import Recipe
from spikewire.signals import WINDOW, InputError, Labels, Recording, Span, SpikeTrains
from spikewire.widths import Operations, narrow, operations

ROUNDS = 3
BATCHES = 24  # whose gradients make the importance
# Share of the recipe's steps, and of its learning rate, after each round and at the end.
BETWEEN, AT_THE_END = 0.1, 0.3
RATE = 0.5


class Data(NamedTuple):
    """What is trained on: pieces of the record, and endless augmented ones or None."""

    pieces: Sequence[dataset.Piece]
    changed: Iterator[dataset.Piece] | None = None


def importance(net: keras.Model, recipe: Recipe, data: Data, seed: int) -> Scores:
    """Taylor importance of every channel: layer -> (1 or n_mu, channels)."""
    variables = variables_of(net, recipe)
    flat = [v for group in variables.values() for v in group]
    weights = matrices(net, recipe)
    stream = dataset.batches(data.pieces, Labels(recipe.look_ahead),
                             recipe.windows // dataset.WINDOWS, recipe.gain_jitter,
                             np.random.default_rng(seed), data.changed, recipe.augmented)
    total: Scores = {}

    @tf.function
    def gradients(x: tf.Tensor, y: tf.Tensor, where: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            loss = train.loss(net, recipe, x, y, where, False)
        return tape.gradient(loss, flat)

    for x, y, where in itertools.islice(stream, BATCHES):
        slopes = iter(gradients(tf.constant(x), tf.constant(y), tf.constant(where)))
        first_order: dict[str, Any] = dict.fromkeys(LAYERS, 0.0)
        for name, group in variables.items():
            slope = stacked([next(slopes) for _ in group], is_batched(recipe, name))
            if layer_of(name) in first_order:
                first_order[layer_of(name)] += (slope * weights[name]).sum(axis=1)
        for layer, value in first_order.items():
            total[layer] = total.get(layer, 0.0) + np.square(value, dtype=np.float64)
    return total


def tune(model: Model, data: Data, share: float, seed: int) -> None:
    """Train on, with a lower learning rate and a share of the recipe's steps."""
    recipe = model.recipe
    gentle = replace(recipe, learning_rate=RATE * recipe.learning_rate, one_cycle=True)
    train.descend(model.net, gentle, data.pieces, max(1, round(share * recipe.steps)), seed,
                  lambda step, loss: None, data.changed)


def shrink(
    model: Model, recipes: Sequence[Recipe], data: Data, seed: int,
    look: Callable[[str, Model], None],
) -> Model:
    """Prune from recipe to recipe, training on after each; `look` comes before and after all."""
    look("before", model)
    keras.utils.set_random_seed(seed)
    for number, recipe in enumerate(recipes, 1):
        last = number == len(recipes)
        scores = importance(model.net, model.recipe, data, seed + number)
        model = smaller(model, recipe, scores)
        tune(model, data, AT_THE_END if last else BETWEEN, seed + number)
        look("after" if last else f"round {number}", model)
    return model


def training_spans(model: Model, recording: Recording) -> list[Span]:
    """What the model was trained on, refused if this is another recording."""
    spans = [(round(a * recording.fs_hz), round(b * recording.fs_hz))
             for a, b in model.facts["spans_s"]]
    same = recording.fs_hz == model.facts["fs_hz"] and spans[-1][1] <= len(recording.emg)
    if same:
        found = train.golden_excerpt(recording, spans, model.recipe).emg
        same = np.array_equal(found, model.golden.emg)
    if not same:
        raise InputError(
            f"{recording.name}: is not the recording that the model was trained on "
            f"({model.facts['recording']}); give that one, or train again with mu-train"
        )
    return spans


def stretched(model: Model) -> Model:
    """The model with its network built for training."""
    if model.recipe.kind != "recommended" or model.net.input_shape[1] != WINDOW:
        return model
    net = build(model.recipe, model.front, model.facts["channels"], dataset.STRETCH)
    net.set_weights(model.net.get_weights())
    return replace(model, net=net)


class Look:
    """Called with a step's name and its model: a row of the table.

    Parameters
    ----------
    trainer, front, validation : what the network is judged on, and by which filters
    time_ms : callable or None, milliseconds of one window
    """

    def __init__(
        self, trainer: train.Trainer, front: Front, validation: Span,
        time_ms: Callable[[Model], float] | None, report: train.Progress,
    ) -> None:
        self.trainer, self.validation, self.time_ms, self.report = (
            trainer, validation, time_ms, report)
        self.unseen = trainer.inputs(front, validation)
        self.linear = trainer.linear_score(front, validation)
        self.rows: list[dict[str, Any]] = []

    def __call__(self, step: str, model: Model) -> None:
        """Score a model and add its row."""
        found = train.evaluate(model.net, self.unseen, self.validation[0], self.trainer.trains,
                               self.trainer.labels, model.recipe.threshold)
        weights, size = model.net.count_params(), operations_of(model)
        self.rows.append({
            "step": step, "trunk": model.recipe.trunk, "heads": model.recipe.heads,
            "weights": weights, "bytes": 4 * weights, "operations": size.window,
            "operations_step": size.step, "f1": found["f1"], "linear_f1": self.linear["f1"],
            "ms": self.time_ms(model) if self.time_ms else None, "validation": found})
        self.report(0.6, f"{step}: {weights} weights, F1 on the validation part {found['f1']:.3f}")


def operations_of(model: Model) -> Operations:
    """Multiply-accumulates of a model."""
    return operations(model.recipe, model.facts["channels"], model.facts["n_mu"])


def recipes_to(model: Model, keep: float) -> list[Recipe]:
    """Recipes from the model's own, exclusive, down to the wanted share of operations."""
    channels, n_mu = model.facts["channels"], model.facts["n_mu"]
    last = narrow(model.recipe, channels, n_mu, keep)
    shapes = [narrow(model.recipe, channels, n_mu, keep ** (k / ROUNDS)) for k in range(1, ROUNDS)]
    return [r for r in dict.fromkeys([*shapes, last]) if r != model.recipe]


def prune(
    model: Model, recording: Recording, trains: SpikeTrains, keep: float, folder: Path,
    seed: int = 0, progress: train.Progress | None = None,
    time_ms: Callable[[Model], float] | None = None,
) -> tuple[Model, list[dict[str, Any]]]:
    """Prune to a share of the multiply-accumulates, on the spans that the model was trained on.

    A model that was trained again on everything (`recipe.refit`) has seen the validation part.
    Its predecessor, which had not, is trained once more and pruned first: its F1 are the ones in
    the table, and choose between network and linear filter. Then the model itself is pruned in
    the same way.

    Parameters
    ----------
    keep : float, share of the operations of a window
    folder : Path, TensorBoard logs go to `folder`/logs
    time_ms : callable, milliseconds of one window

    Returns
    -------
    model : Model, narrower
    rows : list of dict
        One for every step from "before" to "after": widths, weights, operations, validation F1.

    Raises
    ------
    InputError
        Another recording or labels, or a share that cannot be.
    """
    facts, report = model.facts, progress or (lambda share, words: None)
    recipes = recipes_to(model, keep)
    spans = training_spans(model, recording)
    if len(trains) != facts["n_mu"]:
        raise InputError(f"the labels hold {len(trains)} motor units, the model {facts['n_mu']}; "
                         "give those in the folder that mu-train has made")
    trainer = train.Trainer(recording, trains, model.recipe, spans, facts["seed"], report)
    fit, validation = dataset.split_validation(spans, model.recipe.validation_share,
                                               train.guard_samples(model.recipe))
    start = stretched(model)
    if model.recipe.refit:
        net, front, _ = trainer.choose(spans, folder / "logs")
        start = replace(model, net=net, front=front)
    _, pieces, changed = trainer.prepare(fit, [start.front.loading])
    look = Look(trainer, start.front, validation, time_ms, report)
    made = shrink(start, recipes, Data(pieces, changed), seed, look)
    if model.recipe.refit:
        report(0.8, "pruning the model that was trained on everything")
        _, pieces, changed = trainer.prepare(spans, [model.front.loading])
        made = shrink(stretched(model), recipes, Data(pieces, changed), seed,
                      lambda step, now: None)
    last, linear = look.rows[-1]["validation"], look.linear
    return replace(made, facts=made.facts | {
        "validation": facts["validation"] | {"network": last, "linear": linear},
        "decoder": "network" if last["f1"] >= linear["f1"] else "linear",
        "pruned": {"keep": keep, "seed": seed, "rows": look.rows}}), look.rows
