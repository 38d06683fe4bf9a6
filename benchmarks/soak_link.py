"""Faults that need a process or a line, in real time: `mu-run` behind a pseudo-terminal.

    python benchmarks/soak_link.py --trials 100 --out report.json

The controller polls every millisecond, here as in life; how late its own polls are, with nothing
else to do, is the idle control that every figure stands beside.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from spikewire.bundle import arm_id, read_bundle
from spikewire.commands import simulate
from spikewire.durable import write_durably
from spikewire.link.codec import Arm, encode_arm
from spikewire.link.framing import Deframer, frame
from spikewire.link.receiver import Receiver
from spikewire.link.table import ARM
from spikewire.link.uart import PtyPort

REFERENCE = Path(__file__).parents[1] / "models" / "reference.mub"
POLL_S, ARM_EVERY_S, LONGEST_S = 0.001, 0.05, 60.0


class Controller:
    """A receiver on a pseudo-terminal that arms, and a decoder process at its other end."""

    def __init__(self, folder: Path, record: Path) -> None:
        self.place, self.record = str(folder / "exo"), record
        self.identity = arm_id([read_bundle(REFERENCE)])
        self.port: PtyPort | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.polls: list[float] = []
        self.start()

    def start(self) -> None:
        """A new line, a new decoder, a new receiver."""
        self.close()
        self.port = PtyPort(self.place)
        self.receiver, self.deframer = Receiver(self.identity), Deframer()
        self.good = -np.inf
        self.asked = self.arms = 0
        self.process = subprocess.Popen(
            [sys.executable, "-m", "spikewire.commands.run", str(REFERENCE), "--source",
             f"replay:{self.record}", "--link", f"serial:{self.place}?arm=1", "--json"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def close(self) -> None:
        """End both."""
        if self.process:
            self.process.kill()
            self.process.wait()
        if self.port:
            self.port.close()

    def turn(self, listen: bool = True) -> float:
        """One poll; how much assistance is allowed now."""
        time.sleep(POLL_S)
        now = time.monotonic()
        assert self.port is not None
        if listen:
            for kind, payload in self.deframer.feed(self.port.read()):
                if self.receiver.serial(kind, payload, now) and self.receiver.usable(now):
                    self.good = now
        if now - self.asked > ARM_EVERY_S:
            self.ask(1)
        self.polls.append(now)
        return self.receiver.assist(now)

    def ask(self, request: int) -> None:
        """A request to the decoder."""
        assert self.port is not None
        self.asked = time.monotonic()
        self.arms += 1
        self.port.write(frame(ARM.type_of(), encode_arm(Arm(request, self.identity, self.arms))))

    def until_well(self) -> None:
        """Wait for usable frames and allow the output again, as a person would."""
        began = let_go = time.monotonic()
        while not (self.receiver.usable(time.monotonic()) and self.turn() == 1.0):
            self.turn()
            now = time.monotonic()
            if self.receiver.latched and not self.receiver.rearm(now) and now - let_go > 0.3:
                let_go = now
                self.ask(0)
                self.ask(2)
            if self.process and (self.process.poll() is not None or now - began > LONGEST_S / 4):
                self.start()
                began = now

    def to_rest(self) -> tuple[float, int]:
        """Milliseconds from the last good frame to no assistance; polls that broke the promise."""
        late = 0
        while True:
            assist = self.turn()
            silent = self.polls[-1] - self.good  # at the same moment as the assistance
            if assist == 0:
                return 1e3 * silent, late
            late += silent > 0.1 + 2 * POLL_S


def killed(c: Controller) -> Callable[[], None]:
    c.process.kill()
    return c.start


def stopped(c: Controller) -> Callable[[], None]:
    c.process.send_signal(signal.SIGSTOP)
    return lambda: c.process.send_signal(signal.SIGCONT)


def unplugged(c: Controller) -> Callable[[], None]:
    c.port._close_terminal()
    c.port.read = lambda: b""
    c.port.write = lambda data: 0
    return c.start


def terminated(c: Controller) -> Callable[[], None]:
    c.process.send_signal(signal.SIGTERM)
    return c.start


def let_go(c: Controller) -> Callable[[], None]:
    """The controller disarms: the decoder's READY is not to be used."""
    for _ in range(3):
        c.ask(0)
    c.asked = time.monotonic() + 0.5
    return lambda: None


FAULTS = {"kill -9": killed, "SIGSTOP, SIGCONT": stopped, "line unplugged": unplugged,
          "SIGTERM": terminated, "controller lets go": let_go}


def soak(c: Controller, fault: Callable[[Controller], Callable[[], None]], trials: int) -> Any:
    rng, rest, broken = np.random.default_rng(1), [], 0
    for _ in range(trials):
        c.until_well()
        for _ in range(int(rng.integers(5, 30))):
            c.turn()
        undo = fault(c)
        took, late = c.to_rest()
        rest.append(took)
        broken += late
        for _ in range(30):  # and it stays at rest
            broken += c.turn() > 0
        undo()
    return {"trials": trials, "rest_ms_median": float(np.median(rest)),
            "rest_ms_max": float(np.max(rest)), "broken": int(broken)}


def idle(seconds: float) -> dict[str, float]:
    """How late a poll every millisecond is when there is nothing to do."""
    ends, began = [], time.monotonic()
    while time.monotonic() - began < seconds:
        time.sleep(POLL_S)
        ends.append(time.monotonic())
    gaps = 1e3 * np.diff(ends)
    return {"poll_ms_median": float(np.median(gaps)), "poll_ms_max": float(gaps.max())}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    os.environ |= {"OPENBLAS_NUM_THREADS": "1"}
    found: dict[str, Any] = {"idle": idle(10.0)}
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "emg.npz"
        simulate.main([str(record), "--truth", str(Path(folder) / "truth.npz"), "--seed", "4",
                       "--duration", "60", "--ramp", "0", "--rest", "0"])
        c = Controller(Path(folder), record)
        for name, fault in FAULTS.items():
            found[name] = soak(c, fault, args.trials)
            print(name, found[name], flush=True)
        gaps = 1e3 * np.diff(c.polls)
        found["controller"] = {"poll_ms_median": float(np.median(gaps))}
        c.close()
    content = json.dumps(found, indent=1) + "\n"
    write_durably(args.out, lambda file: file.write(content.encode()))
    print(found["idle"])
    return int(any(f.get("broken", 0) for f in found.values()))


if __name__ == "__main__":
    sys.exit(main())
