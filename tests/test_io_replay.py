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


@pytest.mark.parametrize("samples", [95, 20, 7, 1])
def test_a_loop_begins_again_and_counts_on(samples: int) -> None:
    """Truth: the array tiled, with counters and times as if it were one long recording."""
    clock = VirtualClock(5.0)
    source = Replay("replay:x", COUNTS[:samples], 0.5, 2048.0, 1000, clock, endless=True)
    blocks = []
    while sum(len(b.counts) for b in blocks) < 300:
        blocks += source.read(0.1)
        assert not source.ended
    got = np.concatenate([b.counts for b in blocks])
    assert np.array_equal(got, np.resize(COUNTS[:samples], got.shape))
    following = 1000
    for block in blocks:
        assert block.first == following
        assert 0 < len(block.counts) <= 10
        following += len(block.counts)
        assert block.arrival_s == pytest.approx(5.0 + (following - 1000) / 2048, abs=1e-12)


def test_a_bundle_plays_its_golden_excerpt(bundle_path: Path) -> None:
    from spikewire.bundle import read_bundle

    bundle = read_bundle(bundle_path)
    wanted = bundle.array("golden/emg.npy")
    source = open_uri("replay:x", str(bundle_path), {}, VirtualClock())
    got = []
    while not source.ended:
        got += [b.counts for b in source.read(1.0)]
    assert np.array_equal(np.concatenate(got), wanted)
    assert source.fs_hz == 2048
    assert source.lsb_uv == bundle.manifest.golden_lsb_uv
    assert source.note == ""
    looped = open_uri("replay:x", str(bundle_path), {"loop": "1", "span": "0.5:1"}, VirtualClock())
    assert looped.note == "played again and again: the signal jumps every 0.50 s"
    assert np.array_equal(looped.read(1.0)[0].counts, wanted[1024:1034])


def test_what_loop_may_be_is_said(recording_path: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="loop=yes came, allowed are 0 and 1"):
        open_uri("replay:x", str(recording_path), {"loop": "yes"}, VirtualClock())
    (tmp_path / "half.mub").write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match="not a readable bundle"):
        open_uri("replay:x", str(tmp_path / "half.mub"), {"loop": "1"}, VirtualClock())
