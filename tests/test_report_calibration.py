"""The page of a calibration: the verdict comes first, bad electrodes are seen, nothing breaks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_world import EVIL, read, regular

from spikewire.guide import Plan
from spikewire.report import calibration, plots, ran
from spikewire.report.calibration import Calibrated
from spikewire.signals import Recording, SpikeTrains

FS_HZ = 2048.0
PLAN = Plan(hold_s=10, ramp_s=1, rest_s=1, maximum_s=0)


def facts(**changes: Any) -> dict[str, Any]:
    return {"what": "new", "f1": [0.98, 0.91], "f1_linear": [0.97, 0.92], "decoder": "network",
            "left_out": {"2": 0.5}, "verdict": "usable", "sentence": f"Usable with care {EVIL}.",
            "hold_out_s": "9.5:12", "seconds_after_recording": 60.0, "recording": "r.npz",
            "out": "monday.mub", "before": None, "candidate": "c.mub"} | changes


def made(grid: bool = True, **changes: Any) -> Calibrated:
    t = np.arange(round(13 * FS_HZ)) / FS_HZ
    loud = np.where((t > 1) & (t < 13), 100.0, 5.0)[:, None] * np.ones(16)
    loud[:, 5] = 0.1
    emg = (np.random.default_rng(0).normal(0, 1, (len(t), 16)) * loud).astype(np.float32)
    at = np.arange(16)
    recording = Recording(emg, FS_HZ, EVIL, at % 4 if grid else None, at // 4 if grid else None,
                          segments=np.array([[2048, 26624]]))
    trains = SpikeTrains(regular(3, 13), FS_HZ)
    two = trains.only([0, 1])
    told = facts(**changes)
    return Calibrated(told, PLAN, recording, trains, [("channel 5 is flat", "press it on")],
                      (two, two) if told["what"] == "new" else None)


def write(path: Path, calibrated: Calibrated) -> str:
    calibration.write(path, calibrated, "muovi:", ran.section("mu-calibrate"))
    return read(path).text


@pytest.mark.parametrize("grid", [True, False])
def test_the_verdict_comes_first_then_why(tmp_path: Path, grid: bool) -> None:
    text = write(tmp_path / "p.html", made(grid))
    order = [text.rindex(words) for words in (  # headings are in the contents, too
        "Usable with care", "Next: mu-run monday.mub --source muovi: --link null:", "Electrodes",
        "channel 5 is flat", "Target and effort", "Held-out scores", "00.9800.970", "unit 2 (0.50)",
        "Action potentials")]
    assert order == sorted(order)
    html = (tmp_path / "p.html").read_text()
    assert html.count('class="l1" style="stroke-width:2" d="M') == 1  # one electrode is framed


def test_a_bundle_that_was_fitted_or_kept_or_refused(tmp_path: Path) -> None:
    old = {"f1_before": [0.6], "found": {}}
    text = write(tmp_path / "p.html", made(what="fitted", before="monday.1.mub", **old))
    assert "The older bundle is monday.1.mub" in text
    assert "1" + "0.910\u2013" in text  # fewer units were paired before
    text = write(tmp_path / "p.html", made(what="kept", out=None, **old))
    assert "The bundle stays as it was" in text
    text = write(tmp_path / "p.html", made(out=None, verdict="poor"))
    assert "Nothing was installed" in text
    write(tmp_path / "p.html", made(f1=[], f1_linear=[]))


def test_the_target_is_drawn_where_it_was(tmp_path: Path) -> None:
    write(tmp_path / "p.html", made())
    html = (tmp_path / "p.html").read_text().split("Target and effort</h2>")[1]
    d = html.split('<path class="l1" d="')[1].split('"')[0]
    points = np.array([[float(v) for v in p.split()] for p in d[1:].split("L")])
    high = points[:, 1] < points[:, 1].min() + 0.5
    seconds = (points[:, 0] - plots.LEFT) / plots.COLUMNS * 13
    assert seconds[high].min() == pytest.approx(2.0, abs=0.26)  # 1 s of rest, 1 s of ramp
    assert seconds[high].max() == pytest.approx(12.0, abs=0.26)
