"""Our own files: round trips, foreign files written by plain numpy, hostile ones by hand."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spikewire.io import read_recording, read_trains
from spikewire.io.npz import write_recording, write_trains
from spikewire.signals import InputError, Recording, SpikeTrains

EMG = np.random.default_rng(0).normal(0, 50, (2048, 8)).astype(np.float32)


def saved(tmp_path: Path, **arrays: object) -> Path:
    path = tmp_path / "r.npz"
    np.savez(path, **arrays)
    return path


def test_recording_round_trip(tmp_path: Path) -> None:
    r = Recording(EMG, 2000.0, "leg", np.arange(8), np.zeros(8, np.int64), 8.0,
                  np.ones(2048, np.float32), "N", np.array([[0, 100]]))
    write_recording(tmp_path / "r.npz", r)
    back = read_recording(tmp_path / "r.npz")
    np.testing.assert_array_equal(back.emg, r.emg)
    assert (back.fs_hz, back.name, back.ied_mm, back.force_unit) == (2000.0, "leg", 8.0, "N")
    assert back.segments.tolist() == [[0, 100]]
    assert back.grid_row.tolist() == list(range(8))


@pytest.mark.parametrize(("unit", "factor"), [("uV", 1), ("mV", 1e-3), ("V", 1e-6)])
def test_units_become_microvolts(tmp_path: Path, unit: str, factor: float) -> None:
    path = saved(tmp_path, emg=EMG.astype(float) * factor, fs_hz=2048, unit=unit)
    np.testing.assert_allclose(read_recording(path).emg, EMG, rtol=1e-5)


@pytest.mark.parametrize(("arrays", "words"), [
    ({"emg": EMG, "fs_hz": 2048}, "unit is missing"),
    ({"emg": EMG, "fs_hz": 2048, "unit": "counts"}, "unit is 'counts'"),
    ({"fs_hz": 2048, "unit": "uV"}, "has no emg"),
    ({"emg": EMG, "unit": "uV"}, "has no fs_hz"),
    ({"emg": EMG.astype(str), "fs_hz": 2048, "unit": "uV"}, "emg is"),
    ({"emg": EMG.astype(complex), "fs_hz": 2048, "unit": "uV"}, "emg is complex"),
    ({"emg": EMG, "fs_hz": [2048, 2], "unit": "uV"}, "fs_hz"),
    ({"emg": EMG, "fs_hz": np.nan, "unit": "uV"}, "fs_hz"),
    ({"emg": EMG[:, 0], "fs_hz": 2048, "unit": "uV"}, "emg is float32 of 1 dim"),
    ({"emg": EMG, "fs_hz": 2048, "unit": "uV", "grid_row": [1, 2]}, "grid_row has 2 places"),
    ({"emg": EMG, "fs_hz": 2048, "unit": "uV", "force": [1.0]}, "force has 1 samples"),
    ({"emg": EMG.astype(float) * 1e300, "fs_hz": 2048, "unit": "V"}, "infinity"),
    ({"emg": EMG, "fs_hz": 2048, "unit": "uV", "grid_row": np.full(8, np.nan)}, "grid_row holds"),
    ({"emg": EMG, "fs_hz": 2048, "unit": "uV", "segments": np.full((3, 2), np.inf)}, "segments"),
    ({"emg": EMG, "fs_hz": 2048, "unit": "uV", "segments": np.zeros((3, 3), int)}, "segments"),
    ({"emg": np.array([object()]), "fs_hz": 2048, "unit": "uV"}, "not a readable .npz"),
])
def test_what_does_not_fit_is_named(
    tmp_path: Path, arrays: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        read_recording(saved(tmp_path, **arrays))


def test_a_header_that_promises_too_much_is_refused_before_memory_is_taken(
    tmp_path: Path,
) -> None:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 64)})
    path = tmp_path / "r.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("emg.npy", head.getvalue())
        for name, value in (("fs_hz", 2048.0), ("unit", "uV")):
            out = io.BytesIO()
            np.save(out, value)
            archive.writestr(f"{name}.npy", out.getvalue())
    with pytest.raises(InputError, match="claims"):
        read_recording(path)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10**6), st.binary(min_size=1, max_size=6), st.booleans())
def test_damaged_files_are_input_errors(
    tmp_path: Path, at: int, patch: bytes, cut: bool
) -> None:
    good = saved(tmp_path, sample=np.arange(50) * 7, unit=np.arange(50) % 3, n_units=3, fs_hz=2048)
    content = bytearray(good.read_bytes())
    at %= len(content)
    content[at : at + len(patch)] = patch
    path = tmp_path / "bad.npz"
    path.write_bytes(content[:at] if cut else content)
    try:
        trains = read_trains(path)
    except InputError:
        return
    assert all((np.diff(t) >= 0).all() for t in trains.times)


@given(st.lists(st.lists(st.integers(0, 10**7), max_size=20), min_size=1, max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_trains_round_trip(tmp_path: Path, units: list[list[int]]) -> None:
    times = [np.array(sorted(u), np.int64) for u in units]
    quality = np.linspace(0, 1, len(units))
    write_trains(tmp_path / "t.npz", SpikeTrains(times, 2048.0, quality, quality, quality, "m"))
    back = read_trains(tmp_path / "t.npz")
    assert [t.tolist() for t in back.times] == [t.tolist() for t in times]
    np.testing.assert_array_equal(back.sil, quality)
    assert back.method == "m"


@pytest.mark.parametrize(("changes", "words"), [
    ({"sample": [5, 3]}, "not sorted"),
    ({"unit": [0]}, "do not fit"),
    ({"unit": [0, 9]}, "do not fit"),
    ({"unit": [0, -1]}, "do not fit"),
    ({"n_units": 0}, "do not fit"),
    ({"n_units": 10**9}, "do not fit"),
    ({"n_units": 2.5}, "do not fit"),
    ({"sample": [0.5, 1.5]}, "do not fit"),
    ({"sample": [1, 2**62]}, "sample holds"),
    ({"sample": np.array([1, 2**63 + 5], np.uint64)}, "sample holds"),
    ({"sample": [-(2**62), 1]}, "sample holds"),
    ({"fs_hz": 0.0}, "fs_hz is 0"),
    ({"fs_hz": -2048.0}, "fs_hz is -2048"),
    ({"fs_hz": "fast"}, "fs_hz"),
    ({"sil": [1.0]}, "sil"),
])
def test_trains_that_do_not_fit_are_refused(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    good = {"sample": [1, 2], "unit": [0, 1], "n_units": 2, "fs_hz": 2048.0}
    with pytest.raises(InputError, match=words):
        read_trains(saved(tmp_path, **(good | changes)))


@pytest.mark.parametrize("name", ["no.npz", "empty.npz", "text.npz", "odd.xyz", "none"])
def test_files_that_are_none(tmp_path: Path, name: str) -> None:
    if name != "no.npz":
        (tmp_path / name).write_bytes(b"" if name == "empty.npz" else b"hello")
    with pytest.raises(InputError, match=name):
        read_recording(tmp_path / name)


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.npz"
    write_trains(path, SpikeTrains([np.array([1])], 2048.0))
    before = path.read_bytes()

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_trains(path, SpikeTrains([np.array([2])], 2048.0))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["t.npz"]


def test_a_compression_that_numpy_does_not_write_is_refused(tmp_path: Path) -> None:
    """Its decoder raises errors of its own on damaged bytes."""
    path = tmp_path / "r.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        for name in ("emg", "fs_hz", "unit"):
            archive.writestr(f"{name}.npy", b"x" * 100)
    with pytest.raises(InputError, match="numpy does not write"):
        read_recording(path)
