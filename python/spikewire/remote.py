"""One connection to a board over the system's ssh: its configuration, keys and agent count.

No word from outside becomes an option or shell text: hosts, ports and options are checked, and what
is run there is quoted word by word.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from spikewire.signals import InputError

HOST = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*@)?"
                  r"(?:[A-Za-z0-9_][A-Za-z0-9._-]{0,252}|\[[0-9A-Fa-f:.]{2,45}(?:%[A-Za-z0-9]+)?\])")
OPTION = re.compile(r"[A-Za-z][A-Za-z0-9]*=[^\0\n]+")
LONGEST_SOCKET = 80  # of 107; ssh adds some while it makes it
LOST = 255  # ssh's own exit code
# what ssh says -> what to type next
REMEDIES = {
    "Host key verification failed": "type once: ssh {host}, and compare the key that it shows",
    "REMOTE HOST IDENTIFICATION": "the board's key has changed: compare it, then ssh-keygen -R",
    "Permission denied": "type once: ssh-copy-id {host}",
    "Could not resolve": "give its address, or an entry in ~/.ssh/config",
    "refused": "start sshd there, or give its port with -p",
    "timed out": "is it switched on and on this network?",
    "No route": "is it switched on and on this network?",
    "sudo": "deploy to root@HOST, or allow this user sudo without a password",
    "No space left": "free some space on the board: journalctl --vacuum-size=50M",
}


@dataclass(frozen=True)
class Host:
    """A board as a person names it.

    Attributes
    ----------
    name : str
        HOST, USER@HOST or an entry of ~/.ssh/config; IPv6 in brackets.
    port : int or None
    options : tuple of str
        More of ssh's options, each KEY=VALUE.

    Raises
    ------
    InputError
        Something that could be taken for an option or for shell text.
    """

    name: str
    port: int | None = None
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not HOST.fullmatch(self.name):
            raise InputError(f"host {self.name!r}: allowed are HOST, USER@HOST and [IPv6]")
        if self.port is not None and not 0 < self.port < 65536:
            raise InputError(f"-p {self.port}: allowed is 1 to 65535")
        for option in self.options:
            if not OPTION.fullmatch(option):
                raise InputError(f"--ssh-option {option!r}: allowed is KEY=VALUE, as in "
                                 "man ssh_config")

    def ssh(self) -> list[str]:
        """Return ssh with the options of this host, without the host."""
        port = [] if self.port is None else ["-p", str(self.port)]
        return ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o",
                "ServerAliveInterval=5", *port, *(w for o in self.options for w in ("-o", o))]

    @property
    def bare(self) -> str:
        """The name as ssh takes it: without brackets."""
        return self.name.replace("[", "").replace("]", "")


class Connection:
    """A board that answers; closed at the end of `with`.

    Parameters
    ----------
    host : Host
    """

    def __init__(self, host: Host) -> None:
        self.host, self.sudo = host, False
        self._enter(Path("PRIVATE"))  # what a dry run prints

    def __enter__(self) -> Connection:
        self._folder = tempfile.TemporaryDirectory(prefix="mu-")
        if len(self._folder.name) > LONGEST_SOCKET:  # a socket's name has little room
            self._folder.cleanup()
            self._folder = tempfile.TemporaryDirectory(prefix="mu-", dir="/tmp")
        self._enter(Path(self._folder.name))
        return self

    def __exit__(self, *error: object) -> None:
        if self._socket.exists():
            subprocess.run([*self._ssh(), "-O", "exit", self.host.bare], check=False,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._folder.cleanup()

    def _enter(self, folder: Path) -> None:
        """Name the connection's socket, and where ssh's complaints go."""
        self._socket, self._errors = folder / "s", folder / "e"

    def lines(self, words: Sequence[str], ended: list[int]) -> Iterator[str]:
        """Run a program on the board; yield its lines as they come, then append its exit code.

        Raises
        ------
        InputError
            The connection cannot be made, or breaks.
        """
        # A file, not a pipe: the connection's master inherits it and would keep a pipe open.
        with open(self._errors, "wb") as errors, subprocess.Popen(
                self.command(words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=errors, text=True, errors="replace") as process:
            assert process.stdout is not None
            yield from process.stdout
        if process.returncode == LOST:
            raise InputError(self._why("ssh"))
        ended.append(process.returncode)

    def run(self, words: Sequence[str]) -> tuple[int, str]:
        """Run a program on the board; its exit code and output. Errors as `lines`."""
        ended: list[int] = []
        text = "".join(self.lines(words, ended))
        return ended[0], text

    def copy(self, sources: Sequence[Path | str], folder: str, *options: str) -> None:
        """Make a folder on the board hold the same as here, by content.

        Raises
        ------
        InputError
            It did not work.
        """
        with open(self._errors, "wb") as errors:
            done = subprocess.run(self.rsync(sources, folder, *options), stderr=errors,
                                  stdout=subprocess.DEVNULL, check=False)
        if done.returncode:
            raise InputError(self._why("rsync"))

    def command(self, words: Sequence[str]) -> list[str]:
        """Return the words that run a program on the board."""
        become = ["sudo", "-n"] if self.sudo else []
        return [*self._ssh(), "-T", "--", self.host.bare, shlex.join([*become, *words])]

    def rsync(self, sources: Sequence[Path | str], folder: str, *options: str) -> list[str]:
        """Return the words that copy to the board."""
        shell = " ".join("'" + word.replace("'", "''") + "'" for word in self._ssh())
        become = ["--rsync-path", "sudo -n rsync"] if self.sudo else []
        return ["rsync", "-rp", "--checksum", "--protect-args", "-e", shell, *become, *options,
                "--", *map(str, sources), f"{self.host.name}:{folder}/"]

    def _ssh(self) -> list[str]:
        """Return ssh with one connection for all calls; it ends by itself if we are killed."""
        return [*self.host.ssh(), "-o", "ControlMaster=auto", "-o", f"ControlPath={self._socket}",
                "-o", "ControlPersist=20"]

    def _why(self, program: str) -> str:
        """Return what went wrong, and what to do about it, in one line."""
        said = [line.strip() for line in
                self._errors.read_text(errors="replace").splitlines() if line.strip()]
        hit = [(line, todo) for line in said for sign, todo in REMEDIES.items() if sign in line]
        line, todo = hit[0] if hit else (said[-1] if said else "no reason given", "try again")
        return f"{self.host.name}: {program}: {line}; {todo.format(host=self.host.name)}"
