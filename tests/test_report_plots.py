"""Plots: well-formed for a foreign parser (xml.etree), marks where the axes say, and small."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikewire.report import plots


def paths(svg: str, kind: str = "l") -> list[str]:
    """`d` of the curves."""
    return [p.get("d", "") for p in ET.fromstring(svg).iter("path")
            if p.get("class", "").startswith(kind) and not p.get("style")]


def test_ticks_are_round_and_inside() -> None:
    assert plots.ticks(0, 10, 5) == [0, 2, 4, 6, 8, 10]
    assert plots.ticks(17.9, 24.1) in ([18, 19, 20, 21, 22, 23, 24], [18, 20, 22, 24])


def test_line_is_interrupted_where_nothing_is_known() -> None:
    svg = plots.lines([("", [0, 1, 2, 3, 4], [1, 2, np.nan, 2, 1])], "t", "y")
    curve, = paths(svg)
    assert (curve.count("M"), curve.count("L")) == (2, 2)


@given(st.lists(st.floats(-1e6, 1e6) | st.just(float("nan")), min_size=50, max_size=400))
def test_thinning_keeps_the_extremes_of_every_column(values: list[float]) -> None:
    x, y = np.arange(len(values), dtype=float), np.array(values)
    a, b = plots.thinned(x, y, 20)
    assert len(a) == len(b) <= 40
    assert (np.diff(a) >= 0).all()
    column = (x / x[-1] * 19).astype(int)
    for k in range(20):
        here = y[column == k]
        shown = b[2 * k : 2 * k + 2]
        if np.isfinite(here).any():
            assert (shown.min(), shown.max()) == (np.nanmin(here), np.nanmax(here))
        else:
            assert not np.isfinite(shown).any()


def test_a_curve_of_any_length_is_small_and_keeps_its_peak() -> None:
    y = np.sin(np.arange(60_000) / 500)
    y[31_111] = 7.0
    svg = plots.lines([("drive", np.arange(60_000.0), y)], "t", "y", low=-1, top=7)
    assert len(svg) < 40_000
    tops = [float(p.split()[1]) for p in paths(svg)[0].replace("M", "L").split("L")[1:]]
    axes = plots.Axes(190, (0, 1), (-1, 7), "", "", ["drive"])
    assert min(tops) == pytest.approx(axes.py(7.0), abs=0.06)


@pytest.mark.parametrize("values", [[], [np.nan], [0.0], [1.0, 2.0, 300.0]])
def test_degenerate_data_still_gives_a_picture(values: list[float]) -> None:
    ET.fromstring(plots.histogram(values, "ms", 80))
    ET.fromstring(plots.lines([("", range(len(values)), values)], "t", "y"))
    ET.fromstring(plots.lines([], "t", "y"))
    ET.fromstring(plots.stacked([], ["a"], "ms", 80))


def test_histogram_has_a_bar_for_every_filled_bin() -> None:
    values = [1.0] * 50 + [40.0]
    svg = plots.histogram(values, "ms", 80)
    bars, _ = np.histogram(values, 120, (0, 80 * 1.02))
    assert len(list(ET.fromstring(svg).iter("rect"))) == np.count_nonzero(bars)
    assert plots.histogram([1.0, 40.0], "ms", 80, [50, 1]) == svg  # counted already


def test_histogram_points_at_marks() -> None:
    svg = plots.histogram([1.0, 2.0], "ms", marks=[("p99 < 2", 2.0)])
    assert "p99 < 2" in [t.text for t in ET.fromstring(svg).iter("text")]


def test_curves_are_named_and_leave_out_what_is_unknown() -> None:
    svg = plots.curves([("step 5", [20, 120], [0.25, 0.75]), ("a < b", [20, 40], [np.nan, 1.0])],
                       "window", "F1")
    names = [t.text for t in ET.fromstring(svg).iter("text")]
    assert {"step 5", "a < b"} <= set(names)
    dots = [(float(c.get("cx", 0)), float(c.get("cy", 0)))
            for c in ET.fromstring(svg).iter("circle")]
    assert len(dots) == 3
    low, high, top = dots
    assert low[0] == pytest.approx(plots.LEFT, abs=0.06)
    assert top[1] < high[1] < low[1]
    assert low[1] - high[1] == pytest.approx(2 * (high[1] - top[1]), abs=0.3)


def test_many_curves_are_told_apart_by_dashes() -> None:
    svg = plots.curves([(str(k), [0, 1], [0, 1]) for k in range(8)], "x", "y")
    kinds = [(p.get("class"), p.get("stroke-dasharray")) for p in ET.fromstring(svg).iter("path")
             if p.get("class", "").startswith("l") and not p.get("style")]
    assert len(set(kinds)) == 8


def test_stacked_parts_follow_each_other_to_their_sum() -> None:
    svg = plots.stacked([("p50", [10.0, 20.0, 5.0])], ["a", "b", "c"], "ms", 80)
    bars = [(float(r.get("x", 0)), float(r.get("width", 0)))
            for r in ET.fromstring(svg).iter("rect")]
    assert [x + w for x, w in bars[:-1]] == pytest.approx([x for x, _ in bars[1:]], abs=0.15)
    assert bars[1][1] == pytest.approx(2 * bars[0][1], abs=0.2)
    assert "35.0" in [t.text for t in ET.fromstring(svg).iter("text")]
