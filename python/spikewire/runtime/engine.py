"""The engine's contract, and which engine answers to which name."""

from __future__ import annotations

from importlib import import_module, util
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from spikewire.bundle import GOLDEN_STEPS, WEIGHTS, Bundle
from spikewire.runtime import engine_native
from spikewire.signals import STEP, WINDOW, Floats, InputError

# name -> (module, what opens it there, the third-party modules it needs)
ENGINES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "native": ("spikewire.runtime.engine_native", "open_engine", ()),
    "ort": ("spikewire.runtime.engine_ort", "open_engine", ("onnxruntime",)),
    "ort-cuda": ("spikewire.runtime.engine_ort", "open_cuda", ("onnxruntime",)),
    "tensorrt": ("spikewire.runtime.engine_tensorrt", "open_engine", ("tensorrt", "cuda")),
    "null": ("spikewire.runtime.engine_null", "open_engine", ()),
}


class EngineError(RuntimeError):
    """The engine failed in mid-run: the loop sends SAFE and ends; start it again."""


class Engine(Protocol):
    """A decoder in motion: front and network behind four calls.

    Attributes
    ----------
    name : str
        What really runs, such as "ort (CPU, fp32)".
    for_control : bool
        Whether a controller may arm on what it decodes.
    ready : bool
        Whether enough samples came since the start or the last gap.
    """

    name: str
    for_control: bool

    @property
    def ready(self) -> bool:
        """Whether `decode` may be asked."""

    def advance(self, emg: Floats) -> None:
        """Consume 20 samples, float32 (20, channels), microvolt. Always called, also when late."""

    def decode(self) -> tuple[Floats, NDArray[np.int64]]:
        """Presence float32 (n_mu,) and position int64 (n_mu,) of the newest window."""

    def prepare(self) -> None:
        """Do what the next `decode` can do before its samples are there; after the answer left."""

    def reset(self) -> None:
        """Forget everything, after a gap."""

    def set_front(self, kernels: Floats, scale: Floats) -> None:
        """Swap the front's filters between two steps."""

    def mask(self, good: NDArray[np.bool_]) -> None:
        """Take bad channels out."""


def open_engine(bundle: Bundle, name: str = "auto", precision: str = "fp32") -> Engine:
    """Open an engine for a bundle and prove it on the golden windows.

    Raises
    ------
    InputError
        Unknown or unavailable engine or precision, or outputs that differ from the golden ones.
    """
    engine, _, _ = proven_engine(bundle, name, precision)
    return engine


def chosen(bundle: Bundle, name: str) -> str:
    """The engine that a name stands for on this machine."""
    if name != "auto":
        return name
    return "native" if engine_native.LIBRARY.is_file() and WEIGHTS in bundle.files else "ort"


def proven_engine(
    bundle: Bundle, name: str = "auto", precision: str = "fp32"
) -> tuple[Engine, float, float]:
    """The same, with the largest difference of a golden presence, and what was allowed."""
    name = chosen(bundle, name)
    if name not in ENGINES:
        raise InputError(f"engine {name!r} is unknown, allowed are auto, {', '.join(ENGINES)}")
    if precision not in bundle.manifest.networks and name not in ("native", "null"):
        held = ", ".join(bundle.manifest.networks)
        raise InputError(f"{bundle.path}: holds no {precision} network for engine {name}, it has "
                         f"{held}; export it again with --trt fp32, fp16 or int8")
    module, opener, needs = ENGINES[name]
    for package in needs:
        if util.find_spec(package) is None:
            come = "it comes with JetPack" if package == "tensorrt" else \
                f"type: pip install 'spikewire[{name.partition('-')[0]}]'"
            raise InputError(f"engine {name} needs {package}, which is not installed; {come}")
    engine: Engine = getattr(import_module(module), opener)(bundle, precision)
    worst, golden, rounding = 0.0, precision, 0.0
    if name == "native":  # its weights come from the fp32 network, whatever it rounds them to
        golden, rounding = "fp32", engine_native.ROUNDING[precision]
    if name != "null":
        worst = check_golden(engine, bundle, golden, rounding)
    engine.reset()
    return engine, worst, bundle.manifest.tolerance.get(golden, 0.0) + rounding


def _golden(bundle: Bundle, precision: str) -> tuple[NDArray[Any], Floats]:
    """The golden excerpt and its presences, refused if they cannot be the 200 windows."""
    m = bundle.manifest
    shapes = {
        "golden/emg.npy": (m.history_samples + WINDOW + STEP * (GOLDEN_STEPS - 1), m.channels),
        f"golden/presence.{precision}.npy": (GOLDEN_STEPS, m.n_mu),
    }
    arrays: list[NDArray[Any]] = [
        bundle.array(name) if name in bundle.files else np.zeros(0) for name in shapes
    ]
    for (name, shape), array in zip(shapes.items(), arrays, strict=True):
        if array.shape != shape:
            raise InputError(
                f"{bundle.path}: {name} has shape {array.shape}, must be {shape}; export it again"
            )
    return arrays[0], arrays[1]


def check_golden(
    engine: Engine, bundle: Bundle, precision: str, rounding: float = 0.0
) -> float:
    """Run the 200 golden windows; return the largest difference of a presence.

    `rounding` is what the engine may differ by beyond the bundle's tolerance.

    It doubles as the warm-up. The excerpt starts H + 120 - 20 samples before the first window's
    end, so a shorter first push aligns its steps.

    Raises
    ------
    InputError
        A difference above the bundle's tolerance: this engine does not run this network.
    """
    m = bundle.manifest
    counts, wanted = _golden(bundle, precision)
    emg = counts.astype(np.float32) * np.float32(m.golden_lsb_uv)
    lead = len(emg) - STEP * (len(emg) // STEP)
    emg = np.concatenate([np.zeros((-lead % STEP, emg.shape[1]), np.float32), emg])
    engine.reset()
    got = []
    for start in range(0, len(emg), STEP):
        engine.advance(emg[start : start + STEP])
        if engine.ready:
            got.append(engine.decode()[0])
    worst = float(np.abs(np.stack(got)[-GOLDEN_STEPS:] - wanted).max())
    allowed = m.tolerance[precision] + rounding
    if not worst <= allowed:
        raise InputError(
            f"{bundle.path}: {engine.name} differs from the golden windows by {worst:.2g}, "
            f"allowed is {allowed:.2g}; use another engine or export the bundle again"
        )
    return worst
