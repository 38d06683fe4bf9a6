"""Spike trains as SVG: rows of discharges, with instantaneous rates or beside a reference."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from spikewire.report.plots import COLUMNS, LEFT, RIGHT, WIDTH, Axes

Doubles = NDArray[np.float64]
Span = tuple[float, float]  # seconds
MOST_PLACES = 24_000  # of a picture: its size in bytes does not grow with the recording
LONGEST_S = 0.5  # between two discharges of which a rate is made
ROW, TICK = 34, 9
TOP_HZ = 20.0, 100.0  # of the rates' scale


def marks(times: Doubles, span: Span, per_pixel: float = 2.0) -> list[tuple[float, float]]:
    """Where discharges are to be drawn: left edge and width in pixels, neighbours as one."""
    inside = times[(times >= span[0]) & (times < span[1])]
    place = np.unique((per_pixel * COLUMNS * (inside - span[0]) / (span[1] - span[0])).astype(int))
    runs = np.split(place, np.flatnonzero(np.diff(place) > 1) + 1)
    return [(LEFT + r[0] / per_pixel, (len(r) - 1) / per_pixel + 1.2) for r in runs if len(r)]


def ticks_path(times: Doubles, span: Span, middle: float, per_pixel: float = 2.0) -> str:
    """The `d` of a row of discharges, to be stroked as wide as the row is high."""
    made = marks(times, span, per_pixel)
    if not made:
        return "M0 0"
    parts = [f"M{made[0][0]:g} {middle:g}h{made[0][1]:.4g}"]
    parts += [f"m{b[0] - a[0] - a[1]:.4g} 0h{b[1]:.4g}" for a, b in pairwise(made)]
    return "".join(parts)


def raster(decoded: Sequence[Doubles], reference: Sequence[Doubles], span_s: Span,
           names: Sequence[str] = (), first: str = "decoded") -> str:
    """One row per unit: decoded discharges above, reference below, times in seconds."""
    rows = len(decoded)
    fine = 2.0 if rows < 40 else 1.0
    axes = Axes(6 + 24 * rows, span_s, (0, 1), "time (s)", "motor unit",
                (first, "reference"))
    for unit in range(rows):
        top = axes.top + 24 * unit
        name = names[unit] if names else str(unit)
        axes.parts.append(f'<text x="{LEFT - 8}" y="{top + 15}" text-anchor="end">{name}</text>')
        for times, offset, kind in ((decoded[unit], 5.5, 0), (reference[unit], 15.5, 1)):
            axes.parts.append(f'<path class="l{kind}" style="stroke-width:9" '
                              f'd="{ticks_path(times, span_s, top + offset, fine)}"/>')
    return axes.svg(f"Raster of {rows} motor units, decoded above reference")


def rates(times: Doubles) -> tuple[Doubles, Doubles]:
    """Instantaneous rates: the moment of the later discharge, and one over the interval."""
    gaps = np.diff(times)
    near = (gaps > 0) & (gaps <= LONGEST_S)
    return times[1:][near], 1.0 / gaps[near]


def activity(trains: Sequence[Doubles], span_s: Span) -> str:
    """One row per unit: discharges as ticks, instantaneous rate as dots above them.

    Where more than a dot falls on a column of pixels, a line joins the lowest and the highest.
    """
    rows = len(trains)
    made = [rates(t) for t in trains]
    fast = np.concatenate([r for _, r in made] or [np.zeros(0)])
    often = np.percentile(fast, 99) if len(fast) else 0.0
    top_hz = float(np.clip(10 * np.ceil(often / 10), *TOP_HZ))
    columns = int(np.clip(MOST_PLACES / max(rows, 1), 100, COLUMNS))
    axes = Axes(6 + ROW * rows, span_s, (0, 1), "time (s)", "motor unit",
                ("discharges", f"rate, 0 to {top_hz:g} /s in each row"))
    for unit, (times, (at, hz)) in enumerate(zip(trains, made, strict=True)):
        base = axes.top + ROW * (unit + 1)
        row = base - TICK - 2, ROW - TICK - 4
        axes.parts.append(f'<path class="rule" d="M{LEFT} {base + 1}H{WIDTH - RIGHT}"/>'
                          f'<text x="{LEFT - 8}" y="{base - 8}" text-anchor="end">{unit}</text>'
                          f'<path class="l0" style="stroke-width:{TICK}" '
                          f'd="{ticks_path(times, span_s, base - TICK / 2, columns / COLUMNS)}"/>'
                          f'<path class="l1" stroke-linecap="round" style="stroke-width:2.2" '
                          f'd="{dots(at, hz, span_s, row, top_hz, columns)}"/>')
    return axes.svg(f"Discharges and instantaneous rates of {rows} motor units")


def dots(at: Doubles, hz: Doubles, span: Span, row: Span, top_hz: float, columns: int) -> str:
    """The `d` of a row's rates; a path without length and round ends is a dot."""
    inside = (at >= span[0]) & (at < span[1])
    place = (columns * (at[inside] - span[0]) / (span[1] - span[0])).astype(int)
    y = row[0] - row[1] * np.clip(hz[inside] / top_hz, 0, 1)
    first = np.flatnonzero(np.diff(place, prepend=-1))
    if not len(first):
        return "M0 0"
    x = LEFT + place[first] * (COLUMNS / columns)
    low, high = np.maximum.reduceat(y, first), np.minimum.reduceat(y, first)
    return "".join(f"M{a:.4g} {b:.4g}v{c - b:.3g}" for a, b, c in zip(x, low, high, strict=True))
