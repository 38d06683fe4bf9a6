"""Processes killed at random moments; a few of them here, 300 by `make soak-board`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[1] / "benchmarks" / "soak_board.py"


@pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="ssh-keygen is missing")
def test_a_board_runs_a_good_release_after_a_few_kills(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, SOAK, "--trials", "5", "--seed", "3", "--out",
                           tmp_path / "report.json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["broken"] == []
    assert report["killed"] == 5
    assert report["trials"] == len(report["rows"]) >= 5
