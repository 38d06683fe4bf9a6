"""Spike trains as BIDS `_events.tsv`: a row for each discharge; and the form of MUnitQuest.

Columns `onset` (s), `duration`, `sample` (from 0), `unit_id`, `description`. MUniverse spells the
first one "onest" in places; rows without a unit (a contraction, a trigger) are no discharges.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spikewire import __version__
from spikewire.io.choice import ANY, Ask, pick, settle_rate
from spikewire.io.discharges import MOST_UNITS
from spikewire.io.tsv import NONE, positive, read_sidecar, read_table, write_sidecar, write_table
from spikewire.signals import LONGEST_SAMPLES, InputError, SpikeTrains

END, LOG = "_events.tsv", "_log.json"
SPIKE = "motor-unit-spike"
ROUNDED = 1.5  # samples that an onset of few decimals may lie beside its sample


def _numbers(path: Path, name: str, cells: list[str]) -> np.ndarray:
    """A column of finite numbers."""
    try:
        values = np.array(cells, np.float64)
    except ValueError:
        values = np.full(1, np.nan)
    if not (np.abs(values) < LONGEST_SAMPLES).all():
        raise InputError(f"{path}: {name} holds what is no number, or one too large")
    return values


def _rate(path: Path, ask: Ask, onset: np.ndarray, sample: np.ndarray | None) -> float:
    """Rate of the sidecar beside, or the one that both columns agree on, or what was asked for."""
    stem = path.name.removesuffix(END)
    for end in ("_emg.json", "_events.json", LOG):
        told = positive(read_sidecar(path.with_name(stem + end)).get("SamplingFrequency"))
        if told:
            return settle_rate(path, ask, told)
    if ask.fs_hz is None and sample is not None and len(onset) and onset.max() > 0:
        last = int(onset.argmax())
        return settle_rate(path, ask, round(float(sample[last] / onset[last]), 1))
    return settle_rate(path, ask)


def read_trains(path: Path, ask: Ask = ANY) -> SpikeTrains:
    """Read discharge times; units are numbered as in the file where it numbers them from 0.

    Raises
    ------
    InputError
        Not such a table, no rate to be found, or onset and sample that contradict one another.
    """
    pick(path, ["the spike trains"], ask)
    table = read_table(path)
    onset = table.get("onset", table.get("onest"))
    if onset is None or "unit_id" not in table:
        raise InputError(f"{path}: has columns {', '.join(table)[:80]}; needed are onset and "
                         "unit_id, and better sample")
    rows = [k for k, unit in enumerate(table["unit_id"]) if unit not in ("", NONE)]
    seconds = _numbers(path, "onset", [onset[k] for k in rows])
    sample = _numbers(path, "sample", [table["sample"][k] for k in rows]) \
        if "sample" in table else None
    fs_hz = _rate(path, ask, seconds, sample)
    times = np.round(seconds * fs_hz if sample is None else sample)
    if sample is not None and (np.abs(seconds * fs_hz - sample) > ROUNDED + 1e-4 * fs_hz).any():
        raise InputError(f"{path}: onset and sample contradict one another at {fs_hz:g} Hz; "
                         "if its rate is another, give it with --fs")
    if not len(times) or times.min() < 0:
        raise InputError(f"{path}: holds no discharges, or one before the recording")
    units = [table["unit_id"][k] for k in rows]
    order = {u: k for k, u in enumerate(dict.fromkeys(units))}
    if all(u.isdecimal() and int(u) < MOST_UNITS for u in order):
        order = {u: int(u) for u in order}
    count = max(order.values()) + 1
    if count > MOST_UNITS:
        raise InputError(f"{path}: {count} units; at most {MOST_UNITS} are read")
    which = np.array([order[u] for u in units])
    return SpikeTrains([np.sort(times[which == k]).astype(np.int64) for k in range(count)], fs_hz,
                       method=f"from {path.name}")


def write_trains(path: str | Path, trains: SpikeTrains, log: bool = False) -> None:
    """Write discharge times; a unit without discharges leaves no trace but its number.

    Parameters
    ----------
    log : bool
        Also `_log.json`, as MUnitQuest asks for beside each prediction.
    """
    path = Path(path)
    if not path.name.endswith(END) or path.name == END:
        raise InputError(f"{path.name}: BIDS names spike trains like sub-01_task-hold{END}")
    sample = np.concatenate([*trains.times, np.zeros(0, np.int64)]).astype(np.int64)
    unit = np.repeat(np.arange(len(trains)), [len(t) for t in trains.times])
    order = np.lexsort((unit, sample))
    facts = {"SamplingFrequency": trains.fs_hz, "units": len(trains), "discharges": len(sample),
             "method": trains.method, "GeneratedBy": {"Name": "spikewire", "Version": __version__}}
    stem = path.name.removesuffix(END)
    write_sidecar(path.with_name(f"{stem}_events.json"), facts)
    if log:
        write_sidecar(path.with_name(stem + LOG), facts)
    write_table(path, {
        "onset": [float(s) for s in sample[order] / trains.fs_hz], "duration": [0] * len(sample),
        "sample": sample[order].tolist(), "unit_id": unit[order].tolist(),
        "description": [SPIKE] * len(sample),
    })
