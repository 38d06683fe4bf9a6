"""OTBiolab+ exports written here with scipy.io.savemat in the form of a real one.

The form (cells, descriptions, spikes 8 samples after the peaks of their sources) and the grid
(GR08MM1305: 13 x 5, serpentine, first corner absent) are those of a vastus lateralis recording.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

matlab = pytest.importorskip("scipy.io")
loadmat, savemat = matlab.loadmat, matlab.savemat

from spikewire.io import read_recording, read_trains
from spikewire.io.otb import kind
from spikewire.signals import InputError

WHERE = "Vastus Lateralis - AUX 3 (Channel 1->1) - GR08MM1305"


def cells(texts: list[str]) -> np.ndarray:
    out = np.empty((len(texts), 1), object)
    out[:, 0] = texts
    return out


def export(path: Path, unit: str = "uV", channels: int = 64, shuffle: bool = True) -> dict:
    rng = np.random.default_rng(0)
    samples = 4096
    emg = rng.normal(0, 100, (samples, channels)).astype(np.float32)
    peaks = np.arange(100, 4000, 200)
    source = rng.normal(0, 0.02, samples)
    source[peaks] = 1
    spikes = np.zeros(samples)
    spikes[peaks + 8] = 1
    force = np.linspace(0, 26, samples)
    names = [f"{WHERE} ({k + 1})[{unit}]" for k in range(channels)]
    names += [f"1 - 4 - Decomposition of {WHERE} (1)[a.u]",
              f"4 - Source for decomposition of {WHERE} (1)[a.u]", "acquired data[ %(MVC)]"]
    data = np.column_stack([emg, spikes, source, force]).astype(np.float32)
    # The EMG columns keep their order among themselves; everything else may stand anywhere.
    order = [channels, *range(10), channels + 2, *range(10, channels), channels + 1] if shuffle \
        else list(range(channels + 3))
    cell = np.empty((1, 1), object)
    cell[0, 0] = data[:, order]
    savemat(path, {"Data": cell, "Description": cells([names[k] for k in order]),
                   "SamplingFrequency": np.uint16(2048)})
    return {"emg": emg, "peaks": peaks, "force": force}


def test_columns_are_told_apart_by_description(tmp_path: Path) -> None:
    path = tmp_path / "r.mat"
    truth = export(path)
    r = read_recording(path)
    np.testing.assert_array_equal(r.emg, truth["emg"])
    np.testing.assert_allclose(r.force, truth["force"], rtol=1e-6)
    assert (r.fs_hz, r.force_unit, r.ied_mm) == (2048.0, "% MVC", 8.0)


def test_grid_is_serpentine_with_its_first_corner_absent(tmp_path: Path) -> None:
    """Channels 1-12 run down column 0 from row 1, 13-25 up column 1, 26-38 down column 2."""
    path = tmp_path / "r.mat"
    export(path)
    r = read_recording(path)
    place = list(zip(r.grid_row.tolist(), r.grid_col.tolist(), strict=True))
    assert place[0] == (1, 0)
    assert place[11] == (12, 0)
    assert place[12] == (12, 1)
    assert place[24] == (0, 1)
    assert place[25] == (0, 2)
    assert place[63] == (12, 4)
    assert len(set(place)) == 64


def test_spikes_are_moved_onto_the_peaks_of_their_source(tmp_path: Path) -> None:
    path = tmp_path / "r.mat"
    truth = export(path)
    trains = read_trains(path)
    assert [t.tolist() for t in trains.times] == [truth["peaks"].tolist()]


@pytest.mark.parametrize("height", [np.nan, np.inf, -np.inf, 1e31])
def test_a_source_that_is_no_number_is_refused(tmp_path: Path, height: float) -> None:
    path = tmp_path / "r.mat"
    export(path)
    content = {k: v for k, v in loadmat(path).items() if not k.startswith("_")}
    content["Data"][0, 0][5, -1] = height
    savemat(path, content)
    with pytest.raises(InputError, match="a source of the decomposition holds what is no number"):
        read_trains(path)


def test_channels_and_units_are_told_apart_by_their_numbers(tmp_path: Path) -> None:
    """All columns in any order; the spikes of unit 1 come 8 samples late, those of unit 2 three."""
    rng = np.random.default_rng(3)
    emg = rng.normal(0, 100, (4096, 64)).astype(np.float32)
    peaks = [np.arange(100, 4000, 200), np.arange(150, 4000, 170), np.zeros(0, int)]
    columns, names = list(emg.T), [f"{WHERE} ({k + 1})[uV]" for k in range(64)]
    for unit, (at, late) in enumerate(zip(peaks, (8, 3, 0), strict=True), 1):
        for label, where in (("1 - 4 - Decomposition of", at + late),
                             ("4 - Source for decomposition of", at)):
            columns.append(np.zeros(4096, np.float32))
            columns[-1][where] = 1
            names.append(f"{label} {WHERE} ({unit})[a.u]")
    order = rng.permutation(len(names))
    cell = np.empty((1, 1), object)
    cell[0, 0] = np.column_stack([columns[k] for k in order])
    path = tmp_path / "r.mat"
    savemat(path, {"Data": cell, "Description": cells([names[k] for k in order]),
                   "SamplingFrequency": np.uint16(2048)})
    np.testing.assert_array_equal(read_recording(path).emg, emg)
    found = sorted((t.tolist() for t in read_trains(path).times), key=len)
    assert found == sorted((p.tolist() for p in peaks), key=len)


def test_millivolts_are_scaled(tmp_path: Path) -> None:
    path = tmp_path / "r.mat"
    truth = export(path, unit="mV")
    with pytest.raises(InputError, match="is the unit right"):
        read_recording(path)
    np.testing.assert_allclose(read_recording(path, any_rms=True).emg, truth["emg"] * 1e3)


def test_kind_of_a_column() -> None:
    assert kind(f"{WHERE} (1)[uV]") == "emg"
    assert kind(f"Decomposition of {WHERE} (1)[a.u]") == "spikes"
    assert kind(f"Source for decomposition of {WHERE} (1)[a.u]") == "source"
    assert kind("acquired data[ %(MVC)]") == "auxiliary"
    assert kind("requested path[uV] acquired data[uV]") == "auxiliary"


def test_no_emg_no_decomposition_and_no_matlab_file_are_named(tmp_path: Path) -> None:
    path = tmp_path / "r.mat"
    cell = np.empty((1, 1), object)
    cell[0, 0] = np.zeros((50, 1), np.float32)
    savemat(path, {"Data": cell, "Description": cells(["acquired data[ %(MVC)]"]),
                   "SamplingFrequency": 2048})
    with pytest.raises(InputError, match="EMG columns have units none"):
        read_recording(path)
    with pytest.raises(InputError, match="holds 0 spike trains"):
        read_trains(path)
    for content in (b"MATLAB 5.0 MAT-file" + bytes(200), b"x", bytes(128)):
        path.write_bytes(content)
        with pytest.raises(InputError, match="not a readable MATLAB file"):
            read_recording(path)


def test_damaged_exports_are_input_errors(tmp_path: Path) -> None:
    path = tmp_path / "r.mat"
    export(path)
    content = path.read_bytes()
    rng = np.random.default_rng(1)
    for at in rng.integers(0, len(content), 60):
        bad = bytearray(content)
        bad[at] ^= 0xFF
        path.write_bytes(bad if at % 2 else bad[:at])
        with contextlib.suppress(InputError):
            read_recording(path, any_rms=True)
