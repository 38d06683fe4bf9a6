"""MUedit: `.mat` of the MATLAB program (`signal`, and `edition` after editing), `.npz` of MUedit2.

Times of the `.mat` count from 1; those of a file that Python wrote may count from 0, so the pulse
trains beside them decide. It never says a unit: its own import of OTBiolab+ files gives millivolts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from spikewire.io.choice import ANY, MOST_CHANNELS, Ask, pick, settle_rate, settle_unit
from spikewire.io.discharges import MOST_UNITS, trains, whole
from spikewire.io.grids import of_code
from spikewire.io.matfile import cells, is_numbers, load, number, text
from spikewire.io.npz import read_arrays
from spikewire.io.scale import microvolts
from spikewire.signals import InputError, Recording, SpikeTrains, Times

TIMES = ("dischargetimes", "discharge_times", "distime", "distimes")
PULSES = ("pulsetrain", "pulse_train", "pulset", "pulse_t", "pulse_trains")


def _named(struct: dict[str, Any], names: tuple[str, ...]) -> Any:
    """Value of a field in any of its spellings."""
    return next((v for n in names for k, v in struct.items() if k.lower() == n), None)


def _struct(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """`signal` and, where the units were edited, `edition`."""
    found = load(path, "MUedit", {"signal"}, {"edition"})
    signal, edition = found["signal"], found.get("edition")
    if not isinstance(signal, dict):
        raise InputError(f"{path}: signal is no struct; is it a .mat of MUedit?")
    return signal, edition if isinstance(edition, dict) else {}


def _grids(path: Path, signal: dict[str, Any], rows: int) -> list[tuple[str, range]]:
    """Name and rows of each grid; their sizes are those of their coordinates or masks."""
    names = [text(n) for n in cells(signal.get("gridname"))] or ["EMG"]
    muscles = [text(m) for m in cells(signal.get("muscle"))]
    for field in ("coordinates", "EMGmask"):
        sizes = [max(v.shape[:1] if field == "coordinates" else v.shape) if is_numbers(v) else 0
                 for v in cells(signal.get(field))]
        if len(sizes) == len(names) and 0 < sum(sizes) <= rows and min(sizes) > 0:
            break
    else:
        if rows % len(names):
            raise InputError(f"{path}: {rows} channels do not fit its {len(names)} grids")
        sizes = [rows // len(names)] * len(names)
    starts = np.cumsum([0, *sizes])
    return [(" ".join([n, *muscles[k : k + 1]]), range(starts[k], starts[k + 1]))
            for k, n in enumerate(names)]


def read_recording(path: Path, ask: Ask = ANY) -> Recording:
    """Read the EMG of one grid; its unit must be given.

    Raises
    ------
    InputError
        Damaged, no unit given, decomposition only, or several grids and none chosen.
    """
    if path.suffix.lower() == ".npz":
        raise InputError(f"{path}: a decomposition of MUedit2 holds spike trains, no recording")
    signal, _ = _struct(path)
    data: Any = signal.get("data")
    if not is_numbers(data) or data.ndim != 2 or not 0 < len(data) <= MOST_CHANNELS:
        raise InputError(f"{path}: signal.data is no array of (channels, samples)")
    grids = _grids(path, signal, len(data))
    taken = pick(path, [f"{n} ({len(r)} channels)" for n, r in grids], ask)
    rows = [row for k in taken for row in grids[k][1]]
    unit = settle_unit(path, ask)
    row, col, ied_mm = of_code(grids[taken[0]][0], len(rows)) if len(taken) == 1 else (None,) * 3
    ignored = [f"grid {k + 1}, {n}" for k, (n, _) in enumerate(grids) if k not in taken]
    ignored += [f"{len(data) - n} rows of no grid" for n in (grids[-1][1].stop,) if n < len(data)]
    beside: Any = signal.get("auxiliary")
    ignored += [f"{len(beside)} auxiliary"] if is_numbers(beside) and beside.size else []
    ignored += [word for word, names in (("spike trains", TIMES), ("pulse trains", PULSES))
                if _named(signal, names) is not None]
    return Recording(
        microvolts(data[rows].T, unit),
        settle_rate(path, ask, number(path, "signal.fsamp", signal.get("fsamp"))),
        path.stem, row, col, ied_mm, stored=f"{data.dtype}, taken as {unit}",
        ignored=tuple(ignored),
    )


def _base(times: list[Times], pulses: Any) -> int:
    """Whether times count from 1 or from 0: the pulse trains peak at them; 1 if there are none."""
    if not is_numbers(pulses) or pulses.ndim != 2:
        return 1
    pulses = pulses.T if len(pulses) > pulses.shape[1] else pulses
    # Cells beyond the units of this grid are empty: another grid has more.
    height = [sum(float(p[t[(t >= base) & (t - base < len(p))] - base].sum())
                  for p, t in zip(pulses, times, strict=False)) for base in (0, 1)]
    return int(height[1] >= height[0])


def _units(path: Path, held: Any, grids: int) -> list[list[Times]]:
    """Times of the units of each grid, as stored: cells {grid, unit}, or {unit} of a single one."""
    if isinstance(held, np.ndarray) and held.dtype == object and held.ndim == 2:
        rows = held if len(held) == grids or grids > 1 else held.reshape(1, -1, order="F")
        if rows.size > grids * MOST_UNITS:
            raise InputError(f"{path}: {rows.size} units; at most {MOST_UNITS} a grid are read")
        # A grid's row may itself be one cell that holds the cells of its units.
        rows_of = [cells(row[0]) if len(row) == 1 else list(row) for row in rows]
        return [[whole(path, v) for v in row] for row in rows_of]
    return [[whole(path, held)]]


def read_trains(path: Path, ask: Ask = ANY) -> SpikeTrains:
    """Read the discharge times of one grid; edited ones, where there are any.

    Raises
    ------
    InputError
        Damaged, no times, times that only a pickle holds, or several grids and none chosen.
    """
    if path.suffix.lower() == ".npz":
        return _read_npz(path, ask)
    signal, edition = _struct(path)
    source = edition if _named(edition, TIMES) is not None else signal
    held = _named(source, TIMES)
    if held is None:
        raise InputError(f"{path}: holds no discharge times (MUedit stores them in "
                         "signal.Dischargetimes once it has decomposed)")
    names = [text(n) for n in cells(signal.get("gridname"))] or ["grid"]
    units = _units(path, held, len(names))
    pulses = cells(_named(source, PULSES))
    (k,) = pick(path, (names + ["?"] * len(units))[: len(units)], ask)[:1]
    base = _base(units[k], pulses[k] if k < len(pulses) else None)
    times = [t - base for t in units[k] if t.size]
    return trains(path, times, settle_rate(
        path, ask, number(path, "signal.fsamp", signal.get("fsamp"))), "MUedit")


def _read_npz(path: Path, ask: Ask) -> SpikeTrains:
    """Trains of MUedit2, which count from 0; of its members only those that need no pickle."""
    try:
        a = read_arrays(path, ("discharge_times", "fsamp"), ("mu_grid_index",))
    except InputError as error:
        if "Python objects" not in str(error):
            raise
        raise InputError(f"{path}: its discharge times are a pickle, which may run anything and is "
                         "not read; in MUedit2 export BIDS events or a .mat") from None
    held = a["discharge_times"]
    if not is_numbers(held) or held.ndim > 2:
        raise InputError(f"{path}: discharge_times is no array of (units, discharges)")
    times = [t[t >= 0] for t in (whole(path, row) for row in np.atleast_2d(held)[:MOST_UNITS])]
    grid = a.get("mu_grid_index", np.zeros(len(times), np.int64))
    if grid.shape != (len(times),) or grid.dtype.kind not in "iu":
        raise InputError(f"{path}: mu_grid_index does not fit its {len(times)} units")
    which = sorted(set(grid.tolist()))
    taken = [which[k] for k in pick(path, [f"grid {k}" for k in which], ask)]
    kept = [t for t, k in zip(times, grid, strict=True) if k in taken and t.size]
    return trains(path, kept, settle_rate(path, ask, number(path, "fsamp", a["fsamp"])), "MUedit2")
