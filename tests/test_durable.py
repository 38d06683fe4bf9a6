"""Crash-safe writing; truth is the file system itself and the order of system calls."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from spikewire.durable import write_durably


def test_content_arrives_and_nothing_is_left_beside(tmp_path: Path) -> None:
    path = tmp_path / "f.bin"
    write_durably(path, lambda f: f.write(b"one"))
    write_durably(path, lambda f: f.write(b"two"))
    assert path.read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["f.bin"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_failure_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "f.bin"
    path.write_bytes(b"old")

    def fail(file: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_durably(path, fail)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f.bin"]


def test_order_is_write_fsync_rename_fsync_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(handle: int) -> None:
        calls.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else
                     f"file of {os.fstat(handle).st_size}")
        fsync(handle)

    def note_replace(a: str, b: str) -> None:
        calls.append("rename")
        replace(a, b)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    write_durably(tmp_path / "f", lambda f: f.write(b"12345"))
    assert calls == ["file of 5", "rename", "folder"]


def test_a_missing_folder_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_durably(tmp_path / "no" / "f", lambda f: f.write(b""))
