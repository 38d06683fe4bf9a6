"""Marked events. Truth: the file's own lines, and what a page may send."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikewire.monitor import marks
from spikewire.monitor.marks import Marks, parse
from spikewire.signals import InputError


def test_a_mark_is_a_line_with_step_and_time(tmp_path: Path) -> None:
    made = Marks(tmp_path / "m.jsonl", "unix:/s")
    assert not (tmp_path / "m.jsonl").exists()
    said = made.take('{"mark": "cue 1", "step": 40, "now_s": 12.5}', 44, 12.6)
    assert said["file"] == str(tmp_path / "m.jsonl")
    made.take('{"mark": "a\\nb\\u0000"}', 50, 13.0)
    first, second = map(json.loads, (tmp_path / "m.jsonl").read_text().splitlines())
    assert (first["step"], first["now_s"], first["label"], first["newest_step"]) == (
        40, 12.5, "cue 1", 44)
    assert first["utc"].endswith("+00:00")
    assert (second["step"], second["now_s"], second["label"]) == (50, 13.0, "a b ")


def test_marks_are_appended_and_too_many_are_refused(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text('{"of": "yesterday"}\n')
    made = Marks(tmp_path / "m.jsonl", "s")
    said = [made.take('{"mark": ""}', k, 0.0) for k in range(30)]
    written = sum("marked" in s for s in said)
    assert 10 <= written < 30
    assert len((tmp_path / "m.jsonl").read_text().splitlines()) == written + 1


def test_a_disk_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch) -> None:
    made = Marks(tmp_path / "m.jsonl", "s")
    (tmp_path / "m.jsonl").symlink_to(tmp_path / "elsewhere")
    assert "refused" in made.take('{"mark": ""}', 1, 0.0)
    assert not (tmp_path / "elsewhere").exists()
    (tmp_path / "m.jsonl").unlink()
    monkeypatch.setattr(marks, "LARGEST_FILE", 10)
    assert "marked" in made.take('{"mark": ""}', 1, 0.0)
    assert "is full" in made.take('{"mark": ""}', 1, 0.0)["refused"]


@pytest.mark.parametrize("message", [
    "", "{", "[]", "1", '{"mark": 1}', '{"step": 1}', '{"mark": "", "step": -1}', "[" * 400,
    '{"mark": "", "step": 1.5}', '{"mark": "", "step": true}', '{"mark": "", "now_s": NaN}',
    '{"mark": "", "now_s": "1"}', '{"mark": "%s"}' % ("x" * 600), '{"mark": "", "step": 1e9}',
])
def test_what_is_no_mark_is_refused(message: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        parse(message, 1)


@given(st.text(max_size=200))
def test_any_message_is_a_mark_or_refused(message: str) -> None:
    with contextlib.suppress(ValueError):
        parse(message, 1)
    step, label, at = parse(json.dumps({"mark": message[:60]}), 7)
    assert (step, at) == (7, None)
    assert len(label.splitlines()) <= 1


@pytest.mark.parametrize("name", ["m.txt", "no/m.jsonl", "d.jsonl"])
def test_a_file_that_cannot_be_is_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").mkdir()
    with pytest.raises(InputError, match="--events"):
        Marks(tmp_path / name, "s")
