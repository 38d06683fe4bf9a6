"""Upkeep against faults put into a recording of known discharges; it works inline here."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from spikewire import filters
from spikewire.bundle import Bundle, read_bundle
from spikewire.moments import Moments, Places
from spikewire.peaks import judge, maxima
from spikewire.register import MIN_RISE, Setting, quality
from spikewire.runtime.background import WorkError
from spikewire.runtime.upkeep import (
    GIVE_UP_STEPS,
    LOST_DUE,
    TEND_DUE,
    TEND_STEPS,
    WELL_STEPS,
    Basis,
    Electrodes,
    InUse,
    State,
    Upkeep,
    heard_of,
    tended,
)
from spikewire.shift import around_mix
from spikewire.signals import STEP

AROUND = 4.0  # mm


class Notes:
    """An engine that only remembers what it was told."""

    def __init__(self) -> None:
        self.masks: list[np.ndarray] = []
        self.fronts: list[tuple[np.ndarray, np.ndarray]] = []

    def mask(self, good: np.ndarray) -> None:
        self.masks.append(good.copy())

    def set_front(self, kernels: np.ndarray, scale: np.ndarray) -> None:
        self.fronts.append((kernels, scale))


@pytest.fixture
def bundle(kept_bundle_path: Path) -> Bundle:
    return read_bundle(kept_bundle_path)


def run(bundle: Bundle, emg: np.ndarray) -> SimpleNamespace:
    """Feed all of it; note the step of every mask and swap."""
    notes = Notes()
    upkeep = Upkeep(bundle, notes, inline=True)  # type: ignore[arg-type]
    when: dict[str, list[int]] = {"mask": [], "front": []}
    for k in range(len(emg) // STEP):
        before = len(notes.masks), len(notes.fronts)
        upkeep.step(emg[k * STEP : (k + 1) * STEP])
        if len(notes.masks) > before[0]:
            when["mask"].append(k)
        if len(notes.fronts) > before[1]:
            when["front"].append(k)
    return SimpleNamespace(upkeep=upkeep, notes=notes, **when)


def test_a_healthy_recording_masks_nothing(bundle, synthetic) -> None:
    done = run(bundle, synthetic.recording.emg)
    assert not done.mask
    assert done.upkeep.good_channels == 16
    assert not done.upkeep.muted.any()


@pytest.mark.parametrize("how", ["dead", "flat", "noisy"])
def test_a_bad_channel_is_masked_and_solved_without_within_a_second(
    bundle, synthetic, how: str
) -> None:
    emg = synthetic.recording.emg.copy()
    start = 5 * 2048
    rng = np.random.default_rng(0)
    rms = synthetic.recording.rms_uv
    emg[start:, 3] = {"dead": 0, "flat": 1234.5,
                      "noisy": emg[start:, 3] + 5 * rms * rng.normal(size=len(emg) - start)}[how]
    done = run(bundle, emg)
    first = start // STEP
    assert first <= done.mask[0] <= first + 50
    assert done.front[0] == done.mask[0] + LOST_DUE
    assert done.front[0] - first <= 102  # one second
    assert not done.notes.masks[0][3]
    kernels = done.notes.fronts[0][0].reshape(8, 16, 4)
    assert not kernels[:, 3].any()
    assert kernels[:, 4].any()
    assert done.upkeep.summary()["bad_channels"] == [3]


def test_a_channel_that_is_well_again_is_used_again(bundle, synthetic) -> None:
    emg = synthetic.recording.emg.copy()
    emg[4 * 2048 : 6 * 2048, 3] = 0
    done = run(bundle, emg)
    assert done.upkeep.good_channels == 16
    assert len(done.mask) == 2
    back = 6 * 2048 // STEP + WELL_STEPS
    assert back - 5 <= done.mask[1] <= back + 50


def test_the_scale_follows_the_amplitude(bundle, synthetic) -> None:
    done = run(bundle, 0.5 * synthetic.recording.emg)
    assert done.front == [TEND_STEPS - 1 + TEND_DUE]
    kernels, scale = done.notes.fronts[0]
    usual = run(bundle, synthetic.recording.emg)
    wanted = usual.upkeep.now.factor
    # Filters solved again from what is heard answer by their own height: both count.
    half = judge(maxima(filters.apply(0.5 * synthetic.recording.emg, kernels / scale))).height
    assert half == pytest.approx(bundle.height(), rel=0.12)
    assert np.isfinite(wanted).all()


@pytest.mark.parametrize("after", [-30, -3, 100, 300])
def test_a_lost_channel_never_waits_for_what_is_heard_nor_the_other_way(
    bundle, synthetic, after: int
) -> None:
    """It is lost while the other process listens, or will be, to ten seconds: both are done."""
    emg = 0.5 * np.concatenate([synthetic.recording.emg] * 2)
    first = TEND_STEPS + after
    emg[first * STEP :, 3] = 0
    done = run(bundle, emg[: (2 * TEND_STEPS - 100) * STEP])
    (lost,) = done.mask
    assert lost + LOST_DUE - first <= 102  # one second
    heard = max(lost + LOST_DUE, TEND_STEPS - 1) + TEND_DUE
    again = heard < 2 * TEND_STEPS - 1  # before its half is filled anew
    assert done.front == [lost + LOST_DUE, heard][: 1 + again]
    assert done.upkeep.now.factor == pytest.approx(0.5 if again else 1, rel=0.2)


def test_a_channel_that_comes_and_goes_keeps_nothing_from_being_heard(bundle, synthetic) -> None:
    """Every two seconds and a half it is lost; the scale follows all the same."""
    emg = 0.5 * np.concatenate([synthetic.recording.emg] * 2)
    for first in range(0, len(emg), round(2.5 * 2048)):
        emg[first : first + 400, 3] = 0
    done = run(bundle, emg[: 18 * 2048])
    assert len(done.mask) > 8
    assert done.upkeep.now.factor == pytest.approx(0.5, rel=0.2)


def test_at_rest_nothing_is_changed(bundle, synthetic) -> None:
    rest = np.random.default_rng(0).normal(0, 8, (25 * 2048, 16)).astype(np.float32)
    done = run(bundle, rest)
    assert not done.front
    assert not done.mask


def unmoved(moments: Moments, places: Places | None, emg: np.ndarray) -> State:
    """Filters as they were solved from a training record, whose EMG is `emg`."""
    kernels, n_mu = moments.solve(1e-3), len(moments.means)
    height = judge(maxima(filters.apply(emg, kernels))).height
    basis = Basis(moments, 1e-3, np.ones(n_mu, np.float32), height, places)
    return State(basis, moments, InUse(kernels, np.ones(n_mu), Setting(), np.full(n_mu, np.nan),
                                       np.zeros(n_mu, bool)))


def test_a_grid_that_creeps_is_followed(muscle, contract) -> None:
    """Two millimetres, then four: the next ten seconds start where the last ones ended."""
    moments, places, _ = muscle
    state, good = unmoved(moments, places, contract(0)[0].emg), np.ones(moments.channels, bool)
    for moved in (2.0, 4.0):
        emg = contract(1, along_mm=moved)[0].emg
        before = quality(emg, state.answer.kernels)
        state = tended(state, emg, good)
        assert state.answer.setting.along_mm == pytest.approx(moved, abs=1)
        assert quality(emg, state.answer.kernels) > before + MIN_RISE


def test_a_grid_that_turns_around_the_limb_is_followed(muscle, contract) -> None:
    moments, places, _ = muscle
    mix = around_mix(moments, places, AROUND).astype(np.float32)
    emg = contract(1)[0].emg @ mix.T
    state = tended(unmoved(moments, places, contract(0)[0].emg), emg, np.ones(len(mix), bool))
    assert state.answer.setting.around_mm == pytest.approx(AROUND, abs=1)
    assert abs(state.answer.setting.along_mm) <= 1


@pytest.mark.parametrize(("known", "moved"), [(True, {}), (False, {"along_mm": 2.0})])
def test_a_grid_that_stays_or_is_unknown_is_left(muscle, contract, known: bool, moved) -> None:
    moments, places, _ = muscle
    state = unmoved(moments, places if known else None, contract(0)[0].emg)
    now = tended(state, contract(1, **moved)[0].emg, np.ones(moments.channels, bool)).answer
    assert (now.setting.along_mm, now.setting.around_mm) == (0, 0)


def test_a_gap_starts_the_listening_again(bundle, synthetic) -> None:
    notes = Notes()
    upkeep = Upkeep(bundle, notes, inline=True)  # type: ignore[arg-type]
    emg = 0.5 * synthetic.recording.emg
    for k in range(TEND_STEPS - 10):
        upkeep.step(emg[k * STEP : (k + 1) * STEP])
    upkeep.reset()
    for k in range(TEND_DUE + 20):
        upkeep.step(emg[k * STEP : (k + 1) * STEP])
    assert not notes.fronts


def test_a_source_that_lost_its_unit_is_muted(bundle, synthetic) -> None:
    """Filter 2 listens where nothing is: its peaks are neither apart from noise nor regular."""
    upkeep = Upkeep(bundle, Notes(), inline=True)  # type: ignore[arg-type]
    rng = np.random.default_rng(1)
    emg = synthetic.recording.emg.copy()
    emg[:, 15] = rng.normal(0, emg[:, 15].std() / 4, len(emg))
    kernels = upkeep.now.kernels.reshape(8, 16, 4).copy()
    kernels[:, :15, 2] = 0
    kernels[:, 15, 2] = np.abs(kernels).max()
    scale = upkeep._scale
    now = replace(upkeep.now, kernels=kernels.reshape(-1, 4))
    # What it would be solved to is not the question here.
    found = heard_of(now, judge(maxima(filters.apply(emg, now.kernels / scale))))
    assert found.lost.tolist() == [False, False, True, False]
    upkeep._waiting, upkeep._due = (lambda: found), 0
    upkeep.step(emg[:STEP])
    assert upkeep.summary()["muted"] == [2]
    assert max(c or 0 for c in upkeep.summary()["confidence"]) > 0.9


def test_work_that_fails_leaves_the_filters_in_use(bundle, synthetic) -> None:
    notes = Notes()
    upkeep = Upkeep(bundle, notes, inline=True)  # type: ignore[arg-type]
    emg = synthetic.recording.emg

    def broken() -> None:
        raise WorkError("LinAlgError: singular")

    upkeep._waiting, upkeep._due = broken, 0
    upkeep.step(emg[:STEP])
    assert (upkeep.failed, upkeep.ended, upkeep._waiting) == (1, False, None)
    assert not notes.fronts


def test_a_helper_that_never_answers_is_given_up(bundle) -> None:
    notes = Notes()
    upkeep = Upkeep(bundle, notes, inline=True)  # type: ignore[arg-type]
    upkeep._waiting, upkeep._due = (lambda: None), 0
    for _ in range(GIVE_UP_STEPS + 5):
        upkeep._collect()
        upkeep._step += 1
    assert upkeep.summary()["ended"]
    assert upkeep._waiting is None


def test_a_helper_that_was_killed_leaves_masks_and_filters(bundle, synthetic) -> None:
    notes = Notes()
    upkeep = Upkeep(bundle, notes, inline=False)  # type: ignore[arg-type]
    try:
        emg = synthetic.recording.emg.copy()
        emg[:, 3] = 0
        os.kill(upkeep._helper.pid, signal.SIGKILL)  # type: ignore[union-attr]
        time.sleep(0.5)
        for k in range(200):
            upkeep.step(emg[k * STEP : (k + 1) * STEP])
        emg[:, 4] = 0
        for k in range(200, 300):
            upkeep.step(emg[k * STEP : (k + 1) * STEP])
    finally:
        upkeep.close()
    assert upkeep.summary()["ended"]
    assert np.flatnonzero(~notes.masks[-1]).tolist() == [3, 4]
    assert not notes.fronts


def test_after_a_gap_what_is_being_listened_to_stays(bundle, synthetic) -> None:
    upkeep = Upkeep(bundle, Notes(), inline=True)  # type: ignore[arg-type]
    emg = synthetic.recording.emg
    for k in range(TEND_STEPS):
        upkeep.step(emg[k * STEP : (k + 1) * STEP])
    assert upkeep._waiting
    listened = upkeep._helper.emg[0].copy()
    for _ in range(2):
        upkeep.reset()
        upkeep.step(-emg[:STEP])
    assert np.array_equal(upkeep._helper.emg[0], listened)
    assert np.array_equal(upkeep._helper.emg[1, :STEP], -emg[:STEP])


def test_work_in_another_process_gives_the_same(bundle, synthetic) -> None:
    emg = synthetic.recording.emg.copy()
    emg[5 * 2048 :, 3] = 0
    inline = run(bundle, emg[: 7 * 2048])
    notes = Notes()
    upkeep = Upkeep(bundle, notes, inline=False)  # type: ignore[arg-type]
    try:
        for k in range(7 * 2048 // STEP):
            upkeep.step(emg[k * STEP : (k + 1) * STEP])
            if upkeep._waiting and upkeep._step + 1 == upkeep._due:
                assert upkeep._helper._answers.poll(30)  # type: ignore[union-attr]
    finally:
        upkeep.close()
    assert np.array_equal(notes.fronts[0][0], inline.notes.fronts[0][0])
    assert upkeep.late == 0


def test_half_of_the_channels_lost_leaves_nothing_to_solve(bundle, synthetic) -> None:
    emg = synthetic.recording.emg.copy()
    emg[3 * 2048 :, :10] = 0
    done = run(bundle, emg[: 6 * 2048])
    assert done.upkeep.good_channels == 6
    assert len(done.front) <= 1  # what was begun while enough were left


def test_electrodes_need_a_tenth_of_a_second(bundle) -> None:
    watch = Electrodes(bundle.moments())
    changed = [watch.step(np.zeros((STEP, 16), np.float32)) for _ in range(10)]
    assert changed[:9] == [False] * 9
