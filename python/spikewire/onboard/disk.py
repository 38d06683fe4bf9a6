"""Every change of the disk, each so that a power cut leaves the old thing or the new one.

Write, flush the file, rename, flush the folder, in that order: a rename that reaches the disk
before the bytes it names would leave an empty file behind. Each system call goes through `call`:
tests put a power cut before any of them, and undo what had not been flushed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BUSY = (errno.EAGAIN, errno.EACCES)


def call(function: Callable[..., Any], *words: Any) -> Any:
    """Do one system call that changes the disk."""
    return function(*words)


def write(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace the content of a file; its folder is made if it is missing."""
    make_folder(path.parent)
    beside = _beside(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = call(os.open, beside, flags, mode)
    try:
        left = memoryview(data)
        while left:
            left = left[call(os.write, handle, left):]
        call(os.fchmod, handle, mode)  # whatever the umask was
        call(os.fsync, handle)
    finally:
        os.close(handle)
    call(os.rename, beside, path)
    sync(path.parent)


def point(link: Path, target: str) -> None:
    """Let a symbolic link point elsewhere; there is no moment without it."""
    make_folder(link.parent)
    beside = _beside(link)
    call(os.symlink, target, beside)
    call(os.rename, beside, link)
    sync(link.parent)


def move(folder: Path, to: Path) -> None:
    """Rename a folder whose content has been flushed."""
    make_folder(to.parent)
    call(os.rename, folder, to)
    sync(to.parent)
    sync(folder.parent)


def remove(path: Path) -> None:
    """Remove a file or a link, if it is there."""
    if os.path.lexists(path):
        call(os.unlink, path)
        sync(path.parent)


def remove_tree(path: Path) -> None:
    """Remove a folder with all that is in it; links are not followed."""
    if not os.path.lexists(path):
        return
    if not stat.S_ISDIR(path.lstat().st_mode):
        call(os.unlink, path)
        return
    for inside in sorted(path.iterdir()):
        remove_tree(inside)
    call(os.rmdir, path)


def make_folder(path: Path, mode: int = 0o755) -> None:
    """Make a folder and those above it; folders that are there stay as they are."""
    if path.is_dir():
        return
    make_folder(path.parent)
    call(os.mkdir, path, mode)
    sync(path.parent)


def set_mode(path: Path, mode: int) -> None:
    """Set the permissions of a file or folder that is no link."""
    if stat.S_IMODE(path.lstat().st_mode) != mode:
        call(os.chmod, path, mode)


def sync(path: Path) -> None:
    """Flush a file, or a folder's list of names."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        call(os.fsync, handle)
    finally:
        os.close(handle)


def sync_tree(path: Path) -> None:
    """Flush every file and folder below `path`, files first."""
    for folder, _, files in os.walk(path, topdown=False):
        for name in files:
            sync(Path(folder, name))
        sync(Path(folder))


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold the lock; False where another process holds it. A process that dies lets go."""
    make_folder(path.parent)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in BUSY:
                raise
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def _beside(path: Path) -> Path:
    """Return the name that the new one has first; one that a cut left there is removed."""
    beside = path.with_name(f".{path.name}.new")
    if os.path.lexists(beside):
        call(os.unlink, beside)
    return beside
