"""Export: ONNX Runtime against Keras, and the bundle against the runtime's own engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow")
ort = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

from test_train import PAPER, fitted

from spikewire import export
from spikewire.bundle import GOLDEN_STEPS, read_bundle
from spikewire.model import Model
from spikewire.runtime.engine import check_golden, open_engine
from spikewire.signals import STEP, WINDOW, InputError


@pytest.fixture(scope="module")
def model(trained) -> Model:
    return trained[0]


@pytest.fixture(scope="module")
def paper(synthetic, tmp_path_factory) -> Model:
    return fitted(synthetic, replace(PAPER, steps=2, check_every=2),
                  tmp_path_factory.mktemp("paper"))


@pytest.fixture(scope="module")
def network(model, tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    """A bundle with the network in two precisions, and its facts."""
    path = tmp_path_factory.mktemp("network") / "net.mub"
    return path, export.export(model, path, ["fp16"], "network")


def test_bundle_of_the_network(network) -> None:
    path, facts = network
    assert facts["precisions"]["fp32"] <= 1e-5
    assert facts["precisions"]["fp16"] <= export.TOLERANCE["fp16"]
    bundle = read_bundle(path)
    m = bundle.manifest
    assert (m.decoder, m.n_mu, m.look_ahead, m.history_samples) == ("network", 4, 20, 11)
    assert bundle.array("golden/emg.npy").shape == (11 + 120 + 20 * 199, 16)
    for precision in ("fp32", "fp16"):
        assert bundle.array(f"golden/presence.{precision}.npy").shape == (GOLDEN_STEPS, 4)
        assert check_golden(open_engine(bundle, "ort", precision), bundle, precision) \
            <= m.tolerance[precision]


def test_graph_is_opset_17_with_static_shapes(network) -> None:
    graph = onnx.load_from_string(read_bundle(network[0]).files["network.fp32.onnx"])
    assert [o.version for o in graph.opset_import if o.domain in ("", "ai.onnx")] == [17]
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
              for v in [*graph.graph.input, *graph.graph.output]}
    assert shapes == {"x": [1, 120, 4], "presence": [1, 4], "position": [1, 4, 20]}


def test_half_precision_spares_the_comparison_with_the_maximum(network) -> None:
    """In half precision neighbours of a peak round to its height and would pass for it."""
    graph = onnx.load_from_string(read_bundle(network[0]).files["network.fp16.onnx"])
    typed = {v.name: v.type.tensor_type.elem_type
             for v in onnx.shape_inference.infer_shapes(graph).graph.value_info}
    (compare,) = [n for n in graph.graph.node if n.op_type == "GreaterOrEqual"]
    assert all(typed.get(i, 1) == onnx.TensorProto.FLOAT for i in compare.input)
    assert any(t == onnx.TensorProto.FLOAT16 for t in typed.values())


def test_the_linear_filter_is_a_decoder_of_its_own(model, tmp_path) -> None:
    export.export(model, tmp_path / "lin.mub", [], "linear")
    bundle = read_bundle(tmp_path / "lin.mub")
    assert bundle.manifest.decoder == "linear"
    open_engine(bundle, "ort")


def test_auto_takes_what_validation_chose(model, tmp_path) -> None:
    for name in ("network", "linear"):
        chosen = replace(model, facts=model.facts | {"decoder": name})
        assert export.export(chosen, tmp_path / f"{name}.mub")["decoder"] == name


def test_the_papers_network_needs_no_front(paper, tmp_path) -> None:
    facts = export.export(paper, tmp_path / "paper.mub", [], "network")
    assert facts["precisions"]["fp32"] <= 1e-5
    bundle = read_bundle(tmp_path / "paper.mub")
    m = bundle.manifest
    assert (m.history_samples, m.inputs, m.look_ahead) == (0, 16, 60)
    assert bundle.front() is None
    open_engine(bundle, "ort")


@pytest.mark.parametrize("kind", ["network", "linear", "paper"])
def test_the_standalone_graph_takes_microvolts(model, paper, synthetic, tmp_path, kind) -> None:
    """The whole chain as one graph says what the engine says, sample block by sample block."""
    chosen = paper if kind == "paper" else model
    decoder = "linear" if kind == "linear" else "network"
    export.export(chosen, tmp_path / "x.mub", [], decoder, alone=tmp_path / "x.onnx")
    bundle = read_bundle(tmp_path / "x.mub")
    engine, m = open_engine(bundle, "ort"), bundle.manifest
    graph = ort.InferenceSession((tmp_path / "x.onnx").read_bytes())
    long = m.history_samples + WINDOW
    assert graph.get_inputs()[0].shape == [1, long, m.channels]
    emg = synthetic.recording.emg[:2000]
    for end in range(STEP, 1000, STEP):
        engine.advance(emg[end - STEP : end])
        if not engine.ready:
            continue
        window = emg[end - long : end][None]
        presence, position = engine.decode()
        outputs = dict(zip([o.name for o in graph.get_outputs()],
                           graph.run(None, {"emg": window}), strict=True))
        assert outputs["presence"][0] == pytest.approx(presence, abs=1e-5)
        if "position" in outputs:
            assert outputs["position"][0].argmax(axis=1).tolist() == position.tolist()


def test_a_graph_that_differs_is_not_written(model, tmp_path, monkeypatch) -> None:
    real = export.run_onnx
    monkeypatch.setattr(export, "run_onnx", lambda g, w: real(g, w) + np.float32(2e-5))
    with pytest.raises(InputError, match="differs from Keras"):
        export.export(model, tmp_path / "bad.mub")
    assert not (tmp_path / "bad.mub").exists()


def test_the_same_model_gives_the_same_bytes(model, network, tmp_path) -> None:
    again = tmp_path / network[0].name
    export.export(model, again, ["fp16"], "network")
    assert again.read_bytes() == network[0].read_bytes()
