"""TensorRT engine: the fused graph as a plan that is built on this very machine and kept.

A plan is locked to the TensorRT, CUDA and GPU that built it, and its kernels were chosen by time at
one power mode: all of these are in its file's name. Copies and network are one CUDA graph, launched
once a step. TensorRT comes with JetPack, the CUDA bindings from the index; both are imported only
here.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import tensorrt as trt
from cuda.bindings import runtime as cuda
from numpy.typing import NDArray

from spikewire.bundle import Bundle, fused_name
from spikewire.durable import write_durably
from spikewire.runtime.engine import EngineError
from spikewire.runtime.front import FullWindow
from spikewire.signals import STEP, WINDOW, Floats, InputError

WORKSPACE_BYTES = 256 << 20
IDLE_S = 0.05  # without a launch a GPU lowers its clocks
POWER_MODE, BOARD = Path("/var/lib/nvpmodel/status"), Path("/proc/device-tree/model")


def ok(result: tuple[Any, ...]) -> Any:
    """The value of a CUDA call.

    Raises
    ------
    EngineError
        The call failed.
    """
    error, *values = result
    if int(error):
        raise EngineError(f"CUDA: {error}; start the run again")
    return values[0] if values else None


def plans() -> Path:
    """Where plans are kept; a service's cache is named by systemd."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    # The specification has relative paths ignored.
    root = Path(cache) if os.path.isabs(cache) else Path("~/.cache").expanduser()
    return root / "spikewire" / "plans"


def text(path: Path) -> str:
    """What a file of the board says; nothing if it is no such board."""
    try:
        return path.read_text(errors="replace").strip("\0\n ")
    except OSError:
        return ""


def locks(graph: bytes) -> str:
    """All that a plan depends on, in one line."""
    gpu = ok(cuda.cudaGetDeviceProperties(0))
    name = gpu.name.decode() if isinstance(gpu.name, bytes) else gpu.name
    return "; ".join([
        f"TensorRT {trt.__version__}", f"CUDA {ok(cuda.cudaRuntimeGetVersion())}", name,
        f"SM {gpu.major}.{gpu.minor} x {gpu.multiProcessorCount}", text(BOARD), text(POWER_MODE),
        hashlib.sha256(graph).hexdigest()])


def build_plan(graph: bytes, path: str) -> bytes:
    """Parse and build; takes seconds to minutes.

    Raises
    ------
    InputError
        TensorRT cannot read or build the graph.
    """
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    # Types are in the graph: TensorRT 10 must be told so, 11 knows nothing else.
    typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(graph):
        said = "; ".join(str(parser.get_error(k)) for k in range(parser.num_errors))
        raise InputError(f"{path}: TensorRT {trt.__version__} cannot read the graph ({said}); take "
                         "--engine native")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise InputError(f"{path}: TensorRT {trt.__version__} cannot build the graph; take "
                         "--engine native")
    return bytes(plan)


def load_plan(graph: bytes, path: str, folder: Path) -> tuple[Any, bool]:
    """An engine from the kept plan, or from a new one if there is none or it does not load.

    Returns
    -------
    engine, and whether it was built now

    Raises
    ------
    InputError
        Also a plan of this very machine does not load.
    """
    kept = folder / f"{hashlib.sha256(locks(graph).encode()).hexdigest()[:32]}.plan"
    runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
    if kept.is_file():
        engine = runtime.deserialize_cuda_engine(kept.read_bytes())
        if engine is not None:
            return engine, False
    plan = build_plan(graph, path)
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise InputError(f"{path}: TensorRT cannot load the plan that it has just built; is the "
                         "GPU's driver of this JetPack?")
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_durably(kept, lambda file: file.write(plan))
    return engine, True


class Tensor:
    """One input or output: a page-locked array here, its copy on the GPU."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.bytes = 4 * int(np.prod(shape))
        at = ok(cuda.cudaMallocHost(self.bytes))
        self.device = ok(cuda.cudaMalloc(self.bytes))
        self.host = int(at)
        memory = (ctypes.c_float * (self.bytes // 4)).from_address(self.host)
        self.array: Floats = np.ctypeslib.as_array(memory).reshape(shape)


class TensorRtEngine(FullWindow):
    """See `spikewire.runtime.engine.Engine`."""

    def __init__(self, bundle: Bundle, precision: str, folder: Path | None = None) -> None:
        m = bundle.manifest
        name = fused_name(precision)
        if name not in bundle.files:
            raise InputError(f"{bundle.path}: has no {name}; export it again with --trt "
                             f"{precision}")
        super().__init__(bundle)
        self._engine, built = load_plan(bundle.files[name], bundle.path, folder or plans())
        self._context = self._engine.create_execution_context()
        self._stream = ok(cuda.cudaStreamCreateWithFlags(cuda.cudaStreamNonBlocking))
        shapes = {"x": (1, WINDOW, m.inputs), "presence": (1, m.n_mu),
                  "position": (1, m.n_mu, STEP)}
        self._tensors = {n: Tensor(shapes[n]) for n in self._names(bundle.path, shapes)}
        for tensor, memory in self._tensors.items():
            self._context.set_tensor_address(tensor, int(memory.device))
        self.name = f"tensorrt ({trt.__version__}, {precision}{', built now' if built else ''})"
        self._middle = np.full(m.n_mu, STEP // 2, np.int64)
        self._launched_s = 0.0
        self._graph = self._capture()

    def _names(self, path: str, shapes: dict[str, tuple[int, ...]]) -> list[str]:
        """The plan's inputs and outputs, refused if they are not those of the manifest."""
        names = [self._engine.get_tensor_name(k) for k in range(self._engine.num_io_tensors)]
        for name in names:
            shape = tuple(self._engine.get_tensor_shape(name))
            if shape != shapes.get(name):
                raise InputError(f"{path}: the graph's {name} is {shape}, must be "
                                 f"{shapes.get(name, 'absent')}; export it again")
        if not {"x", "presence"} <= set(names):
            raise InputError(f"{path}: the graph has no x or presence; export it again")
        return names

    def _step(self) -> None:
        """Queue one step: samples in, network, answer out."""
        x = self._tensors["x"]
        ok(cuda.cudaMemcpyAsync(int(x.device), x.host, x.bytes,
                                cuda.cudaMemcpyKind.cudaMemcpyHostToDevice, self._stream))
        if not self._context.execute_async_v3(int(self._stream)):
            raise EngineError(f"{self.name} failed; start the run again")
        for name, out in self._tensors.items():
            if name != "x":
                ok(cuda.cudaMemcpyAsync(out.host, int(out.device), out.bytes,
                                        cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost, self._stream))

    def _capture(self) -> Any:
        """The step as one CUDA graph: one launch instead of dozens."""
        for _ in range(2):  # TensorRT prepares itself in its first steps, which cannot be captured
            self._step()
        ok(cuda.cudaStreamSynchronize(self._stream))
        mode = cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        ok(cuda.cudaStreamBeginCapture(self._stream, mode))
        self._step()
        return ok(cuda.cudaGraphInstantiate(ok(cuda.cudaStreamEndCapture(self._stream)), 0))

    def _launch(self) -> None:
        """Run the captured step to its end."""
        ok(cuda.cudaGraphLaunch(self._graph, self._stream))
        ok(cuda.cudaStreamSynchronize(self._stream))
        self._launched_s = time.monotonic()

    def decode(self) -> tuple[Floats, NDArray[np.int64]]:
        """Run the network on the newest window."""
        np.copyto(self._tensors["x"].array[0], self._front.window)
        self._launch()
        presence = self._tensors["presence"].array[0].copy()
        if "position" not in self._tensors:
            return presence, self._middle
        return presence, self._tensors["position"].array[0].argmax(axis=1)

    def prepare(self) -> None:
        """Keep the GPU's clocks up while no samples come."""
        if time.monotonic() - self._launched_s > IDLE_S:
            self._launch()


def open_engine(bundle: Bundle, precision: str) -> TensorRtEngine:
    """Open a bundle's network in one precision."""
    return TensorRtEngine(bundle, precision)
