"""mu-record. Truth: the file that was played."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from spikewire.commands import record
from spikewire.io import read_recording
from spikewire.io.npz import write_recording
from spikewire.signals import Recording

SOAK = Path(__file__).parent.parent / "benchmarks" / "soak_record.py"


@pytest.fixture
def played(tmp_path: Path) -> Path:
    """Two seconds of noise on 64 channels."""
    emg = np.random.default_rng(0).normal(0, 50, (4096, 64)).astype(np.float32)
    write_recording(tmp_path / "in.npz", Recording(emg, 2048.0))
    return tmp_path / "in.npz"


def test_what_came_is_in_the_file_with_its_grid(
    played: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.mcap"
    words = ["--source", f"replay:{played}", "--grid", "GR08MM1305", "--out", str(out), "--json"]
    assert record.main(words) == 0
    heard = capsys.readouterr()
    facts = json.loads(heard.out)
    assert (facts["samples"], facts["lost"], facts["bad_channels"]) == (4080, 0, [])
    assert "mu-record:" in heard.err  # without a terminal: a line now and then
    back, was = read_recording(out), read_recording(played)
    assert len(back.emg) == 4096
    assert np.abs(back.emg - was.emg).max() < 0.01
    assert back.grid_row is not None
    assert (back.ied_mm, back.fs_hz) == (8.0, 2048.0)
    assert record.main(words) == 2
    assert "never overwritten" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "said"), [
    (["--duration", "0"], "--duration is 0"),
    (["--duration", "nan"], "--duration is nan"),
    (["--grid", "GR09"], "allowed are GR08MM1305"),
    (["--grid", "12x5@8"], "the source 64 channels"),
])
def test_wrong_words_leave_no_file(
    played: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    out = tmp_path / "out.mcap"
    assert record.main(["--source", f"replay:{played}", "--out", str(out), *words]) == 2
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_a_duration_ends_it(played: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mcap"
    words = ["--source", f"replay:{played}", "--duration", "0.5", "--out", str(out)]
    assert record.main(words) == 0
    assert 0.5 <= read_recording(out).seconds < 1.0


def test_killed_recorders_leave_files_that_can_be_read(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    # How much is lost is for the soak, on a quiet machine; that it is readable is for every one.
    done = subprocess.run([sys.executable, str(SOAK), "--trials", "2", "--out", str(report)],
                          capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    facts = json.loads(report.read_text())
    assert facts["readable"] == 2
    assert facts["lost_s"]["worst"] < 5.0
