"""One job of the paper's study: train one network on one fold, decode the fold's test part.

Training is that of sections 2.3 and 3.3: RMSprop, binary cross-entropy, batches of 64, every window
once per epoch, the best epoch by mean F1. The paper does not say on which part that F1 was counted;
here it is a part of the training contractions that is not trained on, never the test part.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from spikewire.decide import Decide, decide_all
from spikewire.score import best_lag
from spikewire.signals import WINDOW, Floats, Labels, SpikeTrains, Times
from spikewire.study import data as study_data
from spikewire.study.data import Data
from spikewire.study.jobs import Job
from spikewire.study.networks import build
from spikewire.study.published import BATCH, PATIENCE, THRESHOLD
from spikewire.study.windows import Grid, Marks, binned, mean_f1

CHUNK = 512  # windows decoded at once
PREDICTIONS, CALLS = 15, 100  # repetitions when single windows are timed
Decode = Any  # a compiled function: (windows, window, channels) -> logits (windows, 1, n_mu)


class Windows(keras.utils.PyDataset):
    """All windows of the training spans, in another order every epoch."""

    def __init__(self, emg: Floats, grids: list[Grid], marks: list[Marks], seed: int) -> None:
        super().__init__()
        self.emg, self.grids, self.rng = emg, grids, np.random.default_rng(seed)
        self.marks = np.concatenate(marks).astype(np.float32)[:, None]
        self.starts = np.concatenate([g.centres - g.window // 2 for g in grids])
        self.on_epoch_end()

    def __len__(self) -> int:
        return -(-len(self.starts) // BATCH)

    def __getitem__(self, number: int) -> tuple[Floats, Floats]:
        which = self.order[BATCH * number : BATCH * (number + 1)]
        samples = self.starts[which][:, None] + np.arange(self.grids[0].window)
        return self.emg[samples], self.marks[which]

    def on_epoch_end(self) -> None:
        """Shuffle."""
        self.order = self.rng.permutation(len(self.starts))


def decode(call: Decode, emg: Floats, grid: Grid) -> Marks:
    """Section 2.1: a bin holds a discharge if the output exceeds 0.5."""
    out = []
    for start in range(0, len(grid), CHUNK):
        x = grid.cut(emg, np.arange(start, min(start + CHUNK, len(grid))))
        out.append(call(tf.constant(x)).numpy()[:, 0] > np.log(THRESHOLD / (1 - THRESHOLD)))
    return np.concatenate(out)


class Best(keras.callbacks.Callback):
    """Keeps the weights of the best epoch and the time of every one, validation not counted."""

    def __init__(self, call: Decode, emg: Floats, grid: Grid, marks: Marks) -> None:
        super().__init__()
        self.call, self.emg, self.grid, self.marks = call, emg, grid, marks
        self.f1: list[float] = []
        self.seconds: list[float] = []
        self.weights: list[NDArray[np.float32]] = []

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        self.seconds.append(time.perf_counter() - self.started)
        f1 = mean_f1(decode(self.call, self.emg, self.grid), self.marks)
        if f1 >= max(self.f1, default=0.0):
            self.weights = self.model.get_weights()
        self.f1.append(f1)


def median_ms(call: Any, times: int) -> float:
    """Median duration of a call."""
    took = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        took.append(time.perf_counter() - started)
    return 1e3 * float(np.median(took))


def single_window_ms(net: keras.Model, call: Decode, x: Floats) -> dict[str, float]:
    """Time for one window: Keras' predict, as the paper used it, and a compiled call."""
    one = tf.constant(x[:1])
    net.predict(x[:1], verbose=0)
    return {"predict_ms": median_ms(lambda: net.predict(x[:1], verbose=0), PREDICTIONS),
            "compiled_ms": median_ms(lambda: call(one).numpy(), CALLS)}


def start_from(net: keras.Model, seed: int) -> None:
    """First weights and dropout masks from the seed alone.

    Keras draws their seeds from Python's global generator, which Dask's threads draw from too: no
    two runs of a study would agree.
    """
    numbers = np.random.default_rng([seed, 1]).integers(1, 1 << 31, 2 * len(net.layers)).tolist()
    for layer, first, second in zip(net.layers, numbers[::2], numbers[1::2], strict=True):
        if hasattr(layer, "kernel"):
            draw = keras.initializers.GlorotUniform(first)
            layer.kernel.assign(draw(layer.kernel.shape))
        if isinstance(layer, keras.layers.Dropout):
            layer.seed_generator.state.assign([first, second])


def train_network(job: Job, data: Data) -> dict[str, Any]:
    """Train and decode; see the module."""
    window, step = job["window"], job["step"]
    fit, validation = data.spans(job["fold"])
    peak = max(float(np.abs(data.recording.emg[a:b]).max()) for a, b in fit)
    emg = data.recording.emg / np.float32(peak)  # section 3.3.2: -1..1 of the whole grid
    labels = data.labels.only(job["units"])
    grids = [g for g in (Grid.over(s, window, step) for s in fit) if len(g)]
    unseen = Grid.over(validation, window, step)
    net = build(emg.shape[1], len(labels), window, job["convolutions"], job["nodes"])
    start_from(net, job["seed"])
    net.compile("rmsprop", keras.losses.BinaryCrossentropy(from_logits=True), jit_compile=False)
    signature = tf.TensorSpec((None, window, emg.shape[1]), tf.float32)
    call = tf.function(lambda x: net(x, training=False), input_signature=[signature])
    windows = Windows(emg, grids, [g.marks(labels.times) for g in grids], job["seed"])
    best = Best(call, emg, unseen, unseen.marks(labels.times))
    stop = keras.callbacks.EarlyStopping("loss", patience=PATIENCE)
    net.fit(windows, epochs=job["epochs"], verbose=0, shuffle=False,  # `Windows` shuffles
            callbacks=[best, stop, keras.callbacks.TerminateOnNaN()])
    if best.weights:
        net.set_weights(best.weights)
    test = Grid.over(data.folds[job["fold"]], window, step)
    x = test.cut(emg, np.arange(1))
    # The first epoch also compiles the graph.
    settled = best.seconds[1:] or best.seconds
    return {
        "marks": decode(call, emg, test), "epochs": len(best.f1), "validation_f1": best.f1,
        "best_epoch": len(best.f1) - int(np.argmax(best.f1[::-1])),
        "training_windows": len(windows.starts), "s_per_epoch": float(np.median(settled)),
        "weights": net.count_params(), **single_window_ms(net, call, x),
    }


def linear_filter(job: Job, data: Data) -> dict[str, Any]:
    """The linear MU filters on the same training samples, with the decisions of `mu-run`."""
    from spikewire import network, train
    from spikewire.crossfit import CrossFit
    from spikewire.dataset import STRETCH
    from spikewire.recipe import Recipe

    recipe, emg = Recipe(), data.recording.emg
    fit, _ = data.spans(job["fold"])
    labels, bins = data.labels.only(job["units"]), Labels(recipe.look_ahead)
    started = time.perf_counter()
    front, _ = CrossFit(emg, labels, fit, recipe.delays).front(recipe.loadings)
    took = time.perf_counter() - started
    test = Grid.over(data.folds[job["fold"]], job["window"], job["step"])
    start, stop = test.bins[0] - bins.bin_start, test.bins[1] + WINDOW
    x = front.outputs(emg[start - recipe.delays + 1 : stop])[recipe.delays - 1 :]
    net = network.linear(front.thresholds.tolist(), bins.bin_start, STRETCH)
    presence, position = train.probabilities(net, x, len(test))
    n_mu = len(labels)
    decide = Decide(np.full(n_mu, train.LINEAR_THRESHOLD, np.float32), np.zeros(n_mu, np.int64),
                    bins)
    found = decide_all(decide, start + WINDOW, presence, position)
    one = network.linear(front.thresholds.tolist(), bins.bin_start)
    call = tf.function(one, input_signature=[tf.TensorSpec((1, WINDOW, n_mu), tf.float32)])
    window = tf.constant(x[None, :WINDOW])
    new = emg[start : start + recipe.delays - 1 + job["step"]]

    def step() -> None:
        front.outputs(new)
        call(window)

    step()
    return {"times": found, "seconds": took, "weights": front.kernels.size,
            "compiled_ms": median_ms(step, CALLS)}


def onto(times: list[Times], labels: SpikeTrains) -> list[Times]:
    """Times without their constant distance from the labels, as in all our scores."""
    return [t - best_lag(wanted, t) for t, wanted in zip(times, labels.times, strict=True)]


def work(job: Job, folder: str) -> dict[str, Any]:
    """Run one job of a study's folder; the result holds JSON only.

    Returns
    -------
    dict
        `times` per unit (centres of the bins found), `against` labels and truth: sensitivity,
        precision and F1 of each unit in bins of the job's step; and what was measured on the way.
    """
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)  # workers share it
    started = time.perf_counter()
    data = study_data.load(Path(folder), job["data"])
    result = linear_filter(job, data) if job["decoder"] == "linear" else train_network(job, data)
    grid = Grid.over(data.folds[job["fold"]], job["window"], job["step"])
    labels = data.labels.only(job["units"])
    references = {"labels": labels} | (
        {"truth": data.truth.only(job["units"])} if data.truth else {})
    marks = grid.marks(onto(result.pop("times"), labels)) if "times" in result else \
        result.pop("marks")
    return result | {
        "times": [t.tolist() for t in grid.times(marks)],
        "against": {name: binned(marks, grid.marks(trains.times))
                    for name, trains in references.items()},
        "versions": {"tensorflow": tf.__version__, "keras": keras.__version__},
        "job_s": round(time.perf_counter() - started, 1),
    }
