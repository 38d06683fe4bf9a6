"""The guard against the contract's words: who may be ACTIVE, what latches, what comes back.

The table of situations and the state machine below are written from those words, not from RULES.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from spikewire.link.codec import Arm
from spikewire.link.table import FAULTS, STATES
from spikewire.runtime.guard import RULES, VALID, Guard, Health, page

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
    ({"duplicates": 0.009}, "READY", None),
    ({"duplicates": 0.011}, "DEGRADED", "gap"),
    ({"good": 56 / 64}, "READY", None),
    ({"good": 55 / 64}, "DEGRADED", "liftoff"),
    ({"good": 48 / 64}, "DEGRADED", "liftoff"),
    ({"good": 47 / 64}, "SAFE", "liftoff"),
    ({"saturated": 8}, "READY", "saturated"),
    ({"saturated": 9, "artefact": True}, "DEGRADED", "saturated"),
    ({"implausible": True}, "DEGRADED", "implausible"),
    ({"late": 0.011}, "DEGRADED", "overrun"),
    ({"engine_failed": True, "ended": True}, "FAULT", "engine"),
    ({"link_trouble": True}, "SAFE", "link"),
    ({"temperature_c": 84.0}, "READY", None),
    ({"temperature_c": 85.0}, "READY", "thermal"),
    ({"temperature_c": math.nan}, "READY", None),
    ({"drifted": True}, "READY", "drift"),
    ({"buffer_full": True}, "DEGRADED", "stale"),
    ({"wrong_rate": True}, "FAULT", "clock"),
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
    for k in range(1, 7):
        guard.arm(0.1 * k, Arm(1, ID))
    assert judged(guard, 0.601)[0] == "ACTIVE"
    guard = Guard(ID)
    judged(guard, 0.0, age_s=0.03)
    guard.arm(0.0, Arm(1, ID))
    assert judged(guard, 0.501)[0] == "READY"


def test_degraded_clears_after_half_a_second_that_was_clean() -> None:
    guard = Guard(ID)
    judged(guard, 0.0, implausible=True)
    judged(guard, 0.3, age_s=0.03)
    state, faults = judged(guard, 0.799)
    assert (state, faults) == ("DEGRADED", BIT["stale"])
    assert judged(guard, 0.801) == ("READY", 0)


def test_a_request_for_another_model_is_told_for_a_second() -> None:
    guard = armed()
    guard.arm(0.1, Arm(1, ID + 1))
    assert judged(guard, 0.2) == ("ACTIVE", BIT["config"])
    assert judged(guard, 1.11) == ("READY", 0)


def test_the_drive_ramps_up_after_every_arming() -> None:
    guard = Guard(ID)
    judged(guard, 0.0)
    assert guard.ramp(0.0) == 0
    for start in (1.0, 3.0):
        judged(guard, start)
        ramp = []
        for k in range(8):
            guard.arm(start + k / 10, Arm(1, ID))
            judged(guard, start + k / 10)
            ramp.append(guard.ramp(start + k / 10))
        assert ramp == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1, 1, 1])
    judged(guard, 3.75, age_s=0.03)  # degraded in between: it goes on where it was
    guard.arm(4.0, Arm(1, ID))
    guard.arm(4.26, Arm(1, ID))
    assert judged(guard, 4.27)[0] == "ACTIVE"
    assert guard.ramp(4.27) == 1


def test_who_arms_right_before_a_fault_gets_no_whole_drive_after_it() -> None:
    guard = Guard(ID)
    judged(guard, 0.0)
    guard.arm(0.0, Arm(1, ID))
    assert judged(guard, 0.01, age_s=0.03)[0] == "DEGRADED"
    assert guard.ramp(0.01) == 0
    for k in range(1, 60):
        guard.arm(k / 100, Arm(1, ID))
        state, _ = judged(guard, k / 100)
        if state == "ACTIVE":
            break
    assert state == "ACTIVE"
    assert guard.ramp(k / 100) == 0
    guard.arm(k / 100 + 0.1, Arm(1, ID))
    judged(guard, k / 100 + 0.1)
    assert guard.ramp(k / 100 + 0.1) == pytest.approx(0.2)


def test_every_row_of_the_contract_is_there() -> None:
    """The events of the contract's table, each by the fault bit that it sets."""
    wanted = {"stale", "gap", "liftoff", "saturated", "implausible", "overrun", "engine", "nan",
              "link", "thermal", "clock", "drift", ""}
    assert {rule.fault for rule in RULES} == wanted
    assert {BIT["config"], BIT["latched"]} <= set(BIT.values())  # said by arm() and judge()
    assert len({rule.event for rule in RULES}) == len(RULES)


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
    assert judged(guard, 0.01)[0] in ("READY", "FAULT", "DEGRADED")
    assert judged(guard, 0.52)[0] in ("READY", "FAULT")
    guard.arm(0.53, Arm(2, ID))
    assert judged(guard, 0.54)[0] == "READY"
    guard.arm(0.55, Arm(1, ID))
    assert judged(guard, 0.56)[0] == "ACTIVE"


def test_clearing_disarms() -> None:
    guard = armed()
    guard.arm(0.0, Arm(2, ID))
    assert judged(guard, 0.01)[0] == "READY"


AGES = st.sampled_from([0.0, 0.01, 0.03, 0.079, 0.09, 5.0, -0.5, math.nan])


HEALTH = st.fixed_dictionaries({"age_s": AGES}, optional={
    "ready": st.booleans(), "gap_s": st.sampled_from([0.1, -0.1, 1.0]),
    "duplicates": st.sampled_from([0.005, 0.5]), "good": st.sampled_from([0.9, 0.8, 0.5]),
    "saturated": st.integers(0, 64), "artefact": st.booleans(), "implausible": st.booleans(),
    "skipped_in_a_row": st.integers(0, 11), "late": st.sampled_from([0.0, 0.5]),
    "finite": st.booleans(), "engine_failed": st.booleans(), "link_trouble": st.booleans(),
    "clock_fault": st.booleans(), "temperature_c": st.sampled_from([20.0, 99.0, math.nan]),
    "drifted": st.booleans(), "buffer_full": st.booleans(), "wrong_rate": st.booleans(),
})


def is_fault(h: Health) -> bool:
    return (h.age_s < -0.001 or not h.finite or h.skipped_in_a_row >= 10 or h.engine_failed
            or h.clock_fault or h.wrong_rate)


def is_safe(h: Health) -> bool:
    return not h.age_s <= 0.08 or abs(h.gap_s) > 0.25 or h.good < 0.75 or h.link_trouble


def is_degraded(h: Health) -> bool:
    return (h.age_s > 0.02 or h.gap_s != 0 or h.duplicates > 0.01 or h.good < 0.875 or h.artefact
            or h.implausible or h.skipped_in_a_row >= 3 or h.late > 0.01 or h.buffer_full)


class Sequences(RuleBasedStateMachine):
    """Any order of steps and requests keeps the promises."""

    def __init__(self) -> None:
        super().__init__()
        self.guard, self.now, self.state = Guard(ID), 0.0, "BOOT"
        self.asked = -math.inf  # last request that may count
        self.degraded = -math.inf  # when there was last a reason for it
        self.fault = False

    @rule(dt=st.floats(0, 0.4), health=HEALTH)
    def step(self, dt: float, health: dict[str, object]) -> None:
        self.now += dt
        h = Health(**health)  # type: ignore[arg-type]
        state, _ = self.guard.judge(self.now, h)
        self.state = NAME[state]
        self.fault = self.fault or is_fault(h)
        if state in VALID:
            assert not is_safe(h)
            assert not is_fault(h)
        if self.state == "ACTIVE":
            assert h.ready
            assert not is_degraded(h)
            assert self.now - self.asked <= ARM_LAPSE_S + 1e-9
            assert self.now - self.degraded >= 0.5 - 1e-9
        assert (self.state == "FAULT") is self.fault
        if self.state == "DEGRADED" and is_degraded(h):
            self.degraded = self.now
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


def test_the_committed_page_is_that_of_the_table() -> None:
    committed = Path(__file__).parents[1] / "docs" / "link" / "guard.md"
    assert committed.read_text() == page(), "type: mu-link generate --out build/link, and copy it"
    assert max(map(len, page().splitlines())) <= 140
