"""What the benchmarks share: bundles, the limits of this core, and a table at the end.

Speed is a ratio of medians of alternating blocks in one process; microseconds are information.
"""

from __future__ import annotations

import itertools
import json
import os
import platform
import time
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from spikewire.bundle import Bundle, read_bundle
from spikewire.recipe import Recipe
from spikewire.signals import STEP, WINDOW, Recording
from spikewire.widths import operations

REFERENCE = Path(__file__).parents[1] / "models" / "reference.mub"
BLOCKS, STEPS = 6, 100  # of every way, in turn


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--report", metavar="FILE", help="write the tables as JSON")


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
    return {"processor": names[0] if names else platform.machine(), "cores": os.cpu_count() or 0,
            "python": platform.python_version(), "numpy": np.__version__,
            "onnxruntime": version("onnxruntime"), "load": round(os.getloadavg()[0], 1)}


class Table:
    """Rows that the benchmarks leave, printed after the last and written with --report."""

    def __init__(self) -> None:
        self.rows: list[dict[str, object]] = []

    def add(self, title: str, **cells: object) -> None:
        self.rows.append({"table": title} | cells)

    def text(self) -> str:
        lines = []
        for title in dict.fromkeys(r["table"] for r in self.rows):
            rows = [{k: v for k, v in r.items() if k != "table"} for r in self.rows
                    if r["table"] == title]
            heads = list(dict.fromkeys(k for r in rows for k in r))
            cells = [heads, *([show(r.get(h, "")) for h in heads] for r in rows)]
            widths = [max(len(c[k]) for c in cells) for k in range(len(heads))]
            lines += ["", str(title)]
            lines += ["  ".join(c.rjust(w) if k else c.ljust(w)
                                for k, (c, w) in enumerate(zip(row, widths, strict=True)))
                      for row in cells]
        return "\n".join(lines)


def show(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


TABLE = Table()


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
        Path(where).write_text(json.dumps({"machine": machine(), "rows": TABLE.rows}, indent=1))


def alternate(ways: dict[str, Callable[[], Iterable[float]]]) -> dict[str, np.ndarray]:
    """Microseconds of every way, measured in blocks in turn: what disturbs one disturbs all.

    A way is a function that does one step and gives back the nanoseconds of its parts.
    """
    took: dict[str, list[tuple[float, ...]]] = {name: [] for name in ways}
    for _ in range(BLOCKS):
        for name, step in ways.items():
            for _ in range(10):
                step()
            took[name] += [tuple(step()) for _ in range(STEPS)]
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
def paper(tmp_path_factory) -> Callable[..., Bundle]:
    """Bundles of the paper's network of any size, weights from seed 0."""
    folder = tmp_path_factory.mktemp("paper")

    @cache
    def make(units: int, channels: int, heads: tuple[int, ...]) -> Bundle:
        import keras

        from spikewire import export
        from spikewire import model as folders
        from spikewire.crossfit import Front

        recipe = paper_recipe(heads)
        keras.utils.set_random_seed(0)
        ones = np.ones(units)  # of its front only the number of units matters
        front = Front(np.zeros((channels, units), np.float32), ones, 0.6 * ones, ones, 0.0, ones,
                      read_bundle(REFERENCE).moments())
        net = folders.build(recipe, front, channels, WINDOW)
        emg = np.random.default_rng(0).normal(0, 150, (WINDOW + STEP * 199, channels))
        facts = {"channels": channels, "n_mu": units, "fs_hz": 2048.0, "decoder": "network",
                 "input_scale": 2e-3}
        path = folder / f"{units}_{channels}_{heads[0]}.mub"
        export.export(folders.Model(recipe, net, front, facts,
                                    Recording(emg.astype(np.float32), 2048.0, "noise")), path)
        return read_bundle(path)

    return make


def paper_recipe(heads: tuple[int, ...] = (128, 64, 256)) -> Recipe:
    return Recipe(kind="mo_dcnn", trunk=(128, 128), heads=heads, look_ahead=60)


@cache
def peak_gflops() -> float:
    """Operations per second of this core by a matrix product; a multiply-add is two."""
    a = np.random.default_rng(0).random((512, 512), np.float32)
    best = min(_seconds(lambda: a @ a) for _ in range(30))
    return 2 * 512**3 / best / 1e9


@cache
def bandwidth_gb_s(megabytes: int) -> float:
    """What this core reads of so much data that it has read just before."""
    x = np.ones(megabytes << 18, np.float32)
    return 4 * len(x) / min(_seconds(lambda: x.dot(x)) for _ in range(30)) / 1e9


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def limit_us(macs: float, weight_bytes: float) -> float:
    """The longer of the time for the operations and for the bytes, on this very core."""
    size = max(1, round(weight_bytes / 2**20))
    return max(2e-3 * macs / peak_gflops(), 1e-3 * weight_bytes / bandwidth_gb_s(size))


def incremental_macs(units: int, channels: int, heads: tuple[int, ...]) -> int:
    return operations(paper_recipe(heads), channels, units).step


def weight_bytes(units: int, channels: int, heads: tuple[int, ...], precision: str) -> int:
    """What one step of the native engine reads."""
    c3, c4, f1 = heads
    # bytes of a weight in C2, in C3 and C4, in F1; C1 is fp32 always
    second, convolutions, dense = {"fp32": (4, 4, 4), "fp16": (4, 2, 2), "int8": (4, 2, 1),
                                   "int8-all": (1, 1, 1)}[precision]
    trunk = 4 * 3 * channels * 128 + second * 3 * 128 * 128
    return trunk + units * (convolutions * (3 * 128 * c3 + 3 * c3 * c4) + dense * 27 * c4 * f1)
