"""Edits of a decomposition by hand: judged as the decomposition is, recorded, replayed, checked.

A review is a round: a fingerprint of the recording and the spike trains that it began with, and a
record that only grows. Undoing is an entry of its own. A file's rounds lead from the spike trains
of the first one to those in the file, each round numbering the units that it was given.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spikewire.io.npz import read_arrays
from spikewire.peaks import silhouette_of
from spikewire.score import nearest
from spikewire.separate import cov_isi, pulse_to_noise_db
from spikewire.signals import LONGEST_SAMPLES, Floats, InputError, Recording, SpikeTrains, Times

TURNS = {"add", "delete", "keep", "drop"}
SAME_PEAK_S = 0.001
MOST_TEXT_BYTES = 64 << 20
Entry = dict[str, Any]


def belonging(recording: Recording, trains: SpikeTrains, where: str) -> SpikeTrains:
    """The spike trains, each discharge once.

    Raises
    ------
    InputError
        They count at another rate, or outside the recording: they are of another one.
    """
    if trains.fs_hz != recording.fs_hz:
        raise InputError(f"{where}: counts at {trains.fs_hz:g} Hz, {recording.name} has "
                         f"{recording.fs_hz:g} Hz; give the recording that was decomposed")
    every = np.concatenate([*trains.times, np.zeros(0, np.int64)])
    if not len(every):
        raise InputError(f"{where}: holds no discharges, there is nothing to review")
    if every.min() < 0 or every.max() >= len(recording.emg):
        raise InputError(
            f"{where}: discharges at samples {every.min()} to {every.max()}, {recording.name} has "
            f"{len(recording.emg)}; give the recording that was decomposed")
    return SpikeTrains([np.unique(t).astype(np.int64) for t in trains.times], trains.fs_hz,
                       trains.sil, trains.pnr_db, trains.cov_isi, trains.method)


def fingerprint(recording: Recording, times: Sequence[Times]) -> str:
    """SHA-256 of the EMG, its rate and every unit's discharges."""
    made = hashlib.sha256(np.ascontiguousarray(recording.emg, "<f4").tobytes())
    made.update(json.dumps([float(recording.fs_hz), *recording.emg.shape]).encode())
    for t in times:
        made.update(len(t).to_bytes(8, "little") + np.asarray(t, "<i8").tobytes())
    return made.hexdigest()


def figures(source: Floats, peaks: Times, times: Times, fs_hz: float) -> dict[str, float]:
    """SIL, PNR and CoV of ISI of discharges that a person has chosen.

    Parameters
    ----------
    source : float32 (samples,)
    peaks : samples of all peaks that could be discharges (`separate.peaks_of`); those that are
        none make the low cluster, where the decomposition lets a threshold decide
    times : samples of the discharges; a peak within a millisecond of one is what is meant, since
        the last refinement may have moved it by a sample, and others' discharges by more
    """
    if not len(times) or not len(peaks):
        return {"sil": 0.0, "pnr_db": float("nan"), "cov_isi": cov_isi(times, fs_hz)}
    reach = round(SAME_PEAK_S * fs_hz)
    away = nearest(peaks, times)
    at = np.where(np.abs(away) <= reach, times - away, times)
    height = np.square(np.maximum(source, 0), dtype=np.float64)
    sil = silhouette_of(height[at], height[peaks[np.abs(nearest(times, peaks)) > reach]])
    pnr = pulse_to_noise_db(source, at) if source[at].any() else float("nan")
    return {"sil": sil, "pnr_db": pnr, "cov_isi": cov_isi(times, fs_hz)}


def read_rounds(path: str | Path) -> list[dict[str, Any]]:
    """Rounds of reviews that a spike-train file tells of; none if it tells of none.

    Raises
    ------
    InputError
        The record is damaged.
    """
    where = Path(path)
    if where.suffix != ".npz" or not where.is_file():
        return []
    text = read_arrays(where, (), ("edits",)).get("edits")
    if text is None:
        return []
    if text.dtype.kind not in "SU" or text.size != 1 or text.nbytes > MOST_TEXT_BYTES:
        raise InputError(f"{where}: edits is {text.dtype} of shape {text.shape}, allowed is a text")
    try:
        rounds = json.loads(text.item())
        fits = isinstance(rounds, list) and all(
            isinstance(r["of"], str) and all(_fits(e) for e in r["record"]) for r in rounds)
    except (ValueError, TypeError, KeyError, RecursionError):
        fits = False
    if not fits:
        raise InputError(f"{where}: its record of edits is damaged; review the spike trains that "
                         "it was made from")
    return list(rounds)


def _fits(entry: Entry) -> bool:
    """Whether an entry has the fields that a replay needs."""
    if entry["action"] in ("undo", "redo"):
        return True
    samples = [] if entry["action"] in ("keep", "drop") else entry["samples"]
    return (entry["action"] in TURNS and type(entry["unit"]) is int and isinstance(samples, list)
            and all(type(s) is int and 0 <= s < LONGEST_SAMPLES for s in samples))


def standing(record: Sequence[Entry]) -> list[Entry]:
    """The entries that were not undone, or done again, in order."""
    done: list[Entry] = []
    undone: list[Entry] = []
    for entry in record:
        if entry["action"] == "undo" and done:
            undone.append(done.pop())
        elif entry["action"] == "redo" and undone:
            done.append(undone.pop())
        elif entry["action"] in TURNS:
            done.append(entry)
            undone = []
    return done


def replay(times: Sequence[Times], record: Sequence[Entry]) -> tuple[list[Times], list[bool]]:
    """Discharges of every unit after a record, and which units are kept."""
    now, kept = [set(t.tolist()) for t in times], [True] * len(times)
    for entry in standing(record):
        unit = entry["unit"]
        if not 0 <= unit < len(now):
            raise InputError(f"the record edits unit {unit}, there are {len(now)}")
        if entry["action"] in ("keep", "drop"):
            kept[unit] = entry["action"] == "keep"
        elif entry["action"] == "add":
            now[unit] |= set(entry["samples"])
        else:
            now[unit] -= set(entry["samples"])
    return [np.array(sorted(t), np.int64) for t in now], kept


def follow(
    recording: Recording, times: Sequence[Times], rounds: Sequence[dict[str, Any]]
) -> tuple[list[Times], list[int]]:
    """Where rounds lead from the spike trains of the first: discharges, and the units' old numbers.

    Raises
    ------
    InputError
        A round began with something else.
    """
    now, numbers = list(times), list(range(len(times)))
    for k, one in enumerate(rounds):
        if one["of"] != fingerprint(recording, now):
            raise InputError(f"round {k + 1} of the edits began with another recording or other "
                             "spike trains")
        now, kept = replay(now, one["record"])
        now = [t for t, keep in zip(now, kept, strict=True) if keep]
        numbers = [n for n, keep in zip(numbers, kept, strict=True) if keep]
    return now, numbers
