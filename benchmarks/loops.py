"""The whole loop on a source without end, in a process of its own, paced or as fast as it goes."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spikewire.bundle import read_bundle
from spikewire.io.source import Block
from spikewire.link.transport import open_link
from spikewire.runtime import realtime
from spikewire.runtime.clock import MonotonicClock, VirtualClock
from spikewire.runtime.decoder import Decoder
from spikewire.runtime.engine import open_engine
from spikewire.runtime.loop import Loop
from spikewire.runtime.meter import Meter
from spikewire.signals import STEP

FS_HZ = 2048.0


@dataclass(frozen=True)
class Wanted:
    """One loop.

    Attributes
    ----------
    bundles : paths; each reads its own channels
    engine, precision : as of mu-run
    seconds : of signal
    paced : at real pace with what `mu-run --realtime` asks for, or as fast as it goes
    cpu : core to stay on, or None
    """

    bundles: tuple[str, ...]
    engine: str = "native"
    precision: str = "int8"
    seconds: float = 10.0
    paced: bool = True
    cpu: int | None = None


class Endless:
    """Noise in blocks of one step. It also measures how long the loop is busy with each."""

    uri, fs_hz, lsb_uv, latency_s, block_samples, ended = "noise:", FS_HZ, 0.05, 0.0, STEP, False

    def __init__(self, channels: int, clock: Any) -> None:
        self.channels, self._clock, self.steps = channels, clock, 0
        self._noise = np.random.default_rng(1).integers(-9000, 9000, (64, STEP, channels), np.int16)
        self.busy, self._left, self._start = Meter(), 0, clock.now()

    def _due(self, step: int) -> float:
        return self._start + (step + 1) * STEP / FS_HZ

    def read(self, timeout_s: float) -> list[Block]:
        if self._left:
            self.busy.add((time.monotonic_ns() - self._left) / 1e9)
        now = self._clock.now()
        self._clock.sleep_until(min(self._due(self.steps), now + max(timeout_s, 0.0)))
        blocks, now = [], self._clock.now()
        while self._due(self.steps) <= now:
            counts = self._noise[self.steps % len(self._noise)]
            blocks.append(Block(self.steps * STEP, counts, self._due(self.steps)))
            self.steps += 1
        self._left = time.monotonic_ns() if blocks else 0
        return blocks


def resident_mb() -> float:
    """What this process holds in memory."""
    text = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in text.splitlines() if "VmRSS" in line)


def run(wanted: Wanted) -> dict[str, Any]:
    """Figures of one loop; runs in the process that `started` makes."""
    bundles = [read_bundle(path) for path in wanted.bundles]
    decoders, first = [], 0
    for bundle in bundles:
        stop = first + bundle.manifest.channels
        engine = open_engine(bundle, wanted.engine, wanted.precision)
        decoders.append(Decoder(bundle, engine, FS_HZ, (first, stop)))
        first = stop
    got = realtime.enter(wanted.cpu)[0] if wanted.paced else {}
    clock = MonotonicClock() if wanted.paced else VirtualClock()
    source = Endless(first, clock)
    loop = Loop(source, decoders, [open_link("null:")], clock)
    steps, memory = round(wanted.seconds * FS_HZ / STEP), []

    def stop_now() -> bool:
        if source.steps >= len(memory) * steps // 10:
            memory.append(resident_mb())
        return source.steps >= steps

    loop.run(stop_now)
    tally, look_ahead = loop.tally, 1e3 * max(b.manifest.look_ahead for b in bundles) / FS_HZ

    def row(meter: Meter, plus: float = 0.0) -> dict[str, float]:
        return {f"p{q:g}": meter.percentile(q) + plus for q in (50, 99, 99.9)} \
            | {"max": meter.maximum + plus}

    return {"engine": decoders[0].engine.name, "steps": tally.steps, "decoded": tally.decoded,
            "missed": tally.missed, "granted": got, "compute": row(tally.compute),
            "age": row(tally.age), "decode_delay": row(tally.age, look_ahead),
            "busy": row(source.busy), "memory": memory}


def started(*several: Wanted) -> list[dict[str, Any]]:
    """Run loops side by side, each in a fresh process, and wait for them."""
    fresh = multiprocessing.get_context("spawn")
    pools = [ProcessPoolExecutor(1, fresh) for _ in several]
    asked: list[Future[dict[str, Any]]] = [
        pool.submit(run, wanted) for pool, wanted in zip(pools, several, strict=True)]
    figures = [future.result() for future in asked]
    for pool in pools:
        pool.shutdown()
    return figures
