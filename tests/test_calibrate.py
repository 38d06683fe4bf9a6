"""Fit for a decoder, fit for use. Truth: recordings made to be good or bad, and counting."""

from __future__ import annotations

import numpy as np
import pytest

from spikewire.calibrate import FOLLOWED, cut, examine, hold_out_s, verdict
from spikewire.guide import Plan
from spikewire.signals import InputError, Recording

FS_HZ, CHANNELS = 2048.0, 16
PLAN = Plan(hold_s=10.0, ramp_s=2.0, rest_s=2.0, maximum_s=3.0)  # 2 + 3 + 2 + 2 + 10 + 2 + 2


def recorded(plan: Plan = PLAN, rest_uv: float = 5.0, hold_uv: float = 100.0) -> Recording:
    """Noise whose amplitude follows the plan's target."""
    t = np.arange(round(plan.seconds * FS_HZ)) / FS_HZ
    effort = np.array([plan.target(s) for s in t[::20]]).repeat(20)[: len(t)] / plan.level
    rng = np.random.default_rng(0)
    emg = rng.normal(0, 1, (len(t), CHANNELS)) * (rest_uv + hold_uv * effort)[:, None]
    return Recording(emg.astype(np.float32), FS_HZ, "test")


def test_the_pull_at_full_strength_is_cut_off() -> None:
    recording = cut(recorded(), PLAN)
    assert recording.segments is not None
    assert recording.segments.tolist() == [[round(2 * FS_HZ), round(16 * FS_HZ)]]
    assert recording.seconds == pytest.approx(18.0)
    assert hold_out_s(recording, PLAN) == (11.5, 14.0)


def test_a_recording_that_ends_early_is_refused() -> None:
    short = recorded()
    short = Recording(short.emg[: round(15 * FS_HZ)], FS_HZ, "test")
    with pytest.raises(InputError, match=r"15\.0 s came of 21\.0"):
        cut(short, PLAN)


def test_a_good_recording_has_no_findings() -> None:
    assert examine(cut(recorded(), PLAN), PLAN) == []


def test_rest_instead_of_effort_is_fatal() -> None:
    (finding,) = examine(cut(recorded(hold_uv=0.5), PLAN), PLAN)
    assert finding.fatal
    assert "that of rest" in finding.what


def test_flat_channels_are_named_and_many_are_fatal() -> None:
    recording = cut(recorded(), PLAN)
    recording.emg[:, [3, 9]] = 0.0
    (finding,) = examine(recording, PLAN)
    assert not finding.fatal
    assert "3, 9" in finding.what
    recording.emg[:, :6] = 0.0
    assert examine(recording, PLAN)[0].fatal


def test_hum_is_named() -> None:
    recording = cut(recorded(), PLAN)
    t = np.arange(len(recording.emg)) / FS_HZ
    recording.emg[:] += (100 * np.sin(2 * np.pi * 60 * t))[:, None].astype(np.float32)
    (finding,) = examine(recording, PLAN)
    assert not finding.fatal
    assert "50 or 60 Hz" in finding.what


@pytest.mark.parametrize(("followed", "weak", "word"), [
    (0, 0, "poor"), (2, 9, "poor"), (3, 0, "usable"), (4, 4, "usable"), (5, 0, "good"),
    (20, 5, "good")])
def test_the_verdict_counts_units_that_are_followed(followed: int, weak: int, word: str) -> None:
    said, sentence = verdict([FOLLOWED] * followed + [FOLLOWED - 0.01] * weak)
    assert said == word
    assert f"{followed} of {followed + weak}" in sentence
