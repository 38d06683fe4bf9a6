"""The steps of a run's log as columns: what a page tells of a run, in little memory."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikewire.io.runlog import entries
from spikewire.link.table import N_DRIVES, STATES

Doubles = NDArray[np.float64]
NUMBER = {name: number for number, name in STATES.items()}
NAN = float("nan")


@dataclass(frozen=True)
class Story:
    """Columns of one length, a row for each time that frames went out.

    Attributes
    ----------
    t_s : float64 (n,)
        Since the first.
    step : int64 (n,)
        Counts what was consumed: it stands still in silence and jumps over missed steps.
    state : int64 (n,), of the message table
    faults : int64 (n,), bits of the message table
    age_ms : float64 (n,)
        Of the newest sample when the frame was judged; NaN before there is one.
    arrived_ms, wait_ms : float64 (n,)
        How long before that the newest sample came to the host, and how long it had waited for the
        end of its block; NaN where no new sample came.
    drives : float64 (n, 4), pulse/s
    spike_s, spike_unit : (spikes,)
        Moments of the end of their windows, seconds of signal since the first sample of the log.
    """

    about: dict[str, str]
    complete: bool
    t_s: Doubles
    step: NDArray[np.int64]
    state: NDArray[np.int64]
    faults: NDArray[np.int64]
    age_ms: Doubles
    arrived_ms: Doubles
    wait_ms: Doubles
    drives: Doubles
    spike_s: Doubles
    spike_unit: NDArray[np.int64]

    def trains(self, units: int) -> list[Doubles]:
        """Moments of each unit's spikes, seconds."""
        return [self.spike_s[self.spike_unit == k] for k in range(units)]


class _Arrivals:
    """When the newest sample of a step came to the host."""

    def __init__(self) -> None:
        self._blocks: deque[tuple[int, float]] = deque()
        self._taken = 0

    def add(self, end: int, arrival_s: float) -> None:
        """Take a block that ends before sample `end`."""
        if self._blocks and end < self._blocks[-1][0]:
            self._blocks.clear()  # the source began anew
        self._blocks.append((end, arrival_s))

    def of(self, end: int) -> tuple[float, int]:
        """Arrival of sample `end` - 1, and the samples of its block after it; once for a step."""
        while self._blocks and self._blocks[0][0] < end:
            self._blocks.popleft()
        if not self._blocks or end == self._taken:
            return NAN, 0
        self._taken = end
        return self._blocks[0][1], self._blocks[0][0] - end


def rows(path: Path, about: dict[str, str], spikes: tuple[array[float], array[int]]
         ) -> Iterator[tuple[float, ...]]:
    """A row of numbers for each step; `about`, "complete" and `spikes` are filled meanwhile."""
    arrivals, first, fs_hz = _Arrivals(), None, 1.0
    for kind, value in entries(path):
        if kind == "about":
            about |= value
            fs_hz = float(about["fs_hz"])
        elif kind == "block":
            first = value.first if first is None else first
            arrivals.add(value.first + len(value.counts), value.arrival_s)
        elif kind == "end":
            about["complete"] = "yes"
        else:
            for unit in value["units"] or ():
                spikes[0].append((value["end"] - (first or 0)) / fs_hz)
                spikes[1].append(unit)
            arrival, waited = arrivals.of(value["end"])
            drives = [NAN if d is None else d for d in value["drives"]]
            yield (value["now"], value["step"], NUMBER.get(value["state"], 15), value["faults"],
                   value["age_ms"] if value["end"] else NAN, 1e3 * (value["now"] - arrival),
                   1e3 * waited / fs_hz, *drives, *[NAN] * (N_DRIVES - len(drives)))


def read_story(path: Path) -> Story:
    """Read the log of a run, one that was cut off too.

    Raises
    ------
    InputError
        Missing, damaged, or not a log.
    """
    about: dict[str, str] = {}
    spikes: tuple[array[float], array[int]] = array("d"), array("q")
    flat = array("d")
    for row in rows(path, about, spikes):
        flat.extend(row)
    table: Any = np.frombuffer(flat, np.float64) if len(flat) else np.zeros(0)
    table = table.reshape(-1, 7 + N_DRIVES)
    whole = table[:, 1:4].astype(np.int64)
    wait = np.where(np.isfinite(table[:, 5]), table[:, 6], NAN)
    return Story(
        about, "complete" in about, table[:, 0] - (table[0, 0] if len(table) else 0.0),
        whole[:, 0], whole[:, 1], whole[:, 2], table[:, 4], table[:, 5], wait, table[:, 7:],
        np.array(spikes[0]), np.array(spikes[1], np.int64))
