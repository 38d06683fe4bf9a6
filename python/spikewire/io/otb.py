"""OTBiolab+ `.mat` exports: EMG, force, and the spike trains that OTBiolab+ itself found.

Columns are told apart by their description, never by their position.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from spikewire.signals import UNITS_UV, Floats, InputError, Recording, SpikeTrains

# Electrode grids of OT Bioelettronica: rows, columns, distance. The first corner carries no
# electrode and the columns run in a serpentine.
GRIDS = {"GR08MM1305": (13, 5, 8.0), "GR04MM1305": (13, 5, 4.0), "GR10MM0808": (8, 8, 10.0)}
UNIT = re.compile(r"\[\s*([^\]]*)\]\s*$")
SPIKES, SOURCES, AUXILIARY = "Decomposition of", "Source for decomposition of", "acquired data"


def _load(path: Path) -> tuple[Floats, list[str], float]:
    """Columns (samples, columns), their descriptions and the rate."""
    from scipy.io import loadmat

    try:
        content = loadmat(path, variable_names=["Data", "Description", "SamplingFrequency"])
        data = np.asarray(content["Data"].flat[0], np.float32)
        words = [str(np.asarray(d).flat[0]) for d in np.ravel(content["Description"])]
        rate = float(np.ravel(content["SamplingFrequency"])[0])
    except Exception as error:  # scipy's reader raises whatever a damaged file leads it to
        raise InputError(f"{path}: not a readable OTBiolab+ .mat export ({error})") from None
    if data.ndim != 2 or data.shape[1] != len(words):
        raise InputError(
            f"{path}: Data has shape {data.shape} for {len(words)} descriptions: one column each"
        )
    return data, words, rate


def kind(description: str) -> str:
    """'source', 'spikes', 'emg' or 'auxiliary', from a column's description."""
    if SOURCES in description:
        return "source"
    if SPIKES in description:
        return "spikes"
    unit = UNIT.search(description)
    if AUXILIARY not in description and unit and unit[1] in UNITS_UV:
        return "emg"
    return "auxiliary"


def grid_places(rows: int, columns: int, channels: int) -> tuple[Any, Any]:
    """Row and column of each channel of a serpentine grid, its first corner absent if one is."""
    row, col = [], []
    for c in range(columns):
        order = range(rows) if c % 2 == 0 else range(rows - 1, -1, -1)
        row += list(order)
        col += [c] * rows
    absent = rows * columns - channels
    return np.array(row[absent:]), np.array(col[absent:])


def read_recording(path: Path) -> Recording:
    """Read EMG (microvolts), grid and force; decompositions in the file are left alone.

    Raises
    ------
    InputError
        Damaged file, no EMG column, or columns of several units.
    """
    data, words, rate = _load(path)
    kinds = np.array([kind(w) for w in words])
    emg = np.flatnonzero(kinds == "emg")
    units = sorted({UNIT.search(words[k])[1] for k in emg})  # type: ignore[index]
    if len(units) != 1:
        raise InputError(
            f"{path}: EMG columns have units {units or 'none'}, allowed is one of "
            f"{', '.join(UNITS_UV)} for all of them"
        )
    scaled = np.ascontiguousarray(data[:, emg] * np.float32(UNITS_UV[units[0]]), np.float32)
    grid = next((g for g in GRIDS if all(g in words[k] for k in emg)), None)
    places: tuple[Any, Any] = (None, None)
    if grid and 0 <= GRIDS[grid][0] * GRIDS[grid][1] - len(emg) <= 1:
        places = grid_places(*GRIDS[grid][:2], len(emg))
    force = next((k for k, w in enumerate(words) if AUXILIARY in w and "MVC" in w), None)
    return Recording(
        scaled, rate, path.stem, *places,
        ied_mm=GRIDS[grid][2] if grid else None,
        force=None if force is None else data[:, force].copy(),
        force_unit="" if force is None else "% MVC",
    )


def read_trains(path: Path) -> SpikeTrains:
    """Read the decomposition stored in the file, moved onto the peaks of its own sources.

    OTBiolab+ marks a discharge some samples after the peak of the unit's source signal; spikewire
    marks the peak, so the constant lag of each unit is taken off.

    Raises
    ------
    InputError
        Damaged file, or no decomposition in it.
    """
    data, words, rate = _load(path)
    columns = {k: [data[:, c] for c, w in enumerate(words) if kind(w) == k]
               for k in ("spikes", "source")}
    if not columns["spikes"] or len(columns["spikes"]) != len(columns["source"]):
        raise InputError(
            f"{path}: holds {len(columns['spikes'])} spike trains and {len(columns['source'])} "
            "sources; a decomposition needs as many of both, at least one"
        )
    times = []
    for spikes, source in zip(columns["spikes"], columns["source"], strict=True):
        marked = np.flatnonzero(spikes > 0)
        lags = np.arange(-20, 21)
        reach = (marked[:, None] + lags).clip(0, len(source) - 1)
        times.append((marked + lags[source[reach].mean(axis=0).argmax()]).astype(np.int64))
    return SpikeTrains(times, rate, method="OTBiolab+")
