"""mu-calibrate's way through its stages. The stages themselves are other commands, played here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_world import read, regular

from spikewire.commands import calibrate
from spikewire.io.npz import write_recording, write_trains
from spikewire.io.replay import Replay
from spikewire.runtime.clock import VirtualClock
from spikewire.signals import Recording, SpikeTrains

FS_HZ = 2048.0
TRAINS = SpikeTrains(regular(6, 12), FS_HZ)
PLAN = ["--hold", "10", "--ramp", "1", "--rest", "1", "--maximum", "0"]  # 14 s


class Stages:
    """Stands where the other commands are called: leaves their files, and what they would say."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.f1: dict[str, list[float]] = {"auto": [0.95] * 6, "linear": [0.9] * 6}
        self.better, self.fails = True, ""

    def __call__(self, name: str, *words: str) -> dict[str, Any]:
        self.calls.append(name)
        if name == self.fails:
            raise SystemExit(2)
        out = [words[k + 1] for k, w in enumerate(words) if w in ("--out", "--trains")]
        for path in map(Path, out):
            if name == "train":
                path.mkdir()
                write_trains(path / "labels.npz", TRAINS)
            elif path.suffix == ".npz":
                write_trains(path, TRAINS)
            else:
                path.write_bytes(f"{name} {path.name}".encode())
        f1 = self.f1.get(Path(words[0]).stem, [0.5])
        return {"train": {"decoder": "network", "left_out": {}},
                "adapt": {"better": self.better, "along_mm": 2.0, "around_mm": 0.0,
                          "velocity": 1.0, "bad_channels": []},
                "score": {"per_unit": [{"f1": v} for v in f1]}}.get(name, {})


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> Stages:
    played = Stages()
    monkeypatch.setattr(calibrate, "call", played)
    return played


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """mu-calibrate on a contraction that is played faster than real."""
    t = np.arange(round(15 * FS_HZ)) / FS_HZ
    loud = np.where((t > 1.5) & (t < 12.5), 100.0, 5.0)[:, None]
    emg = (np.random.default_rng(0).normal(0, 1, (len(t), 16)) * loud).astype(np.float32)
    write_recording(tmp_path / "in.npz", Recording(emg, FS_HZ))
    monkeypatch.setattr("spikewire.runtime.clock.MonotonicClock", VirtualClock)

    def run(*words: str) -> int:
        return calibrate.main(["--source", f"replay:{tmp_path / 'in.npz'}", "--out",
                               str(tmp_path / "x.mub"), "--grid", "4x4@8", *PLAN, *words])

    return run


def test_one_command_from_electrodes_to_bundle(
    go: Callable[..., int], stages: Stages, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert go() == 0
    assert stages.calls == ["decompose", "train", "export", "run", "score", "export", "run",
                            "score"]
    said = capsys.readouterr().out
    assert "Good enough to use: 6 of 6" in said
    assert f"next: mu-run {tmp_path / 'x.mub'}" in said
    assert (tmp_path / "x.mub").read_bytes() == b"export auto.mub"
    report = json.loads((tmp_path / "x.calibration" / "report.json").read_bytes())
    assert report["hold_out_s"] == "9.5:12"
    assert report["f1_linear"] == [0.9] * 6
    page = tmp_path / "x.calibration" / "report.html"
    assert f"page: {page}" in said
    assert report["report"] == str(page)
    text = read(page).text
    assert "Good enough to use: 6 of 6" in text
    assert f"mu-calibrate --source replay:{tmp_path / 'in.npz'} --out" in text


def test_an_interrupted_one_goes_on_where_it_stopped(
    go: Callable[..., int], stages: Stages, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stages.fails = "train"
    with pytest.raises(SystemExit):
        go()
    assert not (tmp_path / "x.mub").exists()
    stages.fails, stages.calls = "", []
    assert go("--hold", "11") == 2  # another call does not take it over
    assert "another hold_s; repeat that call" in capsys.readouterr().err
    (tmp_path / "in.npz").write_bytes(b"")  # the amplifier is not needed any more
    assert go() == 0
    assert stages.calls[0] == "train"
    assert (tmp_path / "x.mub").exists()


def test_recording_is_repeated_if_it_was_interrupted(
    go: Callable[..., int], stages: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, reads = Replay.read, 0

    def broken(self: Replay, timeout_s: float) -> Any:
        nonlocal reads
        reads += 1
        if reads == 30:
            raise OSError("cable")
        return read(self, timeout_s)

    monkeypatch.setattr(Replay, "read", broken)
    assert go() == 2
    assert go() == 0
    folder = tmp_path / "x.calibration"
    assert (folder / "recording.1.mcap").exists()  # what there was is kept
    assert (folder / "recording.mcap").stat().st_size > (folder / "recording.1.mcap").stat().st_size


def test_a_poor_decoder_is_not_installed(
    go: Callable[..., int], stages: Stages, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stages.f1["auto"] = [0.95, 0.6, 0.2]
    assert go() == 1
    said = capsys.readouterr().out
    assert "Not good enough to use: 1 of 3" in said
    assert "not installed" in said
    assert "Not good enough to use" in read(tmp_path / "x.calibration" / "report.html").text
    assert not (tmp_path / "x.mub").exists()


def test_a_bundle_that_is_there_is_fitted_not_replaced_by_a_new_one(
    go: Callable[..., int], stages: Stages, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.mub").write_bytes(b"monday")
    stages.f1 |= {"before": [0.6] * 6, "after": [0.96] * 6}
    assert go() == 0
    assert "train" not in stages.calls
    assert "adapt" in stages.calls
    assert (tmp_path / "x.mub").read_bytes() == b"adapt fitted.mub"
    assert (tmp_path / "x.1.mub").read_bytes() == b"monday"
    assert "+2 mm along" in capsys.readouterr().out
    assert "F1 of the bundle (fitted)" in read(tmp_path / "x.calibration" / "report.html").text
    # A second time: the finished calibration's folder is kept, too.
    assert go() == 0
    assert (tmp_path / "x.2.mub").read_bytes() == b"adapt fitted.mub"
    assert (tmp_path / "x.1.calibration" / "report.json").exists()


def test_a_fit_that_is_worse_leaves_the_old_bundle(
    go: Callable[..., int], stages: Stages, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.mub").write_bytes(b"monday")
    stages.f1 |= {"before": [0.96] * 6, "after": [0.95] * 6}
    assert go() == 0
    assert (tmp_path / "x.mub").read_bytes() == b"monday"
    assert not (tmp_path / "x.1.mub").exists()
    assert "stays as it is" in capsys.readouterr().out


def test_afresh_makes_a_new_one_and_keeps_the_old(
    go: Callable[..., int], stages: Stages, tmp_path: Path
) -> None:
    (tmp_path / "x.mub").write_bytes(b"monday")
    assert go("--afresh") == 0
    assert "train" in stages.calls
    assert (tmp_path / "x.1.mub").read_bytes() == b"monday"


def test_nobody_contracted(
    go: Callable[..., int], stages: Stages, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    emg = np.random.default_rng(0).normal(0, 5, (round(15 * FS_HZ), 16)).astype(np.float32)
    write_recording(tmp_path / "in.npz", Recording(emg, FS_HZ))
    assert go() == 2
    assert "that of rest" in capsys.readouterr().err
    assert stages.calls == []
    assert (tmp_path / "x.calibration" / "recording.mcap").exists()
