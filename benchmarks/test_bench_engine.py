"""Engines on one step of the paper's network and of the reference bundle; ratios to ONNX Runtime.

"one call" is everything between samples and answer; "critical" is what is left of it after the
newest sample if the rest was done before. The baseline is ONNX Runtime on the full window, fp32,
one thread, in the same process.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import REFERENCE, alternate, limit_us, paper_recipe, timed

from spikewire.bundle import WEIGHTS, read_bundle
from spikewire.recipe import read_recipe
from spikewire.runtime import engine_native
from spikewire.runtime.engine import check_golden, open_engine
from spikewire.signals import STEP, WINDOW
from spikewire.weights import weights_bin

FULL, HALF = (128, 64, 256), (64, 32, 128)
SIZES = [(10, 64, FULL), (17, 64, FULL), (30, 64, FULL), (17, 256, FULL), (17, 64, HALF)]
BASELINE = "onnxruntime, full window"

pytestmark = pytest.mark.skipif(not engine_native.LIBRARY.is_file(), reason="no native library")


def ways_of(bundle) -> dict:
    """Ways through one step: the baseline, then the native engine in every precision."""
    emg = np.random.default_rng(1).normal(0, 150, (STEP, bundle.manifest.channels))
    emg = emg.astype(np.float32)
    ort = open_engine(bundle, "ort")
    native = {p: open_engine(bundle, "native", p) for p in engine_native.PRECISIONS}
    for precision, engine in native.items():
        check_golden(engine, bundle, "fp32", engine_native.ROUNDING[precision])
    for engine in (ort, *native.values()):
        while not engine.ready:
            engine.advance(emg)

    def both(engine):
        return lambda: (engine.advance(emg), engine.decode())

    ways = {BASELINE: timed(both(ort))}
    for precision, engine in native.items():
        ways[f"native {precision}, one call"] = timed(both(engine))
        ways[f"native {precision}, critical"] = timed(both(engine), engine.prepare)
    return ways


@pytest.mark.parametrize(("units", "channels", "heads"), SIZES)
def test_paper_network(benchmark, paper, table, units, channels, heads):
    """The paper's widths: what the arithmetic, the bytes and the split bring."""
    bundle = paper(units, channels, heads)
    ways = ways_of(bundle)
    took = benchmark.pedantic(alternate, (ways,), rounds=1)
    base = float(np.median(took[BASELINE][:, 0]))
    widths = "-".join(map(str, heads))
    title = f"paper's network, {units} units, {channels} channels, heads {widths}"
    for name, us in took.items():
        median = float(np.median(us[:, 0]))
        cells = {"us": median, "p99": float(np.percentile(us[:, 0], 99)), "ratio": base / median}
        if name.startswith("native") and name.endswith("one call"):
            precision = name.split()[1].rstrip(",")
            cpu = open_engine(bundle, "native", precision).name.partition("(")[2].split(",")[0]
            limit = limit_us(paper_recipe(heads), units, channels, precision, cpu)
            cells |= {"limit us": limit, "x limit": median / limit}
        if name.endswith("critical"):
            cells |= {"then us": float(np.median(us[:, 1]))}
        table.add(title, way=name, **cells)
        benchmark.extra_info[name] = cells


def test_the_papers_own_way(benchmark, paper, table):
    """`model.predict` on one window, and the native engine's one call."""
    import keras

    from spikewire import network

    keras.utils.set_random_seed(0)
    net, x = network.mo_dcnn(64, 17), np.zeros((1, WINDOW, 64), np.float32)
    ours = ways_of(paper(17, 64, FULL))
    predict = timed(lambda: net.predict(x, verbose=0))
    took: dict[str, list[float]] = {}

    def in_turn() -> None:
        for _ in range(5):
            for name in ("native fp32, one call", "native int8, one call"):
                took.setdefault(name, []).extend(ours[name]()[0] for _ in range(100))
            took.setdefault("model.predict", []).extend(predict()[0] for _ in range(6))

    in_turn()
    took.clear()
    benchmark.pedantic(in_turn, rounds=1)
    base = float(np.median(took["model.predict"]))
    for name, ns in took.items():
        table.add("the paper's own way, 17 units", way=name, us=float(np.median(ns)) / 1e3,
                  ratio=base / float(np.median(ns)))


def test_half_width_against_full(benchmark, paper, table):
    """Heads of half the width in fp32, one call, against ONNX Runtime at full width."""
    full, half = ways_of(paper(17, 64, FULL)), ways_of(paper(17, 64, HALF))
    name = "native fp32, one call"
    took = benchmark.pedantic(alternate, ({BASELINE: full[BASELINE], "half width": half[name]},),
                              rounds=1)
    base, one = (float(np.median(t[:, 0])) for t in took.values())
    table.add("heads of half the width, 17 units", way=name, us=one, ratio=base / one)


@pytest.mark.parametrize("recipe", ["recommended", "large"])
def test_recommended_family(benchmark, random_bundle, table, recipe):
    """The whole step with its front, 17 units: ours beside ONNX Runtime on the same net."""
    recipe = read_recipe(REFERENCE.parent / f"{recipe}.toml")
    bundle = random_bundle(recipe, 17, 64)
    took = benchmark.pedantic(alternate, (ways_of(bundle),), rounds=1)
    rows(table, f"{recipe.name} recipe, 17 units, 64 channels, front included", took)


def test_reference_bundle(benchmark, table):
    """The recommended decoder: front, network and decision inputs of one step."""
    bundle = read_bundle(REFERENCE)
    took = benchmark.pedantic(alternate, (ways_of(bundle),), rounds=1)
    rows(table, f"reference bundle, {bundle.manifest.n_mu} units, front included", took)


def rows(table, title: str, took: dict[str, np.ndarray]) -> None:
    """Median, tail and ratio to the baseline of every way."""
    base = float(np.median(took[BASELINE][:, 0]))
    for name, us in took.items():
        median = float(np.median(us[:, 0]))
        table.add(title, way=name, us=median, p99=float(np.percentile(us[:, 0], 99)),
                  ratio=base / median)


PAPER_WIDTHS, SMALL_WIDTHS = (64, 128, 128, 128, 64, 256), (64, 48, 48, 16, 16, 32)


def test_growth_with_units(benchmark, table):
    """Is it a line from 5 to 60 units? The line has the smallest largest relative departure."""
    emg = np.random.default_rng(3).normal(0, 1, (STEP, 64)).astype(np.float32)
    ways, units = {}, (5, 10, 20, 30, 45, 60)
    for name, widths, precision in (("paper's widths, int8", PAPER_WIDTHS, "int8"),
                                    ("paper's widths, int8-all", PAPER_WIDTHS, "int8-all"),
                                    ("recommended widths, fp32", SMALL_WIDTHS, "fp32")):
        for count in units:
            engine = random_engine(count, widths, precision)
            while not engine.ready:
                engine.advance(emg)
            ways[name, count] = timed(lambda e=engine: (e.advance(emg), e.decode()))
    took = benchmark.pedantic(alternate, (ways,), rounds=1)
    for name in dict.fromkeys(name for name, _ in ways):
        us = np.array([np.median(took[name, count][:, 0]) for count in units])
        line = fairest_line(np.array(units, float), us)
        for count, value, wanted in zip(units, us, line, strict=True):
            table.add("growth with units", what=name, units=count, us=float(value),
                      line=float(wanted), off=f"{100 * (value / wanted - 1):+.0f} %")


def fairest_line(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Values of the line a + b x whose largest relative departure from y is smallest."""
    from scipy.optimize import linprog

    # smallest e with |(a + b x) / y - 1| <= e
    ones = np.ones(len(x))
    rows = np.column_stack([1 / y, x / y, -ones])
    rows = np.vstack([rows, np.column_stack([-1 / y, -x / y, -ones])])
    a, b, _ = linprog([0, 0, 1], rows, np.concatenate([ones, -ones]), bounds=[(None, None)] * 3).x
    return a + b * x


def random_engine(units: int, widths: tuple[int, ...], precision: str):
    """A native engine of any widths with random weights, without Keras: inputs, C1 to C4, F1."""
    rng, arrays = np.random.default_rng(units), {}
    inputs, c1, c2, c3, c4, f1 = widths
    for name, rows, columns, many in (("c1", 3 * inputs, c1, 0), ("c2", 3 * c1, c2, 0),
                                      ("c3", 3 * c2, c3, units), ("c4", 3 * c3, c4, units),
                                      ("f1", 27 * c4, f1, units), ("f2", f1, 1, units)):
        size = (many, rows, columns) if many else (rows, columns)
        arrays[name] = rng.standard_normal(size, np.float32) * np.float32((2 / rows) ** 0.5)
        arrays[f"{name}_bias"] = np.zeros((*size[:-2], columns), np.float32)
    bundle = read_bundle(REFERENCE)
    manifest = replace(bundle.manifest, channels=64, channel_map=list(range(64)), n_mu=units,
                       inputs=64, history_samples=0, look_ahead=60, thresholds=[0.5] * units,
                       label_lag=[0] * units)
    windows = rng.standard_normal((4, WINDOW, 64), np.float32)
    files = {WEIGHTS: weights_bin(arrays, 64, 50, windows)}
    return engine_native.NativeEngine(replace(bundle, manifest=manifest, files=files), precision)
