"""DEMUSE `.mat`: the EMG as a cell grid `SIG`, discharge times `MUPulses` that count from 1.

An empty cell of `SIG` is a place of the grid without an electrode. The unit is not stored.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from spikewire.io.choice import ANY, MOST_CHANNELS, Ask, pick, settle_rate, settle_unit
from spikewire.io.discharges import MOST_UNITS, trains, whole
from spikewire.io.matfile import cells, is_numbers, load, number
from spikewire.io.scale import finite, microvolts
from spikewire.signals import InputError, Recording, SpikeTrains

OPTIONAL = {"IED", "ref_signal", "IPTs", "MUPulses", "PNR"}


def read_recording(path: Path, ask: Ask = ANY) -> Recording:
    """Read the EMG, down the columns of the grid; its unit must be given.

    Raises
    ------
    InputError
        Damaged, no unit given, or channels of different length.
    """
    pick(path, ["SIG"], ask)
    found = load(path, "DEMUSE", {"SIG", "fsamp"}, OPTIONAL)
    grid = found["SIG"]
    if not isinstance(grid, np.ndarray) or grid.dtype != object or grid.ndim != 2:
        raise InputError(f"{path}: SIG is no grid of cells")
    held = [(k, np.ravel(v)) for k, v in enumerate(cells(grid)) if is_numbers(v) and v.size]
    if not 0 < len(held) <= MOST_CHANNELS or len({len(v) for _, v in held}) > 1:
        raise InputError(f"{path}: the {len(held)} channels of SIG differ in length")
    unit = settle_unit(path, ask)
    emg = np.stack([microvolts(values, unit) for _, values in held], axis=1)
    place = np.array([k for k, _ in held])
    ied: Any = found.get("IED")
    ied_mm = number(path, "IED", ied) if is_numbers(ied) and ied.size == 1 else None
    empty = grid.size - len(held)
    force = np.ravel(found["ref_signal"]) if is_numbers(found.get("ref_signal")) else np.zeros(0)
    fits = len(force) == len(emg)
    ignored = [f"{empty} places without an electrode"] if empty else []
    ignored += [n for n in ("IPTs", "MUPulses") if n in found]
    ignored += ["ref_signal"] if force.size > 1 and not fits else []
    return Recording(
        emg, settle_rate(path, ask, number(path, "fsamp", found["fsamp"])), path.stem,
        place % grid.shape[0], place // grid.shape[0], ied_mm,
        force=finite(force) if fits else None,
        stored=f"{held[0][1].dtype}, taken as {unit}", ignored=tuple(ignored),
    )


def read_trains(path: Path, ask: Ask = ANY) -> SpikeTrains:
    """Read the discharge times, counted from 0.

    Raises
    ------
    InputError
        Damaged, or no discharge times.
    """
    pick(path, ["MUPulses"], ask)
    found = load(path, "DEMUSE", {"MUPulses", "fsamp"}, set())
    held = cells(found["MUPulses"])
    if len(held) > MOST_UNITS:
        raise InputError(f"{path}: {len(held)} units; at most {MOST_UNITS} are read")
    times = [t - 1 for t in (whole(path, v) for v in held) if t.size]
    fs_hz = settle_rate(path, ask, number(path, "fsamp", found["fsamp"]))
    return trains(path, times, fs_hz, "DEMUSE")
