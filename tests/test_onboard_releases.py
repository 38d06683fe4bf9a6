"""Broken releases, each refused in its own words; the signatures are ssh-keygen's own."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from board_world import make_key, make_release, seal
from hypothesis import given
from hypothesis import strategies as st

from spikewire.onboard import releases
from spikewire.onboard.releases import ReleaseError, is_whole, verify_folder, verify_signature

pytestmark = pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="ssh-keygen is missing")


@pytest.fixture(scope="module")
def signed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("release")
    return make_release(folder, "1.A", key=make_key(folder))


@pytest.fixture
def release(signed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(signed, tmp_path / signed.name))


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def swap(release: Path, **changes) -> None:
    content = json.loads((release / "release.json").read_bytes())
    seal(release, {**content, **changes}, None)


def lists(release: Path, file: str) -> None:
    content = json.loads((release / "release.json").read_bytes())
    content["files"][file] = content["files"]["bundle.mub"]
    seal(release, content, None)


def sparse(path: Path, size: int) -> None:
    with open(path, "wb") as file:
        file.truncate(size)


BROKEN = {
    "a flipped byte": (lambda r: flip(r / "bundle.mub"), "'bundle.mub': its bytes are not those"),
    "a missing file": (lambda r: (r / "run.env").unlink(), "'run.env': listed in release.json,"),
    "an extra file": (lambda r: (r / "site/x.py").write_text(""), "'site/x.py': not listed"),
    "bytecode from elsewhere": (lambda r: ((r / "site/__pycache__").mkdir(), (
        r / "site/__pycache__/x.cpython-310.pyc").write_text("")), "not listed"),
    "a wrong mode": (lambda r: (r / "bin/mu-run").chmod(0o644), "mode is 0644, release.json says"),
    "a link": (lambda r: (r / "site/x").symlink_to("/etc/passwd"), "'site/x': a link or a device"),
    "a linked folder": (lambda r: (r / "site/x").symlink_to("/etc"), "a link or a device"),
    "a link for a file": (lambda r: ((r / "run.env").unlink(), (r / "run.env").symlink_to(
        "board.json")), "'run.env': a link or a device"),
    "a pipe": (lambda r: os.mkfifo(r / "site/x"), "a link or a device"),
    "a huge file": (lambda r: sparse(r / "site/x", releases.LARGEST + 1), "1024 MiB, allowed is"),
    "no list": (lambda r: (r / "release.json").unlink(), "release.json: cannot be read (No such"),
    "a list that is a link": (lambda r: ((r / "release.json").rename(r / "x"), (
        r / "release.json").symlink_to("x")), "release.json: cannot be read"),
    "a long list": (lambda r: sparse(r / "release.json", releases.LONGEST_LIST + 9), "longer than"),
    "no JSON": (lambda r: (r / "release.json").write_text("{"), "not JSON"),
    "deep JSON": (lambda r: (r / "release.json").write_text("[" * 100_000), "not JSON"),
    "a key twice": (lambda r: (r / "release.json").write_text('{"schema": 1, "schema": 1}'),
                    "a key comes twice"),
    "another schema": (lambda r: swap(r, schema=2), "schema is not 1; update spikewire"),
    "a version with a path": (lambda r: swap(r, version="../1"), "version is '../1', allowed"),
    "no files": (lambda r: swap(r, files={}), "no table of 1 to 50000 files"),
    "another bundle": (lambda r: swap(r, bundle={"file": "x.mub"}), "bundle is not bundle.mub"),
    "a path upwards": (lambda r: lists(r, "site/../../x"), "is no path inside a release"),
    "an absolute path": (lambda r: lists(r, "/etc/passwd"), "is no path inside a release"),
    "its own list": (lambda r: lists(r, "release.json"), "is no path inside a release"),
    "another list": (lambda r: swap(r, version="2.A"), "makes the name 2.A-"),
}


def test_a_whole_one_passes(release: Path) -> None:
    assert verify_folder(release, release.name)["version"] == "1.A"
    assert is_whole(release, release.name)


@pytest.mark.parametrize("fault", BROKEN)
def test_each_fault_has_its_own_words(release: Path, fault: str) -> None:
    breaks, words = BROKEN[fault]
    breaks(release)
    with pytest.raises(ReleaseError) as error:
        verify_folder(release, release.name)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert not is_whole(release, release.name)


def test_a_link_to_a_release_is_none(release: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(release)
    with pytest.raises(ReleaseError, match="is a link"):
        verify_folder(tmp_path / "link")


@given(path=st.text(max_size=40) | st.lists(st.sampled_from(["..", ".", "", "a", "\\", "\0"]),
                                           max_size=5).map("/".join))
def test_no_listed_path_leads_out(path: str) -> None:
    row = {"sha256": "0" * 64, "mode": "0644"}
    try:
        releases._check_row(path, row)
    except ReleaseError:
        return
    inside = os.path.normpath(os.path.join("/r", path))
    assert inside.startswith("/r/")
    assert inside == f"/r/{path}"


def test_bytecode_made_here_counts_only_with_its_hash(release: Path) -> None:
    cache = release / "site/spikewire/__pycache__"
    cache.mkdir()
    (cache / "__init__.cpython-310.pyc").write_bytes(b"made here")
    listed = json.loads((release / "release.json").read_bytes())["files"]
    (release / releases.COMPILED).write_bytes(releases.seal(release, listed))
    assert is_whole(release, release.name)
    with pytest.raises(ReleaseError, match="not listed"):
        verify_folder(release, release.name)  # but not in a release that arrives
    flip(cache / "__init__.cpython-310.pyc")
    assert not is_whole(release, release.name)
    (release / releases.COMPILED).write_text('{"bin/mu-run": "0"}')
    assert not is_whole(release, release.name)


def signers(release: Path, tmp_path: Path, folder: Path) -> Path:
    kind, blob = make_key(folder).with_suffix(".pub").read_text().split()[:2]
    path = tmp_path / "signers"
    path.write_text(f'spikewire namespaces="spikewire-release" {kind} {blob}\n')
    return path


def test_a_signature_stands_for_these_bytes_and_this_key(
        release: Path, signed: Path, tmp_path: Path) -> None:
    mine = signers(release, tmp_path, signed.parent)
    verify_signature(release, mine)
    (tmp_path / "other").mkdir()
    other = signers(release, tmp_path / "other", tmp_path / "other")
    with pytest.raises(ReleaseError, match="bad signature, or by no key"):
        verify_signature(release, other)
    flip(release / "release.json")
    with pytest.raises(ReleaseError, match="bad signature"):
        verify_signature(release, mine)
    (release / "release.json.sig").unlink()
    with pytest.raises(ReleaseError, match="the release is not signed"):
        verify_signature(release, mine)


def test_without_ssh_keygen_nothing_is_taken(release, signed, tmp_path, monkeypatch) -> None:
    mine = signers(release, tmp_path, signed.parent)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ReleaseError, match="ssh-keygen is missing"):
        verify_signature(release, mine)
