"""ONNX Runtime engine. Truth: the front's convolution and the linear head as plain numpy loops.

Graphs that do not fit the manifest are written by hand with `onnx.helper`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

from conftest import BIN_START, linear_graph, linear_reference
from onnx import TensorProto, helper

from spikewire.bundle import Bundle, read_bundle
from spikewire.runtime.engine_ort import OrtEngine, open_engine
from spikewire.signals import STEP, WINDOW, InputError


@pytest.fixture(scope="module")
def bundle(bundle_path: Path) -> Bundle:
    return read_bundle(bundle_path)


def sources(bundle: Bundle, emg: np.ndarray) -> np.ndarray:
    """Filter outputs of a whole stretch in float64."""
    kernels, scale = (a.astype(float) for a in bundle.front())
    channels = emg.shape[1]
    delays = len(kernels) // channels
    padded = np.concatenate([np.zeros((delays - 1, channels)), emg])
    return sum(padded[delays - 1 - d : len(padded) - d] @ kernels[d * channels : (d + 1) * channels]
               for d in range(delays)) / scale


def test_every_window_is_that_of_the_plain_loops(bundle: Bundle, synthetic) -> None:
    emg = synthetic.recording.emg[4000 : 4000 + 60 * STEP]
    outputs = sources(bundle, emg)
    engine = open_engine(bundle, "fp32")
    fired = 0
    for k in range(60):
        engine.advance(emg[k * STEP : (k + 1) * STEP])
        if not engine.ready:
            continue
        window = outputs[(k + 1) * STEP - WINDOW : (k + 1) * STEP]
        presence, position = engine.decode()
        assert presence == pytest.approx(linear_reference(window, np.full(4, 0.7)), abs=1e-4)
        for unit in np.flatnonzero(presence > 0.5):
            part = window[BIN_START : BIN_START + STEP, unit]
            # The place is the top of the bin, unless a taller peak stands just outside of it.
            assert part[position[unit]] == pytest.approx(part.max(), rel=1e-4) or \
                part[position[unit]] > 0.7
            fired += 1
    assert fired > 10


def test_decoding_twice_or_never_changes_nothing(bundle: Bundle, synthetic) -> None:
    """A step whose decode was skipped leaves the same state."""
    emg = synthetic.recording.emg[4000 : 4000 + 20 * STEP]
    always, never = open_engine(bundle, "fp32"), open_engine(bundle, "fp32")
    for k in range(20):
        for engine in (always, never):
            engine.advance(emg[k * STEP : (k + 1) * STEP])
        always.decode()
    kept = never.decode()
    again = always.decode()
    assert np.array_equal(kept[0], again[0])
    assert np.array_equal(kept[1], again[1])
    never.advance(emg[:STEP])
    never.decode()
    assert np.array_equal(kept[0], again[0])  # what was handed out is not overwritten


def test_a_reset_forgets(bundle: Bundle, synthetic) -> None:
    emg = synthetic.recording.emg[4000 : 4000 + 20 * STEP]
    used, fresh = open_engine(bundle, "fp32"), open_engine(bundle, "fp32")
    for k in range(20):
        used.advance(-3 * emg[k * STEP : (k + 1) * STEP])
    used.reset()
    assert not used.ready
    for k in range(20):
        used.advance(emg[k * STEP : (k + 1) * STEP])
        fresh.advance(emg[k * STEP : (k + 1) * STEP])
    assert np.array_equal(used.decode()[0], fresh.decode()[0])


def test_filters_and_mask_reach_the_front(bundle: Bundle, synthetic) -> None:
    emg = synthetic.recording.emg[4000 : 4000 + 20 * STEP]
    engine = open_engine(bundle, "fp32")
    for k in range(20):
        engine.advance(emg[k * STEP : (k + 1) * STEP])
    kernels, scale = bundle.front()
    engine.set_front(kernels * 0, scale)
    silent = 1 / (1 + np.exp(15 * 0.7))
    assert engine.decode()[0] == pytest.approx(np.full(4, silent), abs=1e-6)
    engine.set_front(kernels, scale)
    engine.mask(np.zeros(16, bool))
    for k in range(10):
        engine.advance(emg[k * STEP : (k + 1) * STEP])
    assert engine.decode()[0] == pytest.approx(np.full(4, silent), abs=1e-6)


def test_it_says_what_really_runs(bundle: Bundle) -> None:
    assert open_engine(bundle, "fp32").name == "ort (CPU, fp32)"


def tiny_graph(
    shape: tuple[int, ...] = (1, WINDOW, 4), kind: int = TensorProto.FLOAT,
    names: tuple[str, str] = ("x", "presence"),
) -> bytes:
    """The mean over the window of every column, under any names, shape and type."""
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", [names[0]], [names[1]], axes=[1], keepdims=0)], "g",
        [helper.make_tensor_value_info(names[0], kind, shape)],
        [helper.make_tensor_value_info(names[1], kind, [shape[0], *shape[2:]])])
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def with_graph(bundle: Bundle, graph: bytes) -> Bundle:
    return replace(bundle, files={**bundle.files, "network.fp32.onnx": graph})


def test_without_places_the_spike_lies_mid_bin(bundle: Bundle) -> None:
    engine = OrtEngine(with_graph(bundle, tiny_graph()), "fp32")
    assert engine.decode()[1].tolist() == [STEP // 2] * 4


@pytest.mark.parametrize(("graph", "words"), [
    (b"", "cannot load"),
    (b"\x08\x08noise", "cannot load"),
    (tiny_graph((1, 100, 4)), r"x is tensor\(float\) \[1, 100, 4\], must be .*\(1, 120, 4\)"),
    (tiny_graph((1, WINDOW, 5)), "must be"),
    (tiny_graph(kind=TensorProto.FLOAT16), "float16"),
    (tiny_graph(names=("emg", "presence")), "has no x"),
    (tiny_graph(names=("x", "out")), "has no presence"),
    (linear_graph(np.full(3, 0.7)), "must be"),
])
def test_a_graph_that_does_not_fit_is_one_line(bundle: Bundle, graph: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        OrtEngine(with_graph(bundle, graph), "fp32")
    assert "\n" not in str(caught.value)
