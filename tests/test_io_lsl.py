"""LSL in. Truth: what another library's outlet was given; and the table of units by hand."""

from __future__ import annotations

import threading
import time
import uuid

import numpy as np
import pytest

from spikewire.io.lsl import choose
from spikewire.io.source import open_source
from spikewire.runtime.clock import MonotonicClock
from spikewire.signals import InputError

EMG = {"label": "e1", "type": "emg", "unit": "microvolts"}
COUNTER = {"label": "counter", "type": "misc", "unit": "none"}


@pytest.mark.parametrize(("unit", "uv"), [
    ("v", 1e6), ("volts", 1e6), ("mv", 1e3), ("uv", 1), ("microvolt", 1), ("-6", 1), ("-3", 1e3)])
def test_units(unit: str, uv: float) -> None:
    assert choose("lsl:x", [EMG | {"unit": unit}, COUNTER], "Counter") == ([0], uv, 1)


@pytest.mark.parametrize(("channels", "counter", "words"), [
    ([COUNTER], "", "channels of type misc came, allowed is EMG"),
    ([EMG | {"unit": ""}], "", "units none came"),
    ([EMG | {"unit": "counts"}], "", "units counts came"),
    ([EMG, EMG | {"unit": "mv"}], "", "units microvolts, mv came"),
    ([EMG], "counter", "counter=counter came, the stream has channels e1"),
])
def test_what_is_refused(channels: list, counter: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        choose("lsl:x", channels, counter)


@pytest.fixture(scope="module")
def pylsl():
    try:
        import pylsl
    except (ImportError, RuntimeError):
        pytest.skip("no liblsl here")
    return pylsl


def outlet(pylsl, name: str, fs_hz: float = 2000.0):
    info = pylsl.StreamInfo(name, "EMG", 9, fs_hz, "float32", name)
    channels = info.desc().append_child("channels")
    for k in range(9):
        channel = channels.append_child("channel")
        for key, value in ((COUNTER if k == 8 else EMG) | {"label": f"c{k}"}).items():
            channel.append_child_value(key, value)
    return pylsl.StreamOutlet(info, 10, 10)


def test_samples_come_as_they_were_sent_and_losses_are_seen(pylsl) -> None:
    name = f"t{uuid.uuid4().hex[:8]}"
    out, over = outlet(pylsl, name), threading.Event()
    rng = np.random.default_rng(0)
    signal = rng.normal(0, 100, (65536, 8)).astype(np.float32)

    def send() -> None:
        at = 0
        while not over.wait(0.005):
            at += 60 if at == 1000 else 0
            rows = np.c_[signal[at : at + 10], np.arange(at, at + 10)].astype(np.float32)
            out.push_chunk(rows.tolist())
            at += 10

    thread = threading.Thread(target=send)
    thread.start()
    try:
        clock = MonotonicClock()
        source = open_source(f"lsl:{name}?counter=c8", clock)
        assert (source.fs_hz, source.channels, source.block_samples) == (2000.0, 8, 20)
        blocks, until = [], clock.now() + 10
        while (not blocks or blocks[-1].first < 1300) and clock.now() < until:
            blocks += source.read(0.05)
        source.close()
    finally:
        over.set()
        thread.join()
    for block in blocks:
        sent = signal[block.first : block.first + len(block.counts)]
        assert np.abs(block.counts * source.lsb_uv - sent).max() <= 0.5 * source.lsb_uv + 1e-4
    if blocks[0].first < 1000:
        assert source.troubles["lost_samples"] == 60


def test_a_stream_that_ends_is_lost_and_found_again(pylsl) -> None:
    name, clock = f"t{uuid.uuid4().hex[:8]}", MonotonicClock()
    out = outlet(pylsl, name)
    source = open_source(f"lsl:{name}", clock)
    assert source.block_samples > 20  # without a counter nobody may arm
    assert "counter" in source.note
    out.push_chunk([[0.0] * 9] * 50)
    assert sum(len(b.counts) for b in source.read(2.0)) > 0
    del out
    until = clock.now() + 10
    while not source.troubles["disconnects"] and clock.now() < until:
        source.read(0.05)
    assert source.troubles["disconnects"] == 1
    out, until, blocks = outlet(pylsl, name), clock.now() + 15, []
    while not blocks and clock.now() < until:
        out.push_chunk([[0.0] * 9] * 20)
        blocks += source.read(0.05)
        time.sleep(0.01)
    source.close()
    assert blocks


def test_a_name_is_needed() -> None:
    with pytest.raises(InputError, match="no name came; type lsl:NAME"):
        open_source("lsl:", MonotonicClock())
