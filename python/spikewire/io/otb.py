"""OTBiolab+ `.mat` exports: EMG, force, and the spike trains that OTBiolab+ itself found.

Columns are told apart by their description, never by their position.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from spikewire.io.grids import GRIDS, serpentine
from spikewire.signals import UNITS_UV, Floats, InputError, Recording, SpikeTrains, Times

UNIT = re.compile(r"\[\s*([^\]]*)\]\s*$")
NUMBER = re.compile(r"\((\d+)\)\s*\[[^\]]*\]\s*$")  # of the electrode, or of the motor unit
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
    if not 0 < rate < float("inf"):
        raise InputError(f"{path}: SamplingFrequency is {rate:g}, allowed is a rate in Hz")
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


def by_electrode(words: list[str], columns: list[int]) -> list[int]:
    """Columns in the order of their grids, as they first appear, and of the electrodes in them."""
    grids: dict[str, int] = {}

    def place(column: int) -> tuple[int, int]:
        number = NUMBER.search(words[column])
        name = words[column][: number.start()] if number else words[column]
        return grids.setdefault(name, len(grids)), int(number[1]) if number else 0

    return sorted(columns, key=place)


def paired(words: list[str]) -> list[tuple[int, int]] | None:
    """Column of each spike train and of its source, which name the same unit; None if they do not.

    Units of several runs may share a name; their trains and sources then stand in the same order.
    """
    sources: dict[str, list[int]] = {}
    for column, word in enumerate(words):
        if kind(word) == "source":
            sources.setdefault(word.split(SOURCES, 1)[1], []).append(column)
    spikes = [column for column, word in enumerate(words) if kind(word) == "spikes"]
    names = [words[column].split(SPIKES, 1)[1] for column in spikes]
    if sorted(names) != sorted(n for n, columns in sources.items() for _ in columns):
        return None
    return [(column, sources[name].pop(0)) for column, name in zip(spikes, names, strict=True)]


def read_recording(path: Path) -> Recording:
    """Read EMG (microvolts), grid and force; decompositions in the file are left alone.

    Raises
    ------
    InputError
        Damaged file, no EMG column, or columns of several units.
    """
    data, words, rate = _load(path)
    kinds = np.array([kind(w) for w in words])
    emg = by_electrode(words, np.flatnonzero(kinds == "emg").tolist())
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
        places = serpentine(*GRIDS[grid][:2], len(emg))
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
    pairs = paired(words)
    if not pairs:
        kinds = [kind(w) for w in words]
        raise InputError(
            f"{path}: holds {kinds.count('spikes')} spike trains and {kinds.count('source')} "
            "sources; a decomposition needs one source of the same name for each, at least one"
        )
    times = [on_peaks(data[:, spikes], data[:, source]) for spikes, source in pairs]
    return SpikeTrains(times, rate, method="OTBiolab+")


def on_peaks(spikes: Floats, source: Floats) -> Times:
    """Marked samples, moved by the one lag at which the source is highest."""
    marked = np.flatnonzero(spikes > 0)
    if not len(marked):
        return marked
    lags = np.arange(-20, 21)
    last = len(source) - 1
    lag = lags[source[(marked[:, None] + lags).clip(0, last)].mean(axis=0).argmax()]
    return (marked + lag).clip(0, last)
