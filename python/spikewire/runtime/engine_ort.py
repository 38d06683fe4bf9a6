"""ONNX Runtime engine: one thread, the full window each step. The runtime imports it only here.

ONNX Runtime falls back to the CPU in silence when a provider does not load; here that is an error.
"""

from __future__ import annotations

from typing import NoReturn

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from spikewire.bundle import Bundle
from spikewire.runtime.engine import EngineError
from spikewire.runtime.front import FullWindow
from spikewire.signals import STEP, WINDOW, Floats, InputError

# TF32 would round fp32 to ten bits without being asked.
Provider = tuple[str, dict[str, str]]
CUDA: Provider = ("CUDAExecutionProvider", {"use_tf32": "0"})
CPU: Provider = ("CPUExecutionProvider", {})


def refuse(provider: str) -> NoReturn:
    """Say that a provider does not run here."""
    raise InputError(
        f"engine ort-cuda: {provider} was asked for and does not load (ONNX Runtime here has "
        f"{', '.join(ort.get_available_providers())}); install onnxruntime-gpu and its CUDA, or "
        "take --engine native")


class OrtEngine(FullWindow):
    """See `spikewire.runtime.engine.Engine`. Inputs and outputs are bound once."""

    def __init__(self, bundle: Bundle, precision: str, provider: Provider = CPU) -> None:
        m = bundle.manifest
        super().__init__(bundle)
        options = ort.SessionOptions()
        # One thread, no spinning: on a shared board spinning threads wreck the tail latency.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # int8 weights become float32 once, at load, and no sum depends on a CPU's integer units.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        if provider[0] not in ort.get_available_providers():
            refuse(provider[0])
        try:
            model = bundle.files[m.networks[precision]]
            self._session = ort.InferenceSession(model, options, [provider])
        except Exception as error:  # its exception classes are private
            reason = " ".join(str(error).split())
            raise InputError(f"{bundle.path}: ONNX Runtime cannot load it ({reason})") from None
        runs = self._session.get_providers()[0]
        if runs != provider[0]:
            refuse(provider[0])
        self.name = f"ort ({runs.removesuffix('ExecutionProvider')}, {precision})"
        self._presence = np.zeros((1, m.n_mu), np.float32)
        self._position = np.zeros((1, m.n_mu, STEP), np.float32)
        self._middle = np.full(m.n_mu, STEP // 2, np.int64)
        self._binding = self._session.io_binding()
        self._input = np.zeros((1, WINDOW, m.inputs), np.float32)
        self._bind(bundle.path)

    def _bind(self, path: str) -> None:
        """Check the graph's names and shapes against the manifest, then fix the buffers."""
        wanted = {"x": self._input.shape, "presence": self._presence.shape,
                  "position": self._position.shape}
        nodes = [*self._session.get_inputs(), *self._session.get_outputs()]
        missing = {"x", "presence"} - {n.name for n in nodes}
        if missing:
            raise InputError(f"{path}: the graph has no {', '.join(missing)}; export it again")
        self._places = any(n.name == "position" for n in nodes)
        for node in nodes:
            if wanted.get(node.name) != tuple(node.shape) or node.type != "tensor(float)":
                raise InputError(
                    f"{path}: the graph's {node.name} is {node.type} {node.shape}, must be "
                    f"tensor(float) {wanted.get(node.name, 'absent')}; export it again"
                )
        def bind(call: object, name: str, buffer: Floats) -> None:
            call(name, "cpu", 0, np.float32, buffer.shape, buffer.ctypes.data)  # type: ignore[operator]
        bind(self._binding.bind_input, "x", self._input)
        bind(self._binding.bind_output, "presence", self._presence)
        if self._places:
            bind(self._binding.bind_output, "position", self._position)

    def decode(self) -> tuple[Floats, NDArray[np.int64]]:
        """Run the network on the newest window."""
        np.copyto(self._input[0], self._front.window)
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # its exception classes are private
            reason = " ".join(str(error).split())
            raise EngineError(f"{self.name} failed ({reason}); start the run again") from None
        position = self._position[0].argmax(axis=1) if self._places else self._middle
        return self._presence[0].copy(), position


def open_engine(bundle: Bundle, precision: str) -> OrtEngine:
    """Open a bundle's network in one precision."""
    return OrtEngine(bundle, precision)


def open_cuda(bundle: Bundle, precision: str) -> OrtEngine:
    """The same on an NVIDIA GPU."""
    return OrtEngine(bundle, precision, CUDA)
