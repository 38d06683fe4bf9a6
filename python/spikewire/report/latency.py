"""Latency by stage against the budget: what was measured of each stage, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikewire.report import page, plots
from spikewire.report.story import Story

BUDGET_MS = 80.0
QUANTILES = {"p50": 50.0, "p99": 99.0, "max": 100.0}
LOOP = "read, front, network, decision, guard"


@dataclass(frozen=True)
class Counted:
    """A histogram of milliseconds as the loop keeps it.

    Attributes
    ----------
    counts : int64 (bins,)
    bin_ms : width of a bin
    figures : p50, p99 and max, ms
    """

    counts: NDArray[np.int64]
    bin_ms: float
    figures: dict[str, float]

    def plot(self, label: str) -> str:
        """The histogram with its percentiles."""
        middle = (np.arange(len(self.counts)) + 0.5) * self.bin_ms
        marks = [(f"{name} {value:.2f}", value) for name, value in self.figures.items()]
        return plots.histogram(middle, label, None, self.counts, marks)


def split(story: Story) -> dict[str, NDArray[np.float64]]:
    """What of the age is known for every step that brought new samples: milliseconds each."""
    known = np.isfinite(story.arrived_ms) & np.isfinite(story.age_ms)
    age, arrived, wait = (v[known] for v in (story.age_ms, story.arrived_ms, story.wait_ms))
    return {"age": age, "wait for the block": wait,
            "amplifier and transport": age - arrived - wait, LOOP: arrived}


def typical(values: NDArray[np.float64], q: float) -> int:
    """The one of the values that is closest below a percentile: its place."""
    rank = max(int(np.ceil(q / 100 * len(values))), 1)
    return int(np.argsort(values, kind="stable")[rank - 1])


def of_log(story: Story, look_ahead_ms: float, wire_ms: float | None) -> str:
    """Bars of single steps, in which the stages add up, and percentiles of each stage."""
    stages = split(story)
    if not len(stages["age"]):
        return page.note("The log holds no step with new samples.")
    names, wire = [n for n in stages if n != "age"], [] if wire_ms is None else [wire_ms]
    bars = []
    for name, q in QUANTILES.items():
        at = typical(stages["age"], q)
        bars.append((name, [look_ahead_ms, *[float(stages[n][at]) for n in names], *wire]))
    rows = [(n, *(page.figure(float(np.percentile(stages[n], q)), 2) for q in QUANTILES.values()))
            for n in names]
    parts = ["look-ahead", *names, *["wire"] * len(wire)]
    return plots.stacked(bars, parts, "ms", BUDGET_MS) + page.table(
        ("stage (ms)", *QUANTILES), rows) + page.note(
        "Each bar is one step: the one whose newest sample had the median age when its frame was "
        "judged, the age of the 99th percentile, and the greatest. The loop takes no time stamps "
        "between front, network, decision and guard; they are one part.")


def without_log(age: Counted, look_ahead_ms: float, wire_ms: float | None) -> str:
    """Bars without the stages inside the age."""
    wire = [] if wire_ms is None else [wire_ms]
    bars = [(n, [look_ahead_ms, age.figures[n], *wire]) for n in QUANTILES]
    parts = ["look-ahead", "age at hand-over", *["wire"] * len(wire)]
    return plots.stacked(bars, parts, "ms", BUDGET_MS) + page.note(
        "How the age divides into the wait for the amplifier's block, transport, and the loop is "
        "not known of this run: only a log has it (mu-run --record).")


def section(summary: dict[str, Any], story: Story | None, age: Counted, compute: Counted,
            look_ahead_ms: float, wire_ms: float | None) -> str:
    """Stages, age and compute of a run in real time."""
    stages = of_log(story, look_ahead_ms, wire_ms) if story else without_log(
        age, look_ahead_ms, wire_ms)
    wire = (f"Wire: {wire_ms:.2f} ms, computed from the frames of a step and the rate of the line."
            if wire_ms is not None else
            "Wire: no link, or one that does not say how fast it is, so it is not in the bars.")
    return stages + page.note(
        f"Look-ahead: {look_ahead_ms:.1f} ms, what the decoder waits for behind the middle of the "
        f"label's bin. {wire} Not in the budget: the causal smoother of the drive, "
        f"{summary['drive_delay_ms']:.0f} ms.") + (
        "<h3>Age of the newest sample at hand-over</h3>" + age.plot("age (ms)")
        + "<h3>Compute</h3>" + compute.plot("compute (ms)") + page.note(
            "Of every decoded step of the run. Compute: from taking the step's samples to the "
            "hand-over of its frame."))
