"""A study's results put together: the folds and units of each decoder, and their figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from spikewire.score import CST_WINDOW_S, cst_correlation
from spikewire.signals import SpikeTrains
from spikewire.study import published as paper
from spikewire.study.data import Data
from spikewire.study.jobs import Job
from spikewire.study.windows import FOUND_F1, Grid, binned

Which = tuple[str, int, int, int, tuple[int, ...]]  # decoder, step, window, convolutions, nodes
LINEAR: Which = ("linear", *paper.BEST, 0, ())
SUMMED = ("s_per_epoch", "predict_ms", "compiled_ms", "weights")  # over SO-DCNNs: section 3.4.2


@dataclass
class Fold:
    """One decoder on one test part; the SO-DCNN's units come from a job each."""

    grid: Grid
    units: list[int] = field(default_factory=list)
    times: list[list[int]] = field(default_factory=list)
    against: dict[str, list[dict[str, float | None]]] = field(default_factory=dict)
    sums: dict[str, float] = field(default_factory=dict)
    epochs: list[int] = field(default_factory=list)


Cells = dict[Which, dict[int, Fold]]


def gather(done: Sequence[tuple[Job, dict[str, Any]]], data: Data) -> Cells:
    """Results by decoder and fold."""
    cells: Cells = {}
    for job, result in sorted(done, key=lambda d: (d[0]["fold"], d[0]["units"])):
        which = (job["decoder"], job["step"], job["window"], job.get("convolutions", 0),
                 tuple(job.get("nodes", ())))
        folds = cells.setdefault(which, {})
        fold = folds.setdefault(
            job["fold"], Fold(Grid.over(data.folds[job["fold"]], job["window"], job["step"])))
        fold.units += job["units"]
        fold.times += result["times"]
        for name, units in result["against"].items():
            fold.against.setdefault(name, []).extend(units)
        for name in SUMMED:
            if name in result:
                fold.sums[name] = fold.sums.get(name, 0) + result[name]
        fold.epochs.append(result.get("epochs", 0))
    return cells


def spread(values: Sequence[float | None]) -> tuple[float, float] | None:
    """Mean and standard deviation of what is defined."""
    known = [v for v in values if v is not None]
    return (float(np.mean(known)), float(np.std(known))) if known else None


def figures(folds: dict[int, Fold], data: Data) -> dict[str, Any]:
    """What the tables print of one decoder, ready for JSON.

    Returns
    -------
    dict
        `units` decoded; for each reference `found` (mean number of units above 0.7 per fold),
        `sensitivity`, `precision`, `f1` (mean and sd over units and folds) and `cst`; the sums over
        a decoder's networks, as means over the folds.
    """
    out: dict[str, Any] = {"units": len(next(iter(folds.values())).units), "folds": sorted(folds)}
    for name, trains in (("labels", data.labels), ("truth", data.truth)):
        if trains is None:
            continue
        scores = [s for fold in folds.values() for s in fold.against[name]]
        found = sum((s["f1"] or 0) > FOUND_F1 for s in scores) / len(folds)
        out[name] = {k: spread([s[k] for s in scores])
                     for k in ("sensitivity", "precision", "f1")} | {
            "found": found, "cst": cst([cst_of(f.times, f, trains) for f in folds.values()])}
    for name in SUMMED:
        sums = [fold.sums[name] for fold in folds.values() if name in fold.sums]
        out[name] = float(np.mean(sums)) if sums else None
    return out


def cst_of(
    times: Sequence[Sequence[int]], fold: Fold, reference: SpikeTrains
) -> dict[str, float | None]:
    """CST correlation over a fold, its ends left out by half the smoothing window.

    The reference is counted in bins of the decoder's step, as in section 3.4.1.
    """
    margin = round(CST_WINDOW_S / 2 * reference.fs_hz)
    found = SpikeTrains([np.asarray(t, np.int64) for t in times], reference.fs_hz)
    marks = fold.grid.marks(reference.only(fold.units).times)
    wanted = SpikeTrains(fold.grid.times(marks), reference.fs_hz)
    start, stop = fold.grid.bins
    return cst_correlation(found, wanted, start + margin, stop - margin)


def cst(folds: Sequence[dict[str, float | None]]) -> dict[str, float | None]:
    """Mean over the folds."""
    pairs = {k: spread([f[k] for f in folds]) for k in ("lag0", "best_lag")}
    return {k: v[0] if v else None for k, v in pairs.items()}


def label_figures(cells: Cells, data: Data) -> dict[str, Any] | None:
    """The labels themselves, scored against the truth in the bins of the best cell."""
    folds = cells.get(LINEAR)
    if folds is None or data.truth is None:
        return None
    scores, r = [], []
    for fold in folds.values():
        marks = [fold.grid.marks(t.times) for t in (data.labels, data.truth)]
        scores += binned(*marks)
        r.append(cst_of([t.tolist() for t in fold.grid.times(marks[0])], fold, data.truth))
    return {"units": len(data.labels), "truth": {
        k: spread([s[k] for s in scores]) for k in ("sensitivity", "precision", "f1")} | {
        "found": sum((s["f1"] or 0) > FOUND_F1 for s in scores) / len(folds), "cst": cst(r)}}
