"""A release to a board over ssh: what is checked here, what is copied, what is asked of the board.

The board decides: it verifies, tests and switches by itself (`spikewire.onboard`), and goes on when
the connection dies. Here are the order of the calls and the words that a person reads.
"""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spikewire.onboard.releases import (
    IDENTITY,
    NAMESPACE,
    ReleaseError,
    size_of,
    verify_folder,
    verify_signature,
)
from spikewire.onboard.say import FAIL, OK, WARN, Line
from spikewire.remote import Connection
from spikewire.signals import InputError

HEAD = ("release.json", "release.json.sig", "board.json", "onboard.pyz")  # enough for a preflight
NEEDED = ("python3", "rsync")
STATES = (OK, WARN, FAIL, "n/a")  # the last one is mu-doctor's
Tell = Callable[[Line], None]


@dataclass(frozen=True)
class Release:
    """A release on this machine, whole and signed by `signer`.

    Attributes
    ----------
    path : Path
    name : str
    board : dict
        Its board.json.
    signer : str
        The line of an allowed_signers file that it verifies against.
    bytes : int
    """

    path: Path
    name: str
    board: dict[str, Any]
    signer: str
    bytes: int


def read_release(path: Path, key: Path) -> Release:
    """Check a release here, before anyone else has to.

    Parameters
    ----------
    path : Path
        Its folder.
    key : Path
        The key that signed it, or its public part.

    Raises
    ------
    InputError
        It is not whole, or signed by another key.
    """
    path = path.resolve()
    if path.suffix == ".tar" and path.is_file():
        raise InputError(f"{path}: is a tar; type: tar xf {path.name}, and give the folder")
    if not path.is_dir():
        raise InputError(f"{path}: no such folder; make one with mu-flash build")
    signer = public_line(key)
    try:
        verify_folder(path, path.name)
        with tempfile.NamedTemporaryFile("w", suffix=".signers") as signers:
            signers.write(signer + "\n")
            signers.flush()
            verify_signature(path, Path(signers.name))
        board = json.loads((path / "board.json").read_bytes())
    except (ReleaseError, ValueError) as error:
        raise InputError(f"{path}: {error}; build it again, or name its key with --key") from None
    if not isinstance(board, dict):
        raise InputError(f"{path}/board.json: not a table; build the release again")
    return Release(path, path.name, board, signer, size_of(path))


def public_line(key: Path) -> str:
    """Return the line of an allowed_signers file for a key; its public part is enough.

    Raises
    ------
    InputError
        No such file, or not one of ssh-keygen's.
    """
    public = key if key.suffix == ".pub" else key.with_name(f"{key.name}.pub")
    try:
        words = public.read_text().split()
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{public}: cannot be read; give the public key of who built the release "
                         "with --key FILE.pub") from None
    if len(words) < 2 or not words[0].startswith(("ssh-", "sk-ssh-", "ecdsa-", "sk-ecdsa-")):
        raise InputError(f"{public}: not a public key; give one that ssh-keygen has made")
    return f'{IDENTITY} namespaces="{NAMESPACE}" {words[0]} {words[1]}'


class Board:
    """A board at the other end of a connection.

    Parameters
    ----------
    connection : Connection
    tell : callable
        Takes each line as it comes.
    root : str
        Where its files lie: `/`, but for boards that are folders in tests.
    """

    def __init__(self, connection: Connection, tell: Tell, root: str = "/") -> None:
        self._connection, self._tell, self._root = connection, tell, root
        self.home = f"{root.rstrip('/')}/opt/spikewire"

    def meet(self) -> bool:
        """Find out what it has and as whom to work; return whether spikewire is there.

        Raises
        ------
        InputError
            It does not answer, lacks a program, or gives no rights.
        """
        program = shlex.quote(f"{self.home}/onboard.pyz")
        _, text = self._connection.run(["sh", "-c", "id -u; for word in python3 rsync; do command "
                                        '-v "$word"; done; sudo -n true 2>&1 && echo sudo; '
                                        f"test -f {program} && echo onboard"])
        said = text.split()
        has = {word.rpartition("/")[2] for word in said}
        for program in NEEDED:
            if program not in has:
                raise InputError(f"{self._connection.host.name}: has no {program}; type there: "
                                 f"apt install {program}")
        if said[0] != "0" and self._root == "/":
            if "sudo" not in said:
                raise InputError(f"{self._connection.host.name}: this user may not become root; "
                                 "deploy to root@HOST, or allow it sudo without a password")
            self._connection.sudo = True
        return "onboard" in said

    def do(self, *words: str, program: str = "") -> tuple[int, dict[str, Any]]:
        """Run a verb on the board, telling its lines; its exit code, and the data it sent."""
        ended: list[int] = []
        data: dict[str, Any] = {}
        for text in self._connection.lines(self.words(*words, program=program), ended):
            line, more = parse(text)
            data |= more
            if line:
                self._tell(line)
        return ended[0], data

    def words(self, *words: str, program: str = "") -> list[str]:
        """Return the words that run a verb on the board."""
        root = [] if self._root == "/" else ["--root", self._root]
        return ["python3", "-I", program or f"{self.home}/onboard.pyz", *root, *words]


def parse(text: str) -> tuple[Line | None, dict[str, Any]]:
    """Return a board's line, and data with it; whatever else it prints is evidence."""
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict) or row.get("state") not in STATES:
        clean = "".join(c for c in text.strip() if c.isprintable())
        return (Line("board", WARN, clean) if clean else None), {}
    words = ("".join(c for c in str(row.get(key, "")) if c.isprintable())
             for key in ("step", "state", "evidence", "remedy"))
    data = row.get("data")
    return Line(*words), data if isinstance(data, dict) else {}


def deploy(connection: Connection, release: Release, tell: Tell, watch_s: float = 10.0,
           root: str = "/") -> int:
    """Put a release on a board and switch to it; 0 if it runs there, 1 if what was there does.

    Raises
    ------
    InputError
        The board cannot be reached, or the connection died; then the board goes on by itself.
    """
    quiet = Board(connection, lambda line: None, root)
    board = Board(connection, tell, root)
    if quiet.meet():
        code, data = quiet.do("status")
        if code == 0 and data.get("current") == release.name:
            tell(Line("deploy", OK, f"{release.name} runs there already and is whole"))
            return 0
    staged = f"{board.home}/staging/{release.name}"
    connection.run(["mkdir", "-p", staged])
    connection.copy([release.path / file for file in HEAD], staged)
    program = f"{staged}/onboard.pyz"
    if board.do("preflight", release.name, "--bytes", str(release.bytes), program=program)[0]:
        return 1
    connection.copy([f"{release.path}/"], staged, "--delete", "--copy-dest=../../current/")
    tell(Line("copy", OK, f"{release.bytes >> 20} MiB, of which only what is new was sent"))
    try:
        return board.do("install", release.name, "--watch", f"{watch_s:g}", "--signer",
                        release.signer, program=program)[0]
    except InputError as error:
        raise InputError(f"{error}; the board goes on by itself: look with mu-flash status "
                         f"{connection.host.name}") from None


def plan(connection: Connection, release: Release, watch_s: float, root: str) -> Iterator[Line]:
    """Yield the commands that `deploy` would run, in their order."""
    board = Board(connection, lambda line: None, root)
    staged = f"{board.home}/staging/{release.name}"
    program = f"{staged}/onboard.pyz"
    for step, words in (
        ("status", connection.command(board.words("status"))),
        ("stage", connection.command(["mkdir", "-p", staged])),
        ("head", connection.rsync([release.path / file for file in HEAD], staged)),
        ("preflight", connection.command(board.words(
            "preflight", release.name, "--bytes", str(release.bytes), program=program))),
        ("copy", connection.rsync([f"{release.path}/"], staged, "--delete",
                                  "--copy-dest=../../current/")),
        ("install", connection.command(board.words(
            "install", release.name, "--watch", f"{watch_s:g}", "--signer", release.signer,
            program=program))),
    ):
        yield Line(step, OK, shlex.join(words))
