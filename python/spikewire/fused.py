"""The network as a graph of about twenty nodes at any number of units: what TensorRT runs fastest.

C3 of all units is one convolution, C4 a grouped one, F1 and F2 are batched products. Convolutions
are two-dimensional with height 1, for which TensorRT has more kernels. On a GPU a step is bound by
the number of launches and by the bytes of F1; on ONNX Runtime's CPU kernels the form with a branch
for each unit is faster.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from spikewire.signals import POOLED, STEP, WINDOW, Floats

OPSET = 17
IR_VERSION = 8
PEAK_REACH = 10  # samples on each side that a local maximum must exceed
Arrays = dict[str, Floats]


class Graph:
    """Nodes and constants in the order in which they are written."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.part = ""  # in front of nodes' names: what stays float32 in half precision

    def constant(self, value: Any) -> str:
        """Add a constant; return its name."""
        name = f"w{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, kind: str, *inputs: str, to: str = "", **attributes: Any) -> str:
        """Add a node; return its output's name."""
        name = to or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name],
                                           f"{self.part}/{kind}_{len(self.nodes)}", **attributes))
        return name

    def whole(self, *numbers: int) -> str:
        """Constant of int64."""
        return self.constant(np.array(numbers, np.int64))

    def reshape(self, x: str, *shape: int, to: str = "") -> str:
        """Another shape of the same numbers."""
        return self.node("Reshape", x, self.whole(*shape), to=to)

    def slice(self, x: str, start: int, stop: int, axis: int) -> str:
        """Part of a tensor."""
        return self.node("Slice", x, self.whole(start), self.whole(stop), self.whole(axis))

    def convolution(self, x: str, weight: Floats, bias: Floats | None, **attributes: Any) -> str:
        """A convolution of height 1: weight (outputs, inputs of a group, width)."""
        names = [self.constant(weight[:, :, None])]
        if bias is not None:
            names.append(self.constant(bias))
        return self.node("Conv", x, *names, kernel_shape=[1, weight.shape[2]], **attributes)

    def pool(self, x: str) -> str:
        """Maximum of two neighbouring columns."""
        return self.node("MaxPool", x, kernel_shape=[1, 2], strides=[1, 2])


def as_filters(matrix: Floats, width: int) -> Floats:
    """Rows (width * inputs) x outputs -> (outputs, inputs, width)."""
    return matrix.reshape(width, -1, matrix.shape[-1]).transpose(2, 1, 0)


def stacked(matrices: Floats, width: int) -> Floats:
    """The same of every unit, one unit's outputs after another's."""
    return np.concatenate([as_filters(m, width) for m in matrices])


def heads(g: Graph, a: Arrays, x: str) -> str:
    """F2's outputs of all units (n_mu, 1, outputs) from the inputs (1, inputs, 1, 120)."""
    units, _, c4 = a["c4"].shape
    h = g.node("Relu", g.convolution(x, as_filters(a["c1"], 3), a["c1_bias"]))
    h = g.node("Relu", g.convolution(h, as_filters(a["c2"], 3), a["c2_bias"]))
    h = g.convolution(g.pool(h), stacked(a["c3"], 3), a["c3_bias"].ravel())
    if "own" in a:  # the unit's own filter output, two samples for each pooled column
        inner = g.slice(x, 2, WINDOW - 2, 3)
        h = g.node("Add", h, g.convolution(inner, stacked(a["own"], 6), None, group=units,
                                           strides=[1, 2]))
    h = g.convolution(g.node("Relu", h), stacked(a["c4"], 3), a["c4_bias"].ravel(), group=units)
    h = g.pool(g.node("Relu", h))
    # Channels come before time here; F1's rows are turned instead of the data.
    h = g.reshape(h, units, 1, c4 * POOLED)
    f1 = a["f1"].reshape(units, POOLED, c4, -1).transpose(0, 2, 1, 3).reshape(a["f1"].shape)
    h = g.node("Add", g.node("MatMul", h, g.constant(f1)), g.constant(a["f1_bias"][:, None]))
    h = g.node("MatMul", g.node("Relu", h), g.constant(a["f2"]))
    return g.node("Add", h, g.constant(a["f2_bias"][:, None]))


def peaks(g: Graph, x: str, bin_start: int) -> str:
    """Local maxima of every filter output inside the bin, else zero: (1, n_mu, 1, 20)."""
    around = g.slice(x, bin_start - PEAK_REACH, bin_start + STEP + PEAK_REACH, 3)
    summit = g.node("MaxPool", around, kernel_shape=[1, 2 * PEAK_REACH + 1])
    at = g.slice(around, PEAK_REACH, PEAK_REACH + STEP, 3)
    return g.node("Where", g.node("GreaterOrEqual", at, summit), at, g.constant(np.float32(0)))


def fused(arrays: Arrays, inputs: int, bin_start: int) -> onnx.ModelProto:
    """Graph from x (1, 120, inputs) to presence (1, n_mu), and position (1, n_mu, 20) if any.

    Parameters
    ----------
    arrays : of `weights.arrays_of`
    bin_start : first sample of the decided bin in the window
    """
    g, a = Graph(), arrays
    network, linear = "c1" in a, "threshold" in a
    units = len(a["f2"] if network else a["threshold"])
    x = g.node("Transpose", "x", perm=[0, 2, 1])
    x = g.reshape(x, 1, inputs, 1, WINDOW)
    presence: str | None = None
    position: str | None = None
    if network:
        out = g.reshape(heads(g, a, x), 1, units, -1)
        outputs = a["f2"].shape[-1]
        presence = g.slice(out, 0, 1, 2) if outputs > 1 else out
        position = g.slice(out, 1, outputs, 2) if outputs > 1 else None
    if linear:
        g.part = "/linear"
        bins = g.reshape(peaks(g, x, bin_start), 1, units, STEP)
        height = g.node("ReduceMax", bins, axes=[2], keepdims=1)
        above = g.node("Sub", height, g.constant(a["threshold"][None, :, None]))
        logit = g.node("Mul", above, g.constant(a["gain"][None, :, None]))
        where = g.node("Mul", bins, g.constant(a["sharpness"][None, :, None]))
        presence = g.node("Add", presence, logit) if presence else logit
        position = g.node("Add", position, where) if position else where
    assert presence is not None
    g.reshape(g.node("Sigmoid", presence), 1, units, to="presence")
    wanted = [helper.make_tensor_value_info("presence", TensorProto.FLOAT, [1, units])]
    if position is not None:
        g.node("Identity", position, to="position")
        wanted.append(helper.make_tensor_value_info("position", TensorProto.FLOAT,
                                                    [1, units, STEP]))
    made = helper.make_graph(
        g.nodes, "spikewire",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, WINDOW, inputs])], wanted,
        g.constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)],
                              ir_version=IR_VERSION, producer_name="spikewire")
    onnx.checker.check_model(model)
    return model

