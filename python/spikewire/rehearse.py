"""Run an exported graph on the workstation: its outputs, the F1 of its decisions, its time."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikewire.bundle import Manifest
from spikewire.decide import Decide, decide_all
from spikewire.score import score, table
from spikewire.signals import STEP, WINDOW, Floats, Labels, SpikeTrains

TIMED, WARM_UP = 300, 30  # windows


def open_session(graph: Any) -> Any:
    """A one-thread ONNX Runtime session of a graph (ModelProto), set up as the engine's is."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # int8 weights become float32 once, at load, and sums do not depend on the CPU's int8 units.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return onnxruntime.InferenceSession(graph.SerializeToString(), options,
                                        ["CPUExecutionProvider"])


def run_onnx(graph: Any, windows: Floats) -> Floats:
    """Presence of every window by ONNX Runtime: float32 (windows, n_mu)."""
    session = open_session(graph)
    return np.stack([session.run(["presence"], {"x": np.ascontiguousarray(w)[None]})[0][0]
                     for w in windows])


def windows_of(x: Floats) -> Floats:
    """All windows of network inputs (samples, inputs): a view, float32 (windows, 120, inputs)."""
    every = np.lib.stride_tricks.sliding_window_view(x, WINDOW, axis=0)
    return every[::STEP].transpose(0, 2, 1)


def evaluate(graph: Any, windows: Floats, manifest: Manifest, trains: SpikeTrains
             ) -> dict[str, Any]:
    """Score the causal decisions over successive windows, the first of which starts at sample 0.

    Returns
    -------
    dict
        The table of `spikewire.score.table`: mean F1 and the rest.
    """
    session = open_session(graph)
    names = [o.name for o in session.get_outputs()]
    n_mu, labels = manifest.n_mu, Labels(manifest.look_ahead)
    presence = np.zeros((len(windows), n_mu), np.float32)
    position: NDArray[np.int64] = np.full((len(windows), n_mu), STEP // 2, np.int64)
    for k, window in enumerate(windows):
        out = dict(zip(names, session.run(names, {"x": np.ascontiguousarray(window)[None]}),
                       strict=True))
        presence[k] = out["presence"][0]
        if "position" in out:
            position[k] = out["position"][0].argmax(axis=-1)
    decide = Decide(np.array(manifest.thresholds, np.float32), np.array(manifest.label_lag),
                    labels, manifest.refractory)
    times = decide_all(decide, WINDOW, presence, position)
    first = labels.bin_start
    return table(score(SpikeTrains(times, trains.fs_hz), trains, first,
                       first + STEP * len(windows)))


def milliseconds(graph: Any) -> float:
    """Median time of one window on one thread of this machine."""
    session = open_session(graph)
    (x,) = session.get_inputs()
    window = np.random.default_rng(0).normal(0, 0.3, x.shape).astype(np.float32)
    taken = []
    for _ in range(WARM_UP + TIMED):
        started = time.perf_counter()
        session.run(None, {"x": window})
        taken.append(time.perf_counter() - started)
    return 1e3 * float(np.median(taken[WARM_UP:]))
