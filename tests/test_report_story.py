"""A log as columns: what was written into it by the log's own writer, step by step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikewire.io.runlog import RunLog
from spikewire.io.source import Block
from spikewire.link.table import STATES
from spikewire.report.story import read_story
from spikewire.signals import InputError


class Source:
    """What a log asks of a source."""

    uri, fs_hz, lsb_uv, channels, block_samples, latency_s = "made:", 2000.0, 0.5, 2, 32, 0.0


def step(**changes: Any) -> dict[str, Any]:
    return {"step": 1, "end": 20, "now": 1.0, "state": "READY", "faults": 0, "age_ms": 2.0,
            "drive": 5.0, "drives": [5.0, None], "units": [0, 3]} | changes


def write(path: Path, blocks: list[tuple[int, float]], steps: list[dict[str, Any]]) -> None:
    """Blocks of 32 samples (first, arrival) and the steps that follow each."""
    log = RunLog(path, Source(), {"bundle": "x.mub"})
    for k, (first, arrival) in enumerate(blocks):
        log.block(Block(first, np.zeros((32, 2), np.int16), arrival))
        for facts in steps[k::len(blocks)]:
            log.step(facts["now"], facts)
    log.close()


def test_columns_are_what_was_logged(tmp_path: Path) -> None:
    write(tmp_path / "a.mcap", [(100, 10.0), (132, 10.016), (164, 10.032)], [
        step(end=120, now=10.001), step(step=3, end=160, now=10.018, state="FAULT", faults=0x8020),
        step(step=4, end=180, now=10.033, units=None, drives=[None, None])])
    s = read_story(tmp_path / "a.mcap")
    assert s.complete
    assert s.about["bundle"] == "x.mub"
    assert s.t_s == pytest.approx([0, 0.017, 0.032])
    assert s.step.tolist() == [1, 3, 4]
    assert [STATES[k] for k in s.state] == ["READY", "FAULT", "READY"]
    assert s.faults.tolist() == [0, 0x8020, 0]
    assert s.drives[:, 0] == pytest.approx([5, 5, np.nan], nan_ok=True)
    assert np.isnan(s.drives[:, 1:]).all()
    # by hand: since arrival of its block 1, 2, 1 ms; then 12, 4, 16 samples of it came after
    assert s.arrived_ms == pytest.approx([1, 2, 1])
    assert s.wait_ms == pytest.approx([6, 2, 8])
    assert [t.tolist() for t in s.trains(4)] == [[0.01, 0.03], [], [], [0.01, 0.03]]


def test_silence_brings_no_new_arrival(tmp_path: Path) -> None:
    write(tmp_path / "a.mcap", [(0, 10.0)], [step(end=20, now=10.001), step(end=20, now=10.02)])
    s = read_story(tmp_path / "a.mcap")
    assert s.arrived_ms == pytest.approx([1, np.nan], nan_ok=True)
    assert s.wait_ms == pytest.approx([6, np.nan], nan_ok=True)


def test_no_sample_yet_has_no_age(tmp_path: Path) -> None:
    write(tmp_path / "a.mcap", [(0, 10.0)], [step(step=0, end=0, age_ms=0.0, units=None)])
    assert np.isnan(read_story(tmp_path / "a.mcap").age_ms).all()


def test_a_run_that_was_killed_is_told_as_far_as_it_came(tmp_path: Path) -> None:
    write(tmp_path / "a.mcap", [(0, 10.0)], [step(now=10.0 + k / 100) for k in range(9)])
    whole = (tmp_path / "a.mcap").read_bytes()
    (tmp_path / "b.mcap").write_bytes(whole[: len(whole) // 2])
    s = read_story(tmp_path / "b.mcap")
    assert not s.complete
    assert 0 < len(s.t_s) < 9


def test_what_is_no_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such log"):
        read_story(tmp_path / "none.mcap")
    (tmp_path / "a.mcap").write_bytes(b"")
    assert not len(read_story(tmp_path / "a.mcap").t_s)
