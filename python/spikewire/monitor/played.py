"""The log of a run, told to a monitor at the run's pace, as the run itself would have.

What the log does not know (compute, confidence, links) is not told. A log is an outsider's file:
what is no number, or no unit, is left out.
"""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from spikewire.io.runlog import Played, read_played
from spikewire.link.table import STATES
from spikewire.monitor.feed import MOST_AT_ONCE
from spikewire.monitor.layout import ABOUT, EMG, MAP_BYTES, MOST_UNITS, STEP, put
from spikewire.signals import STEP as STEP_SAMPLES
from spikewire.signals import InputError

NUMBER = {name: number for number, name in STATES.items()}
U32, F32 = 0xFFFFFFFF, float(np.finfo(np.float32).max)


class _Teller:
    """What a run would have told, step by step."""

    def __init__(self, path: str, played: Played) -> None:
        self._played, self._about = played, _about(path, played)
        self._lsb_uv = np.float32(played.lsb_uv)
        self._blocks = iter([b for blocks in played.reads for b in blocks])
        self._block, self._heard = next(self._blocks, None), deque[Any](maxlen=20)
        channels = played.reads[0][0].counts.shape[1]
        self._buffer = bytearray(1024 + 4 * channels + len(self._about))
        self._spikes = self._missed = self._silent = 0
        self._last: int | None = None

    def all(self) -> Iterator[tuple[float, bytes]]:
        """Moment and datagram of every step; what has no time, or an earlier one, is left out."""
        latest = -math.inf
        for k, facts in enumerate(self._played.steps):
            now = _number(facts.get("now"), 0, 1e12)
            if not now >= latest:
                continue
            latest = now
            while self._block and self._block.arrival_s <= now:
                self._heard.append(self._block.counts)
                self._block = next(self._blocks, None)
            end = self._step(k + 1, now, facts)
            if k % 10 == 0 and self._heard:
                emg = np.concatenate(self._heard).astype(np.float32) * self._lsb_uv
                end = put(EMG, self._buffer, end, rest=np.sqrt(emg.var(axis=0)).astype("<f4"))
            if k % 100 == 0:
                end = put(ABOUT, self._buffer, end, rest=self._about)
            yield now, bytes(self._buffer[:end])

    def _step(self, sequence: int, now: float, facts: dict[str, Any]) -> int:
        """The record of a step."""
        step, listed = _whole(facts.get("step")), facts.get("drives")
        fired = np.zeros(8 * MAP_BYTES, np.uint8)
        fired[_units(facts.get("units"))] = 1
        self._spikes += int(fired.sum())
        if self._last is not None:
            self._missed += max(step - self._last - 1, 0)
            self._silent += step == self._last
        self._last = step
        drives = [_number(d) for d in listed] if isinstance(listed, list) else []
        return put(
            STEP, self._buffer, 0, sequence, step, now, _number(facts.get("end"), 0, 2**53),
            NUMBER.get(str(facts.get("state")), 15), isinstance(facts.get("units"), list),
            _whole(facts.get("faults"), 0xFFFF), _number(facts.get("age_ms"), 0, 1e7), math.nan,
            *[*drives, *[math.nan] * 4][:4], self._spikes, self._missed & U32, 0, self._silent,
            np.packbits(fired, bitorder="little").tobytes())


class Log:
    """A run's log, told at the pace of the run.

    Raises
    ------
    InputError
        As `read_played`; or it holds no steps.
    """

    def __init__(self, path: str) -> None:
        self.name, self.live, self.ended = path, False, False
        played = read_played(path)
        if not played.steps:
            raise InputError(f"{path}: holds samples, but no steps; a log of mu-run --record has "
                             "both")
        self._told = _Teller(path, played).all()
        self._next = next(self._told, None)
        assert self._next is not None
        self._ahead = self._next[0] - time.monotonic()

    def poll(self, timeout_s: float) -> list[bytes]:
        """See Feed."""
        came: list[bytes] = []
        until = time.monotonic() + timeout_s
        while self._next and len(came) < MOST_AT_ONCE:
            due = self._next[0] - self._ahead
            if due > time.monotonic():
                break
            came.append(self._next[1])
            self._next = next(self._told, None)
        self.live, self.ended = self._next is not None, self._next is None
        if not came:
            due = self._next[0] - self._ahead if self._next else math.inf
            time.sleep(max(min(due, until) - time.monotonic(), 0))
        return came

    def close(self) -> None:
        """See Feed."""


def _number(value: Any, low: float = -F32, high: float = F32) -> float:
    """A number of a log, NaN if it is none that fits a float32."""
    fine = type(value) in (int, float) and low <= value <= high
    return float(value) if fine else math.nan


def _whole(value: Any, most: int = 0xFFFFFFFF) -> int:
    """A whole number of a log, 0 if it is none."""
    return value if type(value) is int and 0 <= value <= most else 0


def _units(value: Any) -> list[int]:
    """Units of a log's step."""
    return [u for u in value if type(u) is int and 0 <= u < MOST_UNITS] \
        if isinstance(value, list) else []


def _about(path: str, played: Played) -> bytes:
    """What ran, as far as the log knows it."""
    most = max((u for s in played.steps for u in _units(s.get("units"))), default=0)
    told = played.about.get("n_mu", "").split()
    n_mu = [int(n) for n in told if len(n) < 3 and n.isdecimal() and 0 < int(n) <= 64][:4]
    n_mu = n_mu or [most + 1]
    names = played.about.get("bundle", "").split()
    channels = played.reads[0][0].counts.shape[1]
    return json.dumps({
        "pid": 0, "source": path[-200:], "fs_hz": played.fs_hz, "step_samples": STEP_SAMPLES,
        "channels": channels, "engine": played.about.get("engine", "")[:100], "arm_id": "",
        "links": [], "log": True,
        "bundles": [{"name": Path(name).stem[:60], "n_mu": n, "channels": [0, channels]}
                    for name, n in zip_longest(names[: len(n_mu)], n_mu, fillvalue="bundle")],
        "drive_delay_ms": 100.0,
    }).encode()
