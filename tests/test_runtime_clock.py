"""Acquisition times against simulated amplifiers whose true times are known."""

from __future__ import annotations

import time

import numpy as np
import pytest

from spikewire.runtime.clock import Acquisition, MonotonicClock, VirtualClock

FS = 2048.0


def stream(seconds: float, ppm: float = 0, jitter_ms: float = 0, backlog_ms_per_s: float = 0,
           start: float = 100.0, seed: int = 0):
    """(end, arrival, true time of the newest sample) of blocks of 10 samples."""
    rng = np.random.default_rng(seed)
    for k in range(int(seconds * FS / 10)):
        end = 10 * (k + 1)
        true = start + (end - 1) / FS * (1 + ppm * 1e-6)
        late = 1e-3 * rng.exponential(jitter_ms) if jitter_ms else 0.0
        yield end, true + late + 1e-3 * backlog_ms_per_s * end / FS, true


@pytest.mark.parametrize("ppm", [-50, 0, 50])
def test_drift_and_jitter(ppm: float) -> None:
    """Network jitter of 0.5 ms and a clock off by 50 ppm: within 1 ms after 2 s, and no fault."""
    acquisition = Acquisition(FS, 0.0)
    for end, arrival, true in stream(60, ppm, 0.5):
        acquisition.update(end, arrival)
        if end > 2 * FS:
            assert abs(acquisition.acquired(end - 1) - true) < 1e-3
        assert not acquisition.fault


def test_a_declared_latency_is_taken_off() -> None:
    acquisition = Acquisition(FS, 0.004)
    blocks = list(stream(3))
    for end, arrival, _ in blocks:
        acquisition.update(end, arrival + 0.004)
    end, _, true = blocks[-1]
    assert acquisition.acquired(end - 1) == pytest.approx(true, abs=1e-6)


def test_a_growing_backlog_is_a_fault_and_an_honest_age() -> None:
    """1 ms more each second, gap-free: 5 ms in 10 s are passed within a few seconds more."""
    acquisition = Acquisition(FS, 0.0)
    faulted = None
    for end, arrival, true in stream(30, backlog_ms_per_s=1.0):
        acquisition.update(end, arrival)
        if acquisition.fault and faulted is None:
            faulted = end / FS
        # The age may be told too small by what 100 ppm allow, never more.
        assert acquisition.acquired(end - 1) - true <= 100e-6 * end / FS + 1e-5
    assert faulted is not None
    assert 5 < faulted < 20


def test_an_earlier_arrival_is_believed_at_once() -> None:
    """Too late an estimate would make old data look young."""
    acquisition = Acquisition(FS, 0.0)
    acquisition.update(10, 100.0 + 9 / FS + 0.030)  # the first block was held up
    acquisition.update(20, 100.0 + 19 / FS)
    assert acquisition.acquired(19) == pytest.approx(100.0 + 19 / FS)


def test_a_late_stream_makes_old_data_no_younger_than_100_ppm_allow() -> None:
    """A step of 3 ms is no drift: the time of a sample moves by 100 ppm of the time passed."""
    acquisition = Acquisition(FS, 0.0)
    before = None
    for end, arrival, _ in stream(40):
        late = 0.003 if end > 15 * FS else 0.0
        acquisition.update(end, arrival + late)
        offset = acquisition.acquired(0)
        assert before is None or offset - before <= 100e-6 * 10 / FS + 1e-9 + (
            100e-6 * 0.003 if late else 0)
        before = offset
        assert not acquisition.fault
    # Old minima are gone after 10 s; from there 100 ppm have added up: 1.5 ms of the 3.
    assert 1e-3 < acquisition.acquired(0) - 100.0 < 1.7e-3


def test_a_slow_backlog_faults_and_a_quick_quartz_does_not() -> None:
    """0.6 ms a second are 6 ms in 10 s; 0.1 ms a second, a quartz 100 ppm off, are 1 ms."""
    for ms_per_s, wanted in ((0.6, True), (0.1, False)):
        acquisition = Acquisition(FS, 0.0)
        faults = []
        for end, arrival, _ in stream(40, backlog_ms_per_s=ms_per_s):
            acquisition.update(end, arrival)
            faults.append(acquisition.fault)
        assert any(faults) == wanted


def test_a_fault_ends_once_the_stream_keeps_pace() -> None:
    """Else a controller could never clear it; that it was there, the guard remembers."""
    acquisition = Acquisition(FS, 0.0)
    seen = []
    for end, arrival, _ in stream(60):
        acquisition.update(end, arrival + min(max(end / FS - 10, 0), 10) * 1e-3)
        seen.append(acquisition.fault)
    assert any(seen)
    assert not seen[-1]


def test_a_restarted_counter_starts_afresh() -> None:
    acquisition = Acquisition(FS, 0.0)
    for end, arrival, _ in stream(20):
        acquisition.update(end, arrival)
    for end, arrival, true in stream(15, start=125.0):
        acquisition.update(end, arrival)
        assert acquisition.acquired(end - 1) == pytest.approx(true, abs=1e-6)
        assert not acquisition.fault


def test_a_packet_that_comes_again_does_not_hide_a_backlog() -> None:
    acquisition = Acquisition(FS, 0.0)
    for end, arrival, _ in stream(2):
        acquisition.update(end, arrival)
    acquisition.update(end - 10, arrival + 1.0)
    acquisition.update(end, arrival + 1.0)
    assert arrival + 1.0 - acquisition.acquired(end - 1) > 0.999


def test_memory_is_bounded() -> None:
    acquisition = Acquisition(FS, 0.0)
    for end, arrival, _ in stream(120):
        acquisition.update(end, arrival)
    assert len(acquisition._long_ago) <= 20


def test_virtual_time_passes_only_by_waiting() -> None:
    clock = VirtualClock(5.0)
    clock.sleep_until(7.0)
    clock.sleep_until(6.0)
    assert clock.now() == 7.0


def test_the_machines_clock_waits() -> None:
    clock = MonotonicClock()
    start = clock.now()
    clock.sleep_until(start + 0.02)
    assert clock.now() >= start + 0.02
    assert clock.now() == pytest.approx(time.monotonic(), abs=0.5)
