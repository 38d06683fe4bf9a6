"""Plots as inline SVG of a size that does not depend on how much is plotted.

Colours are the page's classes. What falls on one pixel is drawn once: of a curve the extremes.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import ArrayLike, NDArray

WIDTH, LEFT, RIGHT, BOTTOM = 860, 66, 16, 36
COLUMNS = WIDTH - LEFT - RIGHT  # pixels across
COLOURS = 4
NEUTRAL = 4  # a fifth, grey
CHARACTER = 6.6  # pixels, at 12 px
Doubles = NDArray[np.float64]
Series = tuple[str, ArrayLike, ArrayLike]


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Round numbers from `low` to `high`."""
    span = max(high - low, 1e-12)
    step = 10.0 ** np.floor(np.log10(span / count))
    step *= next(m for m in (1, 2, 5, 10) if span / (m * step) <= count)
    return [float(v) for v in np.arange(np.ceil(low / step) * step, high + 1e-9 * span, step)]


class Axes:
    """Frame, scales and labels of one plot; the parts are added as SVG text.

    Parameters
    ----------
    height : int, of the field
    x, y : low and high
    legend : names of the series
    kinds : their colours; otherwise in their order
    """

    def __init__(
        self, height: int, x: tuple[float, float], y: tuple[float, float], x_label: str,
        y_label: str, legend: Sequence[str] = (), kinds: Sequence[int] = (),
    ) -> None:
        self.x, self.y = x, y
        self.parts: list[str] = []
        self.top = 10 + self._legend(legend, kinds)
        self.base = self.top + height
        for v in ticks(*x):
            self.parts.append(f'<path class="axis" d="M{self.px(v):.1f} {self.base}v5"/>'
                              f'<text x="{self.px(v):.1f}" y="{self.base + 18}" '
                              f'text-anchor="middle">{v:g}</text>')
        self.parts.append(f'<path class="axis" d="M{LEFT} {self.base}H{WIDTH - RIGHT}"/>')
        self.parts.append(f'<text x="{(WIDTH - RIGHT + LEFT) / 2}" y="{self.base + 33}" '
                          f'text-anchor="middle">{escape(x_label)}</text>')
        self.parts.append(f'<text transform="translate(12 {(self.top + self.base) / 2:.0f}) '
                          f'rotate(-90)" text-anchor="middle">{escape(y_label)}</text>')

    def _legend(self, names: Sequence[str], kinds: Sequence[int]) -> int:
        """Names with their colours, in lines; the height they take."""
        at, row = float(LEFT), 0
        for number, name in enumerate(names):
            if not name:
                continue
            wide = 22 + CHARACTER * len(name)
            if at + wide > WIDTH and at > LEFT:
                at, row = float(LEFT), row + 1
            y = 14 + 18 * row
            self.parts.append(
                f'<path class="l{kinds[number] if kinds else number % COLOURS}" '
                f'{dashed(number) if not kinds else ""}style="stroke-width:3" '
                f'd="M{at:.0f} {y - 4}h14"/>'
                f'<text x="{at + 19:.0f}" y="{y}">{escape(name)}</text>')
            at += wide + 14
        return 18 * (row + 1) if any(names) else 0

    def px(self, v: float) -> float:
        """Horizontal place of a value."""
        return LEFT + (v - self.x[0]) / (self.x[1] - self.x[0]) * COLUMNS

    def py(self, v: float) -> float:
        """Vertical place of a value."""
        share = (v - self.y[0]) / (self.y[1] - self.y[0])
        return self.base - share * (self.base - self.top)

    def y_ticks(self, words: str = "{:g}") -> None:
        """Numbers on the vertical axis, with lines across."""
        for v in ticks(*self.y, 5):
            self.parts.append(
                f'<path class="rule" d="M{LEFT} {self.py(v):.1f}H{WIDTH - RIGHT}"/>'
                f'<text x="{LEFT - 7}" y="{self.py(v) + 4:.1f}" text-anchor="end">'
                f"{words.format(v)}</text>")

    def limit(self, v: float, words: str) -> None:
        """A dashed line up from a value."""
        self.parts.append(f'<path class="limit" d="M{self.px(v):.1f} {self.top - 4}V{self.base}"/>'
                          f'<text x="{self.px(v) - 6:.1f}" y="{self.top + 8}" text-anchor="end">'
                          f"{escape(words)}</text>")

    def svg(self, title: str) -> str:
        """The finished picture; `title` is read by screen readers."""
        return (f'<div class="plot"><svg viewBox="0 0 {WIDTH} {self.base + BOTTOM + 2}" role="img" '
                f'aria-label="{escape(title)}">{"".join(self.parts)}</svg></div>')


def dashed(number: int) -> str:
    """The second four series have the colours of the first, dashed."""
    return 'stroke-dasharray="6 3" ' if number % (2 * COLOURS) >= COLOURS else ""


def thinned(x: Doubles, y: Doubles, columns: int = COLUMNS) -> tuple[Doubles, Doubles]:
    """The lowest and highest of what falls into each of so many columns, if there is more.

    Parameters
    ----------
    x : float64 (n,), rising
    y : float64 (n,), NaN where nothing is known
    """
    if len(x) <= 2 * columns:
        return x, y
    column = ((x - x[0]) / max(x[-1] - x[0], 1e-300) * (columns - 1)).astype(np.int64)
    first = np.flatnonzero(np.diff(column, prepend=-1))
    ends = np.stack([np.fmin.reduceat(y, first), np.fmax.reduceat(y, first)], 1)
    rising = y[first] <= y[np.append(first[1:], len(y)) - 1]
    ends[~rising] = ends[~rising][:, ::-1]
    return np.repeat(x[first], 2), ends.ravel()


def path(axes: Axes, x: Doubles, y: Doubles) -> str:
    """The `d` of a curve; points that are not numbers interrupt it."""
    parts, pen = [], "M"
    for a, b, fine in zip(x, y, np.isfinite(y), strict=True):
        if fine:
            parts.append(f"{pen}{axes.px(a):.1f} {axes.py(b):.1f}")
        pen = "L" if fine else "M"
    return "".join(parts) or "M0 0"


def lines(
    series: Sequence[Series], x_label: str, y_label: str, top: float | None = None,
    height: int = 190, span: tuple[float, float] | None = None, dots: bool = False,
    low: float = 0.0,
) -> str:
    """Named curves over one axis.

    Parameters
    ----------
    series : list of (name, x, y)
        x rises; points that are not numbers interrupt a curve. An empty name has no legend.
    low, top : of the vertical axis; None: of the largest value
    span : of the horizontal axis; None: that of the data
    dots : mark every point, for few of them
    """
    points = [(name, np.asarray(x, float), np.asarray(y, float)) for name, x, y in series]
    if span is None:
        ends = np.concatenate([x for _, x, _ in points] or [np.zeros(1)])
        ends = ends if len(ends) else np.zeros(1)
        span = float(ends.min()), float(ends.max())
    if not span[1] > span[0]:
        span = span[0], span[0] + 1
    if top is None:
        known = [float(np.nanmax(y)) for _, _, y in points if np.isfinite(y).any()]
        top = 1.05 * max(known, default=1.0)
    axes = Axes(height, span, (low, top if top > low else low + 1.0), x_label, y_label,
                [n for n, _, _ in points])
    axes.y_ticks()
    for number, (_, x, y) in enumerate(points):
        kind = number % COLOURS
        axes.parts.append(f'<path class="l{kind}" {dashed(number)}'
                          f'd="{path(axes, *thinned(x, y))}"/>')
        if dots:
            fine = np.isfinite(y)
            axes.parts += [f'<circle class="f{kind}" cx="{axes.px(a):.1f}" cy="{axes.py(b):.1f}" '
                           'r="2.5"/>' for a, b in zip(x[fine], y[fine], strict=True)]
    return axes.svg(f"{y_label} over {x_label}")


def curves(series: Sequence[Series], x_label: str, y_label: str, top: float = 1.0) -> str:
    """Several named curves of few points, from 0 to `top`."""
    return lines(series, x_label, y_label, top, 210, dots=True)


def histogram(
    values: ArrayLike, x_label: str, limit: float | None = None, counts: ArrayLike | None = None,
    marks: Sequence[tuple[str, float]] = (),
) -> str:
    """Counts of values on a logarithmic scale, so that single late steps stay visible.

    Parameters
    ----------
    limit : a budget, drawn into the picture
    counts : how often each value came; None: once
    marks : names and values to be pointed at
    """
    v = np.asarray(values, float)
    often = np.ones(len(v)) if counts is None else np.asarray(counts, float)
    fine = np.isfinite(v) & (often > 0)
    v, often = v[fine], often[fine]
    high = float(max([v.max(initial=0.0), limit or 0.0, *[m for _, m in marks]]) * 1.02) or 1.0
    bars, edges = np.histogram(v, 120, (0, high), weights=often)
    heights = np.log10(bars + 1.0)
    axes = Axes(170, (0, high), (0, max(float(heights.max()), 1.0) * 1.12), x_label, "steps (log)")
    for exponent in range(int(heights.max()) + 1):
        place = axes.py(np.log10(10**exponent + 1.0))
        axes.parts.append(f'<path class="rule" d="M{LEFT} {place:.1f}H{WIDTH - RIGHT}"/>'
                          f'<text x="{LEFT - 7}" y="{place + 4:.1f}" text-anchor="end">'
                          f"{10**exponent}</text>")
    for height, a, b in zip(heights, edges[:-1], edges[1:], strict=True):
        if height:
            axes.parts.append(
                f'<rect class="f0" x="{axes.px(a):.1f}" y="{axes.py(height):.1f}" '
                f'width="{axes.px(b) - axes.px(a):.1f}" '
                f'height="{axes.base - axes.py(height):.1f}"/>')
    for number, (name, value) in enumerate(marks):
        x, y = axes.px(value), axes.top + 4 + 15 * number
        late = x > 0.8 * WIDTH  # its name would not fit behind it
        axes.parts.append(f'<path class="axis" d="M{x:.1f} {y}V{axes.base}"/>'
                          f'<text class="ink" x="{x - 4 if late else x + 4:.1f}" y="{y + 8}" '
                          f'text-anchor="{"end" if late else "start"}">{escape(name)}</text>')
    if limit is not None:
        axes.limit(limit, f"budget {limit:g} ms")
    return axes.svg(f"Histogram of {x_label}")


def stacked(
    rows: Sequence[tuple[str, Sequence[float]]], parts: Sequence[str], x_label: str, limit: float,
) -> str:
    """Bars of parts that follow each other, against a limit.

    Parameters
    ----------
    rows : name and the length of each part
    parts : their names, five at most
    """
    long = max([limit, *[sum(max(v, 0.0) for v in values) for _, values in rows]]) * 1.04
    kinds = [NEUTRAL, *range(COLOURS)]  # the first part is nobody's doing
    axes = Axes(34 * len(rows) + 14, (0, long), (0, 1), x_label, "", parts, kinds)
    for k, (name, values) in enumerate(rows):
        at, y = 0.0, axes.top + 14 + 34 * k
        axes.parts.append(f'<text x="{LEFT - 7}" y="{y + 16}" text-anchor="end">'
                          f"{escape(name)}</text>")
        for number, value in enumerate(values):
            wide = max(value, 0.0)
            axes.parts.append(
                f'<rect class="f{kinds[number]}" x="{axes.px(at):.1f}" y="{y}" height="24" '
                f'width="{max(axes.px(at + wide) - axes.px(at), 0.0):.1f}">'
                f"<title>{escape(parts[number])}: {value:.2f}</title></rect>")
            at += wide
        axes.parts.append(f'<text class="ink" x="{axes.px(at) + 6:.1f}" y="{y + 16}">'
                          f"{at:.1f}</text>")
    axes.limit(limit, f"budget {limit:g} ms")
    return axes.svg(f"{', '.join(parts)} against {limit:g}")
