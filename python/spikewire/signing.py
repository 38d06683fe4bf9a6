"""Signatures by OpenSSH: the tool is on every workstation and board, and people have its keys.

A signature is made for one namespace, so that one made for a commit or an e-mail is none of ours.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from spikewire.signals import InputError

NAMESPACE, IDENTITY = "spikewire-release", "spikewire"


def default_key() -> Path:
    """Where the key lies that is taken if none is named."""
    folder = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(folder).expanduser() / "spikewire" / "release_key"


def check_key(key: Path, there: bool = True) -> None:
    """Refuse a key that cannot sign, before any work; one that is not `there` will be made.

    Raises
    ------
    InputError
        No ssh-keygen, no such file, or a private key that others may read.
    """
    if not shutil.which("ssh-keygen"):
        raise InputError("ssh-keygen is not installed; type: apt install openssh-client")
    if not there:
        return
    if not key.is_file():
        raise InputError(f"{key}: no such key; type: ssh-keygen -t ed25519 -f {key}")
    if key.suffix != ".pub" and key.stat().st_mode & 0o077:
        raise InputError(f"{key}: others may read this key (mode "
                         f"{key.stat().st_mode & 0o777:04o}, allowed is 0600); type: "
                         f"chmod 600 {key}")


def make_key(key: Path) -> None:
    """Make an Ed25519 key, its public line beside it; whole or not at all.

    Raises
    ------
    InputError
        ssh-keygen is missing or fails.
    """
    check_key(key, there=False)
    key.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=key.parent) as beside:
        made = Path(beside) / key.name
        _keygen("-q", "-t", "ed25519", "-N", "", "-C", IDENTITY, "-f", str(made))
        os.replace(f"{made}.pub", f"{key}.pub")
        os.replace(made, key)


def sign(path: Path, key: Path) -> None:
    """Write `path`.sig beside a file.

    Raises
    ------
    InputError
        ssh-keygen refuses the key.
    """
    _keygen("-q", "-Y", "sign", "-n", NAMESPACE, "-f", str(key), str(path))


def fingerprint(key: Path) -> str:
    """What people compare: `SHA256:...`."""
    return _keygen("-l", "-f", str(key)).split()[1]


def _keygen(*words: str) -> str:
    """Run ssh-keygen; it may ask for a passphrase on the terminal."""
    done = subprocess.run(["ssh-keygen", *words], capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["no reason given"]
        raise InputError(f"ssh-keygen: {said[-1]}; make a key with: ssh-keygen -t ed25519")
    return done.stdout
