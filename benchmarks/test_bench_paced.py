"""At the pace of use, 102.4 steps a second, with the core idle in between, which costs 1.1 to 1.8x.

The loops run for --seconds each (10 minutes in `make soak-engine`).
"""

from __future__ import annotations

import numpy as np
import pytest
from conftest import REFERENCE, alternate
from loops import FS_HZ, Wanted, started
from test_bench_engine import BASELINE, FULL, ways_of

from spikewire.recipe import read_recipe
from spikewire.runtime import engine_native
from spikewire.signals import STEP

PERIOD_S = STEP / FS_HZ
BUDGET_MS, MEMORY_MB, FLAT_MB = 80.0, 120.0, 2.0

pytestmark = pytest.mark.skipif(not engine_native.LIBRARY.is_file(), reason="no native library")


def test_one_step_paced(benchmark, paper, table):
    """Engines on the paper's network as in test_bench_engine.py, but a step every 9.8 ms."""
    ways = ways_of(paper(17, 64, FULL))
    took = benchmark.pedantic(alternate, (ways, PERIOD_S, 3, 40), rounds=1)
    base = float(np.median(took[BASELINE][:, 0]))
    for name, us in took.items():
        median = float(np.median(us[:, 0]))
        table.add("paced: paper's network, 17 units, 64 channels", way=name, us=median,
                  p99=float(np.percentile(us[:, 0], 99)), ratio=base / median)


@pytest.mark.parametrize(("what", "precision"), [
    ("recommended", "fp32"), ("paper's", "fp32"), ("paper's", "int8"), ("paper's", "int8-all")])
def test_paced_loop(benchmark, request, paper, random_bundle, table, what, precision):
    """Sample-in to frame-out, 17 units, and an empty loop beside it that shares the machine."""
    bundle = paper(17, 64, FULL) if what == "paper's" else random_bundle(
        read_recipe(REFERENCE.parent / "recommended.toml"), 17, 64)
    asked = [Wanted((bundle.path,), engine, precision, request.config.getoption("--seconds"))
             for engine in ("native", "null")]
    runs = [benchmark.pedantic(started, asked, rounds=1)]
    runs += [started(*asked) for _ in range(request.config.getoption("--repeat") - 1)]
    for ours, empty in runs:
        assert ours["decode_delay"]["max"] < BUDGET_MS
        for who, figures in ((f"{what} network, {precision}", ours), ("an empty loop", empty)):
            for part in ("compute", "age", "decode_delay"):
                table.add(f"paced loop, {asked[0].seconds:g} s, 17 units, ms (budget 80)", who=who,
                          part=part, **figures[part], steps=figures["steps"],
                          missed=figures["missed"], fifo=figures["granted"]["fifo"])


@pytest.mark.parametrize("precision", ["fp32", "int8", "int8-all"])
def test_four_grids_on_one_core(benchmark, request, paper, table, precision):
    """Four times 17 units of the paper's widths and 256 channels in one loop."""
    path = paper(17, 64, FULL).path
    wanted = Wanted((path,) * 4, "native", precision, request.config.getoption("--seconds"), cpu=0)
    (figures,) = benchmark.pedantic(started, (wanted,), rounds=1)
    table.add(f"four grids x 17 units, paper's widths, one core, {wanted.seconds:g} s, ms of "
              f"{1e3 * PERIOD_S:.1f}", precision=precision,
              **{f"busy {k}": v for k, v in figures["busy"].items()},
              missed=figures["missed"], steps=figures["steps"])


def test_memory(benchmark, request, table):
    """Resident set while time passes, as `mu-run` without training: 120 MB at most, and flat."""
    wanted = Wanted((str(REFERENCE),), "native", "fp32", request.config.getoption("--simulated"),
                    paced=False)
    (figures,) = benchmark.pedantic(started, (wanted,), rounds=1)
    memory = figures["memory"]
    assert max(memory) <= MEMORY_MB
    assert memory[-1] - memory[1] <= FLAT_MB
    table.add("memory of a loop, MB", seconds=wanted.seconds, steps=figures["steps"],
              first=memory[0], after_a_tenth=memory[1], last=memory[-1], most=max(memory))
