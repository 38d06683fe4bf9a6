"""Spikes go to the disk and come back as sorted trains."""

from __future__ import annotations

import numpy as np
import pytest

from spikewire.runtime.spool import Spool


@pytest.fixture
def spool():
    spool = Spool()
    yield spool
    spool.close()


def test_spikes_come_back_per_unit_and_sorted(spool) -> None:
    spool.add(np.array([0, 2]), np.array([50, 40]))
    spool.add(np.array([2]), np.array([10]))
    trains = spool.trains(3, 2048.0, "m")
    assert [t.tolist() for t in trains.times] == [[50], [], [10, 40]]
    assert trains.fs_hz == 2048.0


def test_no_spikes_are_empty_trains(spool) -> None:
    assert [len(t) for t in spool.trains(2, 2048.0, "m").times] == [0, 0]
