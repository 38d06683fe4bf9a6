"""Where EMG comes from: recordings in files, and live sources. Readers are imported when asked.

`FILE#2` names the second grid of a file that holds several, `FILE#all` all of them side by side.
"""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from spikewire.signals import InputError, Recording, SpikeTrains

# End of the name -> module; `.mat` and `.npz` are told apart by what they hold.
READERS = {
    ".npz": "npz", ".mat": "matfile", ".otb+": "otbplus", ".otb": "otbplus", ".otb4": "otb4",
    ".json": "openhdemg", ".edf": "bids", ".bdf": "bids", ".csv": "csvfile",
    "_events.tsv": "events", ".mcap": "runlog",
}
WRITERS = {".npz": "npz", ".edf": "bids", ".bdf": "bids", ".csv": "csvfile"}
TRAINS_WRITERS = {".npz": "npz", "_events.tsv": "events"}


def _by_end(name: str, table: dict[str, str]) -> str | None:
    """Module for a file's name."""
    return next((table[end] for end in table if name.lower().endswith(end)), None)


def split(path: str | Path) -> tuple[Path, str]:
    """Path and grid of `FILE#grid`; a file that bears such a name itself comes first."""
    whole = Path(path)
    stem, hash_, grid = whole.name.rpartition("#")
    if not hash_ or not stem or whole.exists():
        return whole, ""
    return whole.with_name(stem), grid


def _reader(path: Path) -> Any:
    """Module that reads this kind of file, after checking that the file is there."""
    if (path / "manifest.json").is_file():
        return import_module("spikewire.io.openhdemg")
    if not path.is_file():
        raise InputError(f"{path}: {'not a file' if path.exists() else 'no such file'}")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty")
    module = _by_end(path.name, READERS)
    if module is None:
        raise InputError(
            f"{path}: {path.suffix or 'no suffix'} is not readable, allowed are "
            f"{', '.join(sorted(READERS))}"
        )
    found = import_module(f"spikewire.io.{module}")
    return import_module(f"spikewire.io.{found.maker(path)}") if hasattr(found, "maker") else found


def read_recording(
    path: str | Path, any_rms: bool = False, unit: str = "", fs_hz: float | None = None,
    keep_bad: bool = False,
) -> Recording:
    """Read and check a recording of any known format.

    Parameters
    ----------
    path : str or Path
        `FILE`, or `FILE#2` for the second of several grids.
    any_rms : bool
        Accept an implausible amplitude.
    unit, fs_hz
        Only for a file that does not say them itself.
    keep_bad : bool
        Leave channels marked bad as they are; else they are at zero, as the runtime masks them.

    Raises
    ------
    InputError
        Missing, empty, damaged or implausible file.
    """
    from spikewire.io.choice import Ask

    where, grid = split(path)
    module = _reader(where)
    if not hasattr(module, "read_recording"):
        raise InputError(f"{where}: holds spike trains, no recording")
    recording: Recording = module.read_recording(where, Ask(grid, unit, fs_hz))
    recording = replace(recording, name=recording.name or where.stem).check(str(where), any_rms)
    return recording if keep_bad else recording.masked()


def read_trains(path: str | Path, fs_hz: float | None = None) -> SpikeTrains:
    """Read spike trains of any known format; raises InputError like `read_recording`."""
    from spikewire.io.choice import Ask

    where, grid = split(path)
    module = _reader(where)
    if not hasattr(module, "read_trains"):
        raise InputError(f"{where}: holds no spike trains that can be read")
    trains: SpikeTrains = module.read_trains(where, Ask(grid, fs_hz=fs_hz))
    return trains


def writer(path: Path, trains: bool = False) -> Any:
    """Module that writes recordings, or spike trains, under such a name."""
    table = TRAINS_WRITERS if trains else WRITERS
    module = _by_end(path.name, table)
    if module is None:
        raise InputError(f"{path}: {'spike trains' if trains else 'recordings'} are written as "
                         f"{', '.join(table)}")
    return import_module(f"spikewire.io.{module}")
