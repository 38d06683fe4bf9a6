"""The guard: what state the decoder is in, and whether its drive may be used.

A table of conditions, strongest last. States and faults are those of the message table.
"""

from __future__ import annotations

from dataclasses import dataclass

from spikewire.link.codec import Arm
from spikewire.link.table import FAULTS, STATES

BOOT, IDLE, READY, ACTIVE, DEGRADED, SAFE, FAULT = (
    next(number for number, name in STATES.items() if name == wanted)
    for wanted in ("BOOT", "IDLE", "READY", "ACTIVE", "DEGRADED", "SAFE", "FAULT")
)
BIT = {name: 1 << bit for bit, name in FAULTS.items()}
AGE_DEGRADED_S, AGE_SAFE_S = 0.020, 0.080
AGE_IMPOSSIBLE_S = -0.001
GAP_SAFE_S = 0.25
SKIPPED_DEGRADED, SKIPPED_FAULT = 3, 10
ARM_LAPSE_S = 0.3  # a controller refreshes its request ten times a second
DISARM, ARM, CLEAR = 0, 1, 2
VALID = (READY, ACTIVE, DEGRADED)  # states whose drive is a number


@dataclass(frozen=True)
class Health:
    """What the loop knows at a step."""

    age_s: float
    ready: bool = True
    gap_s: float = 0.0
    skipped_in_a_row: int = 0
    finite: bool = True
    clock_fault: bool = False
    ended: bool = False


# state, fault bit, condition; a later row that holds wins the state, every row sets its bit.
RULES = (
    (IDLE, None, lambda h: not h.ready),
    (DEGRADED, "overrun", lambda h: h.skipped_in_a_row >= SKIPPED_DEGRADED),
    (DEGRADED, "stale", lambda h: h.age_s > AGE_DEGRADED_S),
    (DEGRADED, "gap", lambda h: h.gap_s != 0),
    (SAFE, "gap", lambda h: abs(h.gap_s) > GAP_SAFE_S),
    (SAFE, "stale", lambda h: not h.age_s <= AGE_SAFE_S),  # so that an age of NaN is none
    (SAFE, None, lambda h: h.ended),
    (FAULT, "overrun", lambda h: h.skipped_in_a_row >= SKIPPED_FAULT),
    (FAULT, "clock", lambda h: h.clock_fault or h.age_s < AGE_IMPOSSIBLE_S),
    (FAULT, "nan", lambda h: not h.finite),
)


class Guard:
    """State machine of one run.

    Parameters
    ----------
    arm_id : int
        What a controller must name to arm.
    for_control : bool
        False for a source that cannot be used for control: it never arms.
    """

    def __init__(self, arm_id: int, for_control: bool = True) -> None:
        self.arm_id, self._for_control = arm_id, for_control
        self._armed_until = float("-inf")
        self._age_limit_s = AGE_SAFE_S
        self._latched = 0
        self._must_let_go = False
        self.state = BOOT

    def arm(self, now: float, request: Arm) -> None:
        """Take a controller's request; a wrong id can disarm, but neither arm nor clear.

        A controller that was armed when the decoder failed must let go (disarm or clear) before it
        may arm again: one that just keeps asking would resume by itself.
        """
        if request.request == DISARM:
            self._armed_until, self._must_let_go = float("-inf"), False
        if request.model_id != self.arm_id:
            return
        if request.request == CLEAR:
            self._latched, self._must_let_go = 0, False
            self._armed_until = float("-inf")
        if request.request == ARM and self._for_control and not self._must_let_go:
            # Only from READY: a decoder that is not well does not become active by itself later.
            # While DEGRADED, a controller may refresh what it had, not arm anew.
            refreshes = self.state == DEGRADED and now <= self._armed_until
            if self.state in (READY, ACTIVE) or refreshes:
                self._armed_until = now + ARM_LAPSE_S
            if request.max_age_ms > 0:
                self._age_limit_s = min(AGE_SAFE_S, request.max_age_ms / 1e3)

    def judge(self, now: float, health: Health) -> tuple[int, int]:
        """State and fault bits of this step."""
        state, faults = READY, 0
        for rule_state, fault, holds in RULES:
            if holds(health):
                state = rule_state
                faults |= BIT[fault] if fault else 0
        if not health.age_s <= self._age_limit_s and state != FAULT:
            state, faults = SAFE, faults | BIT["stale"]
        if state == FAULT:
            self._latched |= faults
        if self._latched:
            state, faults = FAULT, faults | self._latched | BIT["latched"]
        if state in (SAFE, FAULT, IDLE):
            self._must_let_go |= now <= self._armed_until
            self._armed_until = float("-inf")  # what comes back is READY, never ACTIVE
        if state == READY and now <= self._armed_until:
            state = ACTIVE
        self.state = state
        return state, faults
