"""OTBiolab+ `.mat` exports: EMG, force, and the spike trains that OTBiolab+ itself found.

Columns are told apart by their description, never by their position.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from spikewire.io.choice import ANY, Ask, pick, settle_rate, settle_unit
from spikewire.io.grids import of_code
from spikewire.io.matfile import cells, is_numbers, load, number, text
from spikewire.io.scale import finite, microvolts
from spikewire.signals import UNITS_UV, Floats, InputError, Recording, SpikeTrains, Times

UNIT = re.compile(r"\[\s*([^\]]*)\]\s*$")
NUMBER = re.compile(r"\((\d+)\)\s*\[[^\]]*\]\s*$")  # of the electrode, or of the motor unit
HIGHEST = 1e30  # of a source, whose height has no unit; sums of such stay finite
SPIKES, SOURCES, AUXILIARY = "Decomposition of", "Source for decomposition of", "acquired data"


def _load(path: Path) -> tuple[Floats, list[str], float]:
    """Columns (samples, columns), their descriptions and the rate."""
    content = load(path, "OTBiolab+", {"Data", "Description", "SamplingFrequency"}, set())
    data: Any = next(iter(cells(content["Data"])), None)
    words = [text(d) for d in cells(content["Description"])]
    rate = number(path, "SamplingFrequency", content["SamplingFrequency"])
    if not is_numbers(data) or data.ndim != 2 or data.shape[1] != len(words):
        raise InputError(
            f"{path}: Data has shape {getattr(data, 'shape', 'none')} for {len(words)} "
            "descriptions: one column each"
        )
    with np.errstate(over="ignore", invalid="ignore"):  # Recording.check names them
        return np.asarray(data, np.float32), words, settle_rate(path, ANY, rate)


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


def by_grid(words: list[str], columns: list[int]) -> dict[str, list[int]]:
    """Columns of each grid, as they first appear, in the order of the electrodes."""
    grids: dict[str, list[tuple[int, int]]] = {}
    for column in columns:
        found = NUMBER.search(words[column])
        name = words[column][: found.start()] if found else words[column]
        grids.setdefault(name.strip() if found else "", []).append(
            (int(found[1]) if found else 0, column))
    return {name: [column for _, column in sorted(those, key=lambda one: one[0])]
            for name, those in grids.items()}


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


def read_recording(path: Path, ask: Ask = ANY) -> Recording:
    """Read EMG (microvolts), grid and force; decompositions in the file are left alone.

    Raises
    ------
    InputError
        Damaged file, no EMG column, columns of several units, or several grids and none chosen.
    """
    data, words, rate = _load(path)
    settle_rate(path, ask, rate)
    kinds = [kind(w) for w in words]
    found = by_grid(words, [k for k, what in enumerate(kinds) if what == "emg"])
    units = sorted({UNIT.search(words[k])[1] for those in found.values()  # type: ignore[index]
                    for k in those})
    if len(units) != 1:
        raise InputError(
            f"{path}: EMG columns have units {units or 'none'}, allowed is one of "
            f"{', '.join(UNITS_UV)} for all of them"
        )
    unit, names = settle_unit(path, ask, units[0]), list(found)
    chosen = pick(path, [f"{n or 'EMG'} ({len(found[n])} channels)" for n in names], ask)
    emg = [column for k in chosen for column in found[names[k]]]
    row, col, ied_mm = of_code(names[chosen[0]], len(emg)) if len(chosen) == 1 else (None,) * 3
    force = next((k for k, w in enumerate(words) if AUXILIARY in w and "MVC" in w), None)
    others = {"spikes": "spike trains", "source": "sources", "auxiliary": "auxiliary"}
    ignored = [f"{n} {word}" for what, word in others.items()
               if (n := kinds.count(what) - (what == "auxiliary" and force is not None))]
    ignored += [f"grid {k + 1}, {n}" for k, n in enumerate(names) if k not in chosen]
    return Recording(
        microvolts(data[:, emg], unit), rate, path.stem, row, col, ied_mm,
        force=None if force is None else finite(data[:, force]),
        force_unit="" if force is None else "% MVC", stored=unit, ignored=tuple(ignored),
    )


def read_trains(path: Path, ask: Ask = ANY) -> SpikeTrains:
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
    grids = by_grid([w.split(SPIKES, 1)[-1] for w in words], [spikes for spikes, _ in pairs])
    names = list(grids)
    chosen = pick(path, names, ask) if ask.grid else range(len(names))
    kept = {column for k in chosen for column in grids[names[k]]}
    pairs = [pair for pair in pairs if pair[0] in kept]
    for _, source in pairs:
        if not (np.abs(data[:, source]) < HIGHEST).all():
            raise InputError(f"{path}: a source of the decomposition holds what is no number or "
                             f"{HIGHEST:g} and more; store the file again")
    times = [on_peaks(data[:, spikes], data[:, source]) for spikes, source in pairs]
    return SpikeTrains(times, settle_rate(path, ask, rate), method="OTBiolab+")


def on_peaks(spikes: Floats, source: Floats) -> Times:
    """Marked samples, moved by the one lag at which the source is highest."""
    marked = np.flatnonzero(spikes > 0)
    if not len(marked):
        return marked
    lags = np.arange(-20, 21)
    last = len(source) - 1
    lag = lags[source[(marked[:, None] + lags).clip(0, last)].mean(axis=0).argmax()]
    return (marked + lag).clip(0, last)
