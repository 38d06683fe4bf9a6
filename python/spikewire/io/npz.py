"""spikewire's own files: recordings and spike trains as plain `.npz`, never pickled."""

from __future__ import annotations

import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from spikewire.durable import write_durably
from spikewire.io.bounded import FREE_BYTES, GROWTH, reason
from spikewire.io.choice import ANY, Ask, pick, settle_rate, settle_unit
from spikewire.io.scale import finite, microvolts
from spikewire.signals import LONGEST_SAMPLES, UNITS_UV, InputError, Recording, SpikeTrains

LARGEST_ARRAY_BYTES = 4 << 30
# The header of an array is parsed as Python: what it does not read as such, numpy tokenizes.
DAMAGED = (OSError, EOFError, ValueError, KeyError, TypeError, zlib.error, zipfile.BadZipFile,
           NotImplementedError, RuntimeError, MemoryError, OverflowError, SyntaxError,
           tokenize.TokenError, Warning)


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray[Any, np.dtype[Any]]:
    """One member, refused before memory is taken if its header promises more than it holds."""
    info = archive.getinfo(f"{name}.npy")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"array {name!r} is compressed in a way that numpy does not write")
    with archive.open(info) as file:
        version = npy.read_magic(file)
        header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = header(file)
    size = dtype.itemsize * int(np.prod([int(n) for n in shape], dtype=object))
    largest = max([size, *shape])  # also of an array that holds nothing
    if dtype.hasobject:
        raise ValueError(f"array {name!r} holds Python objects, which only a pickle can store")
    if size > info.file_size or largest > LARGEST_ARRAY_BYTES:
        raise ValueError(f"array {name!r} claims {size} bytes, the file holds {info.file_size}")
    if size > FREE_BYTES + GROWTH * info.compress_size:
        raise ValueError(f"array {name!r} unpacks {info.compress_size} bytes to {size}")
    with archive.open(info) as file:
        return npy.read_array(file, allow_pickle=False)


def names(path: Path) -> set[str]:
    """Names of the arrays in an `.npz`; none if it is no readable one."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {n[:-4] for n in archive.namelist() if n.endswith(".npy")}
    except DAMAGED:
        return set()


def maker(path: Path) -> str:
    """Module of `spikewire.io` that reads this file: ours, or MUedit2's decompositions."""
    return "muedit" if "pulse_trains" in names(path) else "npz"


def read_arrays(path: Path, needed: Iterable[str], optional: Iterable[str]) -> dict[str, Any]:
    """Arrays of an `.npz` by name.

    Raises
    ------
    InputError
        Not an `.npz`, damaged, or a needed array is missing.
    """
    try:
        with warnings.catch_warnings(), zipfile.ZipFile(path) as archive:
            warnings.simplefilter("error")  # a header of Python 2, or one that looks like it
            have = {n[:-4] for n in archive.namelist() if n.endswith(".npy")}
            missing = [n for n in needed if n not in have]
            if missing:
                held = ", ".join(sorted(have))[:160]
                raise InputError(f"{path}: has no {', '.join(missing)} (it holds {held})")
            wanted = [*needed, *(n for n in optional if n in have)]
            return {n: _array(archive, n) for n in wanted}
    except InputError:
        raise
    except DAMAGED as error:
        raise InputError(f"{path}: not a readable .npz ({reason(error)})") from None


def write_arrays(path: Path, arrays: dict[str, Any]) -> None:
    """Write an `.npz` beside `path`, then rename it over."""
    write_durably(path, lambda file: np.savez_compressed(file, **arrays))


def _numbers(path: Path, name: str, value: Any, ndim: int) -> Any:
    """Refuse text, booleans and wrong dimensions."""
    if value.dtype.kind not in "iuf" or value.ndim != ndim:
        raise InputError(
            f"{path}: {name} is {value.dtype} of {value.ndim} dimensions, allowed are numbers of "
            f"{ndim}"
        )
    return value


def _integers(path: Path, name: str, value: Any, ndim: int) -> Any:
    """Places and sample indices; also refuses NaN and what no recording is long enough for."""
    value = _numbers(path, name, value, ndim)
    if not (np.abs(value.astype(np.float64)) < LONGEST_SAMPLES).all():
        raise InputError(f"{path}: {name} holds NaN or numbers of {LONGEST_SAMPLES} and more")
    return value.astype(np.int64)


def _scalar(path: Path, name: str, value: Any) -> float:
    """One finite number, stored as a scalar or an array of one."""
    if value.dtype.kind not in "iuf" or value.size != 1 or not np.isfinite(value).all():
        raise InputError(f"{path}: {name} is {value!r}, allowed is one number")
    return float(value.reshape(()))


def read_recording(path: Path, ask: Ask = ANY) -> Recording:
    """Read a recording: `emg` (samples, channels), `fs_hz`, `unit`, and what else it knows.

    Raises
    ------
    InputError
        Damaged file, missing array, or a missing or unknown unit.
    """
    pick(path, ["the recording"], ask)
    optional = ("unit", "grid_row", "grid_col", "ied_mm", "force", "force_unit", "segments", "name",
                "bad", "lsb_uv")
    a = read_arrays(path, ("emg", "fs_hz"), optional)
    unit = str(a["unit"]) if "unit" in a else ""
    if unit not in UNITS_UV and not (ask.unit and not unit):
        came = f"unit is {unit!r}" if unit else "unit is missing"
        raise InputError(
            f'{path}: {came}, allowed are {", ".join(UNITS_UV)}; save it with unit="uV"'
        )
    unit = settle_unit(path, ask, unit)
    emg = _numbers(path, "emg", a["emg"], 2)
    channels = {n: _integers(path, n, a[n], 1) if n in a else None
                for n in ("grid_row", "grid_col")}
    for name, places in channels.items():
        if places is not None and len(places) != emg.shape[1]:
            raise InputError(f"{path}: {name} has {len(places)} places for {emg.shape[1]} channels")
    force = finite(_numbers(path, "force", a["force"], 1)) if "force" in a else None
    if force is not None and len(force) != len(emg):
        raise InputError(f"{path}: force has {len(force)} samples, emg {len(emg)}")
    segments = _integers(path, "segments", a["segments"], 2) if "segments" in a else None
    if segments is not None and segments.shape[1] != 2:
        raise InputError(f"{path}: segments has shape {segments.shape}, allowed is (n, 2)")
    bad = _integers(path, "bad", a["bad"], 1).tolist() if "bad" in a and a["bad"].size else []
    if any(not 0 <= k < emg.shape[1] for k in bad):
        raise InputError(f"{path}: bad names channels {bad}, there are {emg.shape[1]}")
    lsb_uv = _scalar(path, "lsb_uv", a["lsb_uv"]) if "lsb_uv" in a else None
    return Recording(
        microvolts(emg, unit),
        settle_rate(path, ask, _scalar(path, "fs_hz", a["fs_hz"])),
        str(a.get("name", path.stem)),
        channels["grid_row"],
        channels["grid_col"],
        ied_mm=_scalar(path, "ied_mm", a["ied_mm"]) if "ied_mm" in a else None,
        force=force,
        force_unit=str(a.get("force_unit", "")),
        segments=segments,
        bad=tuple(bad),
        stored=unit,
        lsb_uv=lsb_uv,
    )


def write_recording(path: str | Path, recording: Recording) -> None:
    """Write a recording in microvolts."""
    fields = ("grid_row", "grid_col", "ied_mm", "force", "segments", "lsb_uv")
    known = {n: getattr(recording, n) for n in fields if getattr(recording, n) is not None}
    if recording.bad:
        known["bad"] = np.array(recording.bad, np.int64)
    write_arrays(Path(path), {
        "emg": recording.emg, "fs_hz": recording.fs_hz, "unit": "uV", "name": recording.name,
        "force_unit": recording.force_unit, **known,
    })


def read_trains(path: Path, ask: Ask = ANY) -> SpikeTrains:
    """Read spike trains: `sample` (sorted), `unit`, `n_units`, `fs_hz`, and their quality.

    Raises
    ------
    InputError
        Damaged file, missing array, lengths or indices that do not fit together.
    """
    pick(path, ["the spike trains"], ask)
    per_unit = ("sil", "pnr_db", "cov_isi")
    a = read_arrays(path, ("sample", "unit", "n_units", "fs_hz"), (*per_unit, "method"))
    sample, unit = (_numbers(path, n, a[n], 1) for n in ("sample", "unit"))
    n_units = _scalar(path, "n_units", a["n_units"])
    fits = len(sample) == len(unit) and sample.dtype.kind in "iu" and unit.dtype.kind in "iu"
    if not fits or n_units not in range(1, 1025) or (
        len(unit) and not 0 <= unit.min() <= unit.max() < n_units
    ):
        raise InputError(
            f"{path}: {len(sample)} samples, {len(unit)} unit numbers and n_units {n_units:g} do "
            "not fit: both are integers of the same length, units 0..n_units-1"
        )
    sample = _integers(path, "sample", sample, 1)
    if (np.diff(sample) < 0).any():
        raise InputError(f"{path}: sample is not sorted")
    fs_hz = _scalar(path, "fs_hz", a["fs_hz"])
    if fs_hz <= 0:
        raise InputError(f"{path}: fs_hz is {fs_hz:g}, allowed is the rate that sample counts in")
    for name in per_unit:
        if name in a and (a[name].dtype.kind not in "iuf" or a[name].shape != (int(n_units),)):
            raise InputError(f"{path}: {name} has shape {a[name].shape}, one number per unit is "
                             "allowed")
    return SpikeTrains(
        [sample[unit == k] for k in range(int(n_units))],
        fs_hz,
        **{n: a.get(n) for n in per_unit},
        method=str(a.get("method", "")),
    )


def write_trains(path: str | Path, trains: SpikeTrains) -> None:
    """Write spike trains, all units in one sorted list."""
    sample = np.concatenate([*trains.times, np.zeros(0, np.int64)]).astype(np.int64)
    unit = np.repeat(np.arange(len(trains), dtype=np.int32), [len(t) for t in trains.times])
    order = np.argsort(sample, kind="stable")
    per_unit = {n: getattr(trains, n) for n in ("sil", "pnr_db", "cov_isi")}
    write_arrays(Path(path), {
        "sample": sample[order], "unit": unit[order], "n_units": len(trains),
        "fs_hz": trains.fs_hz, "method": trains.method,
        **{n: v for n, v in per_unit.items() if v is not None},
    })
