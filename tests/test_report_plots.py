"""Plots: well-formed for a foreign parser (xml.etree), and marks lie where the axes say."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from spikewire.report import plots


def paths(svg: str) -> list[str]:
    return [p.get("d", "") for p in ET.fromstring(svg).iter("path")]


def test_ticks_are_round_and_inside() -> None:
    assert plots.ticks(0, 10, 5) == [0, 2, 4, 6, 8, 10]
    assert plots.ticks(17.9, 24.1) == [18, 19, 20, 21, 22, 23, 24] or \
        plots.ticks(17.9, 24.1) == [18, 20, 22, 24]


def test_raster_draws_every_spike_inside_the_span_once() -> None:
    decoded = [np.array([1.0, 2.0, 9.0]), np.array([])]
    reference = [np.array([1.5]), np.array([2.5, 2.6])]
    svg = plots.raster(decoded, reference, (0.0, 4.0))
    marks = [d.count("v8") for d in paths(svg) if "v8" in d or d == "M0 0"]
    assert marks == [2, 1, 0, 2]


def test_raster_places_time_linearly() -> None:
    svg = plots.raster([np.array([0.0, 1.0, 2.0])], [np.array([])], (0.0, 4.0))
    x = [float(v) for d in paths(svg) if "v8" in d for v in re.findall(r"M([\d.]+) ", d)]
    assert x[1] - x[0] == pytest.approx(x[2] - x[1], abs=0.11)
    assert x[0] == pytest.approx(plots.LEFT, abs=0.06)


def test_line_is_interrupted_where_nothing_is_known() -> None:
    svg = plots.line([0, 1, 2, 3, 4], [1, 2, np.nan, 2, 1], "t", "y")
    curve = next(d for d in paths(svg) if "L" in d)
    assert (curve.count("M"), curve.count("L")) == (2, 2)


@pytest.mark.parametrize("values", [[], [np.nan], [0.0], [1.0, 2.0, 300.0]])
def test_degenerate_data_still_gives_a_picture(values: list[float]) -> None:
    ET.fromstring(plots.histogram(values, "ms", 80))
    ET.fromstring(plots.raster([], [], (0.0, 1.0)))


def test_histogram_has_a_bar_for_every_filled_bin() -> None:
    values = [1.0] * 50 + [40.0]
    svg = plots.histogram(values, "ms", 80)
    counts, _ = np.histogram(values, 120, (0, 80 * 1.02))
    assert len(list(ET.fromstring(svg).iter("rect"))) == np.count_nonzero(counts)


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
