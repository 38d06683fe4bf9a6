"""Releases as folders: which are whole, and whose they are.

release.json lists every file with its hash; its own hash ends the folder's name, so a name in
state.json stands for every byte. Whoever signed it is asked once, when it comes to the board.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spikewire.onboard import programs

LIST, SIGNATURE, COMPILED = "release.json", "release.json.sig", "compiled.json"
BUNDLE, BOARD = "bundle.mub", "board.json"
NAMESPACE, IDENTITY = "spikewire-release", "spikewire"
# Nothing that belongs on a board comes near these.
MOST_FILES, LARGEST, LARGEST_IN_ALL, LONGEST_LIST = 50_000, 1 << 30, 4 << 30, 16 << 20

VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+_]{0,63}")
NAME = re.compile(rf"{VERSION.pattern}-[0-9a-f]{{12}}")
SHA256 = re.compile(r"[0-9a-f]{64}")
# key of release.json -> what its text must look like
TEXTS = {
    "version": VERSION,
    "board": re.compile(r"[a-z0-9][a-z0-9_-]{0,63}"),
    "python": re.compile(r"3\.[0-9]{1,2}"),
    "arch": re.compile(r"[a-z0-9_]{1,32}"),
}


class ReleaseError(ValueError):
    """A folder that is no whole release; the text says what is wrong with which file."""


def verify_folder(path: str | Path, name: str | None = None, compiled: bool = False
                  ) -> dict[str, Any]:
    """Check that a folder holds exactly what its release.json lists.

    Parameters
    ----------
    path : str or Path
    name : str, optional
        What it should be called: version and hash of release.json. Default: not compared.
    compiled : bool
        Whether bytecode that this board has made (compiled.json) may be there.

    Returns
    -------
    dict
        The content of release.json.

    Raises
    ------
    ReleaseError
        A file is missing, extra, changed, too large, a link, or listed under a path that leads
        elsewhere; or release.json is not one.
    OSError
        The folder cannot be read.
    """
    path = Path(path)
    release = read_list(path, name)
    wanted = {file: row["sha256"] for file, row in release["files"].items()}
    if compiled:
        wanted |= _made_here(path, wanted)
    found = _found(path)
    for own in (LIST, SIGNATURE, *([COMPILED] if compiled else [])):
        found.pop(own, None)
    for what, files in (("missing", wanted.keys() - found.keys()),
                        ("not listed", found.keys() - wanted.keys())):
        if files:
            more = f" and {len(files) - 1} more" if len(files) > 1 else ""
            raise ReleaseError(f"{min(files)!r}{more}: {what} in {LIST}" if what != "missing" else
                               f"{min(files)!r}{more}: listed in {LIST}, but missing")
    for file, row in release["files"].items():
        if bool(found[file].st_mode & 0o100) != (row["mode"] == "0755"):
            raise ReleaseError(f"{file!r}: mode is {stat.S_IMODE(found[file].st_mode):04o}, "
                               f"{LIST} says {row['mode']}")
    for file, sha256 in wanted.items():
        if hash_file(path / file) != sha256:
            raise ReleaseError(f"{file!r}: its bytes are not those that {LIST} names")
    return release


def read_list(path: Path, name: str | None = None) -> dict[str, Any]:
    """Read and check release.json alone; arguments, result and errors as `verify_folder`."""
    raw = _read(path / LIST)
    try:
        release = json.loads(raw, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise ReleaseError(f"{LIST}: not JSON ({error})") from None
    if not isinstance(release, dict) or release.get("schema") != 1:
        raise ReleaseError(f"{LIST}: schema is not 1; update spikewire")
    for key, form in TEXTS.items():
        value = release.get(key)
        if not isinstance(value, str) or not form.fullmatch(value):
            raise ReleaseError(f"{LIST}: {key} is {value!r}, allowed is {form.pattern}")
    files, bundle = release.get("files"), release.get("bundle")
    if not isinstance(files, dict) or not 0 < len(files) <= MOST_FILES:
        raise ReleaseError(f"{LIST}: files is no table of 1 to {MOST_FILES} files")
    for file, row in files.items():
        _check_row(file, row)
    if (not isinstance(bundle, dict) or bundle.get("file") != BUNDLE or BUNDLE not in files
            or bundle.get("sha256") != files[BUNDLE]["sha256"]):
        raise ReleaseError(f"{LIST}: bundle is not {BUNDLE} with the hash under files")
    if BOARD not in files:
        raise ReleaseError(f"{LIST}: {BOARD} is not among the files")
    if name is not None and name != name_of(release, raw):
        raise ReleaseError(f"{LIST}: makes the name {name_of(release, raw)}, not {name}")
    return release


def name_of(release: dict[str, Any], raw: bytes) -> str:
    """Return a release's name: its version and 12 hex digits of release.json's hash."""
    return f"{release['version']}-{hashlib.sha256(raw).hexdigest()[:12]}"


def verify_signature(path: Path, signers: Path) -> None:
    """Check that release.json was signed by one of the keys in a file of allowed signers.

    Raises
    ------
    ReleaseError
        No signature, another key, changed bytes, or no ssh-keygen.
    """
    if not (path / SIGNATURE).is_file():
        raise ReleaseError(f"{SIGNATURE}: missing, the release is not signed")
    done = programs.run(["ssh-keygen", "-Y", "verify", "-n", NAMESPACE, "-I", IDENTITY, "-f",
                         signers, "-s", path / SIGNATURE], given=_read(path / LIST))
    if done.code == programs.MISSING:
        raise ReleaseError(f"{SIGNATURE}: cannot be checked, ssh-keygen is missing")
    if done.code:
        raise ReleaseError(f"{SIGNATURE}: bad signature, or by no key in {signers} ({done.last})")


def is_whole(path: Path, name: str) -> bool:
    """Return whether an installed release is complete and unchanged."""
    try:
        verify_folder(path, name, compiled=True)
    except (ReleaseError, OSError):
        return False
    return True


def seal(path: Path, wanted: dict[str, Any]) -> bytes:
    """Return the content of compiled.json: hashes of the bytecode made beside listed sources."""
    made = {file: hash_file(path / file) for file in _found(path) if _source(file) in wanted}
    return json.dumps(made, sort_keys=True).encode()


def hash_file(path: Path) -> str:
    """Return a file's SHA-256 in hex; links are not followed."""
    digest = hashlib.sha256()
    with open(path, "rb", opener=_no_link) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def size_of(path: Path) -> int:
    """Return the bytes in a folder's files."""
    return sum(found.st_size for found in _found(path).values())


def _check_row(file: str, row: object) -> None:
    """Check one entry of release.json's files."""
    parts = file.split("/")
    if (len(file) > 1024 or file in (LIST, SIGNATURE, COMPILED) or not file.isprintable()
            or "\\" in file or any(p in ("", ".", "..") or len(p) > 255 for p in parts)):
        raise ReleaseError(f"{LIST}: {file[:80]!r} is no path inside a release")
    if (not isinstance(row, dict) or row.get("mode") not in ("0644", "0755")
            or not isinstance(row.get("sha256"), str) or not SHA256.fullmatch(row["sha256"])):
        raise ReleaseError(f"{LIST}: {file!r} has not a sha256 and a mode of 0644 or 0755")


def _made_here(path: Path, wanted: dict[str, str]) -> dict[str, str]:
    """Return the hashes of the bytecode made here, of listed sources only."""
    if not (path / COMPILED).exists():
        return {}
    try:
        made = json.loads(_read(path / COMPILED))
    except ValueError as error:
        raise ReleaseError(f"{COMPILED}: not JSON ({error})") from None
    if not isinstance(made, dict) or not all(_source(file) in wanted for file in made):
        raise ReleaseError(f"{COMPILED}: lists more than bytecode")
    return made


def _source(file: str) -> str | None:
    """Return the source that a file of bytecode belongs to; None for any other file."""
    found = re.fullmatch(r"(.*/)?__pycache__/([^/]+?)\.[^/.]+(\.opt-[12])?\.pyc", file)
    return f"{found[1] or ''}{found[2]}.py" if found else None


def _found(path: Path) -> dict[str, os.stat_result]:
    """Return every file in a folder; refuse links, devices and sizes that nobody meant."""
    if path.is_symlink():
        raise ReleaseError("is a link, not a folder")
    found = dict(_files(path, ""))
    if sum(file.st_size for file in found.values()) > LARGEST_IN_ALL:
        raise ReleaseError(f"is larger than {LARGEST_IN_ALL >> 30} GiB")
    return found


def _files(path: Path, prefix: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the files below a folder under their paths in it."""
    with os.scandir(path) as entries:
        for count, entry in enumerate(entries):
            file, found = prefix + entry.name, entry.stat(follow_symlinks=False)
            if count > MOST_FILES:
                raise ReleaseError(f"{prefix!r}: more than {MOST_FILES} files")
            if entry.is_dir(follow_symlinks=False):
                if prefix.count("/") > 64:
                    raise ReleaseError(f"{file[:80]!r}: folders too deep")
                yield from _files(path / entry.name, f"{file}/")
            elif not stat.S_ISREG(found.st_mode):
                raise ReleaseError(f"{file!r}: a link or a device, allowed are files")
            elif found.st_size > LARGEST:
                raise ReleaseError(f"{file!r}: {found.st_size >> 20} MiB, allowed is "
                                   f"{LARGEST >> 20} MiB")
            else:
                yield file, found


def _read(path: Path) -> bytes:
    """Read one small file of a release."""
    try:
        with open(path, "rb", opener=_no_link) as file:
            raw = file.read(LONGEST_LIST + 1)
    except OSError as error:
        raise ReleaseError(f"{path.name}: cannot be read ({error.strerror})") from None
    if len(raw) > LONGEST_LIST:
        raise ReleaseError(f"{path.name}: longer than {LONGEST_LIST >> 20} MiB")
    return raw


def _no_link(path: str, flags: int) -> int:
    """Open a file that is no link and no pipe that would never answer."""
    handle = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(22, "not a file", path)
    return handle


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; a key that comes twice means two readers could differ."""
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a key comes twice")
    return table
