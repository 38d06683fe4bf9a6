"""int8 graphs: the numbers by hand, the linear head untouched, and both engines alike."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

from conftest import linear_graph
from onnx import TensorProto, helper, numpy_helper
from test_channels import KINDS, random_model

from spikewire import export
from spikewire.channels import matrices, variables_of
from spikewire.golden import run_onnx
from spikewire.quantize import quantize, rounded
from spikewire.recipe import Recipe
from spikewire.signals import InputError

RNG = np.random.default_rng(0)


def trained(kind: str) -> tuple[object, Recipe]:
    """A random network whose logits lie on the sigmoid's slope."""
    model = random_model(kind)
    for variable in variables_of(model.net, model.recipe)["f2"]:
        variable.assign(variable.numpy() * 0.3)
    return model.net, model.recipe


@cache
def graph_of(kind: str) -> tuple[onnx.ModelProto, np.ndarray]:
    """A random network's graph, and windows."""
    net, _ = trained(kind)
    return export.to_onnx(net), RNG.normal(0, 1, (30, *net.input_shape[1:])).astype(np.float32)


def constants(graph: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {c.name: numpy_helper.to_array(c) for c in graph.graph.initializer}


def test_an_int8_number_times_its_scale_is_nearest() -> None:
    weight = RNG.normal(0, [[[1.0, 100.0]], [[3.0, 0.0]]], (2, 50, 2)).astype(np.float32)
    numbers, scale = rounded(weight, 2)
    assert (numbers.dtype, scale.shape) == (np.int8, (2, 1, 2))
    assert np.abs(numbers[..., 0]).max(axis=1).tolist() == [127, 127]
    assert not numbers[1, :, 1].any()  # dead channels stay dead, and divide by nothing
    assert (np.abs(numbers * scale - weight) <= scale / 2 + 1e-6).all()
    for axis, shape in ((0, (2, 1, 1, 1)), (3, (1, 1, 1, 5))):
        _, scale = rounded(RNG.normal(0, 1, (2, 3, 4, 5)).astype(np.float32), axis)
        assert scale.shape == shape


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("calibrated", [False, True])
def test_weights_are_bytes_and_outputs_stay(kind: str, calibrated: bool) -> None:
    graph, windows = graph_of(kind)
    small = quantize(graph, windows if calibrated else None)
    kernels = sum(w.size for k, w in matrices(*trained(kind)).items() if "bias" not in k)
    stored = constants(small).values()
    assert sum(w.size for w in stored if w.dtype == np.int8 and w.ndim) == kernels
    assert sum(w.size for w in stored if w.dtype == np.float32) < 0.1 * kernels
    wanted = run_onnx(graph.SerializeToString(), windows)
    got = run_onnx(small.SerializeToString(), windows)
    assert 0 < np.abs(got - wanted).max() < 0.05
    assert np.ptp(wanted, axis=0).max() > 0.3


def test_weight_only_is_the_float_graph_with_rounded_weights() -> None:
    """A second way: round the weights in Keras, and export that."""
    net, _ = trained("recommended")
    small = quantize(export.to_onnx(net))
    heads = net.get_layer("heads")
    for name in ("c1", "c2"):
        kernel = net.get_layer(name).kernel
        numbers, scale = by_output(kernel.numpy())
        kernel.assign(numbers * scale)
    for variable in (heads.c3, heads.own, heads.c4, heads.f1, heads.f2):
        numbers, scale = rounded(variable.numpy(), 2)
        variable.assign(numbers * scale)
    windows = RNG.normal(0, 0.5, (20, 120, 3)).astype(np.float32)
    np.testing.assert_allclose(run_onnx(small.SerializeToString(), windows),
                               export.keras_presence(net, windows), atol=1e-5)


def by_output(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int8 of a Conv1D kernel (3, inputs, outputs): one scale per output."""
    scale = np.abs(kernel).max(axis=(0, 1), keepdims=True) / 127
    return np.round(kernel / scale), scale


def test_the_linear_head_keeps_float32() -> None:
    """Comparison with the maximum, threshold, gain and sharpness: no int8 on the way to them."""
    graph, windows = graph_of("recommended")
    small = export.in_precision(graph, "int8", windows)
    maker = {o: n for n in small.graph.node for o in n.output}

    def above(name: str) -> set[str]:
        node = maker.get(name)
        return set() if node is None else {node.op_type}.union(*map(above, node.input))

    (compare,) = [n for n in small.graph.node if n.op_type == "GreaterOrEqual"]
    (threshold,) = [n for n in small.graph.node if n.op_type == "Sub"]
    for node in (compare, threshold):
        assert "DequantizeLinear" not in set().union(*map(above, node.input))
    assert {n.op_type for n in small.graph.node} > {"QuantizeLinear", "DequantizeLinear"}


def test_zero_points_are_zero_and_scales_per_output() -> None:
    """What TensorRT asks for: symmetric int8 only."""
    graph, windows = graph_of("mo_dcnn")
    small = quantize(graph, windows)
    values = constants(small)
    for node in small.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and len(node.input) == 3:
            assert values[node.input[2]].dtype == np.int8
            assert values[node.input[2]] == 0
        if node.op_type == "DequantizeLinear" and node.input[0] in values:
            (axis,) = [a.i for a in node.attribute]
            weight, scale = values[node.input[0]], values[node.input[1]]
            assert scale.shape == (weight.shape[axis],)


def test_calibrated_activations_reach_as_far_as_the_windows() -> None:
    """One product by hand: x up to 2 in steps of 2 / 127, the weight 1."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 120, 1])
    y = helper.make_tensor_value_info("presence", TensorProto.FLOAT, [1, 120, 1])
    model = helper.make_model(helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["presence"])], "g", [x], [y],
        [numpy_helper.from_array(np.ones((1, 1), np.float32), "w")]),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    windows = np.linspace(-2, 1, 240, dtype=np.float32).reshape(2, 120, 1)
    got = run_onnx(quantize(model, windows).SerializeToString(), windows)
    np.testing.assert_allclose(got, np.round(windows * 63.5) / 63.5, atol=1e-6)
    beyond = run_onnx(quantize(model, windows).SerializeToString(), windows * 3)
    assert beyond.min() == pytest.approx(-2 * 128 / 127)


def test_the_linear_decoder_is_refused() -> None:
    graph = onnx.load_from_string(linear_graph(np.array([0.5, 0.6])))
    with pytest.raises(InputError, match="no weights that could be quantised"):
        quantize(graph)


def test_the_same_graph_gives_the_same_bytes() -> None:
    graph, windows = graph_of("recommended")
    one, two = (export.in_precision(graph, "int8", windows).SerializeToString(deterministic=True)
                for _ in range(2))
    assert one == two
