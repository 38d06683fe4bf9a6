"""Train a decoder: front by cross-fitting, network by descent, the better one by validation.

The validation part chooses (training length, network or linear filter) and is then trained on too;
the held-out spans are never read.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import spikewire
from spikewire import dataset, network
from spikewire.augment import Augment
from spikewire.crossfit import CrossFit, Front
from spikewire.dataset import STRETCH, WINDOWS
from spikewire.decide import Decide, decide_all
from spikewire.golden import golden_samples, most_active
from spikewire.model import Model, build
from spikewire.moments import places_of
from spikewire.recipe import Recipe
from spikewire.score import score, table
from spikewire.signals import (
    STEP,
    WINDOW,
    Floats,
    InputError,
    Labels,
    Recording,
    Span,
    SpikeTrains,
)

Progress = Callable[[float, str], None]
NOISE_F1 = 0.003  # differences of F1 below this say nothing on a few seconds of validation data
LINEAR_THRESHOLD = 0.5  # the linear decoder's presence where its output is at the threshold


def guard_samples(recipe: Recipe) -> int:
    """Samples that a window and the front's history share with what lies before them."""
    return WINDOW + recipe.delays - 1


def run(net: keras.Model, x: tf.Tensor, training: bool) -> tuple[tf.Tensor, tf.Tensor | None]:
    """Outputs of all windows of stretches: presence (batch, windows, n_mu), position (.., 20)."""
    if net.input_shape[1] == x.shape[1]:
        return network.as_pair(net(x, training=training))
    windows = (x.shape[1] - WINDOW) // STEP + 1
    cut = tf.stack([x[:, STEP * k : STEP * k + WINDOW] for k in range(windows)], axis=1)
    one_by_one = tf.reshape(cut, (-1, WINDOW, x.shape[2]))
    presence, position = network.as_pair(net(one_by_one, training=training))
    n_mu = presence.shape[-1]
    if position is not None:
        position = tf.reshape(position, (-1, windows, n_mu, STEP))
    return tf.reshape(presence, (-1, windows, n_mu)), position


def loss(
    net: keras.Model, recipe: Recipe, x: tf.Tensor, y: tf.Tensor, where: tf.Tensor, training: bool
) -> tf.Tensor:
    """Cross-entropy of the presences, and of the positions where a discharge is."""
    presence, position = run(net, x, training)
    error = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(y, presence))
    if position is None:
        return error
    entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(where, position)
    return error + recipe.position_weight * tf.reduce_mean(entropy * y)


def make_step(net: keras.Model, recipe: Recipe) -> Callable[..., tf.Tensor]:
    """One compiled step of gradient descent: (x, presence, position, rate) -> loss."""
    clip = recipe.clip_norm or None
    optimizer = {"adam": keras.optimizers.Adam, "rmsprop": keras.optimizers.RMSprop}[
        recipe.optimizer](recipe.learning_rate, global_clipnorm=clip)
    optimizer.build(net.trainable_variables)  # else the first step is traced twice

    @tf.function
    def step(x: tf.Tensor, y: tf.Tensor, where: tf.Tensor, rate: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            noisy = x + recipe.noise * tf.random.normal(tf.shape(x))
            error = loss(net, recipe, noisy, y, where, True)
        optimizer.learning_rate = rate
        gradients = tape.gradient(error, net.trainable_variables)
        optimizer.apply_gradients(zip(gradients, net.trainable_variables, strict=True))
        return error

    return step


def rate_at(recipe: Recipe, done: float) -> float:
    """Learning rate after a share `done` of the steps: one cycle, or constant."""
    if not recipe.one_cycle:
        return recipe.learning_rate
    shape = 0.04 + 9.6 * done if done < 0.1 else 0.5 + 0.5 * math.cos(math.pi * (done - 0.1) / 0.9)
    return recipe.learning_rate * shape


def probabilities(net: keras.Model, x: Floats, windows: int) -> tuple[Floats, Any]:
    """Presence probability and position of `windows` successive windows from the start of `x`.

    Parameters
    ----------
    x : float32 (samples, inputs)

    Returns
    -------
    presence : float32 (windows, n_mu)
    position : int64 (windows, n_mu)
    """
    groups = -(-windows // WINDOWS)
    padded = np.zeros((STRETCH + STEP * WINDOWS * (groups - 1), x.shape[1]), np.float32)
    used = min(len(x), len(padded))
    padded[:used] = x[:used]
    starts = STEP * WINDOWS * np.arange(groups)
    logits, position = run(net, tf.constant(np.stack([padded[s : s + STRETCH] for s in starts])),
                           False)
    presence = tf.sigmoid(logits).numpy().reshape(-1, logits.shape[-1])[:windows]
    if position is None:
        return presence, np.full(presence.shape, STEP // 2)
    return presence, position.numpy().argmax(-1).reshape(-1, presence.shape[1])[:windows]


def evaluate(
    net: keras.Model, x: Floats, start: int, trains: SpikeTrains, labels: Labels, threshold: float
) -> dict[str, Any]:
    """Score the causal decisions over a stretch `x` that starts at sample `start`."""
    windows = (len(x) - WINDOW) // STEP + 1
    presence, position = probabilities(net, x, windows)
    n_mu = presence.shape[1]
    decide = Decide(np.full(n_mu, threshold, np.float32), np.zeros(n_mu, np.int64), labels)
    times = decide_all(decide, start + WINDOW, presence, position)
    first = start + labels.bin_start
    return table(score(SpikeTrains(times, trains.fs_hz), trains, first, first + STEP * windows))


def descend(
    net: keras.Model, recipe: Recipe, pieces: Sequence[dataset.Piece], steps: int, seed: int,
    check: Callable[[int, float], None], changed: Iterator[dataset.Piece] | None = None,
) -> None:
    """Train for `steps` batches; `check(step, loss)` comes every `check_every` and at the end."""
    rng = np.random.default_rng(seed)
    step = make_step(net, recipe)
    stream = dataset.batches(pieces, Labels(recipe.look_ahead), recipe.windows // WINDOWS,
                             recipe.gain_jitter, rng, changed, recipe.augmented)
    losses = []
    for number, (x, y, where) in enumerate(itertools.islice(stream, steps), 1):
        rate = tf.constant(rate_at(recipe, (number - 1) / steps), tf.float32)
        losses.append(step(tf.constant(x), tf.constant(y), tf.constant(where), rate))
        if number % recipe.check_every == 0 or number == steps:
            mean = float(np.mean([float(v) for v in losses]))
            if not math.isfinite(mean):
                raise InputError(f"training diverged at step {number}; lower learning_rate")
            check(number, mean)
            losses.clear()


def longest_as_good(history: Sequence[dict[str, Any]]) -> int:
    """Training length for the second fit: the longest within noise of the best check."""
    best = max(h["validation_f1"] for h in history)
    return max(h["step"] for h in history if h["validation_f1"] >= best - NOISE_F1)


class Trainer:
    """One recording, one set of labels, one recipe."""

    def __init__(
        self, recording: Recording, trains: SpikeTrains, recipe: Recipe, spans: Sequence[Span],
        seed: int, progress: Progress,
    ) -> None:
        if trains.fs_hz != recording.fs_hz:
            raise InputError(
                f"labels count at {trains.fs_hz:g} Hz, the recording at {recording.fs_hz:g} Hz: "
                "decompose this very recording"
            )
        if recipe.kind == "so_dcnn" and len(trains) != 1:
            raise InputError(
                f"so_dcnn decodes one motor unit, the labels hold {len(trains)}; use --units K"
            )
        self.recording, self.trains, self.recipe = recording, trains, recipe
        self.seed, self.progress = seed, progress
        self.labels = Labels(recipe.look_ahead)
        self.input_scale = 1.0 if recipe.kind == "recommended" else \
            1 / max(float(np.abs(recording.emg[a:b]).max()) for a, b in spans)

    def prepare(
        self, spans: Sequence[Span], loadings: Sequence[float]
    ) -> tuple[Front, list[dataset.Piece], Iterator[dataset.Piece] | None]:
        """Front of these spans, training pieces of network inputs, and augmented ones."""
        fit = CrossFit(self.recording.emg, self.trains, spans, self.recipe.delays,
                       self.recipe.gain_sd)
        front, outputs = fit.front(loadings)
        if self.recipe.kind != "recommended":
            outputs = [self.recording.emg[a:b] * np.float32(self.input_scale) for a, b in spans]
        changed = None
        if self.recipe.kind == "recommended" and self.recipe.augmented:
            rng = np.random.default_rng([self.seed, 1])
            changed = iter(Augment(fit, front, places_of(self.recording), rng))
        return front, dataset.pieces(outputs, spans, self.trains), changed

    def new_network(self, front: Front) -> keras.Model:
        """Fresh weights from the seed."""
        keras.utils.set_random_seed(self.seed)
        samples = STRETCH if self.recipe.kind == "recommended" else WINDOW
        return build(self.recipe, front, self.recording.emg.shape[1], samples)

    def inputs(self, front: Front, span: Span) -> Floats:
        """Network inputs over a span, as the runtime would see them."""
        if self.recipe.kind != "recommended":
            return self.recording.emg[span[0]:span[1]] * np.float32(self.input_scale)
        return self.filtered(front, span)

    def filtered(self, front: Front, span: Span) -> Floats:
        """Filter outputs over a span, with the history before it: float32 (samples, n_mu)."""
        before = max(0, span[0] - self.recipe.delays + 1)
        return front.outputs(self.recording.emg[before:span[1]])[span[0] - before:]

    def choose(
        self, spans: Sequence[Span], logs: Path
    ) -> tuple[keras.Model, Front, dict[str, Any]]:
        """Train without the validation part; keep the best step by mean F1 on it."""
        guard = guard_samples(self.recipe)
        fit, validation = dataset.split_validation(spans, self.recipe.validation_share, guard)
        front, pieces, changed = self.prepare(fit, self.recipe.loadings)
        # Only the length and the better decoder are chosen here: a third of the steps shows both.
        steps = max(self.recipe.steps // 3, 1) if self.recipe.refit else self.recipe.steps
        net = self.new_network(front)
        unseen = self.inputs(front, validation)
        best: dict[str, Any] = {"f1": -1.0}
        history = []
        writer = tf.summary.create_file_writer(str(logs))

        def check(step: int, loss: float) -> None:
            nonlocal best
            found = evaluate(net, unseen, validation[0], self.trains, self.labels,
                             self.recipe.threshold)
            with writer.as_default(step):
                tf.summary.scalar("loss", loss)
                tf.summary.scalar("validation F1", found["f1"])
            history.append({"step": step, "loss": loss, "validation_f1": found["f1"]})
            if found["f1"] > best["f1"]:
                best = found | {"step": step, "weights": net.get_weights()}
            self.progress(0.05 + 0.3 * step / steps,
                          f"step {step}: loss {loss:.4f}, F1 on the validation part "
                          f"{found['f1']:.3f}")

        descend(net, self.recipe, pieces, steps, self.seed, check, changed)
        net.set_weights(best.pop("weights"))
        linear = self.linear_score(front, validation)
        facts = {
            "validation": {"span_s": [s / self.recording.fs_hz for s in validation],
                           "network": best, "linear": linear},
            "decoder": "network" if best["f1"] >= linear["f1"] else "linear",
            "history": history,
        }
        return net, front, facts

    def linear_score(self, front: Front, span: Span) -> dict[str, Any]:
        """The linear MU filter over a span, with the same decisions."""
        # The baseline keeps its own look-ahead: it needs the bin and 10 samples after it.
        labels = Labels(20)
        net = network.linear(front.thresholds.tolist(), labels.bin_start, STRETCH)
        x = self.filtered(front, span)
        return evaluate(net, x, span[0], self.trains, labels, LINEAR_THRESHOLD)


def fit(
    recording: Recording, trains: SpikeTrains, recipe: Recipe, spans: Sequence[Span],
    folder: Path, seed: int = 0, progress: Progress | None = None,
) -> Model:
    """Train on `spans` of a recording; TensorBoard logs go to `folder`/logs.

    Raises
    ------
    InputError
        Labels and recording that do not fit, too little data, or a diverging training.
    """
    report = progress or (lambda share, words: None)
    trainer = Trainer(recording, trains, recipe, spans, seed, report)
    golden = golden_excerpt(recording, spans, recipe)
    report(0.0, "linear filters")
    net, front, facts = trainer.choose(spans, folder / "logs")
    if recipe.refit:
        chosen = longest_as_good(facts["history"]) / facts["history"][-1]["step"]
        steps = max(round(recipe.steps * chosen), 1)
        report(0.35, f"training again on all training data, {steps} steps")
        front, pieces, changed = trainer.prepare(spans, [front.loading])
        net = trainer.new_network(front)
        descend(net, replace(recipe, check_every=max(1, steps // 5)), pieces, steps, seed,
                lambda step, loss: report(0.35 + 0.65 * step / steps, f"step {step}: {loss:.4f}"),
                changed)
    facts |= {
        "recording": recording.name, "fs_hz": recording.fs_hz, "n_mu": len(trains),
        "channels": recording.emg.shape[1], "input_scale": trainer.input_scale,
        "spans_s": [[a / recording.fs_hz, b / recording.fs_hz] for a, b in spans],
        "seed": seed, "loading": front.loading, "cross_fitted_f1": float(front.f1.mean()),
        "weights": net.count_params(), "recipe": asdict(recipe),
        "versions": {"spikewire": spikewire.__version__, "tensorflow": tf.__version__,
                     "keras": keras.__version__, "numpy": np.__version__},
    }
    return Model(recipe, net, front, facts, golden)


def golden_excerpt(recording: Recording, spans: Sequence[Span], recipe: Recipe) -> Recording:
    """The most active stretch of the longest training span that fills the golden windows."""
    start, stop = max(spans, key=lambda s: s[1] - s[0])
    length = golden_samples(recipe.delays - 1)
    if stop - start < length:
        raise InputError(
            f"{recording.name}: the longest training span has {stop - start} samples, {length} "
            "are needed; record longer or hold out less"
        )
    return most_active(replace(recording, emg=recording.emg[start:stop]), length)
