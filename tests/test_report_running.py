"""The page of a run: with its log and without, its states and faults in words, and small."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_world import EVIL, read, regular
from test_report_latency import N, story

from spikewire.link.load import wire_s
from spikewire.monitor.words import FAULT_WORDS
from spikewire.report import plots, ran, running
from spikewire.report.latency import Counted
from spikewire.report.running import Ran
from spikewire.signals import SpikeTrains

FIGURES = {"p50": 1.0, "p99": 2.0, "max": 3.0}


def summary(**changes: Any) -> dict[str, Any]:
    return {
        "engine": "native (fp32)", "decoder": "network", "n_mu": 3,
        "bundles": [{"bundle": EVIL, "n_mu": 3, "upkeep": None}],
        "steps": 1010, "decoded": 1000, "missed": 10, "gaps": 1, "silent": 2, "spikes": 900,
        "states": {"READY": 990, "SAFE": 10}, "age_ms": FIGURES, "compute_ms": FIGURES,
        "decode_delay_ms": {k: v + 10 for k, v in FIGURES.items()}, "drive_delay_ms": 100.0,
        "links": [{"uri": "serial:/dev/x?baud=921600", "sent": 1000, "dropped": 3, "recovered": 0},
                  {"uri": f"lsl:{EVIL}", "sent": 1, "dropped": 0, "recovered": 0}],
        "arm_id": "00000001", "troubles": {"lost_samples": 20}} | changes


def made(**changes: Any) -> Ran:
    counted = Counted(np.bincount([20, 20, 40], minlength=4000), 0.05, FIGURES)
    return replace(Ran(summary(), counted, counted, story(), None, 9.77), **changes)


def write(path: Path, run: Ran) -> str:
    running.write(path, run, ran.section(f"mu-run {EVIL}"), EVIL)
    return read(path).text


def test_with_a_log_everything_is_shown_over_time(tmp_path: Path) -> None:
    faults = np.where(np.arange(N) > 500, 1 << 1 | 1 << 5, 0)
    state = np.where(np.arange(N) > 500, 5, 2)
    step = np.arange(N) + 1 + 10 * (np.arange(N) > 500)
    text = write(tmp_path / "p.html", made(story=story(faults=faults, state=state, step=step),
                                           upkeep=["upkeep: solved again 2 times"]))
    assert "only a log has it" not in text
    assert FAULT_WORDS["gap"] + "4995.019.99" in text
    assert FAULT_WORDS["overrun"] in text
    assert "not to be used: no drive is told" in text
    assert "5.0110" in text  # ten steps missed at 5.01 s
    assert "solved again 2 times" in text
    assert "source: lost samples20" in text
    assert text.count(EVIL) >= 4


@pytest.mark.parametrize(("states", "missed", "kind"), [
    ({"READY": 997, "SAFE": 3}, 0, "good"), ({"READY": 997, "SAFE": 3}, 1, "usable"),
    ({"READY": 950, "SAFE": 50}, 0, "usable"), ({"READY": 700, "FAULT": 300}, 0, "poor"),
])
def test_the_sentence_at_the_top_has_the_colour_of_what_it_says(
    states: dict[str, int], missed: int, kind: str
) -> None:
    html = running.verdict(made(summary=summary(states=states, missed=missed)))
    assert f'class="said {kind}"' in html
    assert "within 12.8 ms" in html  # age 2, look-ahead 10, wire 0.77
    late = dict.fromkeys(FIGURES, 90.0)
    assert 'class="said poor"' in running.verdict(made(summary=summary(decode_delay_ms=late)))


def test_without_a_log_the_page_says_what_is_not_known(tmp_path: Path) -> None:
    text = write(tmp_path / "p.html", made(story=None))
    assert text.count("only a log has it") == 4  # stages, when states, faults, drive
    assert "900 spikes of 3 units in all" in text
    trains = SpikeTrains(regular(3, 10), 2048.0)
    text = write(tmp_path / "p.html", made(story=None, trains=trains))
    assert "Times are those of --trains" in text


def test_as_fast_as_possible_measures_no_latency(tmp_path: Path) -> None:
    run = made(summary=summary(age_ms=None, compute_ms=None, decode_delay_ms=None, links=[]),
               age=None, compute=None)
    text = write(tmp_path / "p.html", run)
    assert "latency was not measured" in text
    assert "None: nobody was told anything" in text


def test_a_run_that_heard_nothing_breaks_nothing(tmp_path: Path) -> None:
    none = Counted(np.zeros(4000, np.int64), 0.05, dict.fromkeys(FIGURES, 0.0))
    empty = story(**{name: getattr(story(), name)[:0] for name in (
        "t_s", "step", "state", "faults", "age_ms", "arrived_ms", "wait_ms", "drives")})
    for told in (empty, None):
        write(tmp_path / "p.html", made(story=told, age=none, compute=none,
                                        summary=summary(states={}, steps=0, decoded=0, spikes=0)))


def test_an_hour_stays_small(tmp_path: Path) -> None:
    n = 100_000
    rng = np.random.default_rng(0)
    long = story(
        t_s=np.arange(n) / 28.0, step=np.arange(n), state=rng.integers(2, 6, n),
        faults=rng.integers(0, 1 << 13, n), age_ms=rng.gamma(2, 1, n) + 1,
        arrived_ms=rng.gamma(2, 0.4, n), wait_ms=np.ones(n), drives=rng.normal(80, 9, (n, 4)),
        spike_s=np.sort(rng.uniform(0, 3500, 300_000)), spike_unit=rng.integers(0, 30, 300_000))
    write(tmp_path / "p.html", made(story=long, summary=summary(n_mu=30)))


def test_stretches_last_from_a_frame_to_the_next() -> None:
    t = np.arange(11.0)
    yes = np.isin(np.arange(11), [2, 3, 7])
    found = re.findall(r"M([\d.]+) {y}h([\d.]+)", running.stretches(t, yes, (0.0, 10.0)))
    pixel = plots.COLUMNS / 10
    ends = [(float(a) - plots.LEFT, float(a) + float(b) - plots.LEFT) for a, b in found]
    assert [v for e in ends for v in e] == pytest.approx(
        [2 * pixel, 4 * pixel, 7 * pixel, 8 * pixel], abs=1.01)
    assert running.stretches(t, np.zeros(11, bool), (0.0, 10.0)) == "M0 0"


@pytest.mark.parametrize(("uri", "ms"), [
    # a step: 64 bytes + type + CRC-32, two bytes of COBS: 71 bytes of ten bits
    ("serial:/dev/ttyTHS1?baud=921600", 710 / 921.6),
    ("serial:/dev/ttyTHS1", 710 / 921.6), ("serial:/dev/ttyTHS1?stop=2", 781 / 921.6),
    ("can:can0", None), ("udp:127.0.0.1:5", None), ("null:", None),
    # drive: 8 bytes, 98 bits of which 24 stuff another, and 13: 135
    ("slcan:/dev/ttyACM0?bitrate=500000", 135 / 500),
])
def test_the_wire_is_as_slow_as_its_rate(uri: str, ms: float | None) -> None:
    found = wire_s(uri, [20])
    assert found is None if ms is None else 1e3 * found == pytest.approx(ms, rel=0.02)
    if ms is not None:
        assert wire_s(uri, [20, 20]) == pytest.approx(2 * found)
