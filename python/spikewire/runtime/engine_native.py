"""The native engine: libspikewire, the incremental decoder in C++, through ctypes.

One library serves every Python. Pointers are taken once, on buffers that live as long as the
engine: taking them in every call would cost more than the call.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikewire.bundle import WEIGHTS, Bundle
from spikewire.signals import STEP, WINDOW, Floats, InputError

LIBRARY = Path(__file__).parents[1] / "lib" / "libspikewire.so"
PRECISIONS = ("fp32", "fp16", "int8", "int8-all")
# what a golden presence may move by
ROUNDING = {"fp32": 0.0, "fp16": 0.02, "int8": 0.05, "int8-all": 0.15}
CPUS = ("auto", "base", "avx2", "avx512", "dotprod", "avx512vnni")


class Config(ctypes.Structure):
    """`spw_config` of spikewire.h."""

    _fields_ = (
        ("units", ctypes.c_int32), ("inputs", ctypes.c_int32), ("bin_start", ctypes.c_int32),
        ("source_channels", ctypes.c_int32), ("channels", ctypes.c_int32),
        ("channel_map", ctypes.c_void_p), ("input_scale", ctypes.c_float),
        ("delays", ctypes.c_int32), ("kernels", ctypes.c_void_p), ("scale", ctypes.c_void_p),
        ("thresholds", ctypes.c_void_p), ("label_lag", ctypes.c_void_p),
        ("refractory", ctypes.c_int32), ("precision", ctypes.c_int32), ("cpu", ctypes.c_int32),
    )


# function -> types of its arguments; a decoder comes first, what comes back is none unless named
FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "spw_close": (), "spw_advance": (ctypes.c_void_p,), "spw_reset": (), "spw_prepare": (),
    "spw_decode": (ctypes.c_void_p, ctypes.c_void_p),
    "spw_decode_full": (ctypes.c_void_p, ctypes.c_void_p), "spw_ready": (), "spw_cpu_name": (),
    "spw_set_front": (ctypes.c_void_p, ctypes.c_void_p), "spw_mask": (ctypes.c_void_p,),
    "spw_window": (ctypes.c_void_p,),
}
RETURNS = {"spw_ready": ctypes.c_int32, "spw_cpu_name": ctypes.c_char_p}


def load_library() -> ctypes.CDLL:
    """The library with its functions' types.

    Raises
    ------
    InputError
        It is not there or does not load.
    """
    try:
        library = ctypes.CDLL(str(LIBRARY))
    except OSError as error:
        raise InputError(f"engine native: {error}; reinstall spikewire where a C++ compiler is, "
                         "or take --engine ort") from None
    library.spw_open.restype = ctypes.c_void_p
    library.spw_open.argtypes = (ctypes.POINTER(Config), ctypes.c_char_p, ctypes.c_size_t,
                                 ctypes.c_char_p, ctypes.c_size_t)
    for name, types in FUNCTIONS.items():
        function = getattr(library, name)
        function.argtypes, function.restype = (ctypes.c_void_p, *types), RETURNS.get(name)
    return library


class NativeEngine:
    """See `spikewire.runtime.engine.Engine`; `decode_full` is the reference of its `decode`."""

    for_control = True

    def __init__(self, bundle: Bundle, precision: str, cpu: str = "auto") -> None:
        m = bundle.manifest
        if WEIGHTS not in bundle.files:
            raise InputError(f"{bundle.path}: has no {WEIGHTS}, which engine native needs; export "
                             "it again, or take --engine ort")
        self._library = load_library()
        content, front = bundle.files[WEIGHTS], bundle.front()
        arrays: dict[str, NDArray[Any]] = {
            "channel_map": np.array(m.channel_map, np.int32),
            "thresholds": np.array(m.thresholds, np.float32),
            "label_lag": np.array(m.label_lag, np.int32),
        }
        if front:
            arrays |= {"kernels": np.ascontiguousarray(front[0], np.float32),
                       "scale": np.ascontiguousarray(front[1], np.float32)}
        config = Config(
            units=m.n_mu, inputs=m.inputs, bin_start=bundle.labels.bin_start,
            source_channels=m.channels, channels=len(m.channel_map), input_scale=m.input_scale,
            delays=m.history_samples + 1 if front else 0, refractory=m.refractory,
            precision=PRECISIONS.index(precision), cpu=CPUS.index(cpu),
            **{name: array.ctypes.data for name, array in arrays.items()})
        said = ctypes.create_string_buffer(200)
        self._decoder = self._library.spw_open(config, content, len(content), said, len(said))
        if not self._decoder:
            raise InputError(f"{bundle.path}: {said.value.decode()}")
        name = self._library.spw_cpu_name(self._decoder).decode()
        self.name = f"native ({name}, {precision})"
        self._emg = np.zeros((STEP, m.channels), np.float32)
        self._presence = np.zeros(m.n_mu, np.float32)
        self._position = np.zeros(m.n_mu, np.int32)
        self._good = np.ones(len(m.channel_map), np.uint8)
        self._inputs = m.inputs
        self._front = (front[0].shape, front[1].shape) if front else None
        self._at = {k: getattr(self, f"_{k}").ctypes.data
                    for k in ("emg", "presence", "position", "good")}

    def __del__(self) -> None:
        if getattr(self, "_decoder", None):
            self._library.spw_close(self._decoder)

    @property
    def ready(self) -> bool:
        """Whether enough samples came."""
        return bool(self._library.spw_ready(self._decoder))

    def advance(self, emg: Floats) -> None:
        """Consume 20 samples: front, trunk and the heads' convolutions on the new columns."""
        np.copyto(self._emg, emg)
        self._library.spw_advance(self._decoder, self._at["emg"])

    def decode(self) -> tuple[Floats, NDArray[np.int64]]:
        """Presence and position of the newest window."""
        self._library.spw_decode(self._decoder, self._at["presence"], self._at["position"])
        return self._presence.copy(), self._position.astype(np.int64)

    def decode_full(self) -> tuple[Floats, NDArray[np.int64]]:
        """The same from the whole window at once."""
        self._library.spw_decode_full(self._decoder, self._at["presence"], self._at["position"])
        return self._presence.copy(), self._position.astype(np.int64)

    def prepare(self) -> None:
        """What the next `decode` can do before its samples are there."""
        self._library.spw_prepare(self._decoder)

    def reset(self) -> None:
        """Forget everything."""
        self._library.spw_reset(self._decoder)

    def set_front(self, kernels: Floats, scale: Floats) -> None:
        """Swap the filters."""
        kernels, scale = (np.ascontiguousarray(a, np.float32) for a in (kernels, scale))
        if self._front is None or (kernels.shape, scale.shape) != self._front:
            raise ValueError(f"kernels {kernels.shape} and scale {scale.shape} came, allowed are "
                             f"{self._front}")
        self._library.spw_set_front(self._decoder, kernels.ctypes.data, scale.ctypes.data)

    def mask(self, good: NDArray[np.bool_]) -> None:
        """Take bad channels out."""
        if np.shape(good) != self._good.shape:
            raise ValueError(f"{np.shape(good)} channels came, allowed is {self._good.shape}")
        self._good[:] = good
        self._library.spw_mask(self._decoder, self._at["good"])

    def window(self) -> Floats:
        """The network's inputs, float32 (120, inputs), oldest first."""
        out = np.empty((WINDOW, self._inputs), np.float32)
        self._library.spw_window(self._decoder, out.ctypes.data)
        return out


def open_engine(bundle: Bundle, precision: str) -> NativeEngine:
    """Open a bundle's network in one precision."""
    return NativeEngine(bundle, precision)
