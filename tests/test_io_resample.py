"""Resampling against sines, whose values at the new times are known; scale of known counts."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy")

from spikewire.io.resample import resampled, rescaled
from spikewire.io.scale import facts, measured_lsb
from spikewire.signals import InputError, Recording, SpikeTrains


def sine(hertz: float, fs_hz: float, seconds: float = 2.0) -> np.ndarray:
    return 300 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * fs_hz)) / fs_hz)


@pytest.mark.parametrize(("source", "target"), [(10240, 2048), (2000, 2048), (2048, 2000),
                                                (4000, 2000), (5120, 2048)])
def test_a_sine_stays_where_it_is(source: float, target: float) -> None:
    """Amplitude within 0.5 %, no delay: 80 Hz at its own new sample times."""
    emg = np.stack([sine(80, source), sine(350, source)], axis=1).astype(np.float32)
    made = resampled(Recording(emg, source), target)
    want = np.stack([sine(80, target), sine(350, target)], axis=1)
    assert made.fs_hz == target
    assert abs(len(made.emg) - len(want)) <= 1
    inside = slice(200, len(want) - 200)
    np.testing.assert_allclose(made.emg[inside], want[inside], atol=1.5)


def test_what_would_alias_is_gone() -> None:
    """1500 Hz at 10240 Hz would come out as 548 Hz; less than 0.5 % of it is left."""
    emg = np.stack([sine(1500, 10240)] * 2, axis=1).astype(np.float32)
    made = resampled(Recording(emg, 10240), 2048)
    assert np.abs(made.emg[200:-200]).max() < 1.5


def test_force_spans_and_times_go_with_it() -> None:
    emg = np.zeros((10240, 2), np.float32)
    made = resampled(Recording(emg, 10240.0, force=np.linspace(0, 10, 10240, dtype=np.float32),
                               segments=np.array([[1000, 5003]]), lsb_uv=0.5), 2048)
    np.testing.assert_allclose(made.force, np.linspace(0, 10, 2048), atol=0.02)
    assert made.segments.tolist() == [[200, 1001]]
    assert made.lsb_uv is None
    trains = rescaled(SpikeTrains([np.array([0, 1000, 1003])], 10240.0), 2048)
    assert [t.tolist() for t in trains.times] == [[0, 200, 201]]
    assert trains.fs_hz == 2048


@pytest.mark.parametrize("target", [100.0, 1e9, float("nan"), 2048.0001])
def test_rates_that_cannot_be(target: float) -> None:
    with pytest.raises(InputError, match="--resample"):
        resampled(Recording(np.zeros((3000, 2), np.float32), 2000.0), target)


@pytest.mark.parametrize("lsb_uv", [0.50863, 0.2861, 0.195])
def test_the_step_of_a_converter_is_seen(lsb_uv: float) -> None:
    counts = np.random.default_rng(0).normal(0, 300, (9000, 3)).round()
    emg = (counts * lsb_uv).astype(np.float32)
    assert measured_lsb(emg) == pytest.approx(lsb_uv, rel=1e-4)
    assert facts(Recording(emg, 2000.0))["lsb_from"] == "samples"


def test_where_there_is_no_step_none_is_seen() -> None:
    emg = np.random.default_rng(0).normal(0, 300, (9000, 3)).astype(np.float32)
    assert measured_lsb(emg) is None
    assert measured_lsb(np.zeros((9000, 3), np.float32)) is None
