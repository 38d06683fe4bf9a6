"""The drive against the analytic response of two equal first-order low-passes."""

from __future__ import annotations

import numpy as np
import pytest

from spikewire.runtime.drive import TAU_S, Drive
from spikewire.signals import STEP

FS = 2048.0
PERIOD = STEP / FS


def test_one_spike_gives_the_analytic_impulse_response() -> None:
    """h(t) = t / tau^2 exp(-t / tau): height, area 1 spike, centre of mass 2 tau."""
    drive = Drive(FS)
    out = np.array([drive.step(1 if k == 0 else 0) for k in range(400)])
    t = PERIOD * (np.arange(400) + 1)  # the value holds at the end of its step
    analytic = t / TAU_S**2 * np.exp(-t / TAU_S)
    assert np.abs(out - analytic).max() < 0.01 * analytic.max()
    assert out.sum() * PERIOD == pytest.approx(1, abs=1e-3)
    centre = (out * np.arange(400)).sum() / out.sum() * PERIOD
    assert centre == pytest.approx(drive.delay_s, abs=PERIOD)


def test_a_steady_rate_comes_out_as_it_is_and_never_below_zero() -> None:
    drive = Drive(FS)
    out = [drive.step(2) for _ in range(500)]
    assert out[-1] == pytest.approx(2 / PERIOD, rel=1e-3)
    assert np.all(np.diff(out) >= -1e-6)  # no overshoot
    assert min(drive.step(0) for _ in range(500)) >= 0


def test_a_step_that_was_not_decoded_holds_the_input() -> None:
    drive = Drive(FS)
    for _ in range(500):
        drive.step(3)
    before = drive.value
    for _ in range(20):
        drive.step(None)
    assert drive.value == pytest.approx(before, rel=1e-3)
    drive.reset()
    assert drive.value == 0
