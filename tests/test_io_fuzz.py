"""A few hundred damaged files of every format; `make fuzz` reads a hundred thousand of each."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from spikewire.io import mat73

for needed in ("scipy", "h5py", "edfio"):
    pytest.importorskip(needed)

SPEC = importlib.util.spec_from_file_location(
    "fuzz_files", Path(__file__).parent.parent / "benchmarks" / "fuzz_files.py")
fuzz_files = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(fuzz_files)


@pytest.mark.parametrize("name", fuzz_files.FORMATS)
def test_damaged_files_are_accepted_or_one_line(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mat73, "run_child", mat73.run_child)  # put back what the program replaces
    count = 60 if name == "mat 7.3" else 200
    got = fuzz_files.fuzz(name, count, seed=7)
    assert got["accepted"] + got["refused"] == count
    assert got["refused"]
