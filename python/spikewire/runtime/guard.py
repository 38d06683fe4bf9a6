"""The guard: what state the decoder is in, and whether its drive may be used.

`RULES` is the whole of it: what is looked at, where its limit lies, what follows. States and faults
are those of the message table. FAULT latches until a controller clears it; SAFE and IDLE end the
arming; DEGRADED lingers until half a second was clean.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from spikewire.link.codec import Arm
from spikewire.link.table import FAULTS, STATES

BOOT, IDLE, READY, ACTIVE, DEGRADED, SAFE, FAULT = (
    next(number for number, name in STATES.items() if name == wanted)
    for wanted in ("BOOT", "IDLE", "READY", "ACTIVE", "DEGRADED", "SAFE", "FAULT")
)
BIT = {name: 1 << bit for bit, name in FAULTS.items()}
AGE_SAFE_S = 0.080
ARM_LAPSE_S = 0.3  # a controller refreshes its request ten times a second
LINGER_S = 0.5  # of DEGRADED after the last reason for it
RAMP_S = 0.5  # from arming to the whole drive
MISMATCH_S = 1.0  # for which a request with another model's id is told
DISARM, ARM, CLEAR = 0, 1, 2
VALID = (READY, ACTIVE, DEGRADED)  # states in which spikes are counted


@dataclass(frozen=True)
class Health:
    """What the loop knows at a step.

    Attributes
    ----------
    age_s : float, of the newest sample that the engines have
    ready : bool, every engine has enough samples
    gap_s : float, samples lost (negative: the counter went back), until a window is whole again
    duplicates : float, share of samples that came again, in the last second
    good : float, share of channels in use, of the bundle that has fewest
    saturated : int, channels at the converter's end
    artefact, implausible : bool, of the samples, of the spikes; see quality.py
    skipped_in_a_row : int, overdue steps
    late : float, share of steps of the last ten seconds whose age was above 30 ms
    finite : bool, the engines' answers are numbers
    engine_failed, link_trouble, clock_fault, ended : bool
    temperature_c : float, NaN if nobody knows
    drifted : bool, a unit's source has been lost
    buffer_full, wrong_rate : bool, the amplifier's; see io/stream.py
    """

    age_s: float
    ready: bool = True
    gap_s: float = 0.0
    duplicates: float = 0.0
    good: float = 1.0
    saturated: int = 0
    artefact: bool = False
    implausible: bool = False
    skipped_in_a_row: int = 0
    late: float = 0.0
    finite: bool = True
    engine_failed: bool = False
    link_trouble: bool = False
    clock_fault: bool = False
    ended: bool = False
    temperature_c: float = math.nan
    drifted: bool = False
    buffer_full: bool = False
    wrong_rate: bool = False


@dataclass(frozen=True)
class Rule:
    """One row.

    Attributes
    ----------
    event : str
    state : int or None, at least this while it holds; None sets the fault bit only
    fault : str, bit of FAULTS, or ""
    limit : float, in `unit`
    holds : (health, limit) -> bool
    """

    event: str
    state: int | None
    fault: str
    limit: float
    unit: str
    holds: Callable[[Health, float], bool]


# A later row that holds wins the state; every row that holds sets its bit.
RULES = (
    Rule("too few samples yet", IDLE, "", 0, "", lambda h, x: not h.ready),
    Rule("hot", None, "thermal", 85, "degC", lambda h, x: h.temperature_c >= x),
    Rule("a unit's source is lost", None, "drift", 0, "", lambda h, x: h.drifted),
    Rule("channels at their end", None, "saturated", 0, "channels", lambda h, x: h.saturated > x),
    Rule("EMG is old", DEGRADED, "stale", 0.020, "s", lambda h, x: h.age_s > x),
    Rule("the amplifier's buffer is nearly full", DEGRADED, "stale", 1 / 8, "of it free",
         lambda h, x: h.buffer_full),
    Rule("samples lost", DEGRADED, "gap", 0, "s", lambda h, x: h.gap_s != x),
    Rule("samples came again", DEGRADED, "gap", 0.01, "of them", lambda h, x: h.duplicates > x),
    Rule("few electrodes left", DEGRADED, "liftoff", 56 / 64, "of them", lambda h, x: h.good < x),
    Rule("motion artefact", DEGRADED, "saturated", 8, "channels", lambda h, x: h.artefact),
    Rule("firing that cannot be", DEGRADED, "implausible", 60, "pulse/s",
         lambda h, x: h.implausible),
    Rule("steps overdue", DEGRADED, "overrun", 3, "in a row", lambda h, x: h.skipped_in_a_row >= x),
    Rule("often late", DEGRADED, "overrun", 0.01, "of the steps", lambda h, x: h.late > x),
    Rule("too few electrodes left", SAFE, "liftoff", 48 / 64, "of them",
         lambda h, x: h.good < x),
    Rule("many samples lost", SAFE, "gap", 0.25, "s", lambda h, x: abs(h.gap_s) > x),
    # so that an age of NaN is none
    Rule("EMG is too old", SAFE, "stale", AGE_SAFE_S, "s", lambda h, x: not h.age_s <= x),
    Rule("the link cannot send", SAFE, "link", 0, "", lambda h, x: h.link_trouble),
    Rule("the run ends", SAFE, "", 0, "", lambda h, x: h.ended),
    Rule("far too many overdue", FAULT, "overrun", 10, "in a row",
         lambda h, x: h.skipped_in_a_row >= x),
    Rule("time runs wrong", FAULT, "clock", -0.001, "s",
         lambda h, x: h.clock_fault or h.age_s < x),
    Rule("samples come at another rate", FAULT, "clock", 0.005, "of it", lambda h, x: h.wrong_rate),
    Rule("no number", FAULT, "nan", 0, "", lambda h, x: not h.finite),
    Rule("the engine failed", FAULT, "engine", 0, "", lambda h, x: h.engine_failed),
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
        self._lingers_until, self._lingering = float("-inf"), 0
        self._mismatch_until = float("-inf")
        self._active_from: float | None = None  # since it was armed
        self.state = BOOT

    def arm(self, now: float, request: Arm) -> None:
        """Take a controller's request; a wrong id can disarm, but neither arm nor clear.

        A controller that was armed when the decoder failed must let go (disarm or clear) before it
        may arm again: one that just keeps asking would resume by itself.
        """
        if request.request == DISARM:
            self._armed_until, self._must_let_go = float("-inf"), False
        if request.model_id != self.arm_id:
            if request.request == ARM:
                self._mismatch_until = now + MISMATCH_S
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
        state, faults = READY, BIT["config"] if now <= self._mismatch_until else 0
        degraded = 0
        for rule in RULES:
            if rule.holds(health, rule.limit):
                state = state if rule.state is None else rule.state
                faults |= BIT.get(rule.fault, 0)
                degraded |= BIT[rule.fault] if rule.state == DEGRADED else 0
        if not health.age_s <= self._age_limit_s and state != FAULT:
            state, faults = SAFE, faults | BIT["stale"]
        if state == DEGRADED:
            self._lingers_until, self._lingering = now + LINGER_S, degraded
        elif now < self._lingers_until and state == READY:
            state, faults = DEGRADED, faults | self._lingering
        if state == FAULT:
            self._latched |= faults
        if self._latched:
            state, faults = FAULT, faults | self._latched | BIT["latched"]
        if state in (SAFE, FAULT, IDLE):
            self._must_let_go |= now <= self._armed_until
            self._armed_until = float("-inf")  # what comes back is READY, never ACTIVE
        if state == READY and now <= self._armed_until:
            state = ACTIVE
        if now > self._armed_until:
            self._active_from = None
        elif state == ACTIVE and self._active_from is None:
            self._active_from = now
        self.state = state
        return state, faults

    def drives(self, now: float) -> bool:
        """Whether the drive may be a number: only for a controller that has armed."""
        return self.state == ACTIVE or (self.state == DEGRADED and now <= self._armed_until)

    def ramp(self, now: float) -> float:
        """Share of the drive that may be sent: from ACTIVE on it grows from 0 within half a second.

        Armed anew, also after a fault, nobody is handed a whole drive at once.
        """
        if self._active_from is None:
            return 0.0
        return min(1.0, (now - self._active_from) / RAMP_S)


def page() -> str:
    """`RULES` as a page of documentation."""
    lines = [
        "# What the decoder makes of what goes wrong",
        "Generated by `mu-link generate` from `RULES` in `python/spikewire/runtime/guard.py`; do "
        "not edit. Of the rows that hold",
        "the last one decides the state; each sets its fault bit. Research software, without any "
        "certification.",
        "",
        "| event | limit | state | fault bit | afterwards |",
        "| --- | --- | --- | --- | --- |",
    ]
    after = {
        None: "a warning",
        IDLE: "READY; a controller that was armed must let go first",
        DEGRADED: f"as before, once {LINGER_S:g} s were clean",
        SAFE: "READY, never ACTIVE; a controller that was armed must let go first",
        FAULT: "latched: the controller disarms, clears, arms",
    }
    for rule in RULES:
        limit = f"{rule.limit:g} {rule.unit}" if rule.unit else "-"
        state = "-" if rule.state is None else STATES[rule.state]
        lines.append(f"| {rule.event} | {limit} | {state} | {rule.fault or '-'} | "
                     f"{after[rule.state]} |")
    lines += [
        "",
        f"A controller arms by naming the arm id at least every {ARM_LAPSE_S:g} s; without it the "
        "state falls back to READY.",
        "It counts from READY only. A request with another id sets the bit config for "
        f"{MISMATCH_S:g} s. `max_age_ms` of the request may make",
        f"the limit of {1e3 * AGE_SAFE_S:g} ms smaller, never larger. After arming the drive grows "
        f"from 0 within {RAMP_S:g} s. Drives are numbers",
        "while a controller has armed (ACTIVE, and DEGRADED after it), else \"not available\"; "
        "spikes are counted in READY, too.",
    ]
    return "\n".join(lines) + "\n"
