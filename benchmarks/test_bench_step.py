"""One step of the decoder, sample in to frame out. First right, then fast.

The baseline is the paper's own way, Keras `model.predict` on one window, timed in the same run.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

import numpy as np
import pytest

from spikewire.bundle import read_bundle
from spikewire.decide import Decide
from spikewire.io.source import Block
from spikewire.link.codec import Step, encode_step
from spikewire.link.transport import open_link
from spikewire.runtime.clock import VirtualClock
from spikewire.runtime.engine import check_golden, open_engine
from spikewire.runtime.loop import Loop
from spikewire.signals import STEP

REFERENCE = Path(__file__).parents[1] / "models" / "reference.mub"
MANIFEST = read_bundle(REFERENCE).manifest
CHANNELS, N_MU = MANIFEST.channels, MANIFEST.n_mu
PRECISIONS = ("fp32", "fp16")


@pytest.fixture(autouse=True)
def facts(benchmark):
    """What a reader needs to judge a figure."""
    benchmark.extra_info.update(machine=platform.processor() or platform.machine(),
                                python=platform.python_version(), cores=os.cpu_count(),
                                threads=1, numpy=np.__version__)


@pytest.fixture(scope="session")
def bundles(tmp_path_factory) -> dict[str, Path]:
    """The reference bundle, and the paper's network of as many units with weights from seed 0."""
    return {"recommended": REFERENCE, "mo_dcnn": paper(tmp_path_factory.mktemp("paper"))}


def paper(folder: Path) -> Path:
    import keras

    from spikewire import export
    from spikewire import model as folders
    from spikewire.crossfit import Front
    from spikewire.recipe import Recipe
    from spikewire.signals import WINDOW, Recording

    recipe = Recipe(kind="mo_dcnn", trunk=(128, 128), heads=(128, 64, 256), look_ahead=60)
    keras.utils.set_random_seed(0)
    bundle = read_bundle(REFERENCE)  # of its front only the number of units matters here
    front = Front(*bundle.front(), np.full(N_MU, 0.6, np.float32), bundle.height(), 0.0, 0.0,
                  bundle.moments())
    emg = np.random.default_rng(0).normal(0, 150, (120 + STEP * 199, CHANNELS))
    net = folders.build(recipe, front, CHANNELS, WINDOW)
    facts = {"channels": CHANNELS, "n_mu": N_MU, "fs_hz": 2048.0, "decoder": "network",
             "input_scale": 1e-3}
    recording = Recording(emg.astype(np.float32), 2048.0, "noise")
    export.export(folders.Model(recipe, net, front, facts, recording), folder / "paper.mub",
                  PRECISIONS)
    return folder / "paper.mub"


@pytest.mark.parametrize("kind", ["recommended", "mo_dcnn"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_engine_step(benchmark, bundles, kind, precision):
    """Advance + decode, 17 units, 64 channels, ONNX Runtime, one thread."""
    bundle = read_bundle(bundles[kind])
    engine = open_engine(bundle, "ort", precision)
    benchmark.extra_info["golden_difference"] = check_golden(engine, bundle, precision)
    emg = np.random.default_rng(1).normal(0, 150, (STEP, CHANNELS)).astype(np.float32)

    def step():
        engine.advance(emg)
        return engine.decode()

    benchmark.group = f"{kind}: one step"
    benchmark(step)


@pytest.mark.parametrize("kind", ["recommended", "mo_dcnn"])
def test_baseline_predict(benchmark, bundles, kind):
    """The paper's own way: `model.predict` on one window (its network part only)."""
    import keras

    from spikewire import network

    keras.utils.set_random_seed(0)
    net = network.mo_dcnn(CHANNELS, N_MU) if kind == "mo_dcnn" else \
        network.recommended([0.6] * N_MU, 90)
    x = np.zeros((1, 120, net.input_shape[2]), np.float32)
    benchmark.group = f"{kind}: one step"
    benchmark.pedantic(lambda: net.predict(x, verbose=0), rounds=20, warmup_rounds=3)


def test_encode_full_frame(benchmark):
    """The full step frame: 64 bytes with CRC."""
    step = Step(state=3, step=1234, age_ms=1.5, drive=(80.0, 1.0, 2.0, 3.0), n_mu=N_MU,
                counts=np.ones(N_MU, np.uint8))
    assert len(encode_step(step)) == 64
    benchmark.group = "around the network"
    benchmark(encode_step, step)


def test_decide(benchmark):
    """Threshold and refractory of 17 units."""
    from spikewire.signals import Labels

    decide = Decide(np.full(N_MU, 0.5, np.float32), np.zeros(N_MU, np.int64), Labels(20))
    presence, position = np.full(N_MU, 0.9, np.float32), np.full(N_MU, 3)
    benchmark.group = "around the network"
    benchmark(decide.step, 1000, presence, position)


@pytest.mark.parametrize("engine", ["ort", "null"])
def test_whole_step(benchmark, bundles, engine):
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
    bundle = read_bundle(bundles["recommended"])
    loop = Loop(Endless(), bundle, open_engine(bundle, engine), [open_link("null:")], clock)
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
