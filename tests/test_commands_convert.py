"""mu-convert as a person types it: what is written, what is printed, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from containers import GR, otb_plus

from spikewire.commands.convert import main
from spikewire.io import read_recording, read_trains
from spikewire.io.npz import write_recording, write_trains
from spikewire.signals import Recording, SpikeTrains

COUNTS = np.random.default_rng(0).normal(0, 200, (10240, 66)).round().astype("<i2")


@pytest.fixture
def otb(tmp_path: Path) -> Path:
    """A Quattrocento at 10240 Hz with a flat channel 5."""
    counts = COUNTS.copy()
    counts[:, 5] = 0
    return otb_plus(tmp_path / "r.otb+", counts, fs=10240)


def test_report_alone_writes_nothing(otb: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(otb)]) == 0
    said = capsys.readouterr().out
    for words in ("int16", "0.50863 uV", "64, places known, 8 mm apart", "10240 Hz, 1.00 s",
                  "track.sip; 2 of AdapterControl; markers_0.xml"):
        assert words in said
    assert [p.name for p in otb.parent.iterdir()] == ["r.otb+"]


def test_mark_take_out_and_resample(otb: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("scipy")
    out = otb.with_name("r.npz")
    assert main([str(otb), str(out), "--bad", "auto", "--channels", "0-31,40", "--resample",
                 "2048", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["found_bad"] == {"5": "flat"}
    assert report["lsb_uv"] == pytest.approx(0.50863, rel=1e-4)
    back = read_recording(out, keep_bad=True)
    assert (back.fs_hz, back.emg.shape, back.bad) == (2048, (2048, 33), (5,))
    assert len(back.grid_row) == 33


@pytest.mark.parametrize("name", ["r.npz", "r.csv", "sub-01_task-a_emg.bdf",
                                  "sub-01_task-a_emg.edf"])
def test_every_format_that_is_written_keeps_the_microvolts(otb: Path, name: str) -> None:
    out = otb.with_name(name)
    assert main([str(otb), str(out), "--bad", "3"]) == 0
    want = read_recording(otb).emg.copy()
    want[:, 3] = 0
    np.testing.assert_allclose(read_recording(out).emg, want, rtol=1e-5, atol=2e-3)


def test_marked_channels_stay_and_are_at_zero_for_all_who_read(tmp_path: Path) -> None:
    path, out = tmp_path / "a.npz", tmp_path / "b.npz"
    write_recording(path, Recording(np.random.default_rng(0).normal(0, 50, (2048, 8)).astype("f4"),
                                    2048.0, bad=(1,)))
    assert main([str(path), str(out), "--bad", "4"]) == 0
    assert read_recording(out, keep_bad=True).bad == (1, 4)
    assert read_recording(out, keep_bad=True).emg[:, 4].any()
    assert np.flatnonzero(~read_recording(out).emg.any(axis=0)).tolist() == [1, 4]


def test_trains_to_munitquest_and_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "t.npz", tmp_path / "sub-01_task-a_events.tsv"
    write_trains(path, SpikeTrains([np.array([0, 500]), np.array([7])], 10240.0))
    assert main([str(path), str(out), "--trains", "--resample", "2048", "--log"]) == 0
    assert "2 motor units, 3 discharges, at 2048 Hz" in capsys.readouterr().out
    assert [t.tolist() for t in read_trains(out).times] == [[0, 100], [1]]
    assert (tmp_path / "sub-01_task-a_log.json").is_file()
    back = tmp_path / "u.npz"
    assert main([str(out), str(back), "--trains"]) == 0
    assert [t.tolist() for t in read_trains(back).times] == [[0, 100], [1]]


def test_unit_and_rate_are_said_once(tmp_path: Path) -> None:
    path, out = tmp_path / "r.csv", tmp_path / "r.npz"
    np.savetxt(path, np.random.default_rng(0).normal(0, 0.05, (500, 4)), delimiter=",")
    assert main([str(path), str(out)]) == 2
    assert main([str(path), str(out), "--unit", "mV", "--fs", "2000"]) == 0
    assert read_recording(out).rms_uv == pytest.approx(50, rel=0.1)


@pytest.mark.parametrize(("arguments", "words"), [
    (["x.npz"], "no such file"), (["r.otb+", "x.wav"], "recordings are written as .npz"),
    (["r.otb+", "x.npz", "--trains"], "holds no spike trains"),
    (["r.otb+#7"], f"has no grid '7', it holds 1 = {GR} Vastus Lateralis"),
    (["r.otb+", "r.otb+"], "is the input"), (["r.otb+", "no/x.npz"], "no such folder"),
    (["r.otb+", "x.npz", "--bad", "64"], "--bad 64: allowed are 0 to 63"),
    (["r.otb+", "x.npz", "--bad", "a"], "'a' is no channel"),
    (["r.otb+", "x.npz", "--channels", "3,3"], "each once"),
    (["r.otb+", "x.npz", "--channels", "0-999999999999"], "is no channel"),
    (["r.otb+", "x.npz", "--resample", "7"], "--resample is 7 Hz"),
    (["r.otb+", "x.npz", "--unit", "mV"], "says uV itself"),
    (["r.otb+", "x.npz", "--fs", "2048"], "says 10240 Hz itself"),
    (["r.otb+", "x.npz", "--log"], "--log is written beside"),
    (["r.otb+", "x.npz", "--trains", "--bad", "1"], "are for recordings"),
    (["r.otb+", "x.edf"], "BIDS names a recording like"),
])
def test_what_cannot_be_done_is_one_line(
    otb: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: list[str], words: str,
) -> None:
    monkeypatch.chdir(otb.parent)
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert len(said.err.strip().splitlines()) == 1
    assert [p.name for p in otb.parent.iterdir()] == ["r.otb+"]
