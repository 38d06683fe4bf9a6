"""int8 form of an exported graph: weights in bytes, activations too if a record calibrates them.

A weight is an int8 number times one scale per output channel, so the file is four times smaller.
The linear head has no such weights and stays as it is. ONNX Runtime's own `quantize_static` was
measured and not taken: it gives the batched products of the heads, whose weights are
(n_mu, inputs, outputs), one scale per input, which no integer kernel can use.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from spikewire.golden import open_session
from spikewire.signals import Floats, InputError

WEIGHTED = ("Conv", "Gemm", "MatMul")
LARGEST = 127  # symmetric: -128 is not used, since TensorRT takes zero points of 0 only
RANGE_WINDOWS = 3000  # of a calibration record, evenly taken


def weight_of(node: onnx.NodeProto, constants: dict[str, Floats]) -> Floats | None:
    """The weight of a convolution or product, if it is a constant."""
    return constants.get(node.input[1]) if node.op_type in WEIGHTED else None


def output_axis(node: onnx.NodeProto, weight: Floats) -> int:
    """Axis of the output channels."""
    turned = any(a.name == "transB" and a.i for a in node.attribute)
    return 0 if node.op_type == "Conv" or turned else weight.ndim - 1


def rounded(weight: Floats, axis: int) -> tuple[NDArray[np.int8], Floats]:
    """Nearest int8 numbers, and the scale of each output channel.

    A weight (n_mu, inputs, outputs) is n_mu matrices: every unit's outputs have scales of their
    own, (n_mu, 1, outputs).
    """
    others = (1,) if weight.ndim == 3 else tuple(k for k in range(weight.ndim) if k != axis)
    scale = np.abs(weight).max(axis=others, keepdims=True) / LARGEST
    scale = np.where(scale > 0, scale, 1).astype(np.float32)
    return np.round(weight / scale).clip(-LARGEST, LARGEST).astype(np.int8), scale


def ranges(graph: onnx.ModelProto, names: Sequence[str], windows: Floats) -> dict[str, float]:
    """Largest magnitude of some of the graph's tensors over windows (k, 120, inputs)."""
    probed = onnx.ModelProto()
    probed.CopyFrom(graph)
    inner = [n for n in dict.fromkeys(names) if n != "x"]
    probed.graph.output.extend(
        helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in inner)
    session = open_session(probed.SerializeToString())
    taken = windows[:: -(-len(windows) // RANGE_WINDOWS)]
    largest = {"x": float(np.abs(taken).max())} | dict.fromkeys(inner, 0.0)
    for window in taken if inner else ():
        values = session.run(inner, {"x": np.ascontiguousarray(window)[None]})
        for name, value in zip(inner, values, strict=True):
            largest[name] = max(largest[name], float(np.abs(value).max()))
    return largest


class Writer:
    """Nodes and constants of the int8 graph, in the order of the float graph.

    Parameters
    ----------
    largest : dict of tensor name -> magnitude, or None
        Ranges of the activations that become int8.
    """

    def __init__(self, largest: dict[str, float] | None) -> None:
        self.largest = largest
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._made: set[str] = set()

    def constant(self, name: str, value: Any) -> str:
        """Add a constant; return its name."""
        if name not in self._made:
            self._made.add(name)
            self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: int) -> str:
        """Add a node; return its output's name."""
        if output not in self._made:
            self._made.add(output)
            self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def weighted(self, node: onnx.NodeProto, weight: Floats) -> None:
        """A node whose weight is stored in int8."""
        new = onnx.NodeProto()
        new.CopyFrom(node)
        name, axis = node.input[1], output_axis(node, weight)
        numbers, scale = rounded(weight, axis)
        stored = self.constant(f"{name}_int8", numbers)
        if self.largest is not None:
            new.input[0] = self.activation(node.input[0], self.largest[node.input[0]])
        if weight.ndim != 3:
            channels = self.constant(f"{name}_scale", scale.ravel())
            new.input[1] = self.node("DequantizeLinear", [stored, channels], f"{name}_float",
                                     axis=axis)
            self.nodes.append(new)
            return
        # DequantizeLinear knows one axis only: here the product is scaled, not the weight.
        one = self.constant(f"{name}_one", np.float32(1))
        new.input[1] = self.node("DequantizeLinear", [stored, one], f"{name}_float")
        new.output[0] = f"{node.output[0]}_unscaled"
        self.nodes.append(new)
        self.node("Mul", [new.output[0], self.constant(f"{name}_scale", scale)], node.output[0])

    def activation(self, name: str, largest: float) -> str:
        """A tensor that passes through int8."""
        scale = self.constant(f"{name}_scale", np.float32((largest or 1) / LARGEST))
        zero = self.constant(f"{name}_zero", np.int8(0))
        steps = self.node("QuantizeLinear", [name, scale, zero], f"{name}_int8")
        return self.node("DequantizeLinear", [steps, scale, zero], f"{name}_float")


def quantize(graph: onnx.ModelProto, windows: Floats | None = None) -> onnx.ModelProto:
    """The same graph with int8 weights, one scale per output channel of every unit.

    Parameters
    ----------
    graph : ModelProto, of `export.to_onnx`
    windows : float32 (k, 120, inputs) or None
        Network inputs. With them the activations in front of every weight become int8 as well,
        over the range that these windows reach: what TensorRT needs for integer kernels.

    Raises
    ------
    InputError
        The graph has no weights, as that of the linear decoder.
    """
    constants = {c.name: numpy_helper.to_array(c) for c in graph.graph.initializer}
    weights = [weight_of(node, constants) for node in graph.graph.node]
    into = [n.input[0] for n, w in zip(graph.graph.node, weights, strict=True) if w is not None]
    if not into:
        raise InputError("int8: the linear decoder has no weights that could be quantised; leave "
                         "--trt int8 out, or type --decoder network")
    writer = Writer(None if windows is None else ranges(graph, into, windows))
    for node, weight in zip(graph.graph.node, weights, strict=True):
        if weight is None:
            writer.nodes.append(node)
        else:
            writer.weighted(node, weight)
    used = {name for node in writer.nodes for name in node.input}
    made = helper.make_graph(
        writer.nodes, graph.graph.name, graph.graph.input, graph.graph.output,
        [c for c in graph.graph.initializer if c.name in used] + writer.constants)
    model = helper.make_model(made, opset_imports=graph.opset_import, ir_version=graph.ir_version)
    onnx.checker.check_model(model)
    return model
