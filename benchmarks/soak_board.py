"""Deploys and rollbacks killed at random moments, with real processes: what runs then.

    python benchmarks/soak_board.py --trials 300 --out report.json

Each trial starts a verb of the program on the board (an install, a rollback or a boot check), kills
it and all its children at a random moment, then does what a boot does: the boot check, and the
runtime. The releases, their runtimes and systemctl are scripts (tests/board_world.py). A kill keeps
what the kernel has not yet written: that loss is simulated call by call in test_onboard_cut.py.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import board_world as world

from spikewire.durable import write_durably
from spikewire.onboard import states
from spikewire.onboard.releases import verify_folder
from spikewire.signals import InputError

VERBS = ("install", "install", "install of one that dies", "rollback --by-hand", "rollback",
         "boot-check")
LONGEST_S = 60.0


class Soak:
    """A board in a folder, and releases to deploy to it.

    Parameters
    ----------
    folder : Path
    python : list of str
        What runs the program on the board.
    seed : int
    """

    def __init__(self, folder: Path, python: list[str], seed: int) -> None:
        self.folder, self.python, self.draw = folder, python, random.Random(seed)
        self.place = world.make_root(folder / "root")
        key = world.make_key(folder)
        kind, blob = key.with_suffix(".pub").read_text().split()[:2]
        self.place.signers.write_text(f"spikewire {kind} {blob}\n")
        program = folder / "onboard.pyz"
        world.zipapp(program)
        self.program, self.key, self.count = program, key, 0
        self.took: list[float] = []

    def release(self, behaviour: str) -> str:
        """Build and stage one more release."""
        self.count += 1
        made = world.make_release(self.folder, f"{self.count}.{behaviour[0]}", behaviour, self.key,
                                  self.program)
        return world.stage(self.place, made)

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a verb in a process group of its own."""
        path = f"{self.place.root}/bin:{os.environ['PATH']}"
        return subprocess.Popen(
            [*self.python, str(self.program), "--root", str(self.place.root), *words],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            env={**os.environ, "PATH": path})

    def words(self, verb: str) -> list[str]:
        """Return the words of a verb, after making what it needs."""
        if verb.startswith("install"):
            name = self.release("dies" if "dies" in verb else "good")
            return ["install", name, "--watch", "0.4"]
        return verb.split()

    def length(self, verb: str) -> float:
        """Return how long a verb takes that nobody kills: kills are spread over this."""
        process, began = self.start(*self.words(verb)), time.monotonic()
        if process.wait(LONGEST_S) and "dies" not in verb:
            raise InputError(f"{verb} without any kill ends with {process.returncode}")
        return time.monotonic() - began

    def trial(self, lengths: dict[str, float]) -> dict[str, Any]:
        """Kill one verb, boot, and look."""
        verb = self.draw.choice(VERBS)
        at = self.draw.uniform(0, lengths[verb])
        process = self.start(*self.words(verb))
        try:
            process.wait(at)
            killed = False
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            killed = True
        seen = states.read(self.place).trial is not None
        began = time.monotonic()
        code = self.start("boot-check").wait(LONGEST_S)
        self.took.append(time.monotonic() - began)
        return {"verb": verb, "at_s": round(at, 3), "killed": killed, "half_done": seen,
                "boot_check": code, "broken": self.look()}

    def look(self) -> str:
        """Return what is wrong with the board; empty if nothing is."""
        state, here = states.read(self.place), self.place.named(self.place.current)
        if here is None:
            return "no release"
        try:
            verify_folder(self.place.release(here), here, compiled=True)
        except (ValueError, OSError) as error:
            return str(error)
        if (self.place.release(here) / "site/behaviour").read_text() != "good":
            return f"{here} is not a good one"
        return "" if here == state.good and state.trial is None else f"{here} is not {state.good}"

    def close(self) -> None:
        """Stop the scripted runtime."""
        subprocess.run([self.place.root / "bin/systemctl", "stop"], check=False)


def soak(trials: int, python: list[str], seed: int) -> dict[str, Any]:
    """Run trials until that many verbs were killed; the others were done before.

    Returns
    -------
    dict
        Counts, the longest boot check in seconds, and every trial.
    """
    with tempfile.TemporaryDirectory() as folder:
        board = Soak(Path(folder), python, seed)
        try:
            board.length("install")  # two to choose from
            lengths = {verb: board.length(verb) for verb in dict.fromkeys(VERBS)}
            rows: list[dict[str, Any]] = []
            while sum(row["killed"] for row in rows) < trials:
                rows.append(board.trial(lengths))
        finally:
            board.close()
    return {"trials": len(rows), "seed": seed, "killed": sum(row["killed"] for row in rows),
            "spread_s": {verb: round(length, 2) for verb, length in lengths.items()},
            "half_done": sum(row["half_done"] for row in rows),
            "verbs": Counter(row["verb"] for row in rows),
            "broken": [row for row in rows if row["broken"] or row["boot_check"]],
            "boot_check_s": {"median": round(statistics.median(board.took), 3),
                             "max": round(max(board.took), 3)},
            "what": "SIGKILL of the verb and its children; scripted runtime and systemctl; "
                    "verified on no board", "rows": rows}


def main() -> int:
    """Entry point."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--trials", type=int, default=300, help="verbs to kill")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--python", default=f"{shlex.quote(sys.executable)} -I",
                   help="runs the program on the board; default: this Python")
    p.add_argument("--out", type=Path)
    args = p.parse_args()
    made = soak(args.trials, shlex.split(args.python), args.seed)
    rows = made.pop("rows")
    print(json.dumps(made, indent=1))
    if args.out:
        write_durably(args.out, lambda file: file.write(json.dumps(
            {**made, "rows": rows}, indent=1).encode()))
    return 1 if made["broken"] else 0


if __name__ == "__main__":
    sys.exit(main())
