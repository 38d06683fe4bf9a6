"""The page of a decomposition: figures by hand, and its size whatever the recording."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from report_world import EVIL, read, regular

from spikewire.report import decomposition, ran
from spikewire.signals import Recording, SpikeTrains


def test_every_unit_has_its_row(synthetic, tmp_path: Path) -> None:
    truth = synthetic.truth
    trains = SpikeTrains(truth.times, truth.fs_hz, np.array([0.9123, 0.8, 0.7, np.nan]))
    decomposition.write(tmp_path / "p.html", [(synthetic.recording, trains)],
                        ran.section("mu-decompose x"))
    text = read(tmp_path / "p.html").text
    t = truth.times[0]
    rate = (len(t) - 1) * 2048 / (t[-1] - t[0])
    assert f"0{len(t)}{rate:.1f}0.912\u2013\u2013" in text  # no PNR and no CoV are known
    assert str(sum(map(len, truth.times))) in text
    for heading in ("Motor units", "Discharges and rates", "Action potentials", "Neural drive"):
        assert heading in text
    assert "force" not in text


def test_ten_minutes_of_thirty_units_with_force(tmp_path: Path) -> None:
    samples = 600 * 2048
    emg = np.random.default_rng(0).normal(0, 50, (2048, 8)).astype(np.float32)
    force = np.sin(np.arange(samples) / 9999).astype(np.float32)
    recording = Recording(np.tile(emg, (600, 1)), 2048.0, EVIL, force=force, force_unit=EVIL)
    trains = SpikeTrains(regular(30, 600), 2048.0)
    decomposition.write(tmp_path / "p.html", [(recording, trains)], ran.section("x"))
    text = read(tmp_path / "p.html").text
    assert f"force ({EVIL})" in text
    assert f"Motor units of {EVIL}" in text


@pytest.mark.parametrize("times", [[], [5000]])
def test_a_unit_that_is_silent_here_breaks_nothing(times: list[int], tmp_path: Path) -> None:
    recording = Recording(np.ones((20_480, 8), np.float32), 2048.0, "a")
    trains = SpikeTrains([np.array(times, np.int64)], 2048.0)
    decomposition.write(tmp_path / "p.html", [(recording, trains)] * 2, ran.section("x"))
    assert "Action potentials in a" in read(tmp_path / "p.html").text
