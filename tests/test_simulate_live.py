"""The endless muscle. Truth: `simulate`, which makes whole recordings of the same muscle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy")

from spikewire.io.source import open_source
from spikewire.runtime.clock import VirtualClock
from spikewire.signals import InputError
from spikewire.simulate.discharge import Contraction
from spikewire.simulate.emg import Scene, simulate
from spikewire.simulate.live import Muscle
from spikewire.simulate.muap import OVERSAMPLING, Anatomy, cached

ANATOMY = Anatomy(3, n_mu=10)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("muap")
    cached(ANATOMY, folder)
    return folder


def played(uri: str, seconds: float) -> tuple[np.ndarray, VirtualClock]:
    clock = VirtualClock(7.0)
    source, blocks = open_source(uri, clock), []
    while sum(len(b.counts) for b in blocks) < seconds * source.fs_hz and not source.ended:
        blocks += source.read(0.1)
    assert [b.first for b in blocks] == list(range(0, 10 * len(blocks), 10))
    end = blocks[-1].first + len(blocks[-1].counts)
    assert blocks[-1].arrival_s == pytest.approx(7.0 + end / source.fs_hz)
    assert clock.now() >= 7.0 + end / source.fs_hz
    return np.concatenate([b.counts for b in blocks]) * source.lsb_uv, clock


def test_it_is_as_loud_as_the_recorded_muscle_on_every_channel(cache: Path) -> None:
    emg, _ = played(f"simulate:3?units=10&cache={cache}", 12)
    scene = Scene(ANATOMY, Contraction(plateau_s=12, ramp_s_per_level=0, rest_s=0))
    recorded, _ = simulate(scene, cache)
    ratio = emg.std(axis=0) / recorded.emg.std(axis=0)
    assert emg.shape[1] == 60
    assert ratio == pytest.approx(1, abs=0.15)


def test_it_ends_when_it_was_asked_to_and_mono_has_64_channels(cache: Path) -> None:
    emg, clock = played(f"simulate:3?units=10&seconds=0.5&montage=mono&cache={cache}", 9)
    assert emg.shape == (1024, 64)
    assert clock.now() == pytest.approx(7.5)


def test_blocks_of_any_length_make_the_same_signal(cache: Path) -> None:
    shapes = cached(ANATOMY, cache)
    one, other = (Muscle(ANATOMY, shapes, 25, 20, "sd") for _ in range(2))
    whole = one.next(600)
    parts = np.concatenate([other.next(k) for k in (1, 9, 140, 10, 440)])
    assert np.allclose(whole, parts, atol=1e-3)


def test_one_unit_is_its_action_potential_over_and_over(cache: Path) -> None:
    """The least excitable unit alone: what stands between two discharges is its shape."""
    shapes = cached(ANATOMY, cache)
    muscle = Muscle(ANATOMY, shapes, 1.5, 80, "mono")
    assert len(muscle._units) >= 1
    emg = muscle.next(4096)
    first = shapes[muscle._units[0]][::OVERSAMPLING, 1:]
    match = np.array([np.vdot(emg[k : k + 132], first) for k in range(4096 - 132)])
    assert match.max() >= 0.8 * np.vdot(first, first)


@pytest.mark.parametrize(("uri", "words"), [
    ("simulate:x", "seed 'x' came"), ("simulate:-1", "seed '-1' came"),
    ("simulate:1?level=0", "level=0 came, allowed is 1 to 100"),
    ("simulate:1?snr=nan", "snr=nan came"), ("simulate:1?seconds=x", "seconds=x came"),
    ("simulate:1?montage=bi", "montage=bi came, allowed are sd, mono"),
    ("simulate:1?speed=2", "option 'speed' is unknown"),
    ("simulate:1?contraction=x", "contraction 'x' came"),
])
def test_what_it_cannot_be_asked_for(uri: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        open_source(uri, VirtualClock())
