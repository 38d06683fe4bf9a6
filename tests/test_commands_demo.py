"""The whole path on a recording of known discharges: every process and file that `make demo` uses.

Truth is the synthetic record's own; the network's quality on real EMG is the demo's business.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("onnxruntime")

from conftest import make_synthetic
from report_world import read

from spikewire.commands import demo
from spikewire.io import read_trains
from spikewire.io.npz import write_recording
from spikewire.score import match


@pytest.mark.timeout(400)  # eight processes, one after the other, three of them with TensorFlow
def test_from_recording_to_frames(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    synthetic = make_synthetic(13.0)
    write_recording(tmp_path / "r.npz", synthetic.recording)
    monkeypatch.setattr(demo, "STEPS", 60)
    out = tmp_path / "demo"
    code = demo.main(["--recording", str(tmp_path / "r.npz"), "--hold-out", "8:11", "--out",
                      str(out)])
    shown = capfd.readouterr().out
    assert code == 0, shown
    facts = json.loads((out / "demo.json").read_text())
    live, link = facts["live"], facts["live"]["link"]
    assert link["frames_accepted"] == live["run"]["links"][0]["sent"] > 200
    assert link["stale_marked_valid"] == 0
    assert link["states"]["ACTIVE"] > 0
    assert live["identical"] or live["run"]["missed"]
    found = read_trains(out / "trains.npz")
    assert min(rate for _, rate in match(found.times, synthetic.truth.times)) > 0.95
    assert facts["scores"]["network"]["f1"] > 0.95
    assert facts["scores"]["linear"]["f1"] > 0.95
    assert "F1 on held-out 8-11 s: network" in shown
    text = read(out / "demo.html").text
    for heading in ("Latency by stage", "Which was taken for which", "What was run"):
        assert heading in text
    assert "A decoder for" in read(out / "model" / "report.html").text


def test_a_recording_that_is_not_there_is_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code = demo.main(["--recording", str(tmp_path / "no.npz"), "--out", str(tmp_path / "o")])
    error = capfd.readouterr().err
    assert code == 2
    assert error.strip().splitlines() == [f"mu-demo: {tmp_path}/no.npz: no such file"]


@pytest.mark.parametrize("span", [",", "2:3,4:5", "3:2"])
def test_one_span_is_held_out(
    recording_path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], span: str
) -> None:
    words = ["--recording", str(recording_path), "--hold-out", span, "--out", str(tmp_path)]
    assert demo.main(words) == 2
    assert capfd.readouterr().err.strip().splitlines()[-1].startswith("mu-demo: ")


def test_a_decoder_that_cannot_start_leaves_no_receiver_behind(
    bundle_path: Path, tmp_path: Path
) -> None:
    (tmp_path / "decoder.mub").write_bytes(bundle_path.read_bytes())
    with pytest.raises(SystemExit) as stop:
        demo.run_live(tmp_path, tmp_path / "no.npz", (1.0, 2.0))
    assert stop.value.code == 2
    assert not (tmp_path / demo.PORT).is_symlink()


def test_without_an_index_the_demo_says_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    code = demo.main(["--out", str(tmp_path / "o"), "--cache", str(tmp_path / "c")])
    error = capfd.readouterr().err.strip().splitlines()
    assert code == 2
    assert len(error) == 1
    assert "make demo REC=your.npz" in error[0]
