"""MATLAB 5 and 7.3 files that SciPy and h5py wrote: foreign writers, whose values must return."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

scipy_io = pytest.importorskip("scipy.io")
pytest.importorskip("h5py")

from containers import matlab73

from spikewire.io.mat5 import Mat5
from spikewire.io.mat73 import Mat73
from spikewire.io.matfile import DAMAGED, load, maker
from spikewire.signals import InputError


def cells(values: list[object]) -> np.ndarray:
    out = np.empty((1, len(values)), object)
    for k, value in enumerate(values):
        out[0, k] = value
    return out


KINDS = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]
ARRAYS = st.sampled_from(KINDS).flatmap(
    lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=2, max_dims=3, min_side=0, max_side=5)))
TEXTS = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), min_size=1, max_size=20)
VALUES = st.recursive(
    ARRAYS | TEXTS,
    lambda inner: st.lists(inner, min_size=1, max_size=4).map(cells)
    | st.dictionaries(st.sampled_from(["a", "bb", "long_name_1"]), inner, min_size=1),
    max_leaves=8)


def same(got: object, put: object) -> bool:
    """Whether a value came back, up to how MATLAB stores it."""
    if isinstance(put, str):
        return got == put
    if isinstance(put, dict):
        return got.keys() == put.keys() and all(same(got[k], put[k]) for k in put)
    if put.dtype == object:
        return got.shape == put.shape and all(map(same, got.flat, put.flat))
    return got.shape == put.shape and np.array_equal(got, put, equal_nan=put.dtype.kind == "f")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(["x", "SIG", "a_longer_name"]), VALUES, min_size=1),
       st.booleans())
def test_what_scipy_wrote_comes_back(tmp_path: Path, put: dict[str, object], packed: bool) -> None:
    path = tmp_path / "r.mat"
    scipy_io.savemat(path, put, do_compression=packed)
    assert sorted(Mat5(path).names()) == sorted(put)
    got = Mat5(path).read(set(put))
    assert got.keys() == put.keys()
    assert all(same(got[k], put[k]) for k in put)


def test_the_other_byte_order_by_hand(tmp_path: Path) -> None:
    """A 1 x 2 array of doubles, big-endian, element by element after MathWorks' description."""
    inner = (struct.pack(">IIII", 6, 8, 6, 0) + struct.pack(">IIii", 5, 8, 1, 2)
             + struct.pack(">HH4s", 1, 1, b"x\0\0\0") + struct.pack(">IIdd", 9, 16, 1.5, -2.0))
    path = tmp_path / "r.mat"
    path.write_bytes(b"MATLAB 5.0".ljust(124) + struct.pack(">H2s", 0x0100, b"MI")
                     + struct.pack(">II", 14, len(inner)) + inner)
    np.testing.assert_array_equal(Mat5(path).read({"x"})["x"], [[1.5, -2.0]])


def test_what_no_recording_needs_is_none(tmp_path: Path) -> None:
    from scipy.sparse import csc_array

    path = tmp_path / "r.mat"
    scipy_io.savemat(path, {"s": csc_array(np.eye(3)), "x": 1.0})
    got = Mat5(path).read({"s", "x"})
    assert got["s"] is None
    assert got["x"] == 1


def element(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def matrix(kind: int, shape: tuple[int, ...], content: bytes) -> bytes:
    return element(14, element(6, struct.pack("<II", kind, 0))
                   + element(5, struct.pack(f"<{len(shape)}i", *shape))
                   + element(1, b"SIG") + content)


HEADER = b"MATLAB 5.0".ljust(124) + struct.pack("<H2s", 0x0100, b"IM")


@pytest.mark.parametrize("content", [
    matrix(6, (1 << 30, 1 << 30), element(9, bytes(8))),
    matrix(6, (-1, -1), element(9, bytes(8))),
    matrix(1, (1 << 30, 1), b""),
    matrix(1, (1 << 15, 1 << 15), bytes(64)),
    matrix(2, (1 << 30, 1), element(5, struct.pack("<i", 8)) + element(1, b"a".ljust(8))),
    matrix(2, (1, 1), element(5, struct.pack("<i", 0)) + element(1, b"a")),
    matrix(6, (1, 1) * 20, element(9, bytes(8))),
    struct.pack("<II", 14, 1 << 31) + bytes(40),
    struct.pack("<II", 15, 20) + b"no deflated bytes...",
    element(15, zlib.compress(matrix(6, (1, 1), element(9, bytes(8))))[:30]),
])
def test_sizes_beyond_the_bytes_are_refused_before_memory_is_taken(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "r.mat"
    path.write_bytes(HEADER + content)
    with pytest.raises((*DAMAGED, InputError)):
        Mat5(path).read({"SIG"})
    with pytest.raises(InputError, match=r"r\.mat"):
        load(path, "DEMUSE", {"SIG"}, set())


def test_a_bomb_and_cells_in_cells_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.mat"
    packed = zlib.compress(bytes(90 << 20), 1)
    path.write_bytes(HEADER + struct.pack("<II", 15, len(packed)) + packed)
    with pytest.raises(InputError, match=r"r\.mat"):
        load(path, "DEMUSE", {"SIG"}, set())
    inner = matrix(6, (1, 1), element(9, bytes(8)))
    for _ in range(40):
        inner = matrix(1, (1, 1), inner)
    path.write_bytes(HEADER + inner)
    with pytest.raises(InputError, match="too many cells in one another"):
        load(path, "DEMUSE", {"SIG"}, set())


def test_version_73_gives_the_same_values(tmp_path: Path) -> None:
    put = {"signal": {"data": np.arange(12.0).reshape(3, 4), "gridname": cells(["GR08", "two"]),
                      "times": cells([np.array([[1, 2, 3]]), np.array([[7]])])},
           "other": np.ones((1, 1))}
    path = matlab73(tmp_path / "r.mat", put)
    reader = Mat73(path)
    assert sorted(reader.names()) == ["other", "signal"]
    assert same(reader.read({"signal"})["signal"], put["signal"])
    assert maker(path) == "muedit"


def test_a_damaged_version_73_is_one_line(tmp_path: Path) -> None:
    path = matlab73(tmp_path / "r.mat", {"signal": {"data": np.ones((3, 4000))}})
    content = path.read_bytes()
    for bad in (content[:700], content[:512] + content[512:530] + os.urandom(3000)):
        path.write_bytes(bad)
        with pytest.raises(InputError, match="not a readable MATLAB file"):
            maker(path)


def test_version_73_without_h5py_names_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.mat"
    path.write_bytes(bytes(512) + b"\x89HDF\r\n\x1a\n" + bytes(100))
    monkeypatch.setattr("spikewire.io.mat73.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'spikewire\[files\]'"):
        maker(path)


def test_an_unknown_maker_is_told_what_is_known(tmp_path: Path) -> None:
    path = tmp_path / "r.mat"
    scipy_io.savemat(path, {"emg": 1.0})
    with pytest.raises(InputError, match=r"holds emg; a readable \.mat is an export of OTBiolab"):
        maker(path)
