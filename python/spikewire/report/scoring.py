"""The page of mu-score: each unit, which was taken for which, both trains, both drives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spikewire.report import page, plots, rasters
from spikewire.score import (
    CST_MAX_LAG_S,
    CST_RATE_HZ,
    CST_SEGMENT_S,
    CST_WINDOW_S,
    best_lag,
    confusion,
    smoothed_cst,
)
from spikewire.signals import SpikeTrains

SHOWN_S = 15.0  # of both trains
WIDEST = 60  # units of a matrix
# name of a figure -> heading, digits, factor
FIGURES = {
    "reference": ("reference", 0, 1), "predicted": ("found", 0, 1), "f1": ("F1", 3, 1),
    "f1_near": ("F1 near", 3, 1), "sensitivity": ("sensitivity", 3, 1),
    "precision": ("precision", 3, 1), "agreement": ("agreement", 3, 1),
    "agreement_1ms": ("1 ms", 3, 1), "on_time": ("on time (%)", 1, 100),
    "time_error_ms": ("error (ms)", 2, 1), "isi_error_ms": ("ISI error (ms)", 2, 1),
    "lag_samples": ("lag", 0, 1),
}


@dataclass(frozen=True)
class Compared:
    """Two sets of spike trains over the same samples [start, stop).

    Attributes
    ----------
    pairs : list of (predicted unit, reference unit), as they are scored
    """

    predicted: SpikeTrains
    reference: SpikeTrains
    pairs: Sequence[tuple[int, int]]
    start: int
    stop: int

    @property
    def span_s(self) -> tuple[float, float]:
        """The span in seconds."""
        return self.start / self.reference.fs_hz, self.stop / self.reference.fs_hz


def names(c: Compared) -> list[str]:
    """Of the pairs: one number where both are called the same."""
    return [str(r) if p == r else f"{r} ({p})" for p, r in c.pairs]


def per_unit(c: Compared, figures: dict[str, Any]) -> str:
    """The table of units."""
    rows = [(name, *(page.figure(None if unit[k] is None else scale * unit[k], digits)
                     for k, (_, digits, scale) in FIGURES.items()))
            for name, unit in zip(names(c), figures["per_unit"], strict=True)]
    return page.table(("unit", *(h for h, _, _ in FIGURES.values())), rows) + page.note(
        "F1, sensitivity and precision count bins of 20 samples; near: the neighbouring bin is "
        "allowed. Agreement: rate of agreement within one sample, and within 1 ms. On time: share "
        "of the hits within one sample; errors are mean distances. Each unit was first moved by "
        "its own constant lag, in samples.")


def confused(c: Compared) -> str:
    """Discharges in common of every unit with every unit."""
    mine = [p for p, _ in c.pairs] + [k for k in range(len(c.predicted))
                                      if k not in {p for p, _ in c.pairs}]
    theirs = [r for _, r in c.pairs] + [k for k in range(len(c.reference))
                                        if k not in {r for _, r in c.pairs}]
    mine, theirs = mine[:WIDEST], theirs[:WIDEST]
    predicted = c.predicted.between(c.start, c.stop).only(mine).times
    reference = c.reference.between(c.start, c.stop).only(theirs).times
    both = confusion(predicted, reference, c.reference.fs_hz)
    paired = min(len(c.pairs), len(mine), len(theirs))
    hit = np.array([both[k, k] if k < paired else 0 for k in range(max(both.shape, default=0))])
    rows = [(str(r), [*both[k].tolist(), len(t) - int(hit[k])])
            for k, (r, t) in enumerate(zip(theirs, reference, strict=True))]
    extra = [len(t) - int(hit[k]) for k, t in enumerate(predicted)]
    rows.append(("extra", [*extra, sum(extra)]))
    totals = [len(t) for t in reference] + [sum(map(len, predicted))]
    own = [k if k < paired else None for k in range(len(theirs))] + [None]
    return page.matrix(rows, [*map(str, mine), "missed"], totals, len(mine),
                       "reference \u2193 found \u2192", own) + page.note(
        "Discharges that two units have in common within 1 ms; every pair with its own constant "
        "lag. Outlined: the pairs that are scored. A dark field elsewhere: units that changed "
        "places or became one; a few percent everywhere are chance. Missed: of the reference, not "
        "found by its own unit; extra: found, but not in its own reference.")


def informative(times: Sequence[Any], start: int, stop: int, fs_hz: float) -> tuple[float, float]:
    """Seconds in which the most units of the reference fire, the earliest such."""
    length = min(SHOWN_S, (stop - start) / fs_hz)
    starts = np.arange(start, max(stop - length * fs_hz, start) + 1, fs_hz)
    active = [sum(bool(np.searchsorted(t, s + length * fs_hz) > np.searchsorted(t, s))
                  for t in times) for s in starts]
    first = float(starts[int(np.argmax(active))]) / fs_hz
    return first, first + max(length, 1 / fs_hz)


def both_drives(c: Compared, cst: dict[str, Any]) -> str:
    """The two cumulative spike trains, and how well they agree."""
    fs = c.reference.fs_hz
    theirs = [c.reference.times[r] for _, r in c.pairs]
    mine = [c.predicted.times[p] - best_lag(t, c.predicted.times[p])
            for (p, _), t in zip(c.pairs, theirs, strict=True)]
    a, b = (smoothed_cst(t, c.start, c.stop, fs) for t in (mine, theirs))
    at = c.start / fs + np.arange(len(a)) / CST_RATE_HZ
    shown = plots.lines([("found", at, a), ("reference", at, b)], "time (s)",
                        "neural drive (pulse/s)", span=c.span_s)
    rows = [(f"segments of {CST_SEGMENT_S:g} s, lag 0", page.figure(cst["lag0"], 3)),
            (f"segments of {CST_SEGMENT_S:g} s, best lag within {1e3 * CST_MAX_LAG_S:g} ms",
             page.figure(cst["best_lag"], 3)),
            ("the whole span, lag 0", page.figure(cst["whole"], 3))]
    return shown + page.table(("correlation of the two, mean removed", "r"), rows) + page.note(
        f"Cumulative spike trains of the paired units, in a Hann window of {1e3 * CST_WINDOW_S:g} "
        "ms without delay, each unit moved by its own lag. On a steady drive the curves are nearly "
        "flat and r compares noise.")


def sections(c: Compared, figures: dict[str, Any]) -> list[page.Section]:
    """All about the comparison."""
    fs = c.reference.fs_hz
    theirs = [c.reference.times[r] for _, r in c.pairs]
    span = informative(theirs, c.start, c.stop, fs)
    shown = rasters.raster([c.predicted.times[p] / fs for p, _ in c.pairs],
                           [t / fs for t in theirs], span, names(c), "found")
    return [("Each unit", per_unit(c, figures)), ("Which was taken for which", confused(c)),
            ("Discharges", shown + page.note(
                f"{span[0]:.1f} to {span[1]:.1f} s, where the most units fire; as they were found, "
                "without any lag taken away.")),
            ("Neural drive", both_drives(c, figures["cst"]))]


def tiles(figures: dict[str, Any]) -> str:
    """The figures that matter most."""
    unpaired = figures.get("unpaired", {})
    return page.tiles([
        ("Mean F1", page.figure(figures["f1"], 3), f"worst {page.figure(figures['f1_worst'], 3)}"),
        ("Rate of agreement", page.figure(figures["agreement"], 3), "within one sample"),
        ("Units above F1 0.7", f"{figures['units_above_0.7']}", f"of {figures['units']}"),
        ("CST correlation", page.figure(figures["cst"]["lag0"], 2), "1 s, lag 0"),
        *([("Without a partner", f"{unpaired['predicted']} + {unpaired['reference']}",
            "found + reference")] if any(unpaired.values()) else [])])


def write(path: Path, c: Compared, figures: dict[str, Any], titles: tuple[str, str],
          ran_section: page.Section) -> None:
    """Write the page; `titles` are what was compared with what."""
    page.write_page(path, f"{titles[0]} against {titles[1]}",
                    [*sections(c, figures), ran_section],
                    about=f"{c.span_s[0]:g} to {c.span_s[1]:g} s at {c.reference.fs_hz:g} Hz; "
                          "units are called as in the reference (in brackets: as found)",
                    top=tiles(figures))
