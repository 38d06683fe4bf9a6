"""Discharge times of a run: to the disk as they come, one spike-train file at the end."""

from __future__ import annotations

import tempfile

import numpy as np

from spikewire.signals import SpikeTrains, Times

RECORD = np.dtype([("sample", "<i8"), ("unit", "<i4")])


class Spool:
    """Collects spikes in an unnamed temporary file, so that memory does not grow with the run."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()

    def add(self, units: Times, times: Times) -> None:
        """Append the spikes of one step."""
        rows = np.empty(len(units), RECORD)
        rows["sample"], rows["unit"] = times, units
        self._file.write(rows.tobytes())

    def close(self) -> None:
        """Give the disk space back."""
        self._file.close()

    def trains(self, n_mu: int, fs_hz: float, method: str) -> SpikeTrains:
        """All spikes so far."""
        self._file.seek(0)
        rows = np.frombuffer(self._file.read(), RECORD)
        return SpikeTrains([np.sort(rows["sample"][rows["unit"] == k]) for k in range(n_mu)],
                           fs_hz, method=method)
