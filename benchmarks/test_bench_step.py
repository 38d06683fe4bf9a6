"""What stands around the network, and the whole step from a block of samples to a frame."""

from __future__ import annotations

import time

import numpy as np
import pytest
from conftest import REFERENCE

from spikewire.bundle import read_bundle
from spikewire.decide import Decide
from spikewire.io.source import Block
from spikewire.link.codec import Step, encode_step
from spikewire.link.profile import Info
from spikewire.link.transport import open_link
from spikewire.link.uart import PtyPort
from spikewire.runtime.clock import VirtualClock
from spikewire.runtime.decoder import Decoder
from spikewire.runtime.engine import open_engine
from spikewire.runtime.loop import Loop
from spikewire.signals import STEP

MANIFEST = read_bundle(REFERENCE).manifest
CHANNELS, N_MU = MANIFEST.channels, MANIFEST.n_mu


def test_encode_full_frame(benchmark):
    """The full step frame: 64 bytes with CRC."""
    step = Step(state=3, step=1234, age_ms=1.5, drive=(80.0, 1.0, 2.0, 3.0), n_mu=N_MU,
                counts=np.ones(N_MU, np.uint8))
    assert len(encode_step(step)) == 64
    benchmark.group = "around the network"
    benchmark(encode_step, step)


def test_send_full_step(benchmark, table, tmp_path):
    """Numbering, encoding, framing and the write of a full step to a pseudo-terminal."""
    port = PtyPort(str(tmp_path / "exo"))
    link = open_link(f"serial:{tmp_path}/exo", Info(1, (N_MU,)))
    steps = [Step(state=3, step=1234, age_ms=1.5, drive=(80.0, 1.0, 2.0, 3.0), n_mu=N_MU,
                  counts=np.ones(N_MU, np.uint8))]
    took = []

    def send():
        for _ in range(2000):
            started = time.perf_counter_ns()
            link.send(steps)
            took.append(time.perf_counter_ns() - started)
            port.read()

    benchmark.group = "around the network"
    benchmark.pedantic(send, rounds=3)
    assert link.dropped == 0
    us = np.array(took) / 1e3
    table.add("encode and write of a full step, us", median=float(np.median(us)),
              p99=float(np.percentile(us, 99)), max=float(us.max()))
    link.close()
    port.close()


def test_decide(benchmark):
    """Threshold and refractory of 17 units."""
    from spikewire.signals import Labels

    decide = Decide(np.full(N_MU, 0.5, np.float32), np.zeros(N_MU, np.int64), Labels(20))
    presence, position = np.full(N_MU, 0.9, np.float32), np.full(N_MU, 3)
    benchmark.group = "around the network"
    benchmark(decide.step, 1000, presence, position)


@pytest.mark.parametrize("engine", ["auto", "ort", "null"])
def test_whole_step(benchmark, engine):
    """Block in to frame out; with the null engine it is what Python costs around the network."""

    class Endless:
        uri, fs_hz, lsb_uv, latency_s, channels = "test:", 2048.0, 0.05, 0.0, CHANNELS
        block_samples, ended, at = STEP, False, 0
        counts = np.random.default_rng(2).integers(-3000, 3000, (STEP, CHANNELS), np.int16)

        def read(self, timeout_s):
            self.at += STEP
            clock.sleep_until(self.at / self.fs_hz)
            return [Block(self.at - STEP, self.counts, self.at / self.fs_hz)]

    clock = VirtualClock()
    bundle = read_bundle(REFERENCE)
    decoder = Decoder(bundle, open_engine(bundle, engine), 2048.0)
    loop = Loop(Endless(), [decoder], [open_link("null:")], clock)
    left = iter(())

    def hundred_steps():
        nonlocal left
        left = iter([False] * 100 + [True])
        loop.run(lambda: next(left))

    hundred_steps()
    assert loop.tally.decoded > 90
    assert loop.links[0].sent > 100
    benchmark.group = "whole step x 100"
    benchmark(hundred_steps)
