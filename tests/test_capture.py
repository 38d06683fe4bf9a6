"""Electrodes while they are recorded. Truth: signals made with known amplitude, hum and faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikewire.capture import Electrodes, capture
from spikewire.io.replay import Replay
from spikewire.io.runlog import RunLog, read_log
from spikewire.io.source import Block
from spikewire.runtime.clock import VirtualClock
from spikewire.signals import InputError

FS_HZ, LSB_UV, CHANNELS = 2048.0, 0.5, 16


def emg(seconds: float, amplitude_uv: float = 50.0) -> np.ndarray:
    rng = np.random.default_rng(1)
    return rng.normal(0, amplitude_uv, (round(seconds * FS_HZ), CHANNELS))


def source(uv: np.ndarray, clock: VirtualClock) -> Replay:
    counts = np.clip(np.round(uv / LSB_UV), -32768, 32767).astype(np.int16)
    return Replay("replay:test", counts, LSB_UV, FS_HZ, 1000, clock)


def heard(uv: np.ndarray) -> Electrodes:
    """Electrodes that got everything."""
    clock = VirtualClock()
    stream = source(uv, clock)
    electrodes = Electrodes(stream)
    while not stream.ended:
        for block in stream.read(1.0):
            electrodes.push(block)
    return electrodes


def test_amplitude_and_hum_are_those_of_the_signal() -> None:
    uv = emg(3.0)
    t = np.arange(len(uv)) / FS_HZ
    uv[:, 3] += np.sqrt(2) * 100 * np.sin(2 * np.pi * 50 * t)
    uv += 700.0  # an offset is no amplitude
    quality = heard(uv).quality()
    np.testing.assert_allclose(np.delete(quality.rms_uv, 3), 50.0, rtol=0.1)
    assert quality.rms_uv[3] == pytest.approx(np.hypot(50, 100), rel=0.1)
    assert quality.mains[3] == pytest.approx(0.8, abs=0.05)  # 100^2 of 100^2 + 50^2
    assert np.delete(quality.mains, 3).max() < 0.02
    assert quality.bad == [3]
    assert not quality.clipped.any()


def test_flat_and_clipped_channels_are_found() -> None:
    uv = emg(3.0)
    uv[:, 5] = 12.0
    uv[:, 7] *= 1000
    quality = heard(uv).quality()
    assert quality.flat.nonzero()[0].tolist() == [5]
    assert quality.saturated.nonzero()[0].tolist() == [7]
    assert quality.clipped[7] > 0.5
    assert quality.clipped[np.arange(CHANNELS) != 7].max() == 0


def test_lost_and_repeated_samples_are_counted() -> None:
    electrodes = Electrodes(source(emg(0.1), VirtualClock()))
    counts = np.zeros((10, CHANNELS), np.int16)
    for first in (0, 10, 20, 30, 75, 85, 95, 95, 105):  # 35 lost, 10 twice
        electrodes.push(Block(first, counts, 0.0))
    assert (electrodes.gaps, electrodes.lost, electrodes.twice) == (1, 35, 10)


def test_the_envelope_follows_the_effort() -> None:
    assert heard(emg(2.0, 20.0)).envelope_uv == pytest.approx(20.0, rel=0.1)
    assert heard(emg(2.0, 80.0)).envelope_uv == pytest.approx(80.0, rel=0.1)
    assert Electrodes(source(emg(0.1), VirtualClock())).envelope_uv == 0.0


def test_every_sample_is_in_the_log(tmp_path: Path) -> None:
    clock = VirtualClock()
    stream, looks = source(emg(2.0), clock), []
    log = RunLog(tmp_path / "a.mcap", stream, {"grid": "4x4@8"})
    electrodes = capture(stream, log, clock, lambda e: e.samples >= FS_HZ, looks.append)
    log.close()
    counts = read_log(tmp_path / "a.mcap").counts
    assert electrodes.samples <= len(counts) < electrodes.samples + FS_HZ / 4
    np.testing.assert_array_equal(counts, stream._counts[: len(counts)])
    assert 2 <= len(looks) <= 5  # four times a second, in one second


class Silent:
    """An amplifier that sends nothing."""

    uri, fs_hz, lsb_uv, channels = "silent:", FS_HZ, LSB_UV, CHANNELS
    block_samples, latency_s = 10, 0.0
    ended = False

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock

    def read(self, timeout_s: float) -> list[Block]:
        self.clock.sleep_until(self.clock.now() + timeout_s)
        return []


def test_a_silent_amplifier_is_named(tmp_path: Path) -> None:
    clock = VirtualClock()
    silent: Any = Silent(clock)
    log = RunLog(tmp_path / "a.mcap", silent, {})
    with pytest.raises(InputError, match="no sample for 5 s, 0 came"):
        capture(silent, log, clock, lambda _: False, lambda _: None)
    log.close()
    assert clock.now() < 6
