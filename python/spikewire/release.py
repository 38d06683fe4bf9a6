"""A release: one signed folder with all that a board needs; same inputs, same bytes.

The board brings python3 and, where it has a GPU, JetPack's TensorRT. Nothing else: no network, no
pip, no compiler.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikewire import __version__
from spikewire.bundle import EPOCH, arm_id, read_bundle
from spikewire.durable import write_durably
from spikewire.elf import MAGIC, Version, read_elf
from spikewire.shim import shim
from spikewire.signals import InputError
from spikewire.signing import check_key, default_key, make_key, sign
from spikewire.wheels import fetch, listed, unpack

if TYPE_CHECKING:
    from spikewire.board import Board

SCHEMA = 1
BUNDLE, RECORD, SIGNATURE = "bundle.mub", "release.json", "release.json.sig"
PACKAGE = Path(__file__).parent
# A board that was told nothing decodes its bundle's own golden excerpt, and drives nobody.
SOURCE, LINK = "replay:/opt/spikewire/current/bundle.mub?loop=1", "null:"
# systemd splits the words of run.env at blanks and reads quotes; none are needed.
WORD = re.compile(r"[A-Za-z0-9_./:?=&,@+~\[\]-]+")
COMMANDS = {"mu-run": "run", "mu-doctor": "doctor", "mu-link": "link"}
# The working folder is taken off the path: a file signal.py there must not stop the decoder.
WRAPPER = """#!/bin/sh
here=$(dirname -- "$(dirname -- "$(readlink -f -- "$0")")")
exec env PYTHONPATH="$here/site" python3 -s -B -c 'import sys; sys.path[:] = filter(None, sys.path)
from spikewire.commands.{} import main; sys.exit(main())' "$@"
"""
ZIPAPP = "import runpy\n\nrunpy.run_module('spikewire.onboard', None, '__main__', True)\n"
# glibc -> symbols of the C++ library in the first distribution that had it: Ubuntu 20.04, 22.04,
# Debian 12, Ubuntu 24.04
CXX: dict[Version, dict[str, Version]] = {
    (2, 31): {"GLIBCXX": (3, 4, 28), "CXXABI": (1, 3, 12)},
    (2, 35): {"GLIBCXX": (3, 4, 30), "CXXABI": (1, 3, 13)},
    (2, 39): {"GLIBCXX": (3, 4, 33), "CXXABI": (1, 3, 15)},
}


def build(board: Board, bundle: Path, out: Path, python: str | None = None, source: str = SOURCE,
          links: Sequence[str] = (LINK,), key: Path | None = None,
          run: Sequence[str] = ()) -> Path:
    """Write `out`/NAME/ and `out`/NAME.tar; both whole, or as they were before.

    Parameters
    ----------
    board : Board
    bundle : Path
    out : Path
        A folder; made if its parent is there.
    python : str or None
        One of `board.python`; None for the first.
    source, links, run : str, list of str, list of str
        What mu-run is started with on the board: URIs, and other words.
    key : Path or None
        Signs the release; None for `signing.default_key()`, made if it is not there.

    Returns
    -------
    Path
        The folder. NAME is the version, and 12 hex digits of the hash of its release.json.

    Raises
    ------
    InputError
        An input cannot be used, a tool is missing, or something would not load on the board.
    """
    python = check_board(board, python)
    check_place(out)
    environment = run_env(source, links, run)
    opened = read_bundle(bundle)
    key = ready_key(key)
    out.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".build-") as beside:
        folder = Path(beside) / "release"
        folder.mkdir()
        shutil.copyfile(bundle, folder / BUNDLE)
        (folder / "run.env").write_bytes(environment)
        lay(folder, board, python)
        check_site(folder / "site", board, python)
        if _sha256(folder / BUNDLE) != opened.sha256:
            raise InputError(f"{bundle}: changed while it was read; build again")
        record = canonical({
            "schema": SCHEMA, "version": __version__, "board": board.id, "python": python,
            "arch": board.arch, "files": list_files(folder),
            "bundle": {"file": BUNDLE, "id": f"{arm_id([opened]):08x}", "sha256": opened.sha256}})
        (folder / RECORD).write_bytes(record)
        sign(folder / RECORD, key)
        set_modes(folder)
        return publish(folder, out / f"{__version__}-{hashlib.sha256(record).hexdigest()[:12]}")


def check_board(board: Board, python: str | None) -> str:
    """Return the Python to build for; InputError if the board has none such."""
    if not board.supported:
        raise InputError(f"board {board.id} is not supported: {board.reason}")
    if python is None:
        return board.python[0]
    if python not in board.python:
        raise InputError(f"--python is {python}, allowed for {board.id} is "
                         f"{' or '.join(board.python)}")
    return python


def check_place(out: Path) -> None:
    """Refuse a folder that cannot be made or used."""
    if not out.parent.is_dir():
        raise InputError(f"{out.parent}: no such folder; make it first")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file; choose another folder for --out")


def ready_key(key: Path | None) -> Path:
    """Return the key that signs; the default one is made at its first use."""
    if key is None:
        key = default_key()
        if not key.exists():
            make_key(key)
    check_key(key)
    return key


def run_env(source: str, links: Sequence[str], run: Sequence[str]) -> bytes:
    """Return the file that systemd gives mu-run its words from.

    Raises
    ------
    InputError
        A word that systemd would read in another way.
    """
    words = ["--source", source, *(w for link in links for w in ("--link", link)), *run]
    for word in words:
        if not WORD.fullmatch(word):
            raise InputError(f"{word!r} cannot stand in run.env, allowed are letters, digits and "
                             "_./:?=&,@+~[]-; rename the file")
    return f'SPIKEWIRE_RUN="{" ".join(words)}"\n'.encode()


def lay(folder: Path, board: Board, python: str) -> None:
    """Put everything into an empty folder but the bundle, run.env, the record and its signature."""
    from spikewire.board import to_json
    from spikewire.units import udev_rules, units

    wheels = listed(python, board.arch, gpu=board.engine == "tensorrt")
    site = folder / "site"
    unpack(fetch(wheels, python, board.arch), python, board.arch, site)
    copy_package(site / "spikewire")
    (site / "spikewire/lib").mkdir()
    shutil.copyfile(shim(board.arch), site / "spikewire/lib/libspikewire.so")
    (folder / "board.json").write_bytes(to_json(board))
    (folder / "onboard.pyz").write_bytes(zipapp(PACKAGE))
    write_texts(folder / "bin", {n: WRAPPER.format(module) for n, module in COMMANDS.items()})
    write_texts(folder / "units", units(board))
    write_texts(folder / "udev", udev_rules(board))


def write_texts(folder: Path, texts: Mapping[str, str]) -> None:
    """Write a folder of small files."""
    folder.mkdir()
    for name, text in texts.items():
        (folder / name).write_bytes(text.encode())


def copy_package(where: Path) -> None:
    """Copy our own modules, and nothing that happens to lie beside them."""
    for path in PACKAGE.rglob("*"):
        if path.is_file() and (path.suffix == ".py" or path.name == "py.typed"):
            copy = where / path.relative_to(PACKAGE)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


def zipapp(package: Path) -> bytes:
    """Return `onboard/` as one file that python3 runs, stored uncompressed: zlibs differ."""
    files = {f"spikewire/{p.relative_to(package).as_posix()}": p.read_bytes()
             for p in (package / "onboard").rglob("*.py")}
    files |= {"spikewire/__init__.py": (package / "__init__.py").read_bytes(),
              "__main__.py": ZIPAPP.encode()}
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as packed:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.create_system, entry.external_attr = 3, (stat.S_IFREG | 0o644) << 16
            packed.writestr(entry, files[name])
    return made.getvalue()


def check_site(site: Path, board: Board, python: str) -> None:
    """Refuse what the board's loader or its Python would refuse.

    Raises
    ------
    InputError
        A compiled file for another machine or Python, or one that needs a newer C or C++ library.
    """
    glibc = tuple(int(n) for n in board.glibc.split("."))
    offered = CXX[max((v for v in CXX if v <= glibc), default=min(CXX))] | {"GLIBC": glibc}
    wanted = python.replace(".", "")
    for path in sorted(p for p in site.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            if file.read(4) != MAGIC:
                continue
        name, elf = path.relative_to(site), read_elf(path)
        if elf.machine != board.arch:
            raise InputError(f"{name} is for {elf.machine}, {board.id} is {board.arch}")
        compiled_for = re.search(r"\.cpython-(\d+)", path.name)
        if compiled_for and compiled_for[1] != wanted:
            raise InputError(f"{name} is for CPython {compiled_for[1]}, wanted is {wanted}")
        for family, most in offered.items():
            if elf.needs.get(family, ()) > most:
                raise InputError(f"{name} needs {family} {_dotted(elf.needs[family])}, {board.id} "
                                 f"has {_dotted(most)}; take an older wheel or compiler")


def _dotted(version: Version) -> str:
    """A version as people write it."""
    return ".".join(map(str, version))


def set_modes(folder: Path) -> dict[str, str]:
    """Set every file's mode, whatever the umask; names and modes, sorted."""
    modes = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise InputError(f"{path}: neither file nor folder")
        name = path.relative_to(folder).as_posix()
        mode = 0o755 if path.is_dir() or name.startswith("bin/") else 0o644
        path.chmod(mode)
        if path.is_file():
            modes[name] = f"{mode:04o}"
    folder.chmod(0o755)
    return modes


def list_files(folder: Path) -> dict[str, dict[str, str]]:
    """Set all modes; hash and mode of every file."""
    return {name: {"sha256": _sha256(folder / name), "mode": mode}
            for name, mode in set_modes(folder).items()}


def canonical(value: Any) -> bytes:
    """JSON that is the same wherever it is written."""
    return (json.dumps(value, sort_keys=True, separators=(",", ":")) + "\n").encode()


def _sha256(path: Path) -> str:
    """Hash of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def publish(folder: Path, final: Path) -> Path:
    """Move a finished folder to its name, its tar beside it; what stood there before goes."""
    write_durably(final.with_name(f"{final.name}.tar"), lambda file: pack(folder, final.name, file))
    if final.exists():
        os.rename(final, folder.with_name("old"))
    os.rename(folder, final)
    return final


def pack(folder: Path, name: str, file: Any) -> None:
    """Write a folder as a tar that tells nothing of who packed it when."""
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in [folder, *sorted(folder.rglob("*"))]:
            entry = tarfile.TarInfo(Path(name, path.relative_to(folder)).as_posix())
            entry.mode = stat.S_IMODE(path.stat().st_mode)
            if path.is_dir():
                entry.type = tarfile.DIRTYPE
                tar.addfile(entry)
            else:
                entry.size = path.stat().st_size
                with path.open("rb") as content:
                    tar.addfile(entry, content)
