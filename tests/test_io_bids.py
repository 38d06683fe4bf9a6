"""EDF and BDF against edfio, a foreign reader and writer; the tables against BIDS 1.11's words."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

edfio = pytest.importorskip("edfio")

from spikewire.io import edf, read_recording
from spikewire.io.bids import write_recording
from spikewire.signals import InputError, Recording

RNG = np.random.default_rng(0)
EMG = RNG.normal(0, 80, (2048 * 3, 8)).astype(np.float32)
SINE_UV = 400 * np.sin(2 * np.pi * 80 * np.arange(2048 * 3) / 2048)


def recording(**more: object) -> Recording:
    places = {"grid_row": np.arange(8) % 4, "grid_col": np.arange(8) // 4, "ied_mm": 8.0}
    return Recording(EMG, 2048.0, "leg", **(places | more))


@pytest.mark.parametrize(("unit", "factor"), [("uV", 1.0), ("mV", 1e-3), ("V", 1e-6), ("µV", 1.0)])
@pytest.mark.parametrize("end", ["edf", "bdf"])
def test_a_file_of_edfio_is_in_microvolts(
    tmp_path: Path, end: str, unit: str, factor: float
) -> None:
    """A sine of 400 uV with a physical range of 1 mV; half of it on the second channel."""
    signal, whole = (edfio.EdfSignal, edfio.Edf) if end == "edf" else \
        (edfio.BdfSignal, edfio.Bdf)
    dimension = unit if unit != "µV" else "uV"
    made = [signal(SINE_UV * share * factor, 2048, label=f"ch{k}", physical_dimension=dimension,
                   physical_range=(-1000 * factor, 1000 * factor))
            for k, share in enumerate((1, 0.5))]
    made.append(signal(SINE_UV[::2], 1024, label="Trigger", physical_dimension="V",
                       physical_range=(-500, 500)))
    path = tmp_path / f"r.{end}"
    whole(made, data_record_duration=1).write(path)
    r = read_recording(path)
    lsb = 2000 / (65535 if end == "edf" else 16777215)
    np.testing.assert_allclose(r.emg, np.stack([SINE_UV, SINE_UV / 2], 1), atol=lsb)
    assert r.fs_hz == 2048
    assert r.lsb_uv == pytest.approx(lsb, rel=1e-5)
    assert "1 channels of other types" in r.ignored


@pytest.mark.parametrize("end", ["edf", "bdf"])
@pytest.mark.parametrize("samples", [2048 * 3, 2048 * 2 + 17])
def test_edfio_reads_what_we_write(tmp_path: Path, end: str, samples: int) -> None:
    path = tmp_path / f"sub-01_task-hold_emg.{end}"
    r = Recording(EMG[:samples], 2048.0, force=np.linspace(0, 30, samples, dtype=np.float32),
                  force_unit="% MVC", bad=(3,))
    write_recording(path, r)
    got = (edfio.read_edf if end == "edf" else edfio.read_bdf)(path)
    lsb = np.abs(EMG).max() / (32767 if end == "edf" else 8388607)
    for k in range(8):
        np.testing.assert_allclose(got.signals[k].data[:samples], r.emg[:, k], atol=1.1 * lsb)
        np.testing.assert_allclose(got.signals[k].data[samples:], 0, atol=1e-9)
        assert (got.signals[k].physical_dimension, got.signals[k].sampling_frequency) == \
            ("uV", 2048)
    assert got.signals[8].label == "force"
    back = read_recording(path, keep_bad=True)
    np.testing.assert_allclose(back.emg, r.emg, atol=1.1 * lsb)
    np.testing.assert_allclose(back.force, r.force, atol=0.01)
    assert (back.force_unit, back.bad, len(back.emg)) == ("% MVC", (3,), samples)
    assert not read_recording(path).emg[:, 3].any()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(20, 32767), st.floats(0.01, 5), st.sampled_from(["edf", "bdf"]))
def test_counts_survive(tmp_path: Path, most: int, lsb_uv: float, end: str) -> None:
    """A converter's counts come back as the same counts, whatever its step."""
    counts = np.random.default_rng(most).integers(-most, most + 1, (2048, 2))
    path = tmp_path / f"sub-01_task-a_emg.{end}"
    edf.write(path, [(f"c{k}", "uV", counts[:, k] * lsb_uv, lsb_uv) for k in range(2)], 2048)
    back = edf.read(path)
    for k, channel in enumerate(back.channels):
        np.testing.assert_array_equal(np.round(back.physical(channel) / lsb_uv), counts[:, k])


def test_the_layout_is_that_of_bids(tmp_path: Path) -> None:
    """Required fields and columns of BIDS 1.11 (rules/: sidecars, tabular_data, json; emg.yaml)."""
    write_recording(tmp_path / "sub-01_ses-2_task-hold_run-1_emg.bdf", recording(bad=(1,)))
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "sub-01_ses-2_electrodes.tsv", "sub-01_ses-2_space-grid1_coordsystem.json",
        "sub-01_ses-2_task-hold_run-1_channels.tsv", "sub-01_ses-2_task-hold_run-1_emg.bdf",
        "sub-01_ses-2_task-hold_run-1_emg.json"]
    facts = json.loads((tmp_path / "sub-01_ses-2_task-hold_run-1_emg.json").read_text())
    assert {"TaskName", "EMGPlacementScheme", "EMGReference", "SamplingFrequency",
            "PowerLineFrequency", "SoftwareFilters"} <= facts.keys()
    assert facts["RecordingDuration"] == 3.0
    lines = (tmp_path / "sub-01_ses-2_task-hold_run-1_channels.tsv").read_text().splitlines()
    assert lines[0].split("\t")[:3] == ["name", "type", "units"]
    assert lines[2].split("\t")[0::7] == ["EMG002", "bad"]
    lines = (tmp_path / "sub-01_ses-2_electrodes.tsv").read_text().splitlines()
    assert lines[0].split("\t")[:4] == ["name", "x", "y", "coordinate_system"]
    assert lines[6].split("\t") == ["EMG006", "8", "8", "grid1", "grid1"]
    system = json.loads((tmp_path / "sub-01_ses-2_space-grid1_coordsystem.json").read_text())
    assert (system["EMGCoordinateSystem"], system["EMGCoordinateUnits"]) == ("Other", "mm")
    back = read_recording(tmp_path / "sub-01_ses-2_task-hold_run-1_emg.bdf")
    assert back.grid_row.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert back.grid_col.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def test_electrodes_of_another_grid_are_not_overwritten(tmp_path: Path) -> None:
    write_recording(tmp_path / "sub-01_task-a_emg.bdf", recording())
    write_recording(tmp_path / "sub-01_task-b_emg.bdf", recording())
    with pytest.raises(InputError, match="another ses- or acq- label"):
        write_recording(tmp_path / "sub-01_task-c_emg.bdf", recording(ied_mm=4.0))
    assert not (tmp_path / "sub-01_task-c_emg.bdf").exists()


@pytest.mark.parametrize("name", ["r.edf", "sub-01_emg.bdf", "sub-_task-a_emg.bdf",
                                  "sub-01_task-a b_emg.bdf", "sub-01_task-a_emg.BDF"])
def test_names_that_bids_does_not_allow(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"BIDS names a recording like sub-01_task-hold_emg\.bdf"):
        write_recording(tmp_path / name, recording())
    assert not list(tmp_path.iterdir())


def test_a_rate_that_fits_no_record(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--resample 2048"):
        write_recording(tmp_path / "sub-01_task-a_emg.bdf", Recording(EMG, 2048.0 * np.pi / 3))


def two_grids(path: Path) -> Path:
    signals = [edfio.BdfSignal(SINE_UV, 2048, label=f"c{k}", physical_dimension="uV",
                               physical_range=(-1000, 1000)) for k in range(4)]
    edfio.Bdf(signals, data_record_duration=1).write(path)
    path.with_name("sub-01_task-a_channels.tsv").write_text(
        "name\ttype\tunits\tgroup\n" + "".join(
            f"c{k}\t{'EMG' if k else 'MISC'}\tuV\t{'proximal' if k < 3 else 'distal'}\n"
            for k in range(4)))
    return path


def test_types_and_grids_are_those_of_the_table(tmp_path: Path) -> None:
    path = two_grids(tmp_path / "sub-01_task-a_emg.bdf")
    with pytest.raises(InputError, match=r"2 grids \(1 = proximal \(2 channels\), 2 = distal"):
        read_recording(path)
    assert read_recording(f"{path}#1").emg.shape[1] == 2
    assert read_recording(f"{path}#all").emg.shape[1] == 3
    (tmp_path / "sub-01_task-a_channels.tsv").write_text("name\ttype\tunits\nc\tEMG\tuV\n")
    with pytest.raises(InputError, match="1 channels with name, type and units"):
        read_recording(path)


def head(**changes: bytes) -> bytes:
    """A header of one channel and one record of four samples, field by field."""
    fields = {"version": b"0       ", "patient": b"X".ljust(80), "recording": b"X".ljust(80),
              "date": b"01.01.85", "time": b"00.00.00", "size": b"512     ",
              "kind": bytes(44).replace(b"\0", b" "), "records": b"1       ",
              "length": b"1       ", "count": b"1   ", "label": b"EMG".ljust(16),
              "transducer": b" " * 80, "unit": b"uV      ", "low": b"-100    ",
              "high": b"100     ", "least": b"-32768  ", "most": b"32767   ",
              "filter": b" " * 80, "samples": b"4       ", "rest": b" " * 32}
    return b"".join({**fields, **changes}.values()) + struct.pack("<4h", 0, 1, 2, 3)


@pytest.mark.parametrize(("changes", "words"), [
    ({"version": b"1       "}, "not an EDF or BDF"), ({"count": b"9999"}, "number of channels"),
    ({"count": b"-1  "}, "number of channels"), ({"count": b"2   "}, "does not fit 2 channels"),
    ({"size": b"99999999"}, "size of the header"), ({"size": b"\xff\xff\xff\xff\xff\xff\xff\xff"},
                                                   "size of the header"),
    ({"records": b"7       "}, "ends after 1 of 7 records; it is cut off"),
    ({"length": b"0       "}, "length of a record"), ({"length": b"nan     "}, "length of a rec"),
    ({"samples": b"99999999"}, "samples of 'EMG'"), ({"samples": b"0       "}, "cut off"),
    ({"samples": b"4000    "}, "cut off"), ({"most": b"-32768  "}, "digital range"),
    ({"high": b"1e300   "}, "a range of 'EMG'"), ({"high": b"inf     "}, "a range of 'EMG'"),
    ({"kind": b"EDF+D".ljust(44)}, "is discontinuous"), ({"unit": b"kg      "}, "none of its 1"),
])
def test_headers_that_cannot_be_are_refused(
    tmp_path: Path, changes: dict[str, bytes], words: str
) -> None:
    path = tmp_path / "r.edf"
    path.write_bytes(head(**changes))
    with pytest.raises(InputError, match=words):
        read_recording(path)


def test_a_number_of_records_that_is_not_known_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "r.edf"
    path.write_bytes(head(records=b"-1      "))
    np.testing.assert_allclose(edf.read(path).physical(edf.read(path).channels[0]),
                               (np.arange(4) + 32768) * 200 / 65535 - 100)
