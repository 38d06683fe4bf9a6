"""Keras -> ONNX -> bundle, with golden windows that prove every engine on every machine."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import tensorflow as tf
from numpy.typing import NDArray

from spikewire import filters, network
from spikewire.bundle import (
    GOLDEN_STEPS,
    Manifest,
    arm_id,
    read_bundle,
    save_array,
    write_bundle,
)
from spikewire.decide import REFRACTORY_SAMPLES
from spikewire.model import Model, one_window
from spikewire.signals import STEP, WINDOW, Floats, InputError, Labels, Recording
from spikewire.train import LINEAR_THRESHOLD

OPSET = 17  # the newest that tf2onnx writes well and every TensorRT of JetPack 6 reads
PRECISIONS = ("fp32", "fp16")
# Largest difference of a presence from Keras. fp32 leaves room for other orders of summation.
TOLERANCE = {"fp32": 1e-5, "fp16": 2e-2}
BASELINE_LOOK_AHEAD = 20


def to_onnx(net: keras.Model) -> onnx.ModelProto:
    """Graph with input x (1, 120, inputs), outputs presence (1, n_mu), position (1, n_mu, 20).

    Presence is a probability; position is missing for networks without it. Static batch of one.
    """
    import tf2onnx

    inputs = net.input_shape[2]

    def outputs(x: tf.Tensor) -> dict[str, tf.Tensor]:
        presence, position = network.as_pair(net(x, training=False))
        made = {"presence": tf.sigmoid(presence[:, 0])}
        if position is not None:
            made["position"] = position[:, 0]
        return made

    signature = [tf.TensorSpec((1, WINDOW, inputs), tf.float32, name="x")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tf2onnx uses numpy names that numpy deprecates
        graph, _ = tf2onnx.convert.from_function(
            tf.function(outputs), input_signature=signature, opset=OPSET)
    name_outputs(graph.graph, net)
    onnx.checker.check_model(graph)
    return graph


def name_outputs(graph: onnx.GraphProto, net: keras.Model) -> None:
    """Call the outputs by their role, told apart by their rank, and fix the batch to one."""
    for node in graph.output:
        rank = len(node.type.tensor_type.shape.dim)
        wanted = "presence" if rank == 2 else "position"
        if node.name == wanted:
            continue
        graph.node.append(onnx.helper.make_node("Identity", [node.name], [wanted]))
        node.name = wanted


def in_order(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Nodes depth first from the outputs: an order that depends on the graph's structure only."""
    maker = {name: node for node in graph.node for name in node.output}
    ordered: dict[str, onnx.NodeProto] = {}
    wanted = sorted((output.name for output in graph.output), reverse=True)
    while wanted:
        node = maker[wanted[-1]]
        missing = [n for n in node.input if n in maker and maker[n].output[0] not in ordered]
        if missing:
            wanted += missing[::-1]
        else:
            ordered.setdefault(node.output[0], node)
            wanted.pop()
    return list(ordered.values())


def canonical(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with an order and names of its own.

    tf2onnx numbers nodes by process-wide counters and orders them by hash, so one network would
    give other bytes each time.
    """
    graph, nodes = model.graph, in_order(model.graph)
    constant = {c.name: c for c in graph.initializer}
    used = dict.fromkeys(n for node in nodes for n in node.input if n in constant)
    names = {v.name: v.name for v in [*graph.input, *graph.output]} | {"": ""}
    names |= {name: f"w{k}" for k, name in enumerate(used)}
    for name in (n for node in nodes for n in node.output):
        names.setdefault(name, f"t{len(names)}")
    for k, node in enumerate(nodes):
        node.name, node.doc_string = f"{node.op_type}_{k}", ""
        node.input[:] = [names[n] for n in node.input]
        node.output[:] = [names[n] for n in node.output]
    weights = [constant[name] for name in used]
    for name, weight in zip(used, weights, strict=True):
        weight.name = names[name]
    outputs = sorted(graph.output, key=lambda o: str(o.name))
    made = onnx.helper.make_graph(nodes, "spikewire", graph.input, outputs, weights)
    return onnx.helper.make_model(made, opset_imports=model.opset_import,
                                  ir_version=model.ir_version, producer_name="spikewire")


def to_fp16(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph computing in half precision, its input and outputs still float32.

    The linear head keeps float32: it compares samples with their maximum, and samples that half
    precision rounds to the same value would all pass for the peak.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of every weight that it rounds to zero
        linear = [n.name for n in graph.graph.node if "/linear" in n.name]
        return convert_float_to_float16(graph, keep_io_types=True, node_block_list=linear)


def run_onnx(graph: onnx.ModelProto, windows: Floats) -> Floats:
    """Presence of every window by ONNX Runtime: float32 (windows, n_mu)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options,
                                           ["CPUExecutionProvider"])
    out = [session.run(["presence"], {"x": w[None]})[0][0] for w in windows]
    return np.stack(out)


def keras_presence(net: keras.Model, windows: Floats) -> Floats:
    """Presence of every window by Keras: float32 (windows, n_mu)."""
    presence, _ = network.as_pair(net(tf.constant(windows), training=False))
    return tf.sigmoid(presence[:, 0]).numpy()


def golden_counts(excerpt: Recording, history: int) -> tuple[NDArray[np.int16], float]:
    """The last history + 120 + 20 x 199 samples as 16-bit counts, and microvolts per count."""
    emg = excerpt.emg[-(history + WINDOW + STEP * (GOLDEN_STEPS - 1)) :]
    lsb_uv = float(np.abs(emg).max()) / 32767
    return np.round(emg / np.float32(lsb_uv)).astype(np.int16), lsb_uv


def golden_windows(counts: NDArray[np.int16], lsb_uv: float, manifest: Manifest,
                   bank: Floats | None) -> Floats:
    """Network inputs of the 200 golden windows: float32 (200, 120, inputs)."""
    emg = counts.astype(np.float32) * np.float32(lsb_uv) * np.float32(manifest.input_scale)
    x = emg if bank is None else filters.apply(emg, bank)
    first = manifest.history_samples
    return np.stack([x[first + STEP * k : first + STEP * k + WINDOW] for k in range(GOLDEN_STEPS)])


def describe(model: Model, decoder: str, name: str) -> tuple[keras.Model, Manifest]:
    """The Keras network that the bundle will carry, and its manifest without files."""
    front, facts = model.front, model.facts
    channels, n_mu = facts["channels"], facts["n_mu"]
    linear = decoder == "linear"
    raw = not linear and model.recipe.kind != "recommended"
    look_ahead = BASELINE_LOOK_AHEAD if linear else model.recipe.look_ahead
    net = network.linear(front.thresholds.tolist(), Labels(look_ahead).bin_start) if linear \
        else one_window(model)
    threshold = LINEAR_THRESHOLD if linear else model.recipe.threshold
    return net, Manifest(
        name=name, decoder=decoder, fs_hz=facts["fs_hz"], channels=channels,
        channel_map=list(range(channels)), n_mu=n_mu, inputs=channels if raw else n_mu,
        look_ahead=look_ahead, history_samples=0 if raw else model.recipe.delays - 1,
        input_scale=facts["input_scale"] if raw else 1.0, label_lag=[0] * n_mu,
        thresholds=[threshold] * n_mu, refractory=REFRACTORY_SAMPLES, networks={},
        golden_lsb_uv=0.0, tolerance={},
        training={k: v for k, v in facts.items() if k not in ("history", "hashes")},
    )


def export(
    model: Model, path: Path, precisions: Sequence[str] = ("fp32",), decoder: str = "auto"
) -> dict[str, Any]:
    """Write a bundle; return its facts, the measured differences among them.

    Parameters
    ----------
    model : Model
    path : Path, ends in .mub
    precisions : of "fp32", "fp16"; fp32 is always in
    decoder : "auto" (the better on the validation part), "network" or "linear"

    Raises
    ------
    InputError
        ONNX Runtime differs from Keras beyond the tolerance.
    """
    decoder = model.facts["decoder"] if decoder == "auto" else decoder
    net, manifest = describe(model, decoder, path.stem)
    counts, lsb_uv = golden_counts(model.golden, manifest.history_samples)
    bank = model.front.kernels / model.front.scale if manifest.history_samples else None
    windows = golden_windows(counts, lsb_uv, manifest, bank)
    wanted = keras_presence(net, windows)
    files = {"golden/emg.npy": save_array(counts)}
    if bank is not None:
        files["front/kernels.npy"] = save_array(model.front.kernels)
        files["front/scale.npy"] = save_array(model.front.scale)
    graph = to_onnx(net)
    differences = {}
    for precision in dict.fromkeys(("fp32", *precisions)):
        graph_p = onnx.ModelProto()
        graph_p.CopyFrom(graph)
        graph_p = graph_p if precision == "fp32" else to_fp16(graph_p)
        graph_p = canonical(graph_p)
        got = run_onnx(graph_p, windows)
        differences[precision] = float(np.abs(got - wanted).max())
        if not differences[precision] <= TOLERANCE[precision]:
            raise InputError(
                f"{precision}: ONNX Runtime differs from Keras by {differences[precision]:.2g}, "
                f"allowed is {TOLERANCE[precision]:g}; the bundle was not written"
            )
        files[f"network.{precision}.onnx"] = graph_p.SerializeToString(deterministic=True)
        files[f"golden/presence.{precision}.npy"] = save_array(
            wanted if precision == "fp32" else got)
    write_bundle(path, replace(
        manifest, golden_lsb_uv=lsb_uv, tolerance={p: TOLERANCE[p] for p in differences},
        networks={p: f"network.{p}.onnx" for p in differences}), files)
    return {"bundle": str(path), "decoder": decoder, "n_mu": manifest.n_mu,
            "arm_id": f"{arm_id([read_bundle(path)]):08x}", "precisions": differences,
            "bytes": path.stat().st_size}
