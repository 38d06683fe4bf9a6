"""The C++ engine. Truth: its own full window to the bit, numpy, and the Python front and decision.

Networks are random and of any shape, also of widths that fill no vector. A run is a random sequence
of what may happen: steps, skipped decodes, gaps, other filters, lost channels.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spikewire.bundle import WEIGHTS, Bundle, read_bundle, save_array
from spikewire.decide import Decide
from spikewire.runtime import engine_native
from spikewire.runtime.engine import check_golden, open_engine
from spikewire.runtime.front import Front
from spikewire.signals import POOLED, STEP, WINDOW, InputError, Labels
from spikewire.weights import forward, weights_bin

pytestmark = pytest.mark.skipif(not engine_native.LIBRARY.is_file(),
                                reason="libspikewire was not built here (no C++ compiler)")
NativeEngine = engine_native.NativeEngine


@dataclass(frozen=True)
class Shape:
    """Widths of a random network, and what stands around it."""

    units: int
    channels: int
    trunk: tuple[int, int] = (0, 0)
    heads: tuple[int, int, int] = (0, 0, 0)
    delays: int = 0
    linear: bool = False
    bin_start: int = 90


SHAPES = {
    "paper's": Shape(3, 16, (24, 16), (16, 8, 32), bin_start=50),
    "recommended": Shape(5, 12, (16, 16), (8, 8, 16), delays=9, linear=True),
    "odd widths": Shape(3, 7, (5, 9), (3, 7, 13), delays=4, linear=True, bin_start=71),
    "odd, raw": Shape(2, 11, (6, 10), (9, 5, 21), bin_start=0),
    "one": Shape(1, 3, (1, 1), (1, 1, 1), delays=2, linear=True),
    "linear alone": Shape(6, 10, delays=12, linear=True),
    "wide": Shape(2, 20, (40, 72), (40, 72, 100), delays=2, linear=True),
}


def arrays(shape: Shape, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Random weights of a shape."""
    made: dict[str, np.ndarray] = {}

    def add(name: str, inputs: int, outputs: int, units: int = 0, bias: bool = True) -> None:
        size = (units, inputs, outputs) if units else (inputs, outputs)
        made[name] = rng.normal(0, (2 / inputs) ** 0.5, size).astype(np.float32)
        if bias:
            made[f"{name}_bias"] = rng.normal(0, 0.1, (*size[:-2], outputs)).astype(np.float32)

    if shape.trunk[0]:
        inputs, (c3, c4, f1) = shape.units if shape.delays else shape.channels, shape.heads
        add("c1", 3 * inputs, shape.trunk[0])
        add("c2", 3 * shape.trunk[0], shape.trunk[1])
        add("c3", 3 * shape.trunk[1], c3, shape.units)
        if shape.linear:
            add("own", 6, c3, shape.units, bias=False)
        add("c4", 3 * c3, c4, shape.units)
        add("f1", POOLED * c4, f1, shape.units)
        add("f2", f1, 21 if shape.linear else 1, shape.units)
    if shape.linear:
        made |= {"threshold": rng.uniform(0.3, 0.8, shape.units).astype(np.float32),
                 "gain": rng.uniform(1, 4, shape.units).astype(np.float32),
                 "sharpness": rng.uniform(1, 4, shape.units).astype(np.float32)}
    return made


def bundle_of(base: Bundle, shape: Shape, seed: int) -> tuple[Bundle, dict[str, np.ndarray]]:
    """A bundle of random weights; only what the native engine reads of it is true."""
    rng = np.random.default_rng(seed)
    weights = arrays(shape, rng)
    inputs = shape.units if shape.delays else shape.channels
    source = shape.channels + 2
    windows = rng.normal(0, 1, (20, WINDOW, inputs)).astype(np.float32)
    files = {WEIGHTS: weights_bin(weights, inputs, shape.bin_start, windows)}
    if shape.delays:
        rows = shape.delays * shape.channels
        files |= {"front/kernels.npy": save_array(
            rng.normal(0, rows**-0.5, (rows, inputs)).astype(np.float32)),
            "front/scale.npy": save_array(rng.uniform(0.5, 2, inputs).astype(np.float32))}
    manifest = replace(
        base.manifest, channels=source, n_mu=shape.units, inputs=inputs,
        label_lag=[1] * shape.units,
        channel_map=rng.permutation(source)[: shape.channels].tolist(),
        history_samples=max(shape.delays - 1, 0), look_ahead=WINDOW - shape.bin_start - STEP // 2,
        input_scale=0.5, thresholds=rng.uniform(0.3, 0.7, shape.units).tolist())
    return replace(base, manifest=manifest, files=files), weights


@pytest.fixture(scope="module")
def base(bundle_path: Path) -> Bundle:
    return read_bundle(bundle_path)


def cpus() -> list[str]:
    """Instruction sets of this processor."""
    found = []
    for name in engine_native.CPUS[1:]:
        flag = {"avx2": "avx2", "avx512": "avx512dq", "dotprod": "asimddp",
                "avx512vnni": "avx512_vnni"}.get(name, "")
        text = Path("/proc/cpuinfo").read_text()
        if name == "base" or flag in text:
            found.append(name)
    return found


@pytest.mark.parametrize("cpu", cpus())
@pytest.mark.parametrize("precision", engine_native.PRECISIONS)
@pytest.mark.parametrize("name", SHAPES)
def test_incremental_is_the_full_window_to_the_bit(
    base: Bundle, name: str, precision: str, cpu: str
) -> None:
    """Whatever happened before: 500 steps with gaps, swaps, lost channels and skipped decodes."""
    shape = SHAPES[name]
    bundle, _ = bundle_of(base, shape, 1)
    engine, rng = NativeEngine(bundle, precision, cpu), np.random.default_rng(2)
    compared = 0
    for _ in range(500):
        what = rng.random()
        if what < 0.01:
            engine.reset()
        elif what < 0.03 and shape.delays:
            kernels, scale = bundle.front()
            engine.set_front(kernels * rng.uniform(0.5, 2), scale)
        elif what < 0.05 and shape.delays:
            engine.mask(rng.random(shape.channels) < 0.8)
        engine.advance(rng.normal(0, 2, (STEP, bundle.manifest.channels)).astype(np.float32))
        if not engine.ready or rng.random() < 0.2:  # overdue: never decoded
            continue
        presence, position = engine.decode()
        again, there = engine.decode_full()
        assert presence.tobytes() == again.tobytes()
        assert (position == there).all()
        compared += 1
        if rng.random() < 0.5:
            engine.prepare()
    assert compared > 250


@pytest.mark.parametrize("trained", [True, False])
def test_ten_thousand_steps_are_those_of_onnx_runtime(base: Bundle, trained: bool) -> None:
    """And of its own full window to the bit: no drift, with gaps, swaps and lost channels."""
    ort = pytest.importorskip("spikewire.runtime.engine_ort")
    bundle = read_bundle(Path(__file__).parents[1] / "models" / "reference.mub") if trained \
        else base
    engine, other = NativeEngine(bundle, "fp32"), ort.OrtEngine(bundle, "fp32")
    rng, m = np.random.default_rng(31), bundle.manifest
    kernels, scale = bundle.front()
    for _ in range(10_000):
        what = rng.random()
        if what < 0.003:
            engine.reset()
        elif what < 0.006:
            engine.set_front(kernels * rng.uniform(0.7, 1.3, len(scale)), scale)
        elif what < 0.009:
            engine.mask(rng.random(len(m.channel_map)) < 0.9)
        engine.advance(rng.normal(0, 60, (STEP, m.channels)).astype(np.float32))
        if not engine.ready:
            continue
        presence, position = engine.decode()
        again, there = engine.decode_full()
        assert presence.tobytes() == again.tobytes()
        assert (position == there).all()
        np.copyto(other._front.window, engine.window())  # the front has tests of its own
        assert np.abs(presence - other.decode()[0]).max() <= 1e-5
        if rng.random() < 0.5:
            engine.prepare()


@pytest.mark.parametrize(("precision", "allowed"), [("fp32", 1e-5), ("fp16", 5e-3),
                                                    ("int8", 2e-2), ("int8-all", 0.3)])
@pytest.mark.parametrize("name", SHAPES)
def test_the_network_is_that_of_numpy(
    base: Bundle, name: str, precision: str, allowed: float
) -> None:
    shape = SHAPES[name]
    bundle, weights = bundle_of(base, shape, 3)
    engine, rng = NativeEngine(bundle, precision), np.random.default_rng(4)
    for _ in range(60):
        engine.advance(rng.normal(0, 2, (STEP, bundle.manifest.channels)).astype(np.float32))
        if not engine.ready:
            continue
        presence, position = engine.decode()
        logit, where = numpy_answer(shape, weights, engine.window())
        assert presence == pytest.approx(1 / (1 + np.exp(-logit)), abs=allowed)
        if precision == "fp32":
            chosen = np.take_along_axis(where, position[:, None], 1)[:, 0]
            assert (chosen >= where.max(axis=1) - 1e-4).all()


@pytest.mark.parametrize("name", [n for n, s in SHAPES.items() if s.trunk[0]])
def test_int8_rounds_the_weights_and_nothing_else(base: Bundle, name: str) -> None:
    """Numpy with rounded weights and corrected biases: 14 bits of F1's input are as good as all."""
    shape = SHAPES[name]
    bundle, weights = bundle_of(base, shape, 21)
    windows = np.random.default_rng(21)
    arrays(shape, windows)  # as `bundle_of` draws
    inputs = bundle.manifest.inputs
    _, means, _ = forward(weights, windows.normal(0, 1, (20, WINDOW, inputs))[::4].astype("f"))
    rounded = weights | {n: weights[n].astype(np.float16).astype("f") for n in ("c3", "c4")}
    scale = np.abs(weights["f1"]).max(axis=1, keepdims=True) / 127
    rounded["f1"] = np.round(weights["f1"] / scale) * scale
    rounded["f1_bias"] = weights["f1_bias"] + np.einsum(
        "uk,ukc->uc", means["f1"], weights["f1"] - rounded["f1"])
    engine, rng = NativeEngine(bundle, "int8"), np.random.default_rng(22)
    for _ in range(30):
        engine.advance(rng.normal(0, 2, (STEP, bundle.manifest.channels)).astype(np.float32))
        if engine.ready:
            logit, _ = numpy_answer(shape, rounded, engine.window())
            presence = engine.decode()[0]
            assert presence == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-3)


def numpy_answer(
    shape: Shape, weights: dict[str, np.ndarray], window: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Presence logits (units,) and position logits (units, 20) by plain loops around `forward`."""
    logit, where = np.zeros(shape.units), np.zeros((shape.units, STEP))
    where[:, STEP // 2] = 1 if not shape.linear else 0  # without positions the middle is said
    if shape.trunk[0]:
        out, *_ = forward(weights, window[None])
        logit += out[:, 0, 0]
        if shape.linear:
            where += out[:, 0, 1:]
    for unit in range(shape.units if shape.linear else 0):
        x = window[:, unit]
        bins = np.array([x[t] if x[t] >= x[t - 10 : t + 11].max() else 0
                         for t in range(shape.bin_start, shape.bin_start + STEP)])
        logit[unit] += weights["gain"][unit] * (bins.max() - weights["threshold"][unit])
        where[unit] += weights["sharpness"][unit] * bins
    return logit, where


@settings(max_examples=25, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**31), name=st.sampled_from(sorted(SHAPES)))
def test_the_window_is_that_of_the_python_front(base: Bundle, seed: int, name: str) -> None:
    shape = SHAPES[name]
    bundle, _ = bundle_of(base, shape, seed)
    engine, front, rng = NativeEngine(bundle, "fp32"), Front(bundle), np.random.default_rng(seed)
    for _ in range(30):
        what = rng.random()
        if what < 0.05:
            engine.reset()
            front.reset()
        elif what < 0.15 and shape.delays:
            kernels, scale = bundle.front()
            kernels = (kernels * rng.uniform(0.5, 2, kernels.shape)).astype(np.float32)
            engine.set_front(kernels, scale)
            front.set_front(kernels, scale)
        elif what < 0.25:
            good = rng.random(shape.channels) < 0.7
            engine.mask(good)
            front.mask(good)
        emg = rng.normal(0, 2, (STEP, bundle.manifest.channels)).astype(np.float32)
        engine.advance(emg)
        front.push(emg)
        assert engine.ready == front.ready
        assert np.abs(engine.window() - front.window).max() <= 1e-5


def test_the_decision_is_that_of_python(base: Bundle) -> None:
    shape = SHAPES["recommended"]
    bundle, _ = bundle_of(base, shape, 5)
    m = bundle.manifest
    engine, rng = NativeEngine(bundle, "fp32"), np.random.default_rng(6)
    decide = Decide(np.array(m.thresholds, np.float32), np.array(m.label_lag), bundle.labels, 30)
    counts, times = np.zeros(m.n_mu, np.uint8), np.zeros(m.n_mu, np.int64)
    function = engine._library.spw_decide
    function.argtypes = (ctypes.c_void_p, ctypes.c_int64, *4 * (ctypes.c_void_p,))
    for end in range(120, 20_000, STEP):
        if rng.random() < 0.01:
            engine.reset()
            decide.reset()
        presence = rng.random(m.n_mu).astype(np.float32)
        position = rng.integers(0, STEP, m.n_mu).astype(np.int32)
        function(engine._decoder, end,
                 *(a.ctypes.data for a in (presence, position, counts, times)))
        wanted, when = decide.step(end, presence, position.astype(np.int64))
        assert (counts == wanted).all()
        assert (times[counts > 0] == when[counts > 0]).all()


def test_the_golden_windows(base: Bundle) -> None:
    engine = open_engine(base, "native")
    assert check_golden(engine, base, "fp32") <= 1e-4
    assert engine.name.startswith("native (")


@pytest.mark.parametrize("precision", engine_native.PRECISIONS)
@pytest.mark.parametrize("name", ["paper's", "recommended", "linear alone"])
def test_what_is_no_number_comes_out_as_none(base: Bundle, name: str, precision: str) -> None:
    """One sample, or filters gone wrong: presences are NaN while the window holds them."""
    shape = SHAPES[name]
    bundle, _ = bundle_of(base, shape, 13)
    engine, rng = NativeEngine(bundle, precision), np.random.default_rng(14)

    def step(bad: float = 0.0) -> bool:
        emg = rng.normal(0, 2, (STEP, bundle.manifest.channels)).astype(np.float32)
        emg[3, bundle.manifest.channel_map[1]] += np.float32(bad)
        engine.advance(emg)
        found = engine.decode()[0]
        assert np.isfinite(found).all() or np.isnan(found).all()
        return bool(np.isnan(found).all())

    for _ in range(10):
        step()
    assert not step()
    for bad in (np.nan, np.inf):
        assert step(bad)
        gone = [step() for _ in range(8)]
        assert gone[:5] == [True] * 5
        assert not gone[-1]
    good = np.ones(shape.channels, bool)
    good[1] = False
    engine.mask(good)  # a channel that is out may say what it likes
    assert not step(np.nan)
    if shape.delays:
        kernels, scale = bundle.front()
        engine.set_front(np.full_like(kernels, np.nan), scale)
        assert step()
        engine.set_front(kernels, scale)
        assert not step()


def test_arrays_of_another_shape_never_reach_the_library(base: Bundle) -> None:
    bundle, _ = bundle_of(base, SHAPES["recommended"], 15)
    engine, (kernels, scale) = NativeEngine(bundle, "fp32"), bundle.front()
    with pytest.raises(ValueError, match="allowed are"):
        engine.set_front(kernels[:-1], scale)
    with pytest.raises(ValueError, match="allowed are"):
        engine.set_front(kernels, scale[:1])
    with pytest.raises(ValueError, match="channels came"):
        engine.mask(np.array([True]))
    raw, _ = bundle_of(base, SHAPES["paper's"], 16)
    with pytest.raises(ValueError, match="allowed are None"):
        NativeEngine(raw, "fp32").set_front(kernels, scale)
    said = ctypes.create_string_buffer(100)
    config = engine_native.Config()
    assert not engine._library.spw_open(config, b"", ctypes.c_size_t(-1).value, said, len(said))
    assert said.value == b"out of memory"


def test_nothing_is_allocated_after_open(base: Bundle) -> None:
    bundle, _ = bundle_of(base, SHAPES["recommended"], 7)
    engine, lib = NativeEngine(bundle, "fp32"), ctypes.CDLL(None)
    emg = np.zeros((STEP, bundle.manifest.channels), np.float32)

    class Info(ctypes.Structure):
        _fields_ = tuple((n, ctypes.c_size_t) for n in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
            "fordblks", "keepcost"))

    if not hasattr(lib, "mallinfo2"):
        pytest.skip("this C library does not count")
    lib.mallinfo2.restype = Info
    at = emg.ctypes.data, engine._presence.ctypes.data, engine._position.ctypes.data
    calls = engine._library
    for round_ in range(2):  # the first one warms up what Python keeps
        before = lib.mallinfo2().uordblks
        for _ in range(200):
            calls.spw_advance(engine._decoder, at[0])
            calls.spw_decode(engine._decoder, *at[1:])
            calls.spw_prepare(engine._decoder)
        calls.spw_reset(engine._decoder)
        grown = lib.mallinfo2().uordblks - before
        assert round_ == 0 or grown < 1000  # Python's own integers come and go


def opened(bundle: Bundle, content: bytes) -> None:
    NativeEngine(replace(bundle, files=bundle.files | {WEIGHTS: content}), "fp32")


@pytest.mark.parametrize("name", SHAPES)
def test_damaged_weights_are_refused(base: Bundle, name: str) -> None:
    """Cut anywhere, with any word of the header changed, or with a number that is none."""
    bundle, _ = bundle_of(base, SHAPES[name], 8)
    whole, rng = bundle.files[WEIGHTS], np.random.default_rng(9)
    opened(bundle, whole)
    for cut in (0, 1, 7, 8, 63, 64, 65, 68, len(whole) // 2, len(whole) - 4, len(whole) - 1):
        with pytest.raises(InputError, match="weights: "):
            opened(bundle, whole[:cut])
    with pytest.raises(InputError, match="cut short or too long"):
        opened(bundle, whole + bytes(4))
    for word in range(14):
        for value in (0, 1, 255, 2**31, 2**32 - 1, int(rng.integers(2**32))):
            at = 8 + 4 * word
            changed = whole[:at] + value.to_bytes(4, "little") + whole[at + 4 :]
            if changed != whole:
                with pytest.raises(InputError, match=r"weights: |configuration: |out of memory"):
                    opened(bundle, changed)
    nan = np.array([np.nan], "<f4").tobytes()
    with pytest.raises(InputError, match="not finite"):
        opened(bundle, whole[:-4] + nan)


@pytest.mark.parametrize("change", [{"n_mu": 4}, {"look_ahead": 30}, {"channel_map": [0]},
                                    {"channel_map": [99] * 12}])
def test_a_manifest_of_another_decoder_is_refused(base: Bundle, change: dict[str, object]) -> None:
    bundle, _ = bundle_of(base, SHAPES["recommended"], 10)
    other = replace(bundle, manifest=replace(bundle.manifest, **change))
    if len(other.manifest.channel_map) == 1:  # kernels of twelve channels for one
        other = replace(other, manifest=replace(other.manifest, history_samples=0))
    with pytest.raises(InputError, match="configuration: "):
        NativeEngine(other, "fp32")


def test_a_bundle_without_weights_says_what_to_type(base: Bundle, monkeypatch, tmp_path) -> None:
    files = {k: v for k, v in base.files.items() if k != WEIGHTS}
    with pytest.raises(InputError, match=r"no weights\.bin.*--engine ort"):
        NativeEngine(replace(base, files=files), "fp32")
    monkeypatch.setattr(engine_native, "LIBRARY", tmp_path / "none.so")
    with pytest.raises(InputError, match=r"none\.so.*--engine ort"):
        NativeEngine(base, "fp32")


def test_every_look_ahead_has_its_bin(base: Bundle) -> None:
    """The network's answer moves with the bin: the linear head alone shows it."""
    for start in (10, 50, 90):
        shape = replace(SHAPES["linear alone"], bin_start=start)
        bundle, weights = bundle_of(base, shape, 11)
        assert bundle.labels == Labels(WINDOW - start - STEP // 2)
        engine, rng = NativeEngine(bundle, "fp32"), np.random.default_rng(12)
        for _ in range(20):
            engine.advance(rng.normal(0, 2, (STEP, bundle.manifest.channels)).astype(np.float32))
        logit, _ = numpy_answer(shape, weights, engine.window())
        assert engine.decode()[0] == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-5)
