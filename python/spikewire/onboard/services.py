"""systemd on a board: a release's units and udev rules, and the runtime's service."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

from spikewire.onboard import disk, programs
from spikewire.onboard.place import Place
from spikewire.onboard.releases import BOARD
from spikewire.onboard.say import OK, WARN, Line, Stop, say

RUNTIME = "mu-runtime.service"
START_S = 120.0  # of systemctl's patience with a service that loads an engine


def read_board(folder: Path) -> dict[str, Any]:
    """Return the content of a release's board.json."""
    try:
        board = json.loads((folder / BOARD).read_bytes())
        if isinstance(board, dict):
            return board
    except (OSError, ValueError, RecursionError):
        pass
    raise Stop("board", f"{BOARD}: cannot be read", "build the release again")


def differences(place: Place, folder: Path) -> dict[Path, bytes]:
    """Return target -> content of the units and rules that are not yet as in the release."""
    out = {}
    for kind, target in place.installed.items():
        for source in sorted((folder / kind).glob("*")):
            if not source.is_file():
                continue
            there = target / source.name
            if not there.is_file() or there.read_bytes() != source.read_bytes():
                out[there] = source.read_bytes()
    return out


def diff(path: Path, new: bytes) -> str:
    """Return what would change in a file, in one line."""
    if not path.is_file():
        return f"{path}: new"
    old = path.read_text(errors="replace").splitlines()
    changed = [line for line in difflib.ndiff(old, new.decode(errors="replace").splitlines())
               if line[:2] in ("- ", "+ ")]
    more = f" ({len(changed) - 4} more)" if len(changed) > 4 else ""
    return f"{path}: {'; '.join(changed[:4])}{more}"


def install(place: Place, folder: Path, instead: Path | None) -> None:
    """Make units and rules those of a release; what only the one before had is removed.

    Parameters
    ----------
    place : Place
    folder : Path
        The release.
    instead : Path or None
        The release whose units are there now, if any.
    """
    changed = differences(place, folder)
    for path, content in changed.items():
        disk.write(path, content)
    gone = []
    for kind, target in place.installed.items():
        if instead is not None and instead != folder:
            gone += [target / old.name for old in sorted((instead / kind).glob("*"))
                     if not (folder / kind / old.name).exists() and (target / old.name).exists()]
    for path in gone:
        disk.remove(path)
    if not changed and not gone:
        return
    said = programs.run(["systemctl", "daemon-reload"])
    units = enabled(folder)
    if units and said.code == 0:
        said = programs.run(["systemctl", "enable", *units])
    say(Line("units", OK if said.code == 0 else WARN, f"{len(changed)} written, {len(gone)} "
             f"removed, {len(units)} enabled" + (f"; {said.last}" if said.code else ""),
             "look at systemctl status 'mu-*' on the board" if said.code else ""))
    if any(path.parent == place.installed["udev"] for path in [*changed, *gone]):
        programs.run(["udevadm", "control", "--reload"])
        programs.run(["udevadm", "trigger", "--subsystem-match=tty"])


def enabled(folder: Path) -> list[str]:
    """Return the units to start at boot: those that say where, templates once per interface."""
    out = []
    for unit in sorted((folder / "units").glob("*.service")):
        if "[Install]" not in unit.read_text(errors="replace"):
            continue
        if unit.name.endswith("@.service"):
            out += [unit.name.replace("@", f"@{one}") for one in read_board(folder).get("can", {})]
        else:
            out.append(unit.name)
    return out


def restart() -> None:
    """Start the runtime anew, also where it had failed too often."""
    programs.run(["systemctl", "reset-failed", RUNTIME])
    done = programs.run(["systemctl", "restart", RUNTIME], START_S)
    if done.code:
        raise Stop("start", f"{RUNTIME} did not start: {log_line() or done.last}",
                   "read mu-flash logs HOST")


def stop() -> None:
    """Stop the runtime: there is no release to run."""
    programs.run(["systemctl", "stop", RUNTIME])


def start_again() -> None:
    """Let the runtime try anew, and do not wait for it: whoever calls is started by its failure."""
    programs.run(["systemctl", "reset-failed", RUNTIME])
    programs.run(["systemctl", "--no-block", "start", RUNTIME])


def refused_its_input() -> bool:
    """Return whether the runtime's last process ended because of what it was given.

    A port or an amplifier that is not there, a wrong word in run.env: exit code 2.
    """
    done = programs.run(["systemctl", "show", "-p", "ExecMainCode", "-p", "ExecMainStatus",
                         RUNTIME])
    return {"ExecMainCode=1", "ExecMainStatus=2"} <= set(done.text.split())


def is_active() -> str:
    """Return what systemd says of the runtime: active, activating, failed, inactive."""
    return programs.run(["systemctl", "is-active", RUNTIME]).last


def log_line() -> str:
    """Return the last line that the runtime logged; empty where there is none."""
    done = programs.run(["journalctl", "-u", RUNTIME, "-n", "1", "-o", "cat", "--no-pager"])
    return done.last if done.code == 0 and done.text.strip() else ""
