"""openhdemg: gzipped JSON of 0.1, whose values are themselves JSON texts, and the folder of 0.2.

Neither says a unit. Discharge times count from 0. The folder's binaries are read by the shape and
type of its manifest, never outside the folder, and checked where it gives a SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from spikewire.io.bounded import Budget, reason
from spikewire.io.choice import ANY, MOST_CHANNELS, Ask, pick, settle_rate, settle_unit
from spikewire.io.discharges import MOST_UNITS, trains, whole
from spikewire.io.scale import finite, microvolts
from spikewire.signals import InputError, Recording, SpikeTrains

TEXT_GROWTH, TEXT_FREE_BYTES = 30, 8 << 20  # digits, gzipped; Python's lists take 20 times that
MOST_MANIFEST_BYTES = 4 << 20
DAMAGED = (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, OverflowError,
           RecursionError, MemoryError, zlib.error)


def _frame(text: Any, columns: int = MOST_CHANNELS) -> np.ndarray:
    """A DataFrame that pandas wrote with orient="split": rows in the order of their index."""
    content = json.loads(text) if isinstance(text, str) else text
    data = np.array(content["data"], np.float64)
    index = np.array(content["index"], np.float64)
    if data.ndim != 2 or len(index) != len(data) or data.shape[1] > columns:
        raise ValueError(f"a table of shape {data.shape} with {len(index)} rows named")
    order = [int(c) for c in content["columns"]]
    return data[np.argsort(index, kind="stable")][:, np.argsort(order, kind="stable")]


class _Json:
    """The file of 0.1."""

    def __init__(self, path: Path) -> None:
        raw = path.read_bytes()
        if raw[:2] == b"\x1f\x8b":
            budget = Budget(path, len(raw), TEXT_GROWTH, TEXT_FREE_BYTES)
            raw = budget.inflate(raw, zlib.MAX_WBITS | 16)
        self._held = json.loads(raw)
        if not isinstance(self._held, dict) or "FSAMP" not in self._held:
            raise ValueError("it has no FSAMP")

    def names(self) -> Iterable[str]:
        return self._held.keys()

    def number(self, name: str) -> float | None:
        value = self._held.get(name)
        return None if value is None else float(json.loads(value))

    def table(self, name: str) -> np.ndarray:
        return _frame(self._held[name])

    def times(self) -> list[Any]:
        held = json.loads(self._held["MUPULSES"])
        return [np.array(unit, np.float64) for unit in held[: MOST_UNITS + 1]]


class _Module:
    """The folder of 0.2: `manifest.json` and what it names."""

    def __init__(self, folder: Path) -> None:
        sheet = folder / "manifest.json"
        if sheet.stat().st_size > MOST_MANIFEST_BYTES:
            raise ValueError("its manifest is too large")
        self._folder, self._held = folder.resolve(), json.loads(sheet.read_bytes())
        self._held["FSAMP"]

    def names(self) -> Iterable[str]:
        return self._held.keys()

    def number(self, name: str) -> float | None:
        return float(self._held[name]["value"]) if name in self._held else None

    def _bytes(self, about: dict[str, Any]) -> bytes:
        # A Windows machine writes its own separator.
        where = (self._folder / about["data_file_path"].replace("\\", "/")).resolve()
        if not where.is_relative_to(self._folder) or not where.is_file():
            raise ValueError(f"it names {about['data_file_path']!r}, no file inside the folder")
        content = where.read_bytes()
        told = about.get("checksum")
        if told and told != "sha256:" + hashlib.sha256(content).hexdigest():
            raise ValueError(f"{where.name} is not what was written (SHA-256 differs)")
        if about["compression"] == "gzip":
            return Budget(where, len(content)).inflate(content, zlib.MAX_WBITS | 16)
        return content

    def table(self, name: str) -> np.ndarray:
        about = self._held[name]
        if about["data_type"].startswith("empty"):
            return np.zeros((0, 0))
        kind = np.dtype(str(about["endian_dtype"]))
        if kind.kind not in "iufb":
            raise ValueError(f"{name} is {kind}")
        shape = [int(n) for n in about["shape"]]
        if len(shape) != 2 or min(shape) < 0 or shape[1] > MOST_CHANNELS:
            raise ValueError(f"{name} has shape {shape}")
        return np.frombuffer(self._bytes(about), kind, shape[0] * shape[1]).reshape(shape)

    def times(self) -> list[Any]:
        about = self._held["MUPULSES"]
        content, out = self._bytes(about), []
        for at, length, kind in zip(about["offsets"], about["lengths"], about["endian_dtypes"],
                                    strict=True):
            if np.dtype(str(kind)).kind not in "iuf" or at < 0 or length < 0:
                raise ValueError("MUPULSES are no numbers")
            out.append(np.frombuffer(content, str(kind), length, at) if length else np.zeros(0))
        return out


def _open(path: Path) -> _Json | _Module:
    """Whichever it is."""
    return _Module(path) if path.is_dir() else _Json(path)


def read_recording(path: Path, ask: Ask = ANY) -> Recording:
    """Read RAW_SIGNAL; its unit must be given.

    Raises
    ------
    InputError
        Damaged, no unit given, or no raw signal.
    """
    pick(path, ["RAW_SIGNAL"], ask)
    try:
        held = _open(path)
        if "RAW_SIGNAL" not in held.names():
            raise ValueError("it has no RAW_SIGNAL")
        unit = settle_unit(path, ask)
        emg = held.table("RAW_SIGNAL")
        rate, ied = held.number("FSAMP"), held.number("IED")
        force = held.table("REF_SIGNAL") if "REF_SIGNAL" in held.names() else np.zeros((0, 0))
    except InputError:
        raise
    except DAMAGED as error:
        raise InputError(f"{path}: not a readable file of openhdemg ({reason(error)})") from None
    empty = ~np.isfinite(emg).any(axis=0) if emg.size else np.zeros(emg.shape[1], bool)
    fits = force.ndim == 2 and force.shape[1:] and force.shape[1] >= 1 and len(force) == len(emg)
    ignored = [f"{int(empty.sum())} empty channels"] if empty.any() else []
    ignored += [n for n in ("IPTS", "MUPULSES", "BINARY_MUS_FIRING", "EXTRAS") if n in held.names()]
    return Recording(
        microvolts(emg[:, ~empty], unit), settle_rate(path, ask, rate), path.name.split(".")[0],
        ied_mm=ied if ied and 0 < ied < 1000 else None,
        force=finite(force[:, 0]) if fits else None,
        stored=f"{emg.dtype}, taken as {unit}", ignored=tuple(ignored),
    )


def read_trains(path: Path, ask: Ask = ANY) -> SpikeTrains:
    """Read MUPULSES.

    Raises
    ------
    InputError
        Damaged, or no discharge times.
    """
    pick(path, ["MUPULSES"], ask)
    try:
        held = _open(path)
        if "MUPULSES" not in held.names():
            raise ValueError("it has no MUPULSES")
        units, rate = held.times(), held.number("FSAMP")
    except InputError:
        raise
    except DAMAGED as error:
        raise InputError(f"{path}: not a readable file of openhdemg ({reason(error)})") from None
    if len(units) > MOST_UNITS:
        raise InputError(f"{path}: {len(units)} units; at most {MOST_UNITS} are read")
    times = [t for t in (whole(path, u) for u in units) if t.size]
    return trains(path, times, settle_rate(path, ask, rate), "openhdemg")
