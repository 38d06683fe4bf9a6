"""Every source against its emulated amplifier, at the pace of use: first well, then with faults.

    python benchmarks/soak_sources.py --seconds 300 --faults 120 --out report.json

The amplifier is a process of its own on the same machine and the same clock, so the delay from the
acquisition of a block's last sample to the loop is known: it is what lies beyond the packet's own
period. How late a process that only sleeps is woken stands beside it. Both ends run under
SCHED_FIFO, as `mu-run --realtime` does, where that is allowed; the report says whether it was.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from spikewire.durable import write_durably
from spikewire.emulate import AMPLIFIERS
from spikewire.io.source import Block, open_source
from spikewire.runtime.clock import MonotonicClock

EVERY_S, FIRST_S = 3.0, 2.0  # from one fault to the next
DELAY_MS, RECONNECT_S = 3.0, 2.0  # what must hold


def real_time() -> bool:
    """Ask for SCHED_FIFO, for this process and those that it starts."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(20))
    except OSError:
        return False
    return True


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def idle_ms(seconds: float) -> float:
    """99th percentile of how late a sleep of 5 ms ends."""
    late, until = [], time.monotonic() + seconds
    while (began := time.monotonic()) < until:
        time.sleep(0.005)
        late.append(time.monotonic() - began - 0.005)
    return round(1e3 * float(np.percentile(late, 99)), 3)


def listen(name: str, seconds: float, script: str) -> tuple[list[Any], dict, dict]:
    """(first, samples, moment in the loop) of every block, the amplifier's report, the troubles."""
    wire, port = AMPLIFIERS[name](), free_port()
    command = [sys.executable, "-m", "spikewire.commands.emulate", name, "--port", str(port),
               "--json", *(["--faults", script] if script else [])]
    box = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    clock, heard = MonotonicClock(), []
    try:
        source = open_source(f"{name}:{'' if wire.calls else '127.0.0.1'}:{port}", clock)
        until = clock.now() + seconds
        while clock.now() < until:
            blocks: list[Block] = source.read(0.02)
            now = clock.now()
            heard += [(b.first, len(b.counts), now) for b in blocks]
        source.close()
        facts = source.troubles | {"fs_hz": source.fs_hz, "packet": source.block_samples}
    finally:
        box.send_signal(signal.SIGINT)
        out, _ = box.communicate(timeout=20)
    return heard, json.loads(out), facts


def holes(heard: list[Any]) -> dict[int, tuple[int, float]]:
    """Index of the first missing sample -> how many, and when the next came."""
    return {a[0] + a[1]: (b[0] - a[0] - a[1], b[2])
            for a, b in pairwise(heard) if b[0] != a[0] + a[1]}


def well(name: str, seconds: float) -> dict[str, Any]:
    """Undisturbed: samples, and delay of a block's last sample until it is in the loop."""
    heard, box, facts = listen(name, seconds, "")
    fs_hz = facts["fs_hz"]
    delay = 1e3 * np.array([now - box["started_s"] - (first + count) / fs_hz
                            for first, count, now in heard])
    p50, p99, most = np.percentile(delay, [50, 99, 100])
    lost = sum(length for length, _ in holes(heard).values())
    trouble = {k: v for k, v in facts.items() if v and k not in ("fs_hz", "packet")}
    return {"seconds": seconds, "samples": sum(count for _, count, _ in heard), "lost": lost,
            "duplicates": facts["duplicates"], "troubles": trouble,
            "packet_ms": round(1e3 * facts["packet"] / fs_hz, 3),
            "delay_beyond_packet_ms": {k: round(float(v), 3) for k, v in
                                       (("p50", p50), ("p99", p99), ("max", most))},
            "holds": bool(not lost and facts["duplicates"] == 0 and p99 <= DELAY_MS)}


def script_of(seconds: float, rng: np.random.Generator) -> str:
    """Faults by chance, one every three seconds."""
    events, kinds = [], ("drop", "duplicate", "partial", "stall", "drop", "disconnect")
    for k, at in enumerate(np.arange(FIRST_S, seconds - EVERY_S, EVERY_S)):
        kind = kinds[k % len(kinds)]
        amount = {"drop": rng.integers(1, 900), "duplicate": rng.integers(1, 100), "partial": "",
                  "stall": round(rng.uniform(0.05, 0.45), 3),
                  "disconnect": round(rng.uniform(0.1, 1.0), 3)}[kind]
        events.append(f"{at:.2f} {kind} {amount}")
    return "; ".join(events)


def faulty(name: str, seconds: float, seed: int) -> dict[str, Any]:
    """With faults: whether each was found where it was, with its length; how soon it was over."""
    wire = AMPLIFIERS[name]()
    heard, box, facts = listen(name, seconds, script_of(seconds, np.random.default_rng(seed)))
    found, missed, back = holes(heard), [], []
    factor = wire.fs_hz / facts["fs_hz"]
    for h in box["happened"]:
        at, what, amount = h["sample"], h["name"], h["amount"]
        moment = box["started_s"] + at / wire.fs_hz
        if what == "disconnect":
            after = [now for _, _, now in heard if now > moment + amount]
            back.append(round(after[0] - moment - amount, 3) if after else None)
        elif what in ("drop", "partial", "overrun"):
            near = [k for k in found if abs(k - at / factor) <= 2 + 130 / factor]
            length = found[near[0]][0] if near else 0
            # A partial costs what proves the next sample; the low-pass of Intan begins anew.
            least = amount / factor if what != "partial" else 1
            most = least + {"partial": 16}.get(what, 0) + (30 if factor > 1 else 0)
            if not least - (factor > 1) <= length <= most:
                missed.append({**h, "found": length})
    return {"seconds": seconds, "faults": len(box["happened"]), "missed": missed,
            "reconnect_s": back, "troubles": {k: v for k, v in facts.items() if v},
            "holds": not missed and all(b is not None and b <= RECONNECT_S for b in back)}


def main() -> int:
    """Print a line per source, and write the report."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--seconds", type=float, default=300.0)
    p.add_argument("--faults", type=float, default=120.0, help="seconds with faults")
    p.add_argument("--out", type=Path)
    p.add_argument("--only", choices=AMPLIFIERS)
    args = p.parse_args()
    made: dict[str, Any] = {"machine": platform.platform(), "cores": os.cpu_count(),
                            "python": platform.python_version(), "realtime": real_time(),
                            "sources": {}}
    for seed, name in enumerate([args.only] if args.only else AMPLIFIERS):
        made["sources"][name] = row = {
            "idle_wake_p99_ms": idle_ms(min(5.0, args.seconds)), "well": well(name, args.seconds),
            "faulty": faulty(name, args.faults, seed), "load": os.getloadavg()[0]}
        w, f = row["well"], row["faulty"]
        print(f"{name:16s} {w['samples']} samples, {w['lost']} lost, {w['duplicates']} twice; "
              f"beyond the packet's {w['packet_ms']} ms: {w['delay_beyond_packet_ms']} ms (idle "
              f"{row['idle_wake_p99_ms']}); {f['faults']} faults, missed {f['missed']}, back after "
              f"{f['reconnect_s']} s", flush=True)
    if args.out:
        write_durably(args.out, lambda file: file.write(json.dumps(made, indent=1).encode()))
    return int(not all(r["well"]["holds"] and r["faulty"]["holds"]
                       for r in made["sources"].values()))


if __name__ == "__main__":
    sys.exit(main())
