"""Plots as inline SVG: a raster of spike trains, a line, a histogram."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import ArrayLike, NDArray

WIDTH, LEFT, BOTTOM = 860, 56, 34
INK, ACCENT, FAINT = "#1b1f24", "#0b5cad", "#b45f06"


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Round numbers from `low` to `high`."""
    span = max(high - low, 1e-12)
    step = 10.0 ** np.floor(np.log10(span / count))
    step *= next(m for m in (1, 2, 5, 10) if span / (m * step) <= count)
    return [float(v) for v in np.arange(np.ceil(low / step) * step, high + 1e-9 * span, step)]


class Axes:
    """Frame, scales and labels of one plot; the parts are added as SVG text."""

    def __init__(
        self, height: int, x: tuple[float, float], y: tuple[float, float], x_label: str,
        y_label: str,
    ) -> None:
        self.height, self.x, self.y = height, x, y
        self.parts: list[str] = []
        base = height - BOTTOM
        for v in ticks(*x):
            self.parts.append(f'<path d="M{self.px(v):.1f} {base}v5" stroke="{INK}"/>'
                              f'<text x="{self.px(v):.1f}" y="{base + 18}" '
                              f'text-anchor="middle">{v:g}</text>')
        self.parts.append(f'<path d="M{LEFT} {base}H{WIDTH - 10}" stroke="{INK}"/>')
        self.parts.append(f'<text x="{(WIDTH + LEFT) / 2}" y="{height - 2}" '
                          f'text-anchor="middle">{escape(x_label)}</text>')
        self.parts.append(f'<text transform="translate(12 {base / 2}) rotate(-90)" '
                          f'text-anchor="middle">{escape(y_label)}</text>')

    def px(self, v: float) -> float:
        """Horizontal place of a value."""
        return LEFT + (v - self.x[0]) / (self.x[1] - self.x[0]) * (WIDTH - 10 - LEFT)

    def py(self, v: float) -> float:
        """Vertical place of a value."""
        return (self.height - BOTTOM) * (1 - (v - self.y[0]) / (self.y[1] - self.y[0]) * 0.94)

    def y_ticks(self) -> None:
        """Numbers on the vertical axis."""
        for v in ticks(*self.y, 4):
            self.parts.append(f'<text x="{LEFT - 6}" y="{self.py(v) + 4:.1f}" '
                              f'text-anchor="end">{v:g}</text>')

    def svg(self, title: str) -> str:
        """The finished picture; `title` is read by screen readers."""
        return (f'<svg viewBox="0 0 {WIDTH} {self.height}" role="img" '
                f'aria-label="{escape(title)}">{"".join(self.parts)}</svg>')


def raster(
    decoded: Sequence[NDArray[np.float64]], reference: Sequence[NDArray[np.float64]],
    span_s: tuple[float, float],
) -> str:
    """One row per unit: decoded discharges above, reference below, times in seconds."""
    rows = len(decoded)
    axes = Axes(26 + BOTTOM + 22 * rows, span_s, (0, 1), "time (s)", "motor unit")
    for unit in range(rows):
        top = 8 + 22 * unit
        axes.parts.append(f'<text x="{LEFT - 8}" y="{top + 13}" text-anchor="end">{unit}</text>')
        for times, offset, colour in ((decoded[unit], 0, ACCENT), (reference[unit], 10, FAINT)):
            marks = "".join(f"M{axes.px(t):.1f} {top + offset}v8" for t in times
                            if span_s[0] <= t < span_s[1])
            axes.parts.append(f'<path d="{marks or "M0 0"}" stroke="{colour}" '
                              'stroke-width="1.4"/>')
    return axes.svg(f"Raster of {rows} motor units, decoded above reference")


def line(x: ArrayLike, y: ArrayLike, x_label: str, y_label: str) -> str:
    """A curve; points that are not numbers interrupt it."""
    xs, ys = np.asarray(x, float), np.asarray(y, float)
    fine = np.isfinite(ys)
    top = float(ys[fine].max()) if fine.any() else 1.0
    axes = Axes(220, (float(xs.min()), float(xs.max())), (0.0, top or 1.0), x_label, y_label)
    axes.y_ticks()
    path, pen = [], "M"
    for a, b, ok in zip(xs, ys, fine, strict=True):
        if ok:
            path.append(f"{pen}{axes.px(a):.1f} {axes.py(b):.1f}")
        pen = "L" if ok else "M"
    axes.parts.append(f'<path d="{"".join(path) or "M0 0"}" fill="none" stroke="{ACCENT}" '
                      'stroke-width="1.6"/>')
    return axes.svg(f"{y_label} over {x_label}")


def curves(
    series: Sequence[tuple[str, ArrayLike, ArrayLike]], x_label: str, y_label: str,
    top: float = 1.0,
) -> str:
    """Several named curves over one axis, from 0 to `top`; what is not a number is left out."""
    colours = ("#0b5cad", "#b45f06", "#2e7d32", "#7b1fa2", "#c2185b", "#00838f", "#5d4037")
    points = [(name, np.asarray(x, float), np.asarray(y, float)) for name, x, y in series]
    ends = np.concatenate([x for _, x, _ in points] or [np.zeros(1)])
    low, high = float(ends.min()), float(ends.max())
    axes = Axes(260, (low, high if high > low else low + 1), (0.0, top), x_label, y_label)
    axes.y_ticks()
    for number, (name, xs, ys) in enumerate(points):
        colour, fine = colours[number % len(colours)], np.isfinite(ys)
        at = [(axes.px(a), axes.py(b)) for a, b in zip(xs[fine], ys[fine], strict=True)]
        path = "L".join(f"{a:.1f} {b:.1f}" for a, b in at) or "0 0"
        dots = "".join(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.5" fill="{colour}"/>'
                       for a, b in at)
        axes.parts.append(
            f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>{dots}'
            f'<text x="{WIDTH - 16}" y="{axes.height - BOTTOM - 8 - 15 * number}" '
            f'text-anchor="end" fill="{colour}">{escape(name)}</text>')
    return axes.svg(f"{y_label} over {x_label}")


def histogram(values: ArrayLike, x_label: str, limit: float | None = None) -> str:
    """Counts of values on a logarithmic scale, so that single late steps stay visible."""
    v = np.asarray(values, float)
    v = v[np.isfinite(v)]
    high = float(max(v.max(), limit or 0) * 1.02) if len(v) else 1.0
    counts, edges = np.histogram(v, 120, (0, high))
    heights = np.log10(counts + 1.0)
    axes = Axes(220, (0, high), (0, max(float(heights.max()), 1.0)), x_label, "steps (log)")
    for exponent in range(int(heights.max()) + 1):
        place = axes.py(np.log10(10**exponent + 1.0))
        axes.parts.append(f'<text x="{LEFT - 6}" y="{place + 4:.1f}" text-anchor="end">'
                          f"{10**exponent}</text>")
    base = axes.height - BOTTOM
    for height, a, b in zip(heights, edges[:-1], edges[1:], strict=True):
        if height:
            axes.parts.append(
                f'<rect x="{axes.px(a):.1f}" y="{axes.py(height):.1f}" '
                f'width="{axes.px(b) - axes.px(a):.1f}" '
                f'height="{base - axes.py(height):.1f}" fill="{ACCENT}"/>')
    if limit is not None:
        axes.parts.append(f'<path d="M{axes.px(limit):.1f} 4V{base}" stroke="{FAINT}" '
                          f'stroke-dasharray="5 4"/><text x="{axes.px(limit) - 6:.1f}" y="16" '
                          f'text-anchor="end" fill="{FAINT}">budget {limit:g} ms</text>')
    return axes.svg(f"Histogram of {x_label}")
