"""mu-record killed at random moments: whether the file is readable, and what is lost.

    python benchmarks/soak_record.py --trials 200 --out docs/reports/record_killed.json

Arrival times in the log and the moment of the kill are of one clock. Lost is what arrived before
the kill and is not in the file.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from spikewire.io.npz import write_recording
from spikewire.io.runlog import BLOCK, _records, read_log
from spikewire.signals import Recording

TOGETHER = 4  # recorders at once
ALLOWED_S = 0.5
FS_HZ = 2048.0


def last_arrival(path: Path) -> float:
    """When the newest sample in a log had arrived."""
    return max(BLOCK.unpack_from(r.data)[1] for r in _records(path)
               if type(r).__name__ == "Message" and len(r.data) >= BLOCK.size)


def kill_some(folder: Path, source: str, numbers: list[int], rng: random.Random
              ) -> list[dict[str, float]]:
    """Start recorders, kill each at its own moment, read what they left."""
    running = {}
    for n in numbers:
        path = folder / f"{n}.mcap"
        running[n] = path, subprocess.Popen(
            [sys.executable, "-m", "spikewire.commands.record", "--source", source, "--out",
             str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for path, _ in running.values():
        deadline = time.monotonic() + 60
        while not (path.exists() and path.stat().st_size > 4096) and time.monotonic() < deadline:
            time.sleep(0.01)
    moments = {n: time.monotonic() + rng.uniform(0.0, 2.0) for n in numbers}
    results = []
    for n in sorted(numbers, key=moments.__getitem__):
        time.sleep(max(moments[n] - time.monotonic(), 0.0))
        path, process = running[n]
        process.send_signal(signal.SIGKILL)
        killed = time.monotonic()
        process.wait()
        log = read_log(path)
        results.append({"trial": n, "seconds": len(log.counts) / log.fs_hz,
                        "lost_s": killed - last_arrival(path)})
        path.unlink()
    return results


def main() -> int:
    """Kill, count, report."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--trials", type=int, default=200)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--out", type=Path)
    args = p.parse_args()
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        emg = np.random.default_rng(0).normal(0, 50, (round(60 * FS_HZ), 64)).astype(np.float32)
        write_recording(folder / "noise.npz", Recording(emg, FS_HZ))
        results = []
        for first in range(0, args.trials, TOGETHER):
            numbers = list(range(first, min(first + TOGETHER, args.trials)))
            results += kill_some(folder, f"replay:{folder / 'noise.npz'}", numbers, rng)
    lost = np.array([r["lost_s"] for r in results])
    report = {"trials": len(results), "readable": len(results), "allowed_s": ALLOWED_S,
              "lost_s": {"median": float(np.median(lost)), "worst": float(lost.max())},
              "above": int((lost > ALLOWED_S).sum()), "seed": args.seed}
    text = json.dumps(report, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")
    return int(report["above"] > 0)


if __name__ == "__main__":
    sys.exit(main())
