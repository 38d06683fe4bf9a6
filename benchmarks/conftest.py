"""What the benchmarks share: bundles, the limits of this core, and a table at the end.

Speed is a ratio of medians of alternating blocks in one process; microseconds are information.
"""

from __future__ import annotations

import os

os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # the limits are of one core

import itertools
import platform
import time
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from report import TABLE, Table

from spikewire.bundle import Bundle, read_bundle
from spikewire.moments import MARGIN, Moments
from spikewire.recipe import Recipe
from spikewire.signals import STEP, WINDOW, Recording
from spikewire.widths import operations

REFERENCE = Path(__file__).parents[1] / "models" / "reference.mub"
BLOCKS, STEPS = 6, 100  # of every way, in turn


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--report", metavar="FILE",
                     help="write the tables as JSON, and beside it as a page with plots")
    parser.addoption("--seconds", type=float, default=8.0, help="length of a paced loop")
    parser.addoption("--repeat", type=int, default=1, help="paced loops, the best of which counts")
    parser.addoption("--simulated", type=float, default=300.0,
                     help="seconds of signal through which memory is watched")


@pytest.fixture(autouse=True)
def facts(benchmark):
    """What a reader needs to judge a figure."""
    benchmark.extra_info.update(machine(), threads=1)


@cache
def machine() -> dict[str, str | int]:
    """Processor, clock as the system says it, versions."""
    from importlib.metadata import version

    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.split(":")[1].strip() for line in text.splitlines() if "model name" in line]
    clocks = [float(line.split(":")[1]) for line in text.splitlines() if "cpu MHz" in line]
    return {"processor": names[0] if names else platform.machine(), "cores": os.cpu_count() or 0,
            "MHz": round(max(clocks, default=0.0)),
            "python": platform.python_version(), "numpy": np.__version__,
            "onnxruntime": version("onnxruntime"), "load": round(os.getloadavg()[0], 1)}


@pytest.fixture
def table() -> Table:
    return TABLE


def pytest_terminal_summary(terminalreporter, config) -> None:
    if not TABLE.rows:
        return
    terminalreporter.write_line(TABLE.text())
    terminalreporter.write_line(f"\n{machine()}")
    where = config.getoption("--report")
    if where:
        TABLE.write(Path(where), machine())


def alternate(
    ways: dict[str, Callable[[], Iterable[float]]], period_s: float = 0.0, blocks: int = BLOCKS,
    steps: int = STEPS,
) -> dict[str, np.ndarray]:
    """Microseconds of every way, measured in blocks in turn: what disturbs one disturbs all.

    A way is a function that does one step and gives back the nanoseconds of its parts. With a
    period the steps come at that pace, and the core idles in between, as it does in use.
    """
    took: dict[str, list[tuple[float, ...]]] = {name: [] for name in ways}
    for _ in range(blocks):
        for name, step in ways.items():
            for _ in range(10):
                step()
            due = time.perf_counter()
            for _ in range(steps):
                if period_s:
                    due = max(due + period_s, time.perf_counter())
                    time.sleep(max(0.0, due - time.perf_counter()))
                took[name].append(tuple(step()))
    return {name: np.array(t) / 1e3 for name, t in took.items()}


def timed(*parts: Callable[[], object]) -> Callable[[], list[float]]:
    """A way that does its parts one after the other."""
    def step() -> list[float]:
        marks = [time.perf_counter_ns()]
        for part in parts:
            part()
            marks.append(time.perf_counter_ns())
        return [b - a for a, b in itertools.pairwise(marks)]

    return step


@pytest.fixture(scope="session")
def random_bundle(tmp_path_factory) -> Callable[..., Bundle]:
    """Bundles of any recipe and size, weights from seed 0."""
    folder = tmp_path_factory.mktemp("bundles")

    @cache
    def make(recipe: Recipe, units: int, channels: int) -> Bundle:
        import keras

        from spikewire import export
        from spikewire import model as folders
        from spikewire.crossfit import Front

        keras.utils.set_random_seed(0)
        ones, rows = np.ones(units, np.float32), recipe.delays * channels
        front = np.random.default_rng(1).normal(0, rows**-0.5, (rows, units)).astype(np.float32)
        lags = recipe.delays + 2 * MARGIN
        moments = Moments(np.zeros((lags, channels, channels)), np.zeros((units, lags, channels)),
                          1.0, np.ones(units))
        filters = Front(front, 150 * ones, 0.6 * ones, np.ones(units), 0.0, ones, moments)
        net = folders.build(recipe, filters, channels, WINDOW)
        emg = np.random.default_rng(0).normal(0, 150, (WINDOW + 100 + STEP * 199, channels))
        facts = {"channels": channels, "n_mu": units, "fs_hz": 2048.0, "decoder": "network",
                 "input_scale": 2e-3}
        path = folder / f"{recipe.name}_{units}_{channels}_{recipe.heads[0]}.mub"
        export.export(folders.Model(recipe, net, filters, facts,
                                    Recording(emg.astype(np.float32), 2048.0, "noise")), path)
        return read_bundle(path)

    return make


@pytest.fixture(scope="session")
def paper(random_bundle) -> Callable[..., Bundle]:
    """The paper's network: (units, channels, widths of the heads) -> bundle."""
    return lambda units, channels, heads: random_bundle(paper_recipe(heads), units, channels)


def paper_recipe(heads: tuple[int, ...] = (128, 64, 256)) -> Recipe:
    return Recipe(name="paper", kind="mo_dcnn", trunk=(128, 128), heads=heads, look_ahead=60)


@cache
def peak_gmac() -> float:
    """Multiply-adds per second of this core in fp32, by a matrix product, in 1e9."""
    a = np.random.default_rng(0).random((512, 512), np.float32)
    return 512**3 / min(_seconds(lambda: a @ a) for _ in range(30)) / 1e9


@cache
def bandwidth_gb_s(megabytes: int) -> float:
    """What this core reads of so much data that it has read just before."""
    x = np.ones(megabytes << 18, np.float32)
    return 4 * len(x) / min(_seconds(lambda: x.dot(x)) for _ in range(30)) / 1e9


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def limit_us(recipe: Recipe, units: int, channels: int, precision: str, cpu: str) -> float:
    """The longer of the time for a step's operations and for its bytes, on this very core.

    A lane multiplies one float at a time, or four bytes: in one instruction where the processor
    has one for it, in three otherwise. In int8, F1 takes two such products for a weight.
    """
    bytes_a_lane = 4 if cpu in ("avx512vnni", "dotprod") else 4 / 3
    (t1, t2), (c3, c4, f1) = recipe.trunk, recipe.heads
    total = operations(recipe, channels, units).step
    dense, first = units * 27 * c4 * f1, STEP * 3 * channels * t1
    convolutions = total - dense - first
    products = {"int8": first + convolutions + dense * 2 / bytes_a_lane,
                "int8-all": first + (convolutions + dense) / bytes_a_lane}.get(precision, total)
    # bytes of a weight in C2, in C3 and C4, in F1; C1 is fp32 always
    in_c2, in_c3, in_f1 = {"fp32": (4, 4, 4), "fp16": (4, 2, 2), "int8": (4, 2, 1),
                           "int8-all": (1, 1, 1)}[precision]
    weights = (4 * 3 * channels * t1 + in_c2 * 3 * t1 * t2
               + units * in_c3 * (3 * t2 * c3 + 3 * c3 * c4) + in_f1 * dense)
    size = max(1, round(weights / 2**20))
    return max(1e-3 * products / peak_gmac(), 1e-3 * weights / bandwidth_gb_s(size))
