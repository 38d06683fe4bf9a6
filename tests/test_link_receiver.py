"""What a controller believes.

Truth: the receiver rules of the message contract (what is accepted, 80 ms, 30 ms, 100 ms, 5 % in
a second, three frames after a jump), here as cases with times by hand and as a second, naive
account kept by a state machine.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from spikewire.link.codec import Step, encode_short, encode_step, step_values
from spikewire.link.packing import pack
from spikewire.link.receiver import ACTIVE, Ages, Receiver
from spikewire.link.table import (
    DRIVE,
    INFO,
    INFO2,
    SHORT,
    STATES,
    STEP,
    Message,
    table_number,
)

STATE = {name: key for key, name in STATES.items()}
T = 20 / 2048  # seconds per step


def give(receiver: Receiver, counter: int, now: float, **change: Any) -> Step | None:
    """Hand over one full frame."""
    values: dict[str, Any] = {"state": STATE["ACTIVE"], "age_ms": 5.0, "model_id16": 7}
    values |= {"drive": (100.0, math.nan, math.nan, math.nan), "step": counter, **change}
    step = Step(counter=counter, **values)
    introduce(receiver, now)
    return receiver.accept(STEP, step.slot, encode_step(step), now)


def introduce(receiver: Receiver, now: float, model_id: int = 7) -> None:
    """Hand over INFO and INFO2 as a decoder of this table sends them once a second."""
    info = {"proto": 1, "n_mu": 5, "step_period_us": 9766, "model_id": model_id}
    receiver.accept(INFO, 0, pack(INFO, info), now)
    receiver.accept(INFO2, 0, pack(INFO2, {"counter": 0, "table_hash": table_number()}), now)


def running(**options: Any) -> Receiver:
    """Return a receiver that has had frames 0, 1, 2 at 0, T, 2 T."""
    receiver = Receiver(**options)
    for counter in range(3):
        give(receiver, counter, counter * T)
    return receiver


def test_three_good_frames_make_it_usable() -> None:
    receiver = Receiver(model_id=7)
    usable = []
    for counter in range(3):
        assert receiver.assist(counter * T) == 0.0
        assert give(receiver, counter, counter * T) is not None
        usable.append(receiver.usable(counter * T))
    assert usable == [False, False, True]
    assert receiver.assist(2 * T) == 1.0
    assert receiver.stats.accepted == 3


@pytest.mark.parametrize(
    ("silent_s", "assist"),
    [(0.0, 1.0), (0.029, 1.0), (0.065, 0.5), (0.0999, 0.00143), (0.1001, 0.0), (5.0, 0.0)],
)
def test_assist_holds_ramps_and_ends(silent_s: float, assist: float) -> None:
    receiver = running()
    assert receiver.assist(2 * T + silent_s) == pytest.approx(assist, abs=1e-4)
    assert receiver.latched is (silent_s > 0.1)


def test_a_latch_holds_until_rearm_and_rearm_needs_usable_frames() -> None:
    receiver = running()
    now = 2 * T + 0.2
    assert receiver.assist(now) == 0.0
    assert receiver.rearm(now) is False  # nothing has come
    give(receiver, 3, now)
    assert receiver.usable(now)
    assert receiver.assist(now) == 0.0
    assert receiver.rearm(now) is True
    assert receiver.assist(now) == 1.0


def test_rearm_notices_a_silence_that_nobody_asked_about() -> None:
    receiver = running()
    assert receiver.rearm(2 * T + 0.2) is False
    assert receiver.latched


def test_what_was_lost_before_a_rearm_does_not_latch_again() -> None:
    receiver = running()
    for counter in range(40, 100):  # 37 were lost
        give(receiver, counter, counter * T)
    assert receiver.latched  # by the silence
    assert receiver.rearm(99 * T)
    for counter in range(100, 300):
        give(receiver, counter % 256, counter * T, step=counter)
    assert not receiver.latched


def test_held_is_what_may_be_acted_on() -> None:
    receiver = running()
    assert receiver.held is not None
    assert receiver.held.drive[0] == 100.0
    give(receiver, 3, 3 * T, drive=(math.nan,) * 4)
    assert receiver.assist(3 * T) == 1.0
    assert receiver.held.drive[0] == 100.0


def test_rearm_does_not_make_a_frame_newer() -> None:
    receiver = running()
    assert receiver.rearm(2 * T + 0.065)
    assert receiver.assist(2 * T + 0.065) == pytest.approx(0.5)


def test_a_silence_latches_even_if_nobody_asked_meanwhile() -> None:
    receiver = running()
    give(receiver, 3, 2 * T + 0.15)
    assert receiver.latched


def test_one_or_two_missing_frames_change_nothing() -> None:
    receiver = running()
    assert give(receiver, 5, 5 * T) is not None
    assert receiver.stats.gaps == 2
    assert receiver.usable(5 * T)
    assert receiver.assist(5 * T) == 1.0


def test_after_a_jump_three_frames_are_needed() -> None:
    receiver = running()
    assert give(receiver, 6, 6 * T) is None
    assert receiver.stats.rejected == {"jump": 1}
    seen = []
    for counter in (7, 8, 9):
        assert give(receiver, counter, counter * T) is not None
        seen.append(receiver.usable(counter * T))
    assert seen == [False, False, True]
    assert receiver.stats.gaps == 3


def test_the_three_frames_after_a_jump_must_be_consecutive() -> None:
    receiver = running()
    for counter in (6, 7, 8, 10, 11):
        give(receiver, counter, counter * T)
        assert not receiver.usable(counter * T)
    give(receiver, 12, 12 * T)
    assert receiver.usable(12 * T)


def test_a_repeat_is_ignored_and_three_in_a_row_are_stale() -> None:
    receiver = running()
    for repeat in range(1, 4):
        assert give(receiver, 2, 2 * T + repeat * 0.001) is None
        assert receiver.usable(2 * T + repeat * 0.001) is (repeat < 3)
    assert receiver.stats.rejected == {"repeated": 3}
    give(receiver, 3, 3 * T)
    assert receiver.usable(3 * T)


def test_nothing_is_usable_before_both_infos_say_this_table() -> None:
    """And for two seconds after the last of them: one may be lost."""
    def after(*infos: str, **other: Any) -> Receiver:
        receiver = Receiver(model_id=7)
        for number in range(3):
            step = Step(counter=number, state=ACTIVE, age_ms=1.0, drive=(1.0,) * 4, model_id16=7)
            receiver.accept(STEP, 0, encode_step(step), number * T)
        values = {"proto": 1, "n_mu": 5, "step_period_us": 9766, "model_id": 7, "counter": 0,
                  "table_hash": table_number()} | other
        for name in infos:
            message = {"INFO": INFO, "INFO2": INFO2}[name]
            receiver.accept(message, 0, pack(message, values), 2 * T)
        return receiver

    assert not after().usable(2 * T)
    assert not after("INFO").usable(2 * T)
    assert not after("INFO2").usable(2 * T)
    assert after("INFO", "INFO2").usable(2 * T)
    other = after("INFO", "INFO2", model_id=0x10007)  # the 16 bits of the frames are the same
    assert not other.usable(2 * T)
    assert other.stats.rejected == {"model": 1}
    other = after("INFO", "INFO2", table_hash=table_number() ^ 1)
    assert not other.usable(2 * T)
    assert other.stats.rejected == {"table": 1}


def test_infos_hold_for_two_seconds() -> None:
    receiver = running()
    for number in range(3, 400):
        step = Step(counter=number % 256, step=number, state=ACTIVE, age_ms=1.0, drive=(1.0,) * 4)
        receiver.accept(STEP, 0, encode_step(step), number * T)
        assert receiver.usable(number * T) is (number * T <= 2 * T + 2)


def test_two_senders_on_one_slot_are_never_believed() -> None:
    """Whose counters do not go on from each other: nothing is usable as long as both send."""
    receiver = Receiver(model_id=7)
    for number in range(500):
        give(receiver, number % 256, number * T)
        give(receiver, (number + 100) % 256, number * T + 0.001, model_id16=8)
        assert not receiver.usable(number * T + 0.001)
    assert receiver.assist(500 * T) == 0


def test_time_on_the_wire_ages_a_frame() -> None:
    for wire_ms, usable in ((0.0, True), (0.77, True), (2.0, False)):
        receiver = running(wire_ms=wire_ms)
        give(receiver, 3, 3 * T, age_ms=79.0)
        assert receiver.usable(3 * T) is usable


def test_the_counters_wrap() -> None:
    """Full frames count to 255, short ones to 14."""
    for message, encode, wrap in ((STEP, encode_step, 256), (SHORT, encode_short, 15)):
        receiver = Receiver()
        for number in range(wrap + 3):
            step = Step(state=3, age_ms=1.0, drive=(1.0,) * 4)
            receiver.accept(message, 0, encode(replace(step, counter=number)), number * T)
        assert receiver.stats.accepted == wrap + 3
        assert receiver.stats.gaps == 0


@pytest.mark.parametrize(
    ("change", "usable"),
    [
        ({}, True),
        ({"state": STATE["READY"]}, False),
        ({"state": STATE["DEGRADED"]}, False),
        ({"age_ms": 79.99}, True),
        ({"age_ms": 80.01}, False),
        ({"age_ms": math.nan}, False),
        ({"age_ms": 1e9}, False),
        ({"drive": (math.nan, 1.0, 1.0, 1.0)}, False),
    ],
)
def test_usable_frames(change: dict[str, Any], usable: bool) -> None:
    receiver = running()
    assert give(receiver, 3, 3 * T, **change) is not None
    assert receiver.usable(3 * T) is usable


def test_age_goes_on_after_reception() -> None:
    receiver = running()
    give(receiver, 3, 3 * T, age_ms=70.0)
    assert receiver.usable(3 * T + 0.0099)
    assert not receiver.usable(3 * T + 0.0101)


@pytest.mark.parametrize("state", ["SAFE", "FAULT"])
def test_safe_and_fault_latch_at_once(state: str) -> None:
    receiver = running()
    give(receiver, 3, 3 * T, state=STATE[state])
    assert receiver.latched
    give(receiver, 4, 4 * T)
    assert receiver.assist(4 * T) == 0.0


def test_degraded_ramps_down() -> None:
    receiver = running()
    for counter in range(3, 9):
        give(receiver, counter, counter * T, state=STATE["DEGRADED"])
    assert receiver.assist(2 * T + 0.065) == pytest.approx(0.5)


@pytest.mark.parametrize(("lose_every", "latched"), [(25, False), (10, True)])
def test_more_than_five_percent_lost_in_a_second_latches(lose_every: int, latched: bool) -> None:
    receiver = Receiver()
    for number in range(220):
        if number % lose_every or number == 0:
            give(receiver, number % 256, number * T)
    assert receiver.latched is latched


@pytest.mark.parametrize(
    ("kind", "payload", "reason"),
    [
        (0x10, b"\0" * 64, "crc"),
        (0x10, b"\0" * 63, "length"),
        (0x7F, b"", "type"),
        (0x11, encode_step(Step(slot=1)), "slot"),
        (0x10, encode_step(Step(model_id16=8)), "model"),
        (0x40, bytes.fromhex("00"), "length"),
    ],
)
def test_rejections_are_counted_by_reason(kind: int, payload: bytes, reason: str) -> None:
    receiver = Receiver(model_id=7)
    assert receiver.serial(kind, payload, 0.0) is None
    assert receiver.stats.rejected == {reason: 1}
    assert receiver.stats.accepted == 0


def test_another_slot_does_not_disturb() -> None:
    receiver = Receiver(slot=1)
    for number in range(4):
        give(receiver, 200 - number, number * T)
        give(receiver, number, number * T, slot=1, drive=(math.nan, 5.0, math.nan, math.nan))
    assert receiver.usable(3 * T)
    assert receiver.stats.rejected == {"slot": 4}


def test_statistics() -> None:
    receiver = running()
    counts = np.array([2, 15, 1], np.uint8)
    give(receiver, 3, 3 * T, counts=counts, n_mu=3, age_ms=81.0)
    give(receiver, 4, 4 * T, counts=counts, n_mu=3, state=STATE["READY"])
    stats = receiver.stats
    assert stats.stale_marked_valid == 1
    assert stats.usable == 1  # frame 2; 0 and 1 came before it was trusted
    assert stats.states == {"ACTIVE": 4, "READY": 1}
    assert stats.spikes[:3].tolist() == [4, 0, 2]
    assert stats.ages.max_ms == pytest.approx(81.0)
    assert stats.first is not None
    assert stats.last is not None
    assert (stats.first.step, stats.last.step) == (0, 4)


@given(st.lists(st.floats(0, 655.34), min_size=1, max_size=200), st.sampled_from([1, 50, 90, 99]))
def test_percentiles_agree_with_numpy_up_to_a_bin(values: list[float], q: int) -> None:
    ages = Ages()
    for value in values:
        ages.add(value)
    expected = np.percentile(values, q, method="inverted_cdf")
    assert ages.percentile(q) == pytest.approx(expected, abs=0.1001)
    assert ages.max_ms == max(values)


def test_no_ages_have_no_percentile() -> None:
    ages = Ages()
    ages.add(math.nan)
    assert math.isnan(ages.percentile(50))
    assert math.isnan(ages.max_ms)


class Line(RuleBasedStateMachine):
    """A decoder, a bad line and a controller.

    The naive account is a string with one letter per frame: g = counter went up by 1, s = by 2 or
    3, j = by more, b = anything else. Trust is a pattern in what follows the last jump.
    """

    def __init__(self) -> None:
        super().__init__()
        self.receiver = Receiver(model_id=7)
        self.now = 0.0
        self.counter = 0
        self.heard: int | None = None  # counter of the last frame that came through
        self.frames = ""
        self.last_usable = -math.inf
        self.was_latched = False

    def _trusted(self) -> bool:
        """Look for three frames in a row since the last jump."""
        return re.search("[gs]gg", self.frames.rpartition("j")[2]) is not None

    def _send(self, ok: bool, **change: Any) -> None:
        """Send the next frame after the time of a step."""
        self.now += T
        delta = 1 if self.heard is None else (self.counter - self.heard) % 256
        self.frames += {0: "b", 1: "g", 2: "s", 3: "s"}.get(delta, "j")
        step = give(self.receiver, self.counter % 256, self.now, **change)
        assert (step is not None) is (delta in (1, 2, 3))
        self.heard = self.counter
        self.counter += 1
        if step is not None and ok and self._trusted():
            self.last_usable = self.now
            assert self.receiver.usable(self.now)

    @rule(n=st.integers(1, 5))
    def good(self, n: int) -> None:
        for _ in range(n):
            self._send(True)

    @rule(state=st.sampled_from(["BOOT", "IDLE", "READY", "DEGRADED", "NA"]))
    def not_active(self, state: str) -> None:
        self._send(False, state=STATE[state])

    @rule(state=st.sampled_from(["SAFE", "FAULT"]))
    def stopped(self, state: str) -> None:
        accepted = self.receiver.stats.accepted
        self._send(False, state=STATE[state])
        if self.receiver.stats.accepted > accepted:
            assert self.receiver.latched

    @rule(age=st.sampled_from([80.5, 300.0, 1e6, math.nan]))
    def old(self, age: float) -> None:
        self._send(False, age_ms=age)

    @rule()
    def no_drive(self) -> None:
        self._send(False, drive=(math.nan,) * 4)

    @rule(n=st.integers(1, 12))
    def lose(self, n: int) -> None:
        self.counter += n
        self.now += n * T

    @rule(bit=st.integers(0, 511))
    def corrupt(self, bit: int) -> None:
        payload = bytearray(encode_step(Step(state=3, counter=self.counter % 256, model_id16=7)))
        payload[bit // 8] ^= 1 << bit % 8
        self.now += T
        self.frames += "b"
        assert self.receiver.serial(0x10, bytes(payload), self.now) is None

    @rule(payload=st.binary(max_size=70), kind=st.integers(0, 255))
    def noise(self, payload: bytes, kind: int) -> None:
        if kind >> 4 in (2, 3):
            return  # short frames and infos have no check but that of the framing
        self.frames += "b"
        assert self.receiver.serial(kind, payload, self.now) is None

    @rule(seconds=st.sampled_from([0.001, 0.02, 0.05, 0.2]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def rearm(self) -> None:
        could = self.receiver.usable(self.now)
        was = self.receiver.latched
        assert self.receiver.rearm(self.now) == (could or not was)
        if could:
            self.was_latched = False

    @invariant()
    def a_latch_ends_only_by_rearm(self) -> None:
        assist = self.receiver.assist(self.now)
        assert self.receiver.latched or not self.was_latched
        self.was_latched = self.receiver.latched
        assert not self.receiver.latched or assist == 0.0

    @invariant()
    def no_assistance_without_a_usable_frame_in_the_last_100_ms(self) -> None:
        assist = self.receiver.assist(self.now)
        assert 0.0 <= assist <= 1.0
        if self.now - self.last_usable >= 0.1:
            assert assist == 0.0
        if self.receiver.usable(self.now):
            assert self._trusted()
            assert self.now - self.last_usable <= 0.08

    @invariant()
    def every_frame_is_accounted_for(self) -> None:
        stats = self.receiver.stats
        assert stats.accepted + sum(stats.rejected.values()) == len(self.frames)
        assert stats.stale_marked_valid <= stats.accepted
        assert int(stats.ages.bins.sum()) <= stats.accepted


TestLine = Line.TestCase
TestLine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def sent(number: int, at_s: float, age_ms: float = 2.0) -> tuple[int, bytes]:
    """An ACTIVE frame that leaves the decoder at `at_s` on the decoder's clock."""
    micros = round(at_s * 1e6 - age_ms * 1e3) % (1 << 32)
    step = Step(state=ACTIVE, counter=number % 256, step=number, sample_time_us=micros,
                age_ms=age_ms, drive=(10.0,) * 4, n_mu=1)
    return 0x10, encode_step(step)


@pytest.mark.parametrize("clock_s", [0.0, 4294.9, 90000.0])  # sample times wrap at 4294.967 s
def test_frames_that_waited_in_a_buffer_are_too_old(clock_s: float) -> None:
    """The reader pauses for half a second, then finds 51 frames at once, each saying 2 ms."""
    receiver, now = Receiver(), 50.0
    for number in range(100):
        now = 50.0 + number / 102.4
        introduce(receiver, now)
        receiver.serial(*sent(number, clock_s + number / 102.4 + 1), now)
    assert receiver.usable(now)
    now += 0.5
    usable = []
    for number in range(100, 151):
        introduce(receiver, now)
        receiver.serial(*sent(number, clock_s + number / 102.4 + 1), now)
        usable.append(receiver.usable(now))
    assert usable == [150 - k <= 0.078 * 102.4 for k in range(100, 151)]
    assert receiver.stats.late == usable.count(False)


def test_an_active_frame_from_the_past_is_rejected() -> None:
    """A logger that plays back, with counters that fit; a decoder that restarts is not ACTIVE."""
    receiver = running()
    assert give(receiver, 3, 3 * T, step=1) is None
    assert receiver.stats.rejected == {"old": 1}
    assert give(receiver, 4, 4 * T, step=4) is not None
    assert give(receiver, 5, 5 * T, step=0, state=STATE["IDLE"]) is not None
    assert give(receiver, 6, 6 * T, step=1) is not None


@pytest.mark.parametrize("message", [SHORT, DRIVE])
def test_frames_without_a_time_tell_it_by_their_step(message: Message) -> None:
    """The same half second; steps of 16 bits wrap in between."""
    receiver, start = Receiver(model_id=7), 65536 - 110

    def hear(number: int, now: float, state: int = ACTIVE) -> None:
        introduce(receiver, now)
        step = Step(state=state, counter=number, step=start + number, age_ms=2.0,
                    drive=(10.0,) * 4, model_id16=7)
        receiver.accept(message, 0, pack(message, step_values(step, message)), now)

    for number in range(100):
        hear(number, 50 + number * T)
        assert receiver.usable(50 + number * T) or number < 2
    now, usable = 50 + 100 * T + 0.5, []
    for number in range(100, 151):
        hear(number, now)
        usable.append(receiver.usable(now))
    assert usable == [now - (50 + k * T) <= 0.078 for k in range(100, 151)]
    # Samples that were lost are no steps: the decoder is DEGRADED meanwhile, then young again.
    for number in range(151, 221):
        now = 60 + number * T
        hear(number, now, STATE["DEGRADED"] if number < 205 else ACTIVE)
        assert receiver.usable(now) is (number >= 205)


@pytest.mark.parametrize("ppm", [-150, 150])
def test_clocks_that_drift_apart_make_no_frame_old(ppm: float) -> None:
    receiver = Receiver()
    for number in range(20000):  # 200 s; 150 ppm of them are 29 ms
        now = 5.0 + number / 102.4
        if number % 100 == 0:
            introduce(receiver, now)
        receiver.serial(*sent(number, 1 + number / 102.4 * (1 + ppm * 1e-6)), now)
        assert receiver.usable(now) or number < 3
    assert receiver.stats.late == 0


def test_a_decoder_that_was_restarted_on_another_clock_is_believed() -> None:
    receiver = Receiver()
    introduce(receiver, 5.0)
    for number in range(10):
        receiver.serial(*sent(number, 1000 + number / 102.4), 5.0 + number / 102.4)
    for number in range(10, 20):
        receiver.serial(*sent(number, 3 + number / 102.4), 6.0 + number / 102.4)
    assert receiver.usable(6.0 + 19 / 102.4)
