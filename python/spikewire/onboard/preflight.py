"""Whether a board can take a release: a row per question, asked before anything is touched."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spikewire.onboard import facts
from spikewire.onboard.place import Place
from spikewire.onboard.say import FAIL, OK, WARN, Line

SPARE_BYTES = 200 << 20  # for bytecode, a TensorRT plan, state and logs
TOOLS = ("systemctl", "ssh-keygen")
Answer = tuple[str, str, str]  # state, evidence, remedy


@dataclass(frozen=True)
class Case:
    """A board and what it is asked to take.

    Attributes
    ----------
    place : Place
    release, board : dict
        The content of release.json and board.json.
    bytes : int
        What is still to be copied.
    """

    place: Place
    release: dict[str, Any]
    board: dict[str, Any]
    bytes: int = 0


def _rights(case: Case) -> Answer:
    user, elsewhere = os.geteuid(), case.place.root != Path("/")
    return (OK if user == 0 or elsewhere else FAIL, f"user {user}",
            "deploy to root@HOST, or allow this user sudo without a password")


def _arch(case: Case) -> Answer:
    here, wanted = facts.machine(case.place.root), case.release["arch"]
    return (OK if here == wanted else FAIL, f"{here}, the release is for {wanted}",
            "build with the --board that this machine is")


def _compatible(case: Case) -> Answer:
    here, wanted = facts.compatible(case.place.root), case.board.get("compatible", [])
    fits = not wanted or any(name.startswith(tuple(wanted)) for name in here)
    is_it = here[0] if here else "nothing in /proc/device-tree/compatible"
    return (OK if fits else FAIL, f"{is_it}; {case.board.get('id')} is "
            f"{' or '.join(wanted) or 'any'}", "build with the --board that this machine is")


def _jetpack(case: Case) -> Answer:
    here, rows = facts.l4t(case.place.root), case.board.get("jetpack", [])
    wanted = ", ".join(f"{row['version']} (L4T {row['l4t']})" for row in rows)
    if not rows:
        return OK, "any", ""
    if here is None:
        return FAIL, f"no L4T in /etc/nv_tegra_release, the release is for JetPack {wanted}", \
            "flash the board with that JetPack: mu-flash image-cmd"
    return (OK if jetpack_of(here, rows) else FAIL, f"L4T {here}, the release is for JetPack "
            f"{wanted}", "flash the board with that JetPack: mu-flash image-cmd")


def _python(case: Case) -> Answer:
    here, wanted = facts.python(case.place.root), case.release["python"]
    return (OK if here.split(".")[:2] == wanted.split(".") else FAIL,
            f"python3 is {here}, the release is for {wanted}", f"build with --python "
            f"{'.'.join(here.split('.')[:2])}")


def _tensorrt(case: Case) -> Answer:
    if case.board.get("engine") != "tensorrt":
        return OK, "not needed", ""
    here = facts.tensorrt(case.place.root)
    row = jetpack_of(facts.l4t(case.place.root) or "0", case.board.get("jetpack", []))
    wanted = row["tensorrt"] if row else ""
    if here is None:
        return FAIL, f"not installed, JetPack brings {wanted}", "apt install nvidia-jetpack"
    same = facts.numbers(here)[:2] == facts.numbers(wanted)[:2]
    return OK if same else WARN, f"{here}, this JetPack's is {wanted}", \
        "the plan is built here anyway; read the self-test's figures"


def _disk(case: Case) -> Answer:
    here, wanted = facts.free_bytes(case.place.root), case.bytes + SPARE_BYTES
    return (OK if here >= wanted else FAIL, f"{here >> 20} MiB free, needed are "
            f"{wanted >> 20} MiB", "free some space on the board: journalctl --vacuum-size=50M")


def _clock(case: Case) -> Answer:
    here = facts.year(case.place.root)
    return (OK if here >= 2024 else FAIL, f"it is the year {here}",
            "set the board's clock: timedatectl set-time, or connect it to NTP")


def _tools(case: Case) -> Answer:
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if case.board.get("power", {}).get("mode"):
        missing += [] if shutil.which("nvpmodel") else ["nvpmodel"]
    return (FAIL if missing else OK, f"{', '.join(missing)} missing" if missing else "all there",
            "install what is missing with apt")


def _exoskeleton(case: Case) -> Answer:
    said = facts.runtime(case.place.status)
    state = said.get("state", "not running")
    # A runtime that does not say whether it is armed may be, where its state allows it.
    armed = said.get("armed", state in facts.ARMED) is not False
    return (FAIL if armed else OK, f"the runtime's state is {state}",
            "disarm the exoskeleton at its controller, then deploy again")


# step -> question
QUESTIONS: dict[str, Callable[[Case], Answer]] = {
    "rights": _rights, "architecture": _arch, "board": _compatible, "jetpack": _jetpack,
    "python": _python, "tensorrt": _tensorrt, "disk": _disk, "clock": _clock, "tools": _tools,
    "exoskeleton": _exoskeleton,
}


def ask(case: Case, *steps: str) -> Iterator[Line]:
    """Yield the answer to each question, or to those named."""
    for step in steps or QUESTIONS:
        try:
            state, evidence, remedy = QUESTIONS[step](case)
        except (KeyError, TypeError, AttributeError) as error:
            state, evidence, remedy = FAIL, f"board.json cannot be used ({error!r})", \
                "build the release again"
        yield Line(step, state, evidence, "" if state == OK else remedy)


def jetpack_of(here: str, rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the newest JetPack of a board that an L4T is: same major version, no older."""
    fits = [row for row in rows if facts.numbers(here)[0] == facts.numbers(row["l4t"])[0]
            and facts.numbers(here) >= facts.numbers(row["l4t"])]
    return max(fits, key=lambda row: facts.numbers(row["l4t"]), default=None)
