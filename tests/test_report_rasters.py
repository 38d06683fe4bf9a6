"""Rasters: every discharge is drawn where it belongs, and a long recording takes no more room."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_world import regular

from spikewire.report import plots, rasters

NUMBERS = re.compile(r"([Mm])(-?[\d.]+) (-?[\d.]+)h([\d.]+)")


def drawn(d: str) -> list[tuple[float, float]]:
    """Left and right end of every mark of a row, by the rules of SVG paths."""
    at, out = 0.0, []
    for move, x, _, wide in NUMBERS.findall(d):
        at = float(x) if move == "M" else at + float(x)
        out.append((at, at + float(wide)))
        at += float(wide)
    return out


def rows(svg: str) -> list[list[tuple[float, float]]]:
    """Marks of every row of ticks."""
    return [drawn(p.get("d", "")) for p in ET.fromstring(svg).iter("path")
            if p.get("style") == "stroke-width:9"]


def test_raster_draws_every_spike_inside_the_span_once() -> None:
    decoded = [np.array([1.0, 2.0, 9.0]), np.array([])]
    reference = [np.array([1.5]), np.array([2.5, 2.6])]
    assert [len(r) for r in rows(rasters.raster(decoded, reference, (0.0, 4.0)))] == [2, 1, 0, 2]


def test_raster_places_time_linearly() -> None:
    svg = rasters.raster([np.array([0.0, 1.0, 2.0])], [np.array([])], (0.0, 4.0))
    left = [a for a, _ in rows(svg)[0]]
    assert left[1] - left[0] == pytest.approx(left[2] - left[1], abs=0.6)
    assert left[0] == pytest.approx(plots.LEFT, abs=0.06)


@given(st.lists(st.floats(0, 9.999), max_size=200))
def test_every_discharge_lies_on_a_mark(times: list[float]) -> None:
    marks = drawn(rasters.ticks_path(np.sort(np.array(times)), (0.0, 10.0), 5.0))
    for t in times:
        x = plots.LEFT + t / 10 * plots.COLUMNS
        assert any(a - 0.6 <= x <= b + 0.6 for a, b in marks)


def test_rates_are_one_over_the_interval_and_none_over_a_pause() -> None:
    at, hz = rasters.rates(np.array([1.0, 1.1, 1.3, 3.0, 3.05]))
    assert at.tolist() == [1.1, 1.3, 3.05]
    assert hz == pytest.approx([10, 5, 20])


def test_a_long_recording_of_many_units_stays_small() -> None:
    trains = [t / 2048 for t in regular(30, 600)]
    assert sum(map(len, trains)) > 200_000
    svg = rasters.activity(trains, (0.0, 600.0))
    assert len(svg) < 900_000
    ET.fromstring(svg)
    many = rasters.activity([t / 2048 for t in regular(120, 600)], (0.0, 600.0))
    assert len(many) < 1_200_000


def test_a_few_discharges_have_a_dot_each() -> None:
    svg = rasters.activity([np.array([1.0, 1.1, 1.3])], (0.0, 4.0))
    dots = [p.get("d", "") for p in ET.fromstring(svg).iter("path")
            if p.get("stroke-linecap") == "round"]
    assert dots[0].count("M") == 2
    ET.fromstring(rasters.activity([], (0.0, 1.0)))
    ET.fromstring(rasters.activity([np.zeros(0)], (0.0, 1.0)))
