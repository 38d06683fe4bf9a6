"""Power cuts at random moments of a deploy or rollback, and what the board is after a boot."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from board import HOST, Board
from releases import flash, remake, whole
from unitfile import inside

HOME = "opt/spikewire"
STEPS = {"deploy": 16, "rollback": 6}  # lines that they tell, and one more


@dataclass
class Cut:
    """One trial.

    Attributes
    ----------
    verb, after_s : what was going on, and when the power went
    during : the last step that was told before
    before, now : the releases that ran before it and after the next boot
    wrong : what a board must never be; empty if all is well
    """

    verb: str
    after_s: float
    during: str
    before: str
    now: str
    wrong: str


def current(board: Board) -> str:
    """The release that `current` names; empty where there is none."""
    link = board.disk / HOME / "current"
    return inside(board.disk, f"{HOME}/current").name if link.is_symlink() else ""


def wrong(board: Board, known_good: set[str]) -> str:
    """What is wrong with a board that has booted: words, or nothing."""
    name = current(board)
    if name not in known_good:
        return f"current is {name or 'gone'}, known good are {', '.join(sorted(known_good))}"
    if not whole(inside(board.disk, f"{HOME}/current")):
        return f"current is {name}, and that is not whole"
    state = read_state(board)
    if state.get("good") != name or state.get("trial") is not None:
        return f"current is {name}, state.json says {state}"
    status, first, deadline = board.disk / "run/spikewire/status.json", None, 30 * board.slow
    began = time.monotonic()
    while time.monotonic() - began < deadline:
        try:
            frames = json.loads(status.read_bytes())["frames"]
        except (OSError, ValueError, KeyError):
            frames = None
        if first is not None and frames is not None and frames != first:
            return ""
        first = frames if first is None else first
        time.sleep(0.05)
    return f"the runtime of {name} sends no frames"


def trial(board: Board, verb: str, words: list[str], when: float | int) -> tuple[str, float]:
    """Begin a change and pull the plug; the last step that was told, and the seconds it had.

    `when` is a time in seconds (float), or a number of steps told (int).
    """
    began = time.monotonic()
    with subprocess.Popen(words, env=board.env(), stdout=subprocess.PIPE, text=True,
                          stderr=subprocess.DEVNULL) as process:
        assert process.stdout
        told: list[str] = []
        if isinstance(when, int):
            told = [line for _ in range(when) if (line := process.stdout.readline())]
        else:
            with suppress(subprocess.TimeoutExpired):
                process.wait(when)
        board.cut()
        took = time.monotonic() - began
        process.kill()
        told += process.stdout.read().splitlines()
    steps = [json.loads(line)["step"] for line in told if line.startswith('{"step"')]
    return (steps[-1] if steps else "connect"), round(took, 3)


def one(board: Board, number: int, releases: list[Path], key: Path, good: set[str], verb: str,
        when: float | int) -> Cut:
    """One trial: a cut, a boot, a look; `good` learns what the board has found good."""
    before, made = current(board), None
    if verb == "deploy":
        other = next(r for r in releases if r.name != before)
        if number % 2:  # one that has never been there
            made = other = remake(releases[0], key, {"mark": f"{number}\n".encode()})
        words = flash("deploy", HOST, other, "--key", key, "--watch", "1", "--json")
    else:
        words = flash("rollback", HOST, "--json")
    during, took = trial(board, verb, words, when)
    good.add(read_state(board).get("good", ""))
    try:
        board.on()
        bad = wrong(board, good)
    except RuntimeError as error:
        bad = str(error)
    if made:
        shutil.rmtree(made)
    return Cut(verb, took, during, before, current(board), bad)


def read_state(board: Board) -> dict[str, Any]:
    """What the board itself remembers; empty where it remembers nothing."""
    try:
        return dict(json.loads((board.disk / "var/lib/spikewire/state.json").read_bytes()))
    except (OSError, ValueError):
        return {}


def cuts(board: Board, releases: list[Path], key: Path, count: int, seed: int,
         longest_s: dict[str, float]) -> dict[str, object]:
    """Cuts after each step of a deploy and a rollback, then at random moments; figures.

    Parameters
    ----------
    releases : two that the board has found good; it runs one of them
    longest_s : seconds that a deploy and a rollback take
    """
    rng, good = random.Random(seed), {r.name for r in releases}
    plan: list[tuple[str, float | int]] = [("deploy", n) for n in range(STEPS["deploy"])]
    plan += [("rollback", n) for n in range(STEPS["rollback"])]
    plan = plan[: count // 3]
    while len(plan) < count:
        verb = rng.choice(["deploy", "deploy", "rollback"])
        plan.append((verb, rng.uniform(0, longest_s[verb])))
    done: list[Cut] = []
    began = time.monotonic()
    for number, (verb, when) in enumerate(plan):
        done.append(one(board, number, releases, key, good, verb, when))
        if done[-1].wrong or number % 10 == 9:
            print(f"  cut {number + 1} of {count}: {done[-1]}", flush=True)
        if not board.process:
            break
    return {
        "cuts": len(done), "seed": seed, "seconds": round(time.monotonic() - began),
        "at_a_step": sum(isinstance(when, int) for _, when in plan[: len(done)]),
        "during": dict(Counter(f"{c.verb}: {c.during}" for c in done).most_common()),
        "kept": sum(c.before == c.now for c in done),
        "changed": sum(c.before != c.now for c in done),
        "wrong": [asdict(c) for c in done if c.wrong],
    }
