"""Stages: of every bar they add up to one real step, and what is not known is not shown."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from spikewire.report import latency
from spikewire.report.latency import Counted
from spikewire.report.story import Story

N = 1000


def story(**changes: object) -> Story:
    """A thousand steps: loop 0.8 ms and its jitter, 2 ms of block, 1 ms of transport."""
    rng = np.random.default_rng(0)
    loop = 0.8 + rng.gamma(1, 0.3, N)
    made = Story(
        {}, True, np.arange(N) / 100, np.arange(N) + 1, np.full(N, 2), np.zeros(N, int),
        loop + 3.0, loop, np.full(N, 2.0), np.full((N, 4), 10.0), np.zeros(0), np.zeros(0, int))
    return replace(made, **changes)


def totals(html: str) -> list[float]:
    """What stands behind the bars."""
    return [float(v) for v in re.findall(r'class="ink"[^>]*>(\d+\.\d)</text>', html)]


def test_the_bars_are_the_steps_at_the_percentiles() -> None:
    s = story()
    html = latency.of_log(s, 10.0, 0.5)
    age = np.sort(s.age_ms)
    assert totals(html) == pytest.approx([age[499] + 10.5, age[989] + 10.5, age[-1] + 10.5],
                                         abs=0.051)
    assert "<td>amplifier and transport</td>" in html
    assert re.search(r"amplifier and transport</td><td class=\"n\">1.00</td>", html)
    assert re.search(r"wait for the block</td><td class=\"n\">2.00</td>", html)


def test_steps_without_new_samples_say_nothing_of_stages() -> None:
    holes = np.where(np.arange(N) % 2, np.nan, 1.0)
    assert len(latency.split(story(arrived_ms=holes))["age"]) == N // 2
    assert "no step with new samples" in latency.of_log(
        story(arrived_ms=np.full(N, np.nan)), 10.0, None)


def test_without_a_log_the_age_stays_whole() -> None:
    counts = np.zeros(4000, np.int64)
    counts[[20, 60]] = [990, 10]
    age = Counted(counts, 0.05, {"p50": 1.05, "p99": 1.05, "max": 3.0})
    html = latency.section({"drive_delay_ms": 100.0}, None, age, age, 9.77, None)
    assert totals(html) == [10.8, 10.8, 12.8]
    assert "only a log has it" in html
    assert "transport</td>" not in html
    assert "no link, or one that does not say how fast" in html
