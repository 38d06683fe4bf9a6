"""The excerpt of EMG on which every engine, precision and machine must agree."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikewire import filters
from spikewire.bundle import GOLDEN_STEPS
from spikewire.manifest import Manifest
from spikewire.signals import STEP, WINDOW, Floats, Recording


def open_session(graph: bytes) -> Any:
    """ONNX Runtime on one thread, set up as the engine's."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    # int8 weights become float32 once, at load, and no sum depends on a CPU's integer units.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return onnxruntime.InferenceSession(graph, options, ["CPUExecutionProvider"])


def run_onnx(graph: bytes, windows: Floats) -> Floats:
    """Presence of every window by ONNX Runtime: float32 (windows, n_mu)."""
    session = open_session(graph)
    out = [session.run(["presence"], {"x": w[None]})[0][0] for w in windows]
    return np.stack(out)


def most_active(recording: Recording, samples: int) -> Recording:
    """The stretch of so many samples (or the whole, if shorter) that has the most power."""
    samples = min(samples, len(recording.emg))
    power = np.square(recording.emg, dtype=np.float64).sum(axis=1).cumsum()
    start = int(np.argmax(power[samples - 1 :] - np.r_[0, power[:-samples]]))
    emg = recording.emg[start : start + samples]
    return replace(recording, emg=emg, force=None, segments=None)


def golden_samples(history: int) -> int:
    """Samples that 200 successive windows need."""
    return history + WINDOW + STEP * (GOLDEN_STEPS - 1)


def golden_counts(excerpt: Recording, history: int) -> tuple[NDArray[np.int16], float]:
    """The last history + 120 + 20 x 199 samples as 16-bit counts, and microvolts per count."""
    emg = excerpt.emg[-golden_samples(history) :]
    lsb_uv = float(np.abs(emg).max()) / 32767
    return np.round(emg / np.float32(lsb_uv)).astype(np.int16), lsb_uv


def golden_windows(counts: NDArray[np.int16], lsb_uv: float, manifest: Manifest,
                   bank: Floats | None) -> Floats:
    """Network inputs of the 200 golden windows: float32 (200, 120, inputs)."""
    emg = counts.astype(np.float32) * np.float32(lsb_uv) * np.float32(manifest.input_scale)
    x = emg if bank is None else filters.apply(emg, bank)
    first = manifest.history_samples
    return np.stack([x[first + STEP * k : first + STEP * k + WINDOW] for k in range(GOLDEN_STEPS)])


