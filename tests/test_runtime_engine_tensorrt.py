"""The TensorRT engine on a stand-in: plans hold the graph, ONNX Runtime does the arithmetic.

The stand-in has the calls that the engine makes, with TensorRT's and CUDA's signatures; it refuses
what they refuse (captures without warm-up, plans of another machine). What a real GPU does is
tested where there is one: tests/hardware.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from conftest import BIN_START, UNITS

import spikewire.runtime
from spikewire.bundle import Bundle, fused_name, read_bundle
from spikewire.fused import fused
from spikewire.golden import open_session
from spikewire.runtime.engine import EngineError, check_golden
from spikewire.signals import STEP, InputError


class Machine:
    """A GPU, its driver and its TensorRT."""

    def __init__(self) -> None:
        self.version, self.built, self.launches, self.fail = "10.3.0", 0, 0, False
        self.memory: dict[int, ctypes.Array] = {}
        self.captured: list | None = None
        self.warm = 0

    def allocate(self, count: int) -> tuple[int, int]:
        block = ctypes.create_string_buffer(count)
        self.memory[ctypes.addressof(block)] = block
        return 0, ctypes.addressof(block)

    def queue(self, work) -> tuple[int]:
        """Do it, or keep it while a graph is captured."""
        if self.captured is None:
            work()
        else:
            self.captured.append(work)
        return (0,)

    def copy(self, to: int, source: int, count: int, kind: str, stream: int) -> tuple[int]:
        assert kind in ("to device", "to host")
        return self.queue(lambda: ctypes.memmove(to, source, count))

    def begin(self, stream: int, mode: str) -> tuple[int]:
        assert self.warm >= 1, "TensorRT allocates in its first step: that cannot be captured"
        self.captured = []
        return (0,)

    def end(self, stream: int) -> tuple[int, list]:
        graph, self.captured = self.captured, None
        return 0, graph

    def launch(self, graph: list, stream: int) -> tuple[int]:
        self.launches += 1
        if self.fail:
            return (719,)
        for work in graph:
            work()
        return (0,)

    def properties(self, device: int) -> tuple[int, SimpleNamespace]:
        return 0, SimpleNamespace(name=b"stand-in", major=8, minor=7, multiProcessorCount=8)

    def cuda(self) -> ModuleType:
        made = ModuleType("cuda.bindings.runtime")
        made.__dict__.update(
            cudaMalloc=self.allocate, cudaMallocHost=self.allocate, cudaMemcpyAsync=self.copy,
            cudaStreamCreateWithFlags=lambda flags: (0, 1), cudaStreamNonBlocking=1,
            cudaStreamSynchronize=lambda stream: (0,), cudaStreamBeginCapture=self.begin,
            cudaStreamEndCapture=self.end, cudaGraphInstantiate=lambda graph, flags: (0, graph),
            cudaGraphLaunch=self.launch, cudaGetDeviceProperties=self.properties,
            cudaRuntimeGetVersion=lambda: (0, 12060),
            cudaMemcpyKind=SimpleNamespace(cudaMemcpyHostToDevice="to device",
                                           cudaMemcpyDeviceToHost="to host"),
            cudaStreamCaptureMode=SimpleNamespace(cudaStreamCaptureModeThreadLocal="mine"))
        return made

    def tensorrt(self) -> ModuleType:
        machine = self

        class Parser:
            num_errors = 1

            def __init__(self, network, logger) -> None:
                self.network = network

            def parse(self, graph: bytes) -> bool:
                self.network.graph = graph
                return graph.startswith(b"\x08")  # field 1 of a ModelProto

            def get_error(self, number: int) -> str:
                return "no graph"

        class Builder:
            def __init__(self, logger) -> None:
                pass

            def create_network(self, flags: int) -> SimpleNamespace:
                assert flags == 1 << 5
                return SimpleNamespace(graph=b"")

            def create_builder_config(self) -> SimpleNamespace:
                return SimpleNamespace(set_memory_pool_limit=lambda pool, count: None)

            def build_serialized_network(self, network, config) -> bytearray:
                machine.built += 1
                return bytearray(machine.version.encode().ljust(16) + network.graph)

        class Runtime:
            def __init__(self, logger) -> None:
                pass

            def deserialize_cuda_engine(self, plan: bytes):
                if plan[:16].strip() != machine.version.encode() or len(plan) < 17:
                    return None
                return Engine(bytes(plan[16:]))

        class Engine:
            def __init__(self, graph: bytes) -> None:
                self.session = open_session(graph)
                self.nodes = [*self.session.get_inputs(), *self.session.get_outputs()]
                self.num_io_tensors = len(self.nodes)

            def get_tensor_name(self, number: int) -> str:
                return self.nodes[number].name

            def get_tensor_shape(self, name: str) -> list[int]:
                return next(n.shape for n in self.nodes if n.name == name)

            def create_execution_context(self):
                return Context(self)

        class Context:
            def __init__(self, engine: Engine) -> None:
                self.engine, self.address = engine, {}

            def set_tensor_address(self, name: str, address: int) -> bool:
                self.address[name] = address
                return True

            def view(self, name: str) -> np.ndarray:
                shape = self.engine.get_tensor_shape(name)
                memory = (ctypes.c_float * int(np.prod(shape))).from_address(self.address[name])
                return np.ctypeslib.as_array(memory).reshape(shape)

            def execute_async_v3(self, stream: int) -> bool:
                machine.warm += 1

                def work() -> None:
                    names = [n.name for n in self.engine.session.get_outputs()]
                    values = self.engine.session.run(names, {"x": self.view("x").copy()})
                    for name, value in zip(names, values, strict=True):
                        self.view(name)[:] = value

                machine.queue(work)
                return True

        made = ModuleType("tensorrt")
        made.__dict__.update(
            Logger=type("Logger", (), {"ERROR": 1, "__init__": lambda self, level: None}),
            Builder=Builder, OnnxParser=Parser, Runtime=Runtime, __version__=self.version,
            NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=5),
            MemoryPoolType=SimpleNamespace(WORKSPACE=0))
        return made


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    bindings = ModuleType("cuda.bindings")
    bindings.runtime = made.cuda()
    for name, module in (("tensorrt", made.tensorrt()), ("cuda", ModuleType("cuda")),
                         ("cuda.bindings", bindings), ("cuda.bindings.runtime", bindings.runtime)):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "spikewire.runtime.engine_tensorrt", raising=False)
    monkeypatch.delattr(spikewire.runtime, "engine_tensorrt", raising=False)
    return made


@pytest.fixture
def bundle(bundle_path: Path) -> Bundle:
    """The shared bundle of linear filters, with the graph for GPUs."""
    base = read_bundle(bundle_path)
    arrays = {"threshold": np.full(UNITS, 0.7, np.float32), "gain": np.full(UNITS, 15, np.float32),
              "sharpness": np.ones(UNITS, np.float32)}
    graph = fused(arrays, UNITS, BIN_START).SerializeToString()
    return replace(base, files=base.files | {fused_name("fp32"): graph})


def opened(bundle: Bundle, folder: Path):
    from spikewire.runtime.engine_tensorrt import TensorRtEngine

    return TensorRtEngine(bundle, "fp32", folder)


def test_the_golden_windows_come_out(machine: Machine, bundle: Bundle, tmp_path: Path) -> None:
    engine = opened(bundle, tmp_path)
    assert check_golden(engine, bundle, "fp32") <= 1e-4
    assert machine.launches == 200
    assert engine.name == "tensorrt (10.3.0, fp32, built now)"


def test_a_plan_is_kept_and_used_again(machine: Machine, bundle: Bundle, tmp_path: Path) -> None:
    opened(bundle, tmp_path)
    assert opened(bundle, tmp_path).name == "tensorrt (10.3.0, fp32)"
    assert machine.built == 1
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("damage", [b"", b"10.3.0".ljust(15), b"8.6.1".ljust(16) + b"\x08"])
def test_a_plan_that_does_not_load_is_built_once_more(
    machine: Machine, bundle: Bundle, tmp_path: Path, damage: bytes
) -> None:
    opened(bundle, tmp_path)
    (plan,) = tmp_path.iterdir()
    plan.write_bytes(damage)
    engine = opened(bundle, tmp_path)
    assert "built now" in engine.name
    assert machine.built == 2
    assert len(plan.read_bytes()) > 100
    check_golden(engine, bundle, "fp32")


@pytest.mark.parametrize("change", ["version", "power", "gpu", "graph"])
def test_what_a_plan_is_locked_to_gives_another_file(
    machine: Machine, bundle: Bundle, tmp_path: Path, monkeypatch, change: str
) -> None:
    from spikewire.runtime import engine_tensorrt as work

    opened(bundle, tmp_path / "plans")
    if change == "version":
        monkeypatch.setattr(work.trt, "__version__", "10.16.0")
        machine.version = "10.16.0"
    if change == "power":
        (tmp_path / "mode").write_text("pmode:0002")
        monkeypatch.setattr(work, "POWER_MODE", tmp_path / "mode")
    if change == "gpu":
        monkeypatch.setattr(work.cuda, "cudaGetDeviceProperties", lambda device: (
            0, SimpleNamespace(name="other", major=8, minor=7, multiProcessorCount=16)))
    if change == "graph":
        arrays = {n: np.ones(UNITS, np.float32) for n in ("threshold", "gain", "sharpness")}
        graph = fused(arrays, UNITS, BIN_START).SerializeToString()
        bundle = replace(bundle, files=bundle.files | {fused_name("fp32"): graph})
    opened(bundle, tmp_path / "plans")
    assert machine.built == 2
    assert len(list((tmp_path / "plans").iterdir())) == 2


def test_what_cannot_be_built_is_one_clear_error(
    machine: Machine, bundle: Bundle, tmp_path: Path
) -> None:
    none = {k: v for k, v in bundle.files.items() if not k.startswith("fused")}
    with pytest.raises(InputError, match=r"no fused\.fp32\.onnx.*--trt fp32"):
        opened(replace(bundle, files=none), tmp_path)
    bad = replace(bundle, files=bundle.files | {fused_name("fp32"): b"junk"})
    with pytest.raises(InputError, match=r"cannot read the graph \(no graph\).*--engine native"):
        opened(bad, tmp_path)
    other = replace(bundle, manifest=replace(bundle.manifest, n_mu=5))
    with pytest.raises(InputError, match="presence is"):
        opened(other, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1  # of the plan that was fine


def test_a_gpu_that_fails_is_named(machine: Machine, bundle: Bundle, tmp_path: Path) -> None:
    engine = opened(bundle, tmp_path)
    machine.fail = True
    with pytest.raises(EngineError, match="CUDA: 719; start the run again"):
        engine.decode()


def test_it_is_kept_warm_only_while_nothing_comes(
    machine: Machine, bundle: Bundle, tmp_path: Path, monkeypatch
) -> None:
    engine = opened(bundle, tmp_path)
    from spikewire.runtime import engine_tensorrt as work

    now = [100.0]
    monkeypatch.setattr(work.time, "monotonic", lambda: now[0])
    engine.advance(np.zeros((STEP, bundle.manifest.channels), np.float32))
    engine.decode()
    before = machine.launches
    engine.prepare()
    assert machine.launches == before
    now[0] += 0.2
    engine.prepare()
    assert machine.launches == before + 1


@pytest.mark.parametrize(("cache", "place"), [
    ("/var/cache", "/var/cache/spikewire/plans"), ("", "~/.cache/spikewire/plans"),
    ("relative", "~/.cache/spikewire/plans"),
])
def test_plans_lie_where_the_service_may_write(
    machine: Machine, monkeypatch, cache: str, place: str
) -> None:
    """Truth: the XDG base directory specification, which has relative paths ignored."""
    from spikewire.runtime import engine_tensorrt as work

    monkeypatch.setenv("XDG_CACHE_HOME", cache)
    assert work.plans() == Path(place).expanduser()


def test_a_plan_is_kept_in_the_cache(machine, bundle: Bundle, tmp_path, monkeypatch) -> None:
    from spikewire.runtime.engine_tensorrt import open_engine

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    open_engine(bundle, "fp32")
    assert len(list((tmp_path / "spikewire" / "plans").glob("*.plan"))) == 1
