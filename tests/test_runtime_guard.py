"""The guard against the contract's words: who may be ACTIVE, what latches, what comes back.

The table of situations and the state machine below are written from those words, not from RULES.
"""

from __future__ import annotations

import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from spikewire.link.codec import Arm
from spikewire.link.table import FAULTS, STATES
from spikewire.runtime.guard import VALID, Guard, Health

ID = 0x1A2B3C4D
NAME = dict(STATES)
BIT = {name: 1 << bit for bit, name in FAULTS.items()}
FRESH = 0.002
ARM_LAPSE_S = 0.3  # three refreshes of a controller that asks ten times a second


def judged(guard: Guard, now: float = 0.0, **health: object) -> tuple[str, int]:
    state, faults = guard.judge(now, Health(**({"age_s": FRESH} | health)))  # type: ignore[arg-type]
    return NAME[state], faults


def armed(now: float = 0.0) -> Guard:
    guard = Guard(ID)
    assert judged(guard, now)[0] == "READY"
    guard.arm(now, Arm(1, ID))
    assert judged(guard, now)[0] == "ACTIVE"
    return guard


@pytest.mark.parametrize(("health", "state", "fault"), [
    ({}, "READY", None),
    ({"ready": False}, "IDLE", None),
    ({"age_s": 0.0199}, "READY", None),
    ({"age_s": 0.021}, "DEGRADED", "stale"),
    ({"age_s": 0.081}, "SAFE", "stale"),
    ({"age_s": math.nan}, "SAFE", "stale"),
    ({"age_s": -0.0005}, "READY", None),
    ({"age_s": -0.002}, "FAULT", "clock"),
    ({"gap_s": 0.01, "ready": False}, "DEGRADED", "gap"),
    ({"gap_s": -0.01, "ready": False}, "DEGRADED", "gap"),
    ({"gap_s": 0.26, "ready": False}, "SAFE", "gap"),
    ({"gap_s": -0.26}, "SAFE", "gap"),
    ({"skipped_in_a_row": 2}, "READY", None),
    ({"skipped_in_a_row": 3}, "DEGRADED", "overrun"),
    ({"skipped_in_a_row": 10}, "FAULT", "overrun"),
    ({"finite": False}, "FAULT", "nan"),
    ({"clock_fault": True}, "FAULT", "clock"),
    ({"ended": True}, "SAFE", None),
    ({"ended": True, "finite": False}, "FAULT", "nan"),
])
def test_situations(health: dict, state: str, fault: str | None) -> None:
    got, faults = judged(Guard(ID), **health)
    assert got == state
    assert bool(faults & BIT[fault]) if fault else faults == 0


def test_arming_lapses_unless_refreshed() -> None:
    guard = armed()
    assert judged(guard, ARM_LAPSE_S)[0] == "ACTIVE"
    guard.arm(0.25, Arm(1, ID))
    assert judged(guard, 0.25 + ARM_LAPSE_S)[0] == "ACTIVE"
    assert judged(guard, 0.25 + ARM_LAPSE_S + 0.001)[0] == "READY"


def test_a_wrong_id_does_not_arm_and_disarm_needs_none() -> None:
    guard = Guard(ID)
    judged(guard)
    guard.arm(0, Arm(1, ID + 1))
    assert judged(guard)[0] == "READY"
    guard = armed()
    guard.arm(0, Arm(0, 0))
    assert judged(guard)[0] == "READY"


@pytest.mark.parametrize("health", [
    {"age_s": 0.09}, {"ready": False}, {"gap_s": 0.3}, {"ended": True},
])
def test_what_comes_back_is_ready_never_active(health: dict) -> None:
    guard = armed()
    judged(guard, 0.01, **health)
    assert judged(guard, 0.02)[0] == "READY"


@pytest.mark.parametrize("health", [{"age_s": 0.09}, {"ready": False}, {"finite": False}])
def test_a_controller_that_just_keeps_asking_does_not_resume(health: dict) -> None:
    guard = armed()
    judged(guard, 0.01, **health)
    if "finite" in health:
        guard.arm(0.015, Arm(2, ID))
        guard.arm(0.015, Arm(1, ID))  # armed again only from READY, which it is not yet
    for k in range(2, 40):
        state, _ = judged(guard, k / 100)
        assert state == "READY" or ("finite" in health and k > 2)
        if "finite" not in health:
            guard.arm(k / 100, Arm(1, ID))
    guard.arm(0.4, Arm(0, ID))
    guard.arm(0.4, Arm(1, ID))
    assert judged(guard, 0.41)[0] == "ACTIVE"


def test_degraded_keeps_the_arming_it_had_and_takes_no_new_one() -> None:
    guard = armed()
    assert judged(guard, 0.1, age_s=0.03)[0] == "DEGRADED"
    assert judged(guard, 0.2)[0] == "ACTIVE"
    guard = Guard(ID)
    judged(guard, 0.0, age_s=0.03)
    guard.arm(0.0, Arm(1, ID))
    assert judged(guard, 0.01)[0] == "READY"


def test_a_fault_latches_until_cleared_and_then_needs_arming() -> None:
    guard = armed()
    assert judged(guard, 0.01, finite=False)[0] == "FAULT"
    state, faults = judged(guard, 0.02)
    assert state == "FAULT"
    assert faults & BIT["latched"]
    assert faults & BIT["nan"]
    guard.arm(0.03, Arm(1, ID))
    guard.arm(0.03, Arm(2, ID + 1))
    assert judged(guard, 0.04)[0] == "FAULT"
    guard.arm(0.05, Arm(2, ID))
    assert judged(guard, 0.06) == ("READY", 0)


def test_a_controller_may_ask_for_younger_data_never_for_older() -> None:
    guard = armed()
    guard.arm(0, Arm(1, ID, max_age_ms=10))
    assert judged(guard, 0.01, age_s=0.009)[0] == "ACTIVE"
    assert judged(guard, 0.01, age_s=0.011)[0] == "SAFE"
    guard = armed()
    guard.arm(0, Arm(1, ID, max_age_ms=500))
    assert judged(guard, 0.01, age_s=0.081)[0] == "SAFE"


def test_a_source_not_for_control_never_arms() -> None:
    guard = Guard(ID, for_control=False)
    judged(guard)
    guard.arm(0, Arm(1, ID))
    assert judged(guard)[0] == "READY"


@pytest.mark.parametrize("health", [
    {"ready": False}, {"age_s": 0.09}, {"age_s": 0.03}, {"finite": False}, None,
])
def test_a_request_counts_only_once_it_stands_ready(health: dict | None) -> None:
    guard = Guard(ID)
    if health:
        judged(guard, 0.0, **health)
    guard.arm(0.0, Arm(1, ID))
    assert judged(guard, 0.01)[0] in ("READY", "FAULT")
    guard.arm(0.02, Arm(2, ID))
    assert judged(guard, 0.03)[0] == "READY"
    guard.arm(0.04, Arm(1, ID))
    assert judged(guard, 0.05)[0] == "ACTIVE"


def test_clearing_disarms() -> None:
    guard = armed()
    guard.arm(0.0, Arm(2, ID))
    assert judged(guard, 0.01)[0] == "READY"


AGES = st.sampled_from([0.0, 0.01, 0.03, 0.079, 0.09, 5.0, -0.5, math.nan])


class Sequences(RuleBasedStateMachine):
    """Any order of steps and requests keeps the promises."""

    def __init__(self) -> None:
        super().__init__()
        self.guard, self.now, self.state = Guard(ID), 0.0, "BOOT"
        self.asked = -math.inf  # last request that may count
        self.fault = False

    @rule(dt=st.floats(0, 0.4), age=AGES, ready=st.booleans(), finite=st.booleans(),
          gap=st.sampled_from([0.0, 0.0, 0.0, 0.1, 1.0]), skipped=st.integers(0, 11))
    def step(self, dt, age, ready, finite, gap, skipped) -> None:
        self.now += dt
        health = Health(age, ready, gap, skipped, finite)
        state, _ = self.guard.judge(self.now, health)
        self.state = NAME[state]
        self.fault = self.fault or age < -0.001 or not finite or skipped >= 10
        if state in VALID:
            assert age <= 0.08
            assert finite
        if self.state == "ACTIVE":
            assert ready
            assert self.now - self.asked <= ARM_LAPSE_S + 1e-9
        if self.fault:
            assert self.state == "FAULT"
        if self.state in ("SAFE", "FAULT", "IDLE"):
            self.asked = -math.inf

    @rule(request=st.sampled_from([0, 1, 2]), right=st.booleans(),
          limit=st.sampled_from([0.0, 5.0, 80.0, math.nan]))
    def ask(self, request, right, limit) -> None:
        self.guard.arm(self.now, Arm(request, ID if right else ID ^ 1, max_age_ms=limit))
        refreshes = self.state == "DEGRADED" and self.now <= self.asked + ARM_LAPSE_S
        if request == 1 and right and (self.state in ("READY", "ACTIVE") or refreshes):
            self.asked = self.now
        if request == 0 or (request == 2 and right):
            self.asked = -math.inf
        if request == 2 and right:
            self.fault = False

    @invariant()
    def never_active_out_of_boot(self) -> None:
        assert self.state in ("BOOT", "IDLE", "READY", "ACTIVE", "DEGRADED", "SAFE", "FAULT")


TestSequences = Sequences.TestCase
TestSequences.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
