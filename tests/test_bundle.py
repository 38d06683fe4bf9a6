"""Bundles: reproducible, verified, closed to hostile bytes. Hashes are hashlib's."""

from __future__ import annotations

import hashlib
import io
import json
import random
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import make_bundle
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spikewire.bundle import arm_id, read_bundle, save_array, write_bundle
from spikewire.signals import InputError


def rewritten(path: Path, out: Path, **changes: object) -> Path:
    """The same bundle with other values in its manifest."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "manifest.json":
                data = json.dumps(json.loads(data) | changes).encode()
            new.writestr(name, data)
    return out


def test_it_carries_what_was_put_in(bundle_path: Path) -> None:
    bundle = read_bundle(bundle_path)
    assert bundle.manifest.n_mu == 4
    assert bundle.sha256 == hashlib.sha256(bundle_path.read_bytes()).hexdigest()
    kernels, scale = bundle.front()
    assert kernels.shape == (8 * 16, 4)
    assert scale.tolist() == [1] * 4
    for name, digest in bundle.manifest.hashes.items():
        assert hashlib.sha256(bundle.files[name]).hexdigest() == digest


def test_same_content_same_bytes(bundle_path: Path, synthetic: object, tmp_path: Path) -> None:
    again = make_bundle(tmp_path / bundle_path.name, synthetic)
    assert again.read_bytes() == bundle_path.read_bytes()


def test_arm_id_is_the_crc_of_the_hashes_in_order(bundle_path: Path) -> None:
    b = read_bundle(bundle_path)
    assert arm_id([b, b]) == zlib.crc32(hashlib.sha256(bundle_path.read_bytes()).digest() * 2)


def test_every_flipped_byte_is_noticed(bundle_path: Path, tmp_path: Path) -> None:
    content = bytearray(bundle_path.read_bytes())
    rng = random.Random(0)
    bad = tmp_path / "bad.mub"
    whole = read_bundle(bundle_path)
    for at in rng.sample(range(len(content)), 300):
        content[at] ^= 1 << rng.randrange(8)
        bad.write_bytes(content)
        try:
            found = read_bundle(bad)
        except InputError:
            pass
        else:  # zip metadata that says nothing about the content, such as a date
            assert found.files == whole.files
            assert found.manifest == whole.manifest
        content[at] = bundle_path.read_bytes()[at]


def test_every_truncation_is_noticed(bundle_path: Path, tmp_path: Path) -> None:
    content = bundle_path.read_bytes()
    bad = tmp_path / "bad.mub"
    for length in [0, 1, 3, 1000, len(content) // 2, len(content) - 30, len(content) - 1]:
        bad.write_bytes(content[:length])
        with pytest.raises(InputError):
            read_bundle(bad)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=600))
def test_random_bytes_are_an_input_error(tmp_path: Path, content: bytes) -> None:
    bad = tmp_path / "bad.mub"
    bad.write_bytes(content)
    with pytest.raises(InputError):
        read_bundle(bad)


@pytest.mark.parametrize(("changes", "words"), [
    ({"schema": 1}, "bundle schema is 1, this version reads 2"),
    ({"schema": "1"}, "schema"),
    ({"schema": True}, "schema is True"),
    ({"name": 3}, "name is 3"),
    ({"training": 3}, "training is 3"),
    ({"n_mu": 10**12}, "n_mu"),
    ({"networks": ["fp32"]}, "networks is"),
    ({"networks": {"fp32": 3}}, "networks is"),
    ({"hashes": None}, "manifest"),
    ({"hashes": ["network.fp32.onnx"]}, "manifest"),
    ({"n_mu": 5}, "thresholds is 4, must be 5"),
    ({"n_mu": -1}, "n_mu"),
    ({"n_mu": "4"}, "n_mu"),
    ({"inputs": 7}, r"kernels.npy is float32 \(128, 4\), must be float32 \(128, 7\)"),
    ({"history_samples": 3}, "kernels.npy"),
    ({"history_samples": -1}, "history_samples"),
    ({"window": 100}, "window is 100, allowed is 120"),
    ({"window": 120.0}, "window is 120.0"),
    ({"step": True}, "step is True"),
    ({"channel_map": [*range(15), 99]}, "channel_map"),
    ({"channel_map": [*range(15), -1]}, "channel_map"),
    ({"thresholds": [0.5, 0.5, 0.5, float("nan")]}, "thresholds"),
    ({"thresholds": "half"}, "thresholds"),
    ({"label_lag": [0, 0, 0, 0.5]}, "label_lag"),
    ({"fs_hz": float("inf")}, "fs_hz"),
    ({"fs_hz": 0}, "fs_hz"),
    ({"look_ahead": 200}, "look"),
    ({"refractory": -3}, "refractory"),
    ({"refractory": 0}, "refractory"),
    ({"thresholds": [0.0] * 4}, "thresholds"),
    ({"tolerance": {"fp32": 1.0}}, "tolerance"),
    ({"networks": {"fp32": "no.onnx"}}, "network"),
    ({"networks": {}}, "network"),
    ({"tolerance": {}}, "tolerance"),
    ({"golden_lsb_uv": float("nan")}, "golden_lsb_uv"),
    ({"montage": "sd_along_columns"}, "montage"),
    ({"unit": "V"}, "unit"),
    ({"decoder": 3}, "decoder"),
    ({"hashes": {}}, "manifest"),
    ({"more": 1}, "unknown"),
])
def test_a_manifest_that_does_not_fit_is_refused(
    bundle_path: Path, tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    bad = rewritten(bundle_path, tmp_path / "bad.mub", **changes)
    with pytest.raises(InputError, match=words):
        read_bundle(bad)


def test_members_that_are_not_in_the_manifest_are_refused(
    bundle_path: Path, tmp_path: Path
) -> None:
    more = tmp_path / "more.mub"
    more.write_bytes(bundle_path.read_bytes())
    with zipfile.ZipFile(more, "a") as archive:
        archive.writestr("../../etc/evil", b"x")
    with pytest.raises(InputError, match="its files are not those of its manifest"):
        read_bundle(more)


def test_a_compressed_member_is_refused(tmp_path: Path) -> None:
    """A zip bomb needs compression; ours has none."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", b"0" * 50_000_000)
    path = tmp_path / "bomb.mub"
    path.write_bytes(out.getvalue())
    with pytest.raises(InputError, match="compressed"):
        read_bundle(path)


def test_a_missing_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such bundle"):
        read_bundle(tmp_path / "no.mub")


def header(shape: tuple[int, ...]) -> bytes:
    """An array file that promises a shape and holds nothing."""
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        out, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return out.getvalue()


ONES = np.ones((128, 4), np.float32)


@pytest.mark.parametrize(("name", "content"), [
    ("front/kernels.npy", save_array(ONES[:, 0])),
    ("front/kernels.npy", save_array(ONES[:, :, None])),
    ("front/kernels.npy", save_array(ONES * np.float32("nan"))),
    ("front/kernels.npy", save_array(ONES.astype(complex))),
    ("front/kernels.npy", save_array(ONES.astype(str))),
    ("front/kernels.npy", b""),
    ("front/kernels.npy", b"PK"),
    ("front/kernels.npy", header((1 << 40, 4))),
    ("front/scale.npy", save_array(np.zeros(4, np.float32))),
    ("front/scale.npy", save_array(np.ones(5, np.float32))),
    ("golden/emg.npy", save_array(np.zeros((10, 16), np.int16))),
    ("golden/emg.npy", save_array(np.zeros((4107, 3), np.int16))),
    ("golden/presence.fp32.npy", save_array(np.zeros((3, 4), np.float32))),
    ("golden/presence.fp32.npy", save_array(np.full((200, 4), np.nan, np.float32))),
])
def test_arrays_with_right_hashes_that_cannot_be_run_are_refused(
    bundle_path: Path, tmp_path: Path, name: str, content: bytes
) -> None:
    good, bad = read_bundle(bundle_path), tmp_path / "bad.mub"
    write_bundle(bad, replace(good.manifest, hashes={}), good.files | {name: content})
    with pytest.raises(InputError, match=r"bad\.mub"):
        read_bundle(bad)


@pytest.mark.parametrize("text", [b"[]", b"3", b"null", b'"schema"', b"\xff", b"[" * 100_000])
def test_a_manifest_that_is_no_table_is_refused(tmp_path: Path, text: bytes) -> None:
    bad = tmp_path / "bad.mub"
    with zipfile.ZipFile(bad, "w") as archive:
        archive.writestr("manifest.json", text)
    with pytest.raises(InputError, match="is not readable"):
        read_bundle(bad)


def test_a_name_that_appears_twice_is_refused(bundle_path: Path, tmp_path: Path) -> None:
    twice = tmp_path / "twice.mub"
    twice.write_bytes(bundle_path.read_bytes())
    with zipfile.ZipFile(twice, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("golden/emg.npy", b"x")
    with pytest.raises(InputError, match="a name appears twice"):
        read_bundle(twice)
