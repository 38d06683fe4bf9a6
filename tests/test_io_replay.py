"""A recording played live. Truth: the array itself, and when sample n is due at 2048 Hz."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spikewire.io.replay import Replay, open_uri, to_counts
from spikewire.runtime.clock import MonotonicClock, VirtualClock
from spikewire.signals import InputError, Recording

COUNTS = np.arange(95 * 3, dtype=np.int16).reshape(95, 3)


def test_every_sample_comes_once_in_order_and_when_due() -> None:
    clock = VirtualClock(5.0)
    source = Replay("replay:x", COUNTS, 0.5, 2048.0, 1000, clock)
    blocks = []
    while not source.ended:
        blocks += source.read(0.1)
    assert source.read(1.0) == []
    assert np.array_equal(np.concatenate([b.counts for b in blocks]), COUNTS)
    following = 1000
    for block in blocks:
        assert block.first == following
        following += len(block.counts)
        assert block.arrival_s == pytest.approx(5.0 + (following - 1000) / 2048, abs=1e-12)
    assert len(blocks[-1].counts) == 5
    source.close()


def test_a_late_reader_sees_when_the_blocks_were_due() -> None:
    clock = VirtualClock()
    source = Replay("replay:x", COUNTS, 0.5, 1000.0, 0, clock)
    clock.sleep_until(5.0)  # what passes before the first read is no delay: nothing has been sent
    assert source.read(0.0) == []
    clock.sleep_until(5.035)
    assert [b.arrival_s for b in source.read(0.0)] == pytest.approx([5.01, 5.02, 5.03])


def test_read_waits_no_longer_than_asked() -> None:
    clock = VirtualClock()
    source = Replay("replay:x", COUNTS, 0.5, 1000.0, 0, clock)
    assert source.read(0.004) == []
    assert clock.now() == pytest.approx(0.004)
    assert source.read(-1.0) == []
    assert clock.now() == pytest.approx(0.004)


def test_the_machine_clock_paces_it() -> None:
    clock = MonotonicClock()
    began = clock.now()
    source = Replay("replay:x", COUNTS, 0.5, 2048.0, 0, clock)
    while not source.ended:
        source.read(1.0)
    assert 95 / 2048 <= clock.now() - began < 1.0


def test_counts_keep_the_signal_to_half_a_step(synthetic) -> None:
    counts, lsb_uv = to_counts(synthetic.recording)
    assert counts.dtype == np.int16
    worst = np.abs(counts * lsb_uv - synthetic.recording.emg.astype(float)).max()
    assert worst <= 0.51 * lsb_uv < 0.05
    flat = Recording(np.zeros((10, 2), np.float32), 2048.0)
    assert not to_counts(flat)[0].any()


def test_counters_are_the_indices_of_the_file(recording_path: Path, synthetic) -> None:
    source = open_uri("replay:x", str(recording_path), {"span": "2:2.5"}, VirtualClock())
    block = source.read(1.0)[0]
    assert block.first == 4096
    wanted = synthetic.recording.emg[4096 : 4096 + len(block.counts)]
    assert np.abs(block.counts * source.lsb_uv - wanted).max() < source.lsb_uv


@pytest.mark.parametrize(
    "span", ["", "1", "3:2", "1:2,3:4", "-1:2", "5:25", "a:b", "nan:2", "0:inf"]
)
def test_a_span_outside_is_refused(recording_path: Path, span: str) -> None:
    with pytest.raises(InputError, match="span"):
        open_uri("replay:x", str(recording_path), {"span": span}, VirtualClock())
