"""openhdemg's two forms, written by hand from their description: JSON in JSON, and a folder."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from spikewire.io import read_recording, read_trains
from spikewire.signals import InputError

EMG = np.random.default_rng(0).normal(0, 100, (3000, 6)).round(3)
TIMES = [[10, 200, 450], [33, 700]]


def frame(data: np.ndarray, shuffle: bool = False) -> str:
    """What pandas' to_json(orient="split") makes of a table; rows may stand in any order."""
    rows = np.random.default_rng(1).permutation(len(data)) if shuffle else np.arange(len(data))
    return json.dumps({"columns": list(range(data.shape[1])), "index": rows.tolist(),
                       "data": data[rows].tolist()})


def version_01(path: Path, packed: bool = True, **changes: object) -> Path:
    held = {"SOURCE": '"OTB"', "FILENAME": '"x.mat"', "RAW_SIGNAL": frame(EMG, shuffle=True),
            "REF_SIGNAL": frame(np.arange(3000.0)[:, None]), "MUPULSES": json.dumps(TIMES),
            "IPTS": frame(np.zeros((3000, 2))), "FSAMP": "2048.0", "IED": "8.0",
            "EMG_LENGTH": "3000", "NUMBER_OF_MUS": "2"} | changes
    text = json.dumps({k: v for k, v in held.items() if v is not None}).encode()
    path.write_bytes(gzip.compress(text) if packed else text)
    return path


@pytest.mark.parametrize("packed", [True, False])
def test_json_in_json(tmp_path: Path, packed: bool) -> None:
    path = version_01(tmp_path / "r.json", packed)
    with pytest.raises(InputError, match="does not say its unit"):
        read_recording(path)
    r = read_recording(path, unit="uV")
    np.testing.assert_allclose(r.emg, EMG, rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(r.force, np.arange(3000))
    assert (r.fs_hz, r.ied_mm) == (2048, 8)
    np.testing.assert_allclose(read_recording(path, unit="mV", any_rms=True).emg, 1000 * EMG,
                               rtol=1e-5, atol=1e-2)
    assert [t.tolist() for t in read_trains(path).times] == TIMES


@pytest.mark.parametrize(("changes", "words"), [
    ({"FSAMP": None}, "no FSAMP"), ({"FSAMP": '"fast"'}, "not a readable file"),
    ({"FSAMP": "NaN"}, "its rate is nan"), ({"RAW_SIGNAL": None}, "no RAW_SIGNAL"),
    ({"RAW_SIGNAL": "[" * 100_000}, "not a readable file"), ({"RAW_SIGNAL": "{}"}, "not a readab"),
    ({"RAW_SIGNAL": frame(EMG)[:-900]}, "not a readable file"), ({"RAW_SIGNAL": 7}, "not a read"),
    ({"RAW_SIGNAL": '{"columns":[0],"index":[0],"data":[[null]]}'}, "shape|NaN"),
    ({"RAW_SIGNAL": '{"columns":[0],"index":[0,1],"data":[[1]]}'}, "2 rows named"),
])
def test_what_does_not_fit_is_one_line(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        read_recording(version_01(tmp_path / "r.json", **changes), unit="uV")


@pytest.mark.parametrize("pulses", ["[[1.5]]", "[[-4]]", "[[NaN]]", '[["a"]]', "7", "[]", "[[]]",
                                    "[[1e300]]", '{"a": 1}', "[null]"])
def test_times_that_cannot_be(tmp_path: Path, pulses: str) -> None:
    with pytest.raises(InputError, match=r"r\.json"):
        read_trains(version_01(tmp_path / "r.json", MUPULSES=pulses))


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_bytes(gzip.compress(b"[" + b" " * (100 << 20) + b"]", 1))
    with pytest.raises(InputError, match="unpacks to more than"):
        read_recording(path, unit="uV")
    path.write_bytes(gzip.compress(b"{}" * 500)[:-20])
    with pytest.raises(InputError, match="not a readable file"):
        read_recording(path, unit="uV")


def version_02(folder: Path, packed: bool = True, checksum: bool = True) -> dict[str, object]:
    """A module folder; returns its manifest."""
    (folder / "files").mkdir(parents=True)
    end, shut = (".bin.gz", gzip.compress) if packed else (".bin", bytes)

    def put(name: str, content: bytes) -> dict[str, object]:
        where = folder / "files" / (name + end)
        where.write_bytes(shut(content))
        digest = "sha256:" + hashlib.sha256(where.read_bytes()).hexdigest()
        return {"data_file_path": f"files\\{name}{end}", "order": "C",
                "compression": "gzip" if packed else None, "checksum": digest if checksum else None}

    times = [np.array(t, np.int64) for t in TIMES]
    manifest = {
        "_metadata": {"data_structure_version": "1.0"},
        "SOURCE": {"data_type": "str", "text": "OPENHDEMG"},
        "FSAMP": {"data_type": "float", "value": 2048.0},
        "IED": {"data_type": "float", "value": 8.0},
        "RAW_SIGNAL": {"data_type": "pd.DataFrame", "shape": [3000, 6], "endian_dtype": "<f8",
                       **put("RAW_SIGNAL", EMG.tobytes())},
        "REF_SIGNAL": {"data_type": "empty pd.DataFrame", "columns": [], "shape": [0, 0]},
        "MUPULSES": {"data_type": "list_of_1D_np.ndarray", "lengths": [3, 2], "offsets": [0, 24],
                     "endian_dtypes": ["<i8", "<i8"],
                     **put("MUPULSES", b"".join(t.tobytes() for t in times))},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return manifest


@pytest.mark.parametrize(("packed", "checksum"), [(True, True), (False, False)])
def test_the_folder_of_02(tmp_path: Path, packed: bool, checksum: bool) -> None:
    version_02(tmp_path / "module", packed, checksum)
    r = read_recording(tmp_path / "module", unit="uV")
    np.testing.assert_allclose(r.emg, EMG, rtol=1e-5, atol=1e-4)
    assert (r.fs_hz, r.ied_mm, r.name) == (2048, 8, "module")
    assert [t.tolist() for t in read_trains(tmp_path / "module").times] == TIMES


@pytest.mark.parametrize(("key", "value", "words"), [
    ("data_file_path", "../secret.bin", "no file inside the folder"),
    ("data_file_path", "/etc/passwd", "no file inside the folder"),
    ("data_file_path", "files\\..\\..\\secret.bin", "no file inside the folder"),
    ("data_file_path", "files/link.bin", "no file inside the folder"),
    ("data_file_path", 7, "not a readable file"), ("checksum", "sha256:00", "SHA-256 differs"),
    ("shape", [1 << 40, 6], "not a readable file"), ("shape", [-1, 6], "has shape"),
    ("shape", [3000], "has shape"), ("endian_dtype", "|O", "is object"),
    ("endian_dtype", "nonsense", "not a readable file"),
    ("compression", None, "not a readable file"),
])
def test_a_manifest_that_does_not_fit_is_refused(
    tmp_path: Path, key: str, value: object, words: str
) -> None:
    manifest = version_02(tmp_path / "module")
    (tmp_path / "secret.bin").write_bytes(EMG.tobytes())
    (tmp_path / "module" / "files" / "link.bin").symlink_to(tmp_path / "secret.bin")
    manifest["RAW_SIGNAL"][key] = value
    (tmp_path / "module" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=words):
        read_recording(tmp_path / "module", unit="uV")
