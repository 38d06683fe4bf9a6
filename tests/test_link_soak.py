"""Fault injection: a few of each kind, and whether the oracle would notice a broken promise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from spikewire.commands import link as command
from spikewire.link import bench, receiver, soak
from spikewire.runtime.guard import Guard, Health


def run(name: str, profile: str = "full", trials: int = 6) -> dict[str, Any]:
    return soak.soak(name, trials, 3, profile, Guard, Health)


@pytest.mark.parametrize("name", soak.FAULTS)
def test_no_fault_breaks_a_promise(name: str) -> None:
    row = run(name)
    assert soak.broken(row) == 0, row
    assert row["trials"] == 6
    assert row["sent"] > 100


@pytest.mark.parametrize("profile", ["short", "classic"])
def test_nor_with_frames_that_bear_less(profile: str) -> None:
    for name in soak.ON_CAN:
        row = run(name, profile, 3)
        assert soak.broken(row) == 0, row


@pytest.mark.parametrize(("what", "value", "name", "promise"), [
    ("LATCH_S", 0.2, "decoder killed", "late_zero"),
    ("AGE_MAX_MS", 500.0, "source frozen", "stale"),
    ("INFO_S", -1.0, "silence", "not_recovered"),
])
def test_the_oracle_notices(
    monkeypatch: pytest.MonkeyPatch, what: str, value: float, name: str, promise: str
) -> None:
    """A receiver whose limits are wrong: the oracle has its own."""
    monkeypatch.setattr(receiver, what, value)
    made = receiver.Receiver
    if what == "AGE_MAX_MS":
        monkeypatch.setattr(bench, "Receiver", lambda model: made(model, age_max_ms=value))
        monkeypatch.setattr(receiver, "LATCH_S", 5.0)
        monkeypatch.setattr(receiver, "STOPPED", ())
        guard = Guard(bench.MODEL)
        monkeypatch.setattr(Guard, "judge", lambda self, now, h: (3, 0))
        assert guard.arm_id == bench.MODEL
    row = run(name)
    assert row[promise] > 0
    assert soak.broken(row) > 0


def test_believing_every_frame_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the check of the framing, and with a CRC that is always right."""
    from spikewire.link import framing, packing

    monkeypatch.setattr(framing.zlib, "crc32", lambda data: 0)
    monkeypatch.setitem(packing.CRCS, "crc16", (2, lambda data_id, body: 0))
    row = run("two bits wrong", trials=40)
    assert row["believed"] > 0
    assert soak.broken(row) > 0


def test_the_command_writes_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "r.json"
    assert command.main(["soak", "--trials", "2", "--only", "bit", "--out", str(out)]) == 0
    rows = json.loads(out.read_text())["rows"]
    assert [r["fault"] for r in rows] == ["one bit wrong", "two bits wrong", "many bits wrong"]
    assert "promises broken: 0" in capsys.readouterr().out
    assert command.main(["soak", "--only", "earthquake"]) == 2
    assert "there are one bit wrong, two bits" in capsys.readouterr().err
