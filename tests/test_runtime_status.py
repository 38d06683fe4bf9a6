"""What a run says of itself. Truth: the scripted loop's own frames."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")

from test_runtime_loop import Bench
from test_runtime_notify import Manager

from spikewire.runtime import status
from spikewire.runtime.notify import Notifier
from spikewire.runtime.status import Status, line, snapshot
from spikewire.signals import InputError


def test_the_snapshot_is_the_run(bundle_path: Path) -> None:
    bench = Bench(bundle_path)
    before = snapshot(bench.loop)
    assert (before["state"], before["steps"], before["frames"]) == ("BOOT", 0, 0)
    bench.run()
    now = snapshot(bench.loop)
    assert now.pop("monotonic_s") >= before["monotonic_s"] > 0
    assert now == {
        "pid": os.getpid(), "steps": 60, "frames": 63, "state": "SAFE", "armed": False,
        "faults": [], "age_p99_ms": pytest.approx(1.0, abs=0.06), "engine": "scripted",
        "bundle": "synthetic", "arm_id": f"{bench.identity:08x}", "n_mu": 4, "missed": 0}
    bench.loop.faults = 0b1000_0000_0000_0001
    assert snapshot(bench.loop)["faults"] == ["stale", "latched"]
    assert line(snapshot(bench.loop)) == (
        b"STATUS=SAFE, 60 steps, 0 missed, age p99 1.0 ms, stale, latched")


def test_a_reader_never_sees_half_a_file(bundle_path: Path, tmp_path: Path, monkeypatch) -> None:
    """Written as fast as it goes, read as fast as it goes: every reading is whole."""
    monkeypatch.setattr(status, "EVERY_S", 0.0)
    path = tmp_path / "status.json"
    writer = Status(Bench(bundle_path).loop, path)
    seen = [0.0]
    while len(set(seen)) < 20:
        seen.append(json.loads(path.read_text())["monotonic_s"])
    writer.close()
    assert seen == sorted(seen)
    assert os.listdir(tmp_path) == ["status.json"]
    assert oct(path.stat().st_mode & 0o777) in ("0o644", "0o664")


def test_the_last_word_is_the_end(bundle_path: Path, tmp_path: Path) -> None:
    bench, manager = Bench(bundle_path), Manager(str(tmp_path / "n"))
    bench.loop.notifier = Notifier(manager.address)
    writer = Status(bench.loop, tmp_path / "status.json")
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "BOOT"
    bench.run()
    writer.close()
    bench.loop.notifier.close()
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "SAFE"
    assert manager.heard()[-1].startswith("STATUS=SAFE, 60 steps")
    manager.socket.close()


def test_a_disk_that_hangs_keeps_nobody(bundle_path: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(status, "EVERY_S", 0.0)
    monkeypatch.setattr(status, "PATIENCE_S", 0.05)
    hung, free = threading.Event(), threading.Event()

    def hang(*_: object) -> None:
        hung.set()
        free.wait(20)

    writer = Status(Bench(bundle_path).loop, tmp_path / "status.json")
    monkeypatch.setattr(Status, "_write", hang)
    assert hung.wait(20)
    writer.close()
    assert not free.is_set()
    free.set()
    writer._thread.join()


def test_nobody_to_tell_starts_nothing(bundle_path: Path) -> None:
    writer = Status(Bench(bundle_path).loop)
    assert "status" not in [t.name for t in threading.enumerate()]
    writer.close()


def test_a_place_that_cannot_be_written_is_one_line(bundle_path: Path, tmp_path: Path) -> None:
    (tmp_path / "status.json").mkdir()
    with pytest.raises(InputError, match=r"status\.json: .*; type for instance --status /run/"):
        Status(Bench(bundle_path).loop, tmp_path / "status.json")
    assert os.listdir(tmp_path) == ["status.json"]


def test_a_folder_that_goes_away_ends_nothing(bundle_path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    writer = Status(Bench(bundle_path).loop, folder / "status.json")
    (folder / "status.json").unlink()
    folder.rmdir()
    writer._say()
    writer.close()
    assert not folder.exists()
