"""What several tests share: a synthetic recording of known discharges, and a bundle without Keras.

The recording is a sum of known waveforms at known times plus white noise, so its truth does not
come from any code under test. The bundle's graph is written node by node with `onnx.helper`, a
second implementation of the linear head beside the one that Keras and tf2onnx produce.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

# Before numpy is loaded: two threads of OpenBLAS that wait for each other on a busy machine take
# up to 70 times as long as one.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import settings

from spikewire import filters
from spikewire.bundle import GOLDEN_STEPS, WEIGHTS, save_array, write_bundle
from spikewire.manifest import Manifest
from spikewire.moments import Moments, Places, measure
from spikewire.peaks import judge, maxima
from spikewire.signals import STEP, WINDOW, Recording, SpikeTrains
from spikewire.weights import weights_bin

# Tests do not time: a busy machine may stop for a second in the middle of an example.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow-blocks", action="store_true",
                     help="of the documentation, run also what takes minutes")


FS_HZ = 2048.0
CHANNELS, UNITS, DELAYS = 16, 4, 8
BIN_START = 90  # look-ahead 20


@dataclass(frozen=True)
class Synthetic:
    """A recording and what is true of it."""

    recording: Recording
    truth: SpikeTrains
    templates: np.ndarray  # (units, 24 samples, channels), microvolt


def muap(rng: np.random.Generator) -> np.ndarray:
    """A smooth biphasic wave that travels over the channels: (24, channels), microvolt."""
    t = np.arange(24)[:, None]
    delay = 8 + rng.uniform(-2, 2) + np.abs(np.arange(CHANNELS) - rng.uniform(2, 14)) * 0.7
    width = rng.uniform(1.5, 3.0)
    place = np.exp(-0.5 * ((np.arange(CHANNELS) - rng.uniform(1, 15)) / rng.uniform(2, 4)) ** 2)
    x = (t - delay) / width
    return 300 * place * -x * np.exp(-0.5 * x**2)


def make_synthetic(seconds: float = 20.0, seed: int = 0, noise_uv: float = 8.0) -> Synthetic:
    """Rest for one second, then regular discharges of every unit until the last second."""
    rng = np.random.default_rng(seed)
    samples = int(seconds * FS_HZ)
    emg = rng.normal(0, noise_uv, (samples, CHANNELS))
    times, templates = [], []
    for unit in range(UNITS):
        interval = FS_HZ / (8 + 2 * unit)
        gaps = interval * (1 + 0.12 * rng.standard_normal(int(seconds * 20)))
        at = (FS_HZ + np.cumsum(np.maximum(gaps, 0.03 * FS_HZ))).astype(np.int64)
        at = at[at < samples - FS_HZ]
        shape = muap(rng)
        for t in at:
            emg[t : t + len(shape)] += shape
        times.append(at)
        templates.append(shape)
    recording = Recording(emg.astype(np.float32), FS_HZ, "synthetic")
    return Synthetic(recording, SpikeTrains(times, FS_HZ, method="truth"), np.stack(templates))


@pytest.fixture(scope="session")
def synthetic() -> Synthetic:
    return make_synthetic()


def linear_graph(thresholds: np.ndarray, gain: float = 15.0) -> bytes:
    """The linear head as ONNX, opset 17, written by hand from the formula of network.LinearHead."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    n_mu = len(thresholds)
    node = helper.make_node
    constants = {
        "a": np.array([BIN_START - 10]), "b": np.array([BIN_START + STEP + 10]),
        "c": np.array([10]), "d": np.array([10 + STEP]), "axis": np.array([1]),
        "gain": np.array(gain, np.float32), "zero": np.array(0, np.float32),
        "threshold": thresholds.astype(np.float32)[None],
    }
    nodes = [
        node("Slice", ["x", "a", "b", "axis"], ["around"]),
        node("Transpose", ["around"], ["channels_first"], perm=[0, 2, 1]),
        node("MaxPool", ["channels_first"], ["summit"], kernel_shape=[21], strides=[1]),
        node("Slice", ["around", "c", "d", "axis"], ["at_last"]),
        node("Transpose", ["at_last"], ["at"], perm=[0, 2, 1]),
        node("GreaterOrEqual", ["at", "summit"], ["is_peak"]),
        node("Where", ["is_peak", "at", "zero"], ["peaks"]),
        node("ReduceMax", ["peaks"], ["height"], axes=[2], keepdims=0),
        node("Sub", ["height", "threshold"], ["above"]),
        node("Mul", ["above", "gain"], ["logit"]),
        node("Sigmoid", ["logit"], ["presence"]),
        node("Identity", ["peaks"], ["position"]),
    ]
    graph = helper.make_graph(
        nodes, "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, WINDOW, n_mu])],
        [helper.make_tensor_value_info("presence", TensorProto.FLOAT, [1, n_mu]),
         helper.make_tensor_value_info("position", TensorProto.FLOAT, [1, n_mu, STEP])],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def linear_reference(sources: np.ndarray, thresholds: np.ndarray, gain: float = 15.0) -> np.ndarray:
    """Presence of one window (120, n_mu) by plain numpy loops."""
    out = np.empty(len(thresholds))
    for unit in range(len(thresholds)):
        s = sources[:, unit]
        tops = [s[i] for i in range(BIN_START, BIN_START + STEP)
                if s[i] >= s[i - 10 : i + 11].max()]
        out[unit] = max([*tops, 0.0]) - thresholds[unit]
    return 1 / (1 + np.exp(-gain * out))


def matched_bank(made: Synthetic) -> np.ndarray:
    """Filters (delays * channels, units) that peak near each discharge of the synthetic record."""
    rows = []
    for shape in made.templates:
        start = int(np.argmax(np.square(shape).sum(axis=1))) - DELAYS // 2
        part = shape[max(start, 0) : max(start, 0) + DELAYS][::-1]  # row d: d samples old
        rows.append(part.ravel() / np.square(part).sum())
    return np.stack(rows, axis=1).astype(np.float32)


def make_bundle(
    path: Path, made: Synthetic, more: dict[str, bytes] | None = None, **changes: object
) -> Path:
    """A bundle of matched filters with the linear head; `changes` go into its manifest."""
    bank = matched_bank(made)
    scale = np.ones(UNITS, np.float32)
    thresholds = np.full(UNITS, 0.7, np.float32)
    history = DELAYS - 1
    excerpt = made.recording.emg[4096 : 4096 + history + WINDOW + STEP * (GOLDEN_STEPS - 1)]
    lsb_uv = float(np.abs(excerpt).max()) / 32767
    counts = np.round(excerpt / lsb_uv).astype(np.int16)
    emg = counts.astype(np.float64) * lsb_uv
    padded = np.concatenate([np.zeros((history, CHANNELS)), emg])
    sources = np.stack([
        sum(padded[t + history - d] @ bank[d * CHANNELS : (d + 1) * CHANNELS].astype(float)
            for d in range(DELAYS)) for t in range(len(emg))
    ])
    first = history + WINDOW
    golden = np.stack([linear_reference(sources[e - WINDOW : e], thresholds)
                       for e in first + STEP * np.arange(GOLDEN_STEPS)]).astype(np.float32)
    manifest = replace(Manifest(
        name=path.stem, decoder="linear", fs_hz=FS_HZ, channels=CHANNELS,
        channel_map=list(range(CHANNELS)), n_mu=UNITS, inputs=UNITS, look_ahead=20,
        history_samples=history, input_scale=1.0, label_lag=[0] * UNITS,
        thresholds=[0.5] * UNITS, refractory=30, networks={"fp32": "network.fp32.onnx"},
        golden_lsb_uv=lsb_uv, tolerance={"fp32": 1e-4}), **changes)
    linear = {"threshold": thresholds, "gain": np.full(UNITS, 15.0), "sharpness": np.ones(UNITS)}
    write_bundle(path, manifest, {
        WEIGHTS: weights_bin(linear, UNITS, BIN_START, np.zeros((1, WINDOW, UNITS), np.float32)),
        "network.fp32.onnx": linear_graph(thresholds), "front/kernels.npy": save_array(bank),
        "front/scale.npy": save_array(scale), "front/height.npy": save_array(np.ones(UNITS)),
        "golden/emg.npy": save_array(counts),
        "golden/presence.fp32.npy": save_array(golden), **(more or {}),
    })
    return path


def moments_of(made: Synthetic) -> Moments:
    """Moments of the synthetic record, labels where the matched filters peak."""
    starts = [int(np.argmax(np.square(s).sum(axis=1))) - DELAYS // 2 for s in made.templates]
    labels = [t + max(s, 0) + DELAYS - 1
              for t, s in zip(made.truth.times, starts, strict=True)]
    return measure([made.recording.emg], [labels], DELAYS)


def make_kept_bundle(path: Path, made: Synthetic) -> Path:
    """A bundle that carries the moments of its record, so that it can be adapted and kept up."""
    moments = moments_of(made)
    return make_bundle(path, made, {
        "moments/lagged.npy": save_array(moments.lagged.astype(np.float32)),
        "moments/means.npy": save_array(moments.means.astype(np.float32)),
    }, loading=1e-3)


@pytest.fixture(scope="session")
def bundle_path(synthetic: Synthetic, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "synthetic.mub", synthetic)


@pytest.fixture(scope="session")
def kept_bundle_path(synthetic: Synthetic, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_kept_bundle(tmp_path_factory.mktemp("kept") / "kept.mub", synthetic)


@pytest.fixture(scope="session")
def recording_path(synthetic: Synthetic, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from spikewire.io.npz import write_recording

    path = tmp_path_factory.mktemp("recording") / "synthetic.npz"
    write_recording(path, synthetic.recording)
    return path


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """One headless Chromium, in which every page has a profile of its own."""
    from monitor_world import Chromium

    made = Chromium()
    yield made
    made.close()


@pytest.fixture(scope="session")
def trained(synthetic: Synthetic, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A small model trained on the synthetic record, and its folder."""
    from test_train import TINY, fitted

    from spikewire.model import save

    folder = tmp_path_factory.mktemp("model")
    model = fitted(synthetic, TINY, folder)
    save(folder, model)
    return model, folder


Contract = Callable[..., tuple[Recording, SpikeTrains]]


@pytest.fixture(scope="session")
def contract(tmp_path_factory: pytest.TempPathFactory) -> Contract:
    """Contractions of a small simulated muscle, by number, velocity and shift of the grid."""
    pytest.importorskip("scipy")
    from spikewire.simulate.discharge import Contraction
    from spikewire.simulate.emg import Scene, simulate
    from spikewire.simulate.muap import Anatomy, Grid

    kept = tmp_path_factory.mktemp("muscle")

    @cache
    def made(first: int, velocity: float = 1.0, **moved: float) -> tuple[Recording, SpikeTrains]:
        anatomy = Anatomy(3, n_mu=24, velocity_scale=velocity, grid=Grid(11, 3, **moved))
        return simulate(Scene(anatomy, Contraction(60.0, 12.0, 0.0, 0.0), first=first), kept)

    return made


@pytest.fixture(scope="session")
def muscle(contract: Contract) -> tuple[Moments, Places, np.ndarray]:
    """Moments of that muscle, and the numbers of its units that are told apart."""
    recording, truth = contract(0)
    times = [t + 15 for t in truth.times if len(t) > 60]
    kernels = measure([recording.emg], [times], 24).solve(1e-3)
    long = np.flatnonzero([len(t) > 60 for t in truth.times])
    clear = np.flatnonzero(judge(maxima(filters.apply(recording.emg, kernels))).sil > 0.9)
    moments = measure([recording.emg], [[times[k] for k in clear]], 24)
    return moments, Places(recording.grid_row, recording.grid_col, 8.0), long[clear]
