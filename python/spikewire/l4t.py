"""A release laid into NVIDIA's root file system, and NVIDIA's own command that flashes it.

Nothing of the boot chain is done here: files go into Linux_for_Tegra/rootfs before NVIDIA's tool
writes that to a board. The release is on trial there, as after a deploy that nobody has watched.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spikewire.board import Board, read_board
from spikewire.boardfacts import Flash, JetPack
from spikewire.durable import write_durably
from spikewire.signals import InputError
from spikewire.units import ENABLED, TARGET

OPT, ETC, UNITS, RULES = ("opt/spikewire", "etc/spikewire", "etc/systemd/system",
                          "etc/udev/rules.d")
MANIFEST, SIGNATURE = "release.json", "release.json.sig"
INSTALLED = {"units": (UNITS, r"mu-[\w@-]+\.service"), "udev": (RULES, r"[\w-]+\.rules")}


class Rootfs:
    """A root file system that is written to and never left, whatever links it holds.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()

    def at(self, name: str) -> Path:
        """Return where a file of the board is, with the folders above it."""
        path = self.path / name
        if not path.parent.resolve().is_relative_to(self.path):
            raise InputError(f"{path.parent}: a link leads out of {self.path}; unpack the root "
                             "file system again")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def write(self, name: str, content: bytes) -> None:
        """Write a file."""
        write_durably(self.at(name), lambda file: file.write(content))

    def link(self, name: str, target: str) -> None:
        """Make a symbolic link, in the place of one that is there."""
        path = self.at(name)
        beside = path.with_name(f".{path.name}.new")
        beside.unlink(missing_ok=True)
        beside.symlink_to(target)
        beside.replace(path)

    def keep(self, name: str, content: bytes) -> str:
        """Write a file of the owner's unless there is one; tell of one that differs."""
        path = self.at(name)
        if not path.exists():
            self.write(name, content)
            return f"/{name}: written"
        same = path.read_bytes() == content
        return f"/{name}: left as it is" + ("" if same else "; the release's own differs")


def inject(
    l4t: Path, release: Path, signers: bytes, verify: Callable[[Path], dict[str, Any]]
) -> list[str]:
    """Lay a release into an L4T root file system, to be started on trial at the first boot.

    Parameters
    ----------
    l4t : Path
        NVIDIA's Linux_for_Tegra, with its root file system unpacked and apply_binaries.sh run.
    release : Path
        Folder that `mu-flash build` made.
    signers : bytes
        allowed_signers: whose releases the board takes.
    verify : callable of a folder
        Returns the content of its release.json, every path and hash of which holds; else raises.

    Returns
    -------
    list of str
        What was done, a line each.

    Raises
    ------
    InputError
        No such root file system, one that the release does not fit, or a release that is not whole.
    """
    manifest = verify(release)
    board = read_board(release / "board.json")
    root = _rootfs(l4t)
    jetpack = _fits(root, board, manifest["python"])
    files: dict[str, dict[str, str]] = manifest["files"]
    digest = hashlib.sha256(_content(release, MANIFEST)).hexdigest()
    name = f"{manifest['version']}-{digest[:12]}"
    _copy(root, release, name, files)
    said = [f"/{OPT}/releases/{name}: {len(files)} files, for JetPack {jetpack.version}"]
    said += _install(root, release, files)
    said += [root.keep(f"{ETC}/run.env", _content(release, "run.env")),
             root.keep(f"{ETC}/allowed_signers", signers)]
    root.link(f"{OPT}/current", f"releases/{name}")
    state: dict[str, Any] = {"good": None, "trial": name, "tries": 0, "failed": [], "last": {}}
    root.write("var/lib/spikewire/state.json", json.dumps(state, sort_keys=True).encode() + b"\n")
    return [*said, f"/{OPT}/current: {name}, on trial at the first boot"]


def flash_command(board: Board, jetpack: str, storage: str | None = None) -> Flash:
    """Return NVIDIA's command that flashes a board.

    Parameters
    ----------
    board : Board
    jetpack : str
        Such as "6.2"; "6.2.1" is one of it.
    storage : str, optional
        "nvme", "sd" or "emmc"; the board file's first by default.

    Raises
    ------
    InputError
        The board file has no such command.
    """
    if not board.flash:
        raise InputError(f"board {board.id}: has no flash tool of NVIDIA's; install its system as "
                         "its maker says, then type: mu-flash deploy")
    asked = jetpack.split(".")
    rows = [f for f in board.flash if asked[: f.jetpack.count(".") + 1] == f.jetpack.split(".")]
    if not rows:
        known = dict.fromkeys(f.jetpack for f in board.flash)
        raise InputError(f"board {board.id}: JetPack is {jetpack!r}, allowed are "
                         + ", ".join(known))
    fitting = [f for f in rows if storage in (None, f.storage)]
    if not fitting:
        raise InputError(f"board {board.id}: storage is {storage!r}, allowed with JetPack "
                         f"{jetpack} are " + ", ".join(f.storage for f in rows))
    return fitting[0]


def _content(folder: Path, name: str) -> bytes:
    """Return a file of the release, which must be a file and no link out of it."""
    path = folder / name
    try:
        if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
            raise InputError(f"{path}: not a file of the release; build it again")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); build the release again"
                         ) from None


def _rootfs(l4t: Path) -> Rootfs:
    """Return NVIDIA's root file system, if it is one and ours to write."""
    path = l4t / "rootfs"
    if not (path / "etc/nv_tegra_release").is_file():
        raise InputError(f"{l4t}: has no rootfs/etc/nv_tegra_release; unpack NVIDIA's sample root "
                         "file system into rootfs/, then type: sudo ./apply_binaries.sh")
    owner = (path / "etc").stat().st_uid
    if owner != os.geteuid():
        raise InputError(f"{path}: belongs to user {owner}, and so must what is laid there; type "
                         "the same with sudo")
    return Rootfs(path)


def _fits(root: Rootfs, board: Board, python: str) -> JetPack:
    """Return the JetPack that the root file system is of, if the release was built for it."""
    text = (root.path / "etc/nv_tegra_release").read_text(errors="replace")
    found = re.search(r"R(\d+) \(release\), REVISION: (\d+(?:\.\d+)*)", text)
    l4t = f"{found[1]}.{found[2]}" if found else text[:40]
    version = [int(part) for part in l4t.split(".")] if found else []
    rows = []
    for jetpack in board.jetpack:
        oldest = [int(part) for part in jetpack.l4t.split(".")]
        if version[:1] == oldest[:1] and version >= oldest:
            rows.append(jetpack)
    if not rows:
        raise InputError(f"{root.path}: Jetson Linux is {l4t!r}, allowed for board {board.id} are "
                         + (", ".join(f"{j.l4t} and later" for j in board.jetpack) or "none"))
    if rows[-1].python != python:
        raise InputError(f"{root.path}: JetPack {rows[-1].version} brings Python "
                         f"{rows[-1].python}, the release is for {python}; type: mu-flash build "
                         f"--board {board.id} --python {rows[-1].python} ...")
    if not os.path.lexists(root.path / f"usr/bin/python{python}"):
        raise InputError(f"{root.path}: has no usr/bin/python{python}; take NVIDIA's basic or "
                         "desktop root file system")
    return rows[-1]


def _copy(root: Rootfs, release: Path, name: str, files: dict[str, dict[str, str]]) -> None:
    """Copy a release under its name, whole or not at all; each copy must have its hash."""
    where = root.at(f"{OPT}/releases/{name}")
    beside = where.with_name(f".{name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    inside = Rootfs(beside)
    for path, facts in files.items():
        content = _content(release, path)
        if hashlib.sha256(content).hexdigest() != facts["sha256"]:
            raise InputError(f"{release / path}: sha256 is not that of {MANIFEST}; build the "
                             "release again")
        inside.at(path).write_bytes(content)
        inside.at(path).chmod(int(facts["mode"], 8))
    for path in (MANIFEST, SIGNATURE):
        (beside / path).write_bytes(_content(release, path))
    if where.exists():
        shutil.rmtree(where)
    beside.rename(where)


def _install(root: Rootfs, release: Path, files: dict[str, dict[str, str]]) -> list[str]:
    """Copy units and rules to where the board looks for them, and enable the units."""
    said = []
    for path in sorted(files):
        folder, _, name = path.rpartition("/")
        to, pattern = INSTALLED.get(folder, ("", ""))
        if to and re.fullmatch(pattern, name, re.ASCII):
            root.write(f"{to}/{name}", _content(release, path))
            said.append(f"/{to}/{name}: written")
    root.write(f"{OPT}/onboard.pyz", _content(release, "onboard.pyz"))
    for unit in ENABLED:
        root.link(f"{UNITS}/{TARGET}.wants/{unit}", f"/{UNITS}/{unit}")
    return [*said, f"/{UNITS}/{TARGET}.wants: {', '.join(ENABLED)}"]
