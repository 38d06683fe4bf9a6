"""MUedit and DEMUSE files of a known signal, in the structure those programs write, by SciPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

scipy_io = pytest.importorskip("scipy.io")
pytest.importorskip("h5py")

from containers import matlab73

from spikewire.io import read_recording, read_trains
from spikewire.signals import InputError

EMG_UV = np.random.default_rng(0).normal(0, 100, (130, 4096))
TIMES = [np.arange(100, 4000, 150), np.arange(120, 4000, 210), np.arange(90, 4000, 333)]


def cells(rows: list[list[object]]) -> np.ndarray:
    out = np.empty((len(rows), max(map(len, rows))), object)
    for k, row in enumerate(rows):
        for j in range(out.shape[1]):
            out[k, j] = row[j] if j < len(row) else np.zeros((0, 0))
    return out


def pulses(times: list[np.ndarray]) -> np.ndarray:
    out = np.random.default_rng(1).normal(0, 0.02, (len(times), 4096))
    for row, t in zip(out, times, strict=True):
        row[t] += 1
    return out


def muedit(first: int = 1, aliases: bool = False) -> dict[str, object]:
    """Two grids of 64 channels and 66, three units in the first and one in the second, in mV."""
    pulse, time = ("PulseT", "distime") if aliases else ("Pulsetrain", "Dischargetimes")
    return {
        "data": EMG_UV / 1000, "fsamp": np.array([[2048.0]]),
        "gridname": cells([["GR08MM1305", "other"]]), "muscle": cells([["VL", "VM"]]),
        "coordinates": cells([[np.zeros((64, 2)), np.zeros((66, 2))]]),
        "auxiliary": np.zeros((2, 4096)), pulse: cells([[pulses(TIMES), pulses(TIMES[:1])]]),
        time: cells([[(t + first)[None].astype(float) for t in TIMES],
                     [(TIMES[0] + first)[None].astype(float)]]),
    }


@pytest.mark.parametrize("version", [5, 73])
def test_millivolts_that_are_said_become_microvolts(tmp_path: Path, version: int) -> None:
    path = tmp_path / "r.mat"
    if version == 5:
        scipy_io.savemat(path, {"signal": muedit()})
    else:
        matlab73(path, {"signal": muedit()})
    with pytest.raises(InputError, match=r"holds 2 grids \(1 = GR08MM1305 VL \(64 channels\)"):
        read_recording(path)
    with pytest.raises(InputError, match=r"does not say its unit.*mu-convert r\.mat OUT.npz"):
        read_recording(f"{path}#1")
    r = read_recording(f"{path}#1", unit="mV")
    np.testing.assert_allclose(r.emg, EMG_UV[:64].T, rtol=1e-5)
    assert (r.fs_hz, r.ied_mm) == (2048.0, 8.0)
    assert "2 auxiliary" in r.ignored
    np.testing.assert_allclose(read_recording(f"{path}#2", unit="mV").emg, EMG_UV[64:].T, rtol=1e-5)


@pytest.mark.parametrize(("first", "aliases", "version"),
                         [(0, False, 5), (1, False, 5), (0, True, 5), (1, True, 73)])
def test_times_count_from_0_whatever_the_file_does(
    tmp_path: Path, first: int, aliases: bool, version: int
) -> None:
    path = tmp_path / "r.mat"
    content = {"signal": muedit(first, aliases)}
    if version == 5:
        scipy_io.savemat(path, content)
    else:
        matlab73(path, content)
    with pytest.raises(InputError, match="holds 2 grids"):
        read_trains(path)
    trains = read_trains(f"{path}#1")
    assert [t.tolist() for t in trains.times] == [t.tolist() for t in TIMES]
    assert trains.fs_hz == 2048
    assert [t.tolist() for t in read_trains(f"{path}#2").times] == [TIMES[0].tolist()]


def test_edited_times_come_first(tmp_path: Path) -> None:
    path = tmp_path / "r.mat"
    edited = {"Dischargetimes": cells([[(TIMES[2] + 1)[None]], [np.array([[5]])]]),
              "Pulsetrain": cells([[pulses(TIMES[2:]), pulses(TIMES[:1])]])}
    scipy_io.savemat(path, {"signal": muedit(), "edition": edited})
    assert [t.tolist() for t in read_trains(f"{path}#1").times] == [TIMES[2].tolist()]


def test_a_single_unit_of_a_single_grid(tmp_path: Path) -> None:
    path = tmp_path / "r.mat"
    scipy_io.savemat(path, {"signal": {
        "data": EMG_UV[:64], "fsamp": 2048.0, "gridname": cells([["g"]]),
        "Dischargetimes": cells([[(TIMES[0] + 1)[None]]])}})
    assert [t.tolist() for t in read_trains(path).times] == [TIMES[0].tolist()]
    assert read_recording(path, unit="uV").emg.shape == (4096, 64)


def test_muedit2_is_read_without_pickle(tmp_path: Path) -> None:
    path = tmp_path / "r.npz"
    held = np.full((3, 30), -1)
    for row, t in zip(held, TIMES, strict=True):
        row[: len(t)] = t
    np.savez(path, pulse_trains=pulses(TIMES), discharge_times=held, fsamp=2048,
             mu_grid_index=[0, 0, 1], grid_names=np.array(["a", "b"], object), allow_pickle=True)
    with pytest.raises(InputError, match="holds 2 grids"):
        read_trains(path)
    assert [t.tolist() for t in read_trains(f"{path}#1").times] == [t.tolist() for t in TIMES[:2]]
    ragged = np.empty(3, object)
    ragged[:] = TIMES
    np.savez(path, pulse_trains=pulses(TIMES), discharge_times=ragged, fsamp=2048,
             allow_pickle=True)
    with pytest.raises(InputError, match="a pickle, which may run anything"):
        read_trains(path)
    with pytest.raises(InputError, match="spike trains, no recording"):
        read_recording(path)


@pytest.mark.parametrize(("change", "words"), [
    ({"data": "text"}, "signal.data is no array"),
    ({"data": np.zeros((0, 5))}, "signal.data is no array"),
    ({"fsamp": np.array([[1.0, 2.0]])}, "signal.fsamp is not one number"),
    ({"fsamp": np.nan}, "signal.fsamp is not one number"),
    ({"coordinates": np.zeros(0), "gridname": cells([["a", "b", "c"]])}, "do not fit its 3 grids"),
])
def test_what_does_not_fit_is_named(
    tmp_path: Path, change: dict[str, object], words: str
) -> None:
    path = tmp_path / "r.mat"
    scipy_io.savemat(path, {"signal": muedit() | change})
    with pytest.raises(InputError, match=words):
        read_recording(f"{path}#1", unit="mV")


@pytest.mark.parametrize(("times", "words"), [
    (np.array([[1.5]]), "no whole numbers"), (np.array([[np.nan]]), "no whole numbers"),
    (np.array([[1e30]]), "no whole numbers"), (np.array([[-5.0]]), "before the first sample"),
    (np.zeros((0, 0)), "holds 0 units"),
])
def test_times_that_cannot_be_are_refused(
    tmp_path: Path, times: np.ndarray, words: str
) -> None:
    path = tmp_path / "r.mat"
    signal = {"data": EMG_UV, "fsamp": 2048.0, "gridname": cells([["g"]]),
              "Dischargetimes": cells([[times]])}
    scipy_io.savemat(path, {"signal": signal})
    with pytest.raises(InputError, match=words):
        read_trains(path)


def demuse(units: int = 3) -> dict[str, object]:
    """A 13 x 5 grid whose first place is empty; times from 1; one unit is no cell any more."""
    grid = np.empty((13, 5), object)
    for k in range(65):
        grid[k % 13, k // 13] = EMG_UV[k - 1][None] if k else np.zeros((0, 0))
    times = cells([[(t + 1)[None].astype(float) for t in TIMES[:units]]])
    return {"SIG": grid, "fsamp": 2048.0, "IED": 8.0, "IPTs": pulses(TIMES[:units]),
            "MUPulses": times if units > 1 else times[0, 0], "ref_signal": np.arange(4096.0)}


def test_demuse_down_the_columns_of_the_grid(tmp_path: Path) -> None:
    path = tmp_path / "r.mat"
    scipy_io.savemat(path, demuse())
    with pytest.raises(InputError, match="does not say its unit"):
        read_recording(path)
    r = read_recording(path, unit="uV")
    np.testing.assert_allclose(r.emg, EMG_UV[:64].T, rtol=1e-5)
    assert (r.grid_row[0], r.grid_col[0], r.grid_row[12], r.grid_col[12]) == (1, 0, 0, 1)
    assert r.ied_mm == 8
    np.testing.assert_array_equal(r.force, np.arange(4096))
    assert "1 places without an electrode" in r.ignored
    np.testing.assert_allclose(read_recording(path, any_rms=True, unit="mV").emg,
                               1000 * EMG_UV[:64].T, rtol=1e-5)


@pytest.mark.parametrize("units", [1, 3])
def test_demuse_times_count_from_1(tmp_path: Path, units: int) -> None:
    path = tmp_path / "r.mat"
    scipy_io.savemat(path, demuse(units))
    assert [t.tolist() for t in read_trains(path).times] == [t.tolist() for t in TIMES[:units]]


def test_demuse_channels_of_different_length_are_refused(tmp_path: Path) -> None:
    content = demuse()
    content["SIG"][5, 2] = np.zeros((1, 7))
    path = tmp_path / "r.mat"
    scipy_io.savemat(path, content)
    with pytest.raises(InputError, match="differ in length"):
        read_recording(path, unit="uV")
