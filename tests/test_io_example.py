"""Fetching the example, without a network: the archive is made here, the index is switched off."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from spikewire.io import example
from spikewire.signals import InputError


def archive(path: Path, member: str, content: bytes) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        info = tarfile.TarInfo(member)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return path


def test_a_cached_file_is_used_if_it_is_the_right_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"the recording"
    monkeypatch.setattr(example, "SHA256", hashlib.sha256(content).hexdigest())
    (tmp_path / "vastus_lateralis.mat").write_bytes(content)
    assert example.fetch(tmp_path).read_bytes() == content


def test_a_wrong_cached_file_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vastus_lateralis.mat").write_bytes(b"half of it")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(InputError, match=r"cannot be fetched .* make demo REC=your.npz"):
        example.fetch(tmp_path)


@pytest.mark.parametrize("keep", [0, 20, 60])
def test_a_damaged_archive_is_named(tmp_path: Path, keep: int) -> None:
    path = archive(tmp_path / "a.tar.gz", example.MEMBER, bytes(range(256)) * 40)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"a.tar.gz is damaged"):
        example.read_member(path)


def test_only_the_one_member_is_read(tmp_path: Path) -> None:
    good = archive(tmp_path / "a.tar.gz", example.MEMBER, b"mat")
    assert example.read_member(good) == b"mat"
    with pytest.raises(InputError, match="holds no"):
        example.read_member(archive(tmp_path / "b.tar.gz", "../../evil", b"x"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tar.gz", "b.tar.gz"]
