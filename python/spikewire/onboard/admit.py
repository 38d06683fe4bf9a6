"""From staging/ to releases/: whose it is, whether it is whole, compiled, flushed, then renamed."""

from __future__ import annotations

import sys
from pathlib import Path

from spikewire.onboard import disk, programs, services
from spikewire.onboard.place import Place
from spikewire.onboard.releases import (
    COMPILED,
    ReleaseError,
    is_whole,
    seal,
    verify_folder,
    verify_signature,
)
from spikewire.onboard.say import OK, WARN, Line, Stop, say
from spikewire.onboard.states import State

COMPILE_S = 600.0
OLD = ".old-"


def trust(place: Place, line: str | None) -> None:
    """Take the first deploy's key as this board's; print where a later one's differs."""
    if line is None:
        return
    if not place.signers.is_file():
        disk.write(place.signers, line.encode() + b"\n")
        say(Line("trust", WARN, f"first deploy: from now on this board takes releases of {line}",
                 f"compare the key; to trust another, edit {place.signers} on the board"))
    elif line.split() not in [there.split()[:len(line.split())] for there in
                              place.signers.read_text(errors="replace").splitlines()]:
        say(Line("trust", WARN, f"your key is not in the board's {place.signers}",
                 "sign with the key that the first deploy used, or edit that file"))


def admit(place: Place, name: str) -> Path:
    """Return the folder of an installed, whole release; take it from staging if need be.

    Raises
    ------
    Stop
        It is nowhere, not whole, or signed by nobody that the board trusts.
    """
    staged, folder = place.staging / name, place.release(name)
    if is_whole(folder, name):
        disk.remove_tree(staged)
        say(Line("verify", OK, f"{name} is here and whole"))
        return folder
    if not staged.is_dir():
        raise Stop("verify", f"{name} is not on the board", "mu-flash deploy HOST RELEASE")
    try:
        release = verify_folder(staged, name)
        verify_signature(staged, place.signers)
    except ReleaseError as error:
        raise Stop("verify", str(error), "copy or build the release again") from None
    for inside in (staged, *staged.rglob("*")):  # whatever the umask was
        row = release["files"].get(inside.relative_to(staged).as_posix(), {"mode": "0644"})
        disk.set_mode(inside, 0o755 if inside.is_dir() else int(row["mode"], 8))
    _compile(staged, folder, release["files"])
    disk.sync_tree(staged)
    if folder.exists():  # damaged since it was installed
        put_aside(place, name)
    disk.move(staged, folder)
    say(Line("verify", OK, f"{len(release['files'])} files, signature good"))
    return folder


def _compile(staged: Path, folder: Path, files: dict[str, object]) -> None:
    """Compile site/, so that a start does not; what is made is listed with its hashes."""
    programs.run([sys.executable or "python3", "-s", "-m", "compileall", "-q", "-j", "0",
                  "--invalidation-mode", "unchecked-hash", "-s", staged, "-p", folder,
                  staged / "site"], COMPILE_S)
    disk.write(staged / COMPILED, seal(staged, files))


def settings(place: Place, folder: Path) -> None:
    """Put the release's run.env where a person may change it, once."""
    new = (folder / "run.env").read_bytes() if (folder / "run.env").is_file() else b""
    if not place.run_env.is_file():
        disk.write(place.run_env, new)
    elif place.run_env.read_bytes() != new:
        say(Line("run.env", WARN, f"left as it is; the release would have "
                 f"{services.diff(place.run_env, new)}", f"edit {place.run_env} if you want that"))


def prune(place: Place, state: State) -> None:
    """Remove all releases that are neither proven nor in use, and what a cut has left of others."""
    kept = {*state.proven, state.trial, place.named(place.current)}
    for name in place.names():
        if name not in kept:
            put_aside(place, name)
    for left in sorted(place.staging.glob(f"{OLD}*")):
        disk.remove_tree(left)


def put_aside(place: Place, name: str) -> None:
    """Take a release out of releases/ in one step, so that no half of one is ever in there."""
    disk.remove_tree(place.staging / f"{OLD}{name}")
    disk.move(place.release(name), place.staging / f"{OLD}{name}")
