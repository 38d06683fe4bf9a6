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

from spikewire import network
from spikewire.bundle import (
    WEIGHTS,
    arm_id,
    front_files,
    fused_name,
    read_bundle,
    save_array,
    write_bundle,
)
from spikewire.decide import REFRACTORY_SAMPLES
from spikewire.durable import write_durably
from spikewire.fused import fused
from spikewire.golden import golden_counts, golden_windows, run_onnx
from spikewire.manifest import WIDEST_TOLERANCE, Manifest
from spikewire.model import Model, one_window
from spikewire.moments import places_of
from spikewire.quantize import quantize
from spikewire.rehearse import evaluate, inputs_of, windows_of
from spikewire.signals import STEP, WINDOW, Floats, InputError, Labels, Recording, SpikeTrains
from spikewire.train import LINEAR_THRESHOLD
from spikewire.weights import arrays_of, weights_bin

OPSET = 17  # the newest that tf2onnx writes well and every TensorRT of JetPack 6 reads
PRECISIONS = ("fp32", "fp16", "int8")
# Largest difference of a presence from Keras. fp32 leaves room for other orders of summation; int8
# moves a steep presence far without moving a decision: see the F1 that mu-export measures.
TOLERANCE = {"fp32": 1e-5, "fp16": 2e-2, "int8": 0.15}
# An engine adds up 1500 products per filter in an order of its own, and presences are steep.
FRONT_ROUNDING = 1e-4
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


def in_precision(
    graph: onnx.ModelProto, precision: str, record: Floats | None = None
) -> onnx.ModelProto:
    """A copy of an fp32 graph in another precision; `record` calibrates int8 activations."""
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    if precision == "fp16":
        copy = to_fp16(copy)
    elif precision == "int8":
        copy = quantize(copy, record)
    return canonical(copy)


def standalone(
    graph: onnx.ModelProto, manifest: Manifest, bank: Floats | None
) -> onnx.ModelProto:
    """The graph with its front in it, for programs of others.

    Returns
    -------
    onnx.ModelProto
        emg float32 (1, history + 120, channels), microvolt, oldest first -> the same outputs.
    """
    made, channels = onnx.ModelProto(), manifest.channels
    made.CopyFrom(graph)
    node = onnx.helper.make_node
    if bank is None:
        weights = np.full(1, manifest.input_scale, np.float32)
        nodes = [node("Mul", ["emg", "front"], ["x"])]
    else:  # a convolution reads oldest first, the bank starts with the newest sample
        delays = manifest.history_samples + 1
        weights = bank.reshape(delays, channels, -1)[::-1].transpose(2, 1, 0)
        nodes = [node("Transpose", ["emg"], ["rows"], perm=[0, 2, 1]),
                 node("Conv", ["rows", "front"], ["sources"], kernel_shape=[delays]),
                 node("Transpose", ["sources"], ["x"], perm=[0, 2, 1])]
    shape = [1, manifest.history_samples + WINDOW, channels]
    emg = onnx.helper.make_tensor_value_info("emg", onnx.TensorProto.FLOAT, shape)
    made.graph.ClearField("input")
    made.graph.input.append(emg)
    made.graph.initializer.append(
        onnx.numpy_helper.from_array(np.ascontiguousarray(weights, np.float32), "front"))
    for k, first in enumerate(nodes):
        made.graph.node.insert(k, first)
    made = canonical(made)
    onnx.checker.check_model(made)
    return made


def compared(
    graph: bytes, precision: str, windows: Floats, wanted: Floats
) -> tuple[Floats, float]:
    """Presences of a graph, and their largest difference from Keras, refused if it is large."""
    got = run_onnx(graph, windows)
    difference = float(np.abs(got - wanted).max())
    if not difference <= TOLERANCE[precision]:
        raise InputError(
            f"{precision}: ONNX Runtime differs from Keras by {difference:.2g}, allowed is "
            f"{TOLERANCE[precision]:g}; the bundle was not written; take another --trt"
        )
    return got, difference


def check_standalone(graph: bytes, emg: Floats, wanted: Floats) -> None:
    """Run a graph with a front on the golden excerpt, refused if it differs from Keras."""
    import onnxruntime as ort

    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    long = session.get_inputs()[0].shape[1]
    got = np.concatenate([session.run(["presence"], {"emg": emg[None, k : k + long]})[0]
                          for k in range(0, len(emg) - long + 1, STEP)])
    difference = float(np.abs(got - wanted).max())
    if not difference <= TOLERANCE["fp32"] + FRONT_ROUNDING:
        raise InputError(f"--standalone: ONNX Runtime differs from Keras by {difference:.2g}, "
                         f"allowed is {TOLERANCE['fp32'] + FRONT_ROUNDING:g}; nothing was written")


def keras_presence(net: keras.Model, windows: Floats) -> Floats:
    """Presence of every window by Keras: float32 (windows, n_mu)."""
    presence, _ = network.as_pair(net(tf.constant(windows), training=False))
    return tf.sigmoid(presence[:, 0]).numpy()


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
        thresholds=[threshold] * n_mu, loading=0.0 if raw else front.loading,
        refractory=REFRACTORY_SAMPLES, networks={},
        golden_lsb_uv=0.0, tolerance={},
        training={k: v for k, v in facts.items() if k not in ("history", "hashes")},
    )


def export(
    model: Model, path: Path, precisions: Sequence[str] = ("fp32",), decoder: str = "auto",
    calibration: Recording | None = None, trains: SpikeTrains | None = None,
    alone: Path | None = None,
) -> dict[str, Any]:
    """Write a bundle; return its facts, the measured differences among them.

    Parameters
    ----------
    model : Model
    path : Path, ends in .mub
    precisions : of "fp32", "fp16", "int8"; fp32 is always in
    decoder : "auto" (the better on the validation part), "network" or "linear"
    calibration : Recording or None, whose range int8 activations get (None: only weights are int8)
    trains : SpikeTrains or None, of the calibration record: every precision is scored against it
    alone : Path or None, where the fp32 graph goes with its front in it

    Raises
    ------
    InputError
        ONNX Runtime differs from Keras beyond the tolerance, or the calibration does not fit.
    """
    decoder = model.facts["decoder"] if decoder == "auto" else decoder
    net, manifest = describe(model, decoder, path.stem)
    counts, lsb_uv = golden_counts(model.golden, manifest.history_samples)
    bank = model.front.kernels / model.front.scale if manifest.history_samples else None
    windows = golden_windows(counts, lsb_uv, manifest, bank)
    wanted = keras_presence(net, windows)
    files = {"golden/emg.npy": save_array(counts)}
    if bank is not None:
        front = model.front
        files |= front_files(front.kernels, front.scale, front.height, front.moments,
                             places_of(model.golden))
    record = None if calibration is None else windows_of(inputs_of(calibration, manifest, bank))
    networks = {p: f"network.{p}.onnx" for p in dict.fromkeys(("fp32", *precisions))}
    arrays, bin_start = arrays_of(net), Labels(manifest.look_ahead).bin_start
    files[WEIGHTS] = weights_bin(arrays, manifest.inputs, bin_start, windows)
    graph, differences = to_onnx(net), {}
    launched = fused(arrays, manifest.inputs, bin_start)
    for precision, name in networks.items():
        content = in_precision(graph, precision, record).SerializeToString(deterministic=True)
        got, differences[precision] = compared(content, precision, windows, wanted)
        gpu = in_precision(launched, precision, record).SerializeToString(deterministic=True)
        compared(gpu, precision, windows, wanted)
        golden = save_array(wanted if precision == "fp32" else got)
        files |= {name: content, fused_name(precision): gpu,
                  f"golden/presence.{precision}.npy": golden}
    scores = {} if record is None or trains is None else {
        p: evaluate(files[name], record, manifest, trains)["f1"] for p, name in networks.items()}
    if alone:
        whole = standalone(graph, manifest, bank).SerializeToString(deterministic=True)
        emg = counts.astype(np.float32) * np.float32(lsb_uv)
        check_standalone(whole, emg, wanted)
        write_durably(alone, lambda file: file.write(whole))
    write_bundle(path, replace(
        manifest, golden_lsb_uv=lsb_uv, networks=networks,
        tolerance={p: min(TOLERANCE[p] + FRONT_ROUNDING, WIDEST_TOLERANCE) for p in networks}),
        files)
    return {"bundle": str(path), "decoder": decoder, "n_mu": manifest.n_mu,
            "arm_id": f"{arm_id([read_bundle(path)]):08x}", "precisions": differences,
            "network_bytes": {p: len(files[name]) for p, name in networks.items()},
            "f1": scores, "bytes": path.stat().st_size}
