"""Where EMG comes from: recordings in files, and live sources. Readers are imported when asked."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from spikewire.signals import InputError, Recording, SpikeTrains

READERS = {".npz": "spikewire.io.npz", ".mat": "spikewire.io.otb",
           ".mcap": "spikewire.io.runlog"}


def _reader(path: str | Path) -> object:
    """Module that reads this kind of file, after checking that the file is there."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: {'not a file' if path.exists() else 'no such file'}")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty")
    module = READERS.get(path.suffix.lower())
    if module is None:
        raise InputError(
            f"{path}: {path.suffix or 'no suffix'} is not readable, allowed are "
            f"{', '.join(sorted(READERS))}"
        )
    return import_module(module)


def read_recording(path: str | Path, any_rms: bool = False) -> Recording:
    """Read and check a recording of any known format.

    Raises
    ------
    InputError
        Missing, empty, damaged or implausible file.
    """
    recording: Recording = _reader(path).read_recording(Path(path))  # type: ignore[attr-defined]
    return recording.check(str(path), any_rms)


def read_trains(path: str | Path) -> SpikeTrains:
    """Read spike trains of any known format; raises InputError like `read_recording`."""
    trains: SpikeTrains = _reader(path).read_trains(Path(path))  # type: ignore[attr-defined]
    return trains
