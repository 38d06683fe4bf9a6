"""What an adapter sends, whatever decoder, machine and operator do.

Truth: the rules of the message contract (hold 30 ms, ramp, zero at 100 ms, latched until an
operator arms again) and of the limits, as cases by hand, and as an account that a state machine
keeps of the frames on the wire. The receiver's own judgement of a frame is taken as given here.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
from adapter_world import KINDS, LIMITS, MODEL, STATE, World
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from spikewire.adapters.assist import ASK_S, FAREWELLS, PERIOD_S, STARTS, Law
from spikewire.adapters.limits import Limits

both = pytest.mark.parametrize("kind", KINDS)
ANY = st.floats() | st.sampled_from([0.0, 19.9, 20.0, 45.0, 1e308, -1e308])


def law(**change: Any) -> Law:
    return Law(Limits(**{**LIMITS, **change}, own={}))


def test_torque_by_hand() -> None:
    """Gain 0.1, threshold 20: 45 pulse/s are 2.5 N.m; 20 N.m/s are 0.2 N.m in 10 ms."""
    one = law()
    assert one.step(45.0, 1.0, 0.01) == pytest.approx(0.2)
    assert [one.step(45.0, 1.0, 0.01) for _ in range(20)][-1] == pytest.approx(2.5)
    assert one.step(1e6, 1.0, 10.0) == 5.0
    assert one.step(0.0, 1.0, 0.01) == pytest.approx(4.8)
    other = law(sign=-1)
    assert other.step(45.0, 1.0, 10.0) == pytest.approx(-2.5)
    assert other.step(45.0, 0.4, 0.01) == pytest.approx(-1.0)
    assert other.step(45.0, 1.0, 0.01) == pytest.approx(-1.2)  # back up at the rate, too
    other.reset()
    assert other.step(45.0, 1.0, 0.0) == 0.0


@given(st.lists(st.tuples(ANY, ANY, ANY), max_size=30), st.sampled_from([1, -1]),
       st.floats(0, 1), st.floats(0, 6553), st.floats(0, 25), st.floats(0.1, 100))
def test_no_input_breaks_the_law(
    ticks: list[tuple[float, float, float]], sign: int, gain: float, threshold: float,
    most: float, rate: float,
) -> None:
    one = law(sign=sign, gain_nm_per_pps=gain, threshold_pps=threshold, max_nm=most,
              rate_nm_per_s=rate)
    before = 0.0
    for drive, share, passed in ticks:
        nm = one.step(drive, share, passed)
        allowed = rate * passed if passed > 0 else 0.0
        assert 0 <= sign * nm <= most
        assert abs(nm) <= abs(before) + allowed * (1 + 1e-9)
        if not 0 < share <= 1:
            assert nm == 0
        before = nm


@both
def test_a_stop_is_repeated_until_the_machine_can_hear_it(kind: str) -> None:
    """An H3 whose cable was out goes on with its last torque when it is back."""
    world = World(kind).armed()
    world.peer.silent = True
    world.run(300)
    assert world.sent == world.adapter.machine.stop()
    assert abs(world.does()) > 4
    world.peer.silent = False
    world.run(1)
    assert world.off()
    world.run(FAREWELLS + 2)
    assert world.sent == []


@both
def test_arming_waits_for_frames_and_for_the_machine(kind: str) -> None:
    world = World(kind)
    world.tick()
    stop = world.adapter.machine.stop()
    assert world.sent == stop
    world.adapter.arm(world.now)
    assert world.adapter.request == 1
    world.tick()
    assert (world.adapter.state, world.sent) == ("asked", stop)  # no frames of the decoder yet
    world.run(2)
    assert world.sent == stop
    world.run(1)  # the third in a row is usable
    assert world.sent == world.adapter.machine.start()
    assert abs(world.wire_nm) <= world.zero_nm
    states = [world.adapter.state for _ in range(STARTS + 1) if world.run(1)]
    assert states.count("asked") >= STARTS - 1
    assert states[-1] == "on"
    assert world.adapter.news() == ["armed; any line but arm stops"]
    assert max(world.run(60)) == pytest.approx(5.0, abs=world.step_nm)
    assert world.does() == pytest.approx(world.wire_nm)


@both
def test_a_start_that_a_stop_undid_does_not_count(kind: str) -> None:
    """The frames are unusable at the very tick at which it would have gone ON."""
    world = World(kind)
    world.run(4)
    world.adapter.arm(world.now)
    while world.adapter._starts < STARTS:
        world.run(1)
    world.run(3, state=STATE["READY"], age_ms=81.0)
    world.run(1)
    assert world.adapter.state == "asked"
    world.run(STARTS)
    assert world.adapter.state == "on"
    assert not world.off()


@both
def test_a_start_that_was_not_heard_does_not_count(kind: str) -> None:
    """The machine was heard a moment ago, and is cut off as the operator arms."""
    world = World(kind).armed()
    world.adapter.stop("trouble")
    world.run(2)
    world.peer.silent = True
    world.adapter.arm(world.now)
    world.adapter.machine.hear(world.bus.read(), world.now)
    world.run(3)
    assert world.adapter.state == "asked"
    world.peer.silent = False
    world.run(60)
    assert world.adapter.state == "on"
    assert world.does() == pytest.approx(5.0, abs=world.step_nm)


@both
@pytest.mark.parametrize(("silent", "words"), [
    (True, "silent"), (False, "no usable frames of the decoder"),
])
def test_a_request_to_arm_does_not_stand_for_ever(kind: str, silent: bool, words: str) -> None:
    world = World(kind)
    world.peer.silent = silent
    world.adapter.arm(world.now)
    for _ in range(round(ASK_S / PERIOD_S) + 1):
        if silent:
            world.frame()
        world.tick()
    (said,) = world.adapter.news()
    assert said.startswith("not armed: ")
    assert words in said
    world.peer.silent = False
    world.run(50)
    assert world.adapter.state == "off"
    assert abs(world.wire_nm) <= world.zero_nm
    assert world.off()


@both
def test_a_loss_holds_ramps_ends_and_stays_ended(kind: str) -> None:
    """Last frame at 0: 5 N.m until 30 ms, half at 65, zero at 90 since the next tick is at 100."""
    world = World(kind).armed()
    at = [world.tick() for _ in range(12)]  # 10, 20 .. 120 ms after the last frame
    assert at[1] == pytest.approx(5.0, abs=world.step_nm)
    expected = [5 * (100 - ms) / 70 for ms in (40, 50, 60, 70, 80)]
    assert at[3:8] == pytest.approx(expected, abs=1.001 * world.step_nm)
    assert all(abs(nm) <= world.zero_nm for nm in at[8:])
    assert world.off()
    assert world.adapter.request == 0
    world.run(100)
    assert world.off()
    assert world.armed().does() == pytest.approx(5.0, abs=world.step_nm)


@both
def test_refused_frames_and_idle_ones_prolong_nothing(kind: str) -> None:
    """Of another model, then of a decoder at rest: full for 30 ms after the last usable frame."""
    world = World(kind).armed()
    last = world.usable_s
    refused = world.run(2, model_id16=MODEL + 1)
    idle = world.run(5, state=STATE["IDLE"])
    assert world.usable_s == last
    shares = [1, 1, 1, 6 / 7, 5 / 7, 4 / 7, 3 / 7]  # 10 ms apart
    assert refused + idle == pytest.approx([5 * s for s in shares], abs=1.001 * world.step_nm)


@both
@pytest.mark.parametrize("state", ["SAFE", "FAULT"])
def test_a_decoder_that_fails_stops_at_once(kind: str, state: str) -> None:
    world = World(kind).armed()
    assert abs(world.run(1, state=STATE[state])[0]) <= world.zero_nm
    assert world.off()
    world.adapter.arm(world.now)
    assert world.adapter.request == (2 if state == "FAULT" else 1)  # clear it, or just arm


@both
def test_a_silent_machine_stops_within_four_ticks(kind: str) -> None:
    world = World(kind).armed()
    world.peer.silent = True
    assert world.run(2)[-1] == pytest.approx(5.0, abs=world.step_nm)
    world.run(2)
    assert abs(world.wire_nm) <= world.zero_nm
    (reason,) = world.adapter.stops
    assert reason.startswith(f"{world.adapter.machine.name} is silent and may go on")


@both
def test_a_loop_that_did_not_run_stops(kind: str) -> None:
    """And what queued up meanwhile does not bring it back."""
    world = World(kind).armed()
    world.tick(0.2)
    world.peer.turn(world.now)
    assert abs(world.run(1)[0]) <= world.zero_nm
    assert list(world.adapter.stops) == ["the loop did not run for 200 ms"]
    assert all(abs(nm) <= world.zero_nm for nm in world.run(100))


@both
def test_the_operator_stops_at_the_next_tick(kind: str) -> None:
    world = World(kind).armed()
    world.adapter.stop("the operator typed 'Enter'")
    assert abs(world.run(1)[0]) <= world.zero_nm
    assert world.off()


@both
def test_arming_twice_is_not_kept_for_later(kind: str) -> None:
    world = World(kind).armed()
    world.adapter.arm(world.now)
    assert world.run(1)[0] == pytest.approx(5.0, abs=world.step_nm)
    world.adapter.stop("trouble")
    world.run(300)
    assert (world.adapter.state, world.off()) == ("off", True)


def test_another_state_of_the_h3_stops() -> None:
    world = World("h3").armed()
    world.peer.state = 3
    assert world.run(2)[-1] == 0
    assert "the H3 says 3 walking" in next(iter(world.adapter.stops))
    world.adapter.arm(world.now)
    world.run(5)
    assert world.adapter.state == "off"  # it still walks


def test_an_error_of_the_motor_stops() -> None:
    world = World("mit").armed()
    world.peer.error = 2
    world.run(2)
    assert world.off()
    assert list(world.adapter.stops) == ["motor 1 reports error 2, current too high"]


@both
def test_a_drive_that_is_gone_is_held_not_taken_for_zero(kind: str) -> None:
    world = World(kind).armed()
    assert world.run(2, drive=math.nan)[-1] == pytest.approx(5.0, abs=world.step_nm)


DRIVES = st.sampled_from([0.0, 10.0, 20.0, 30.0, 45.0, 70.0, 400.0, 6553.3, math.inf, math.nan])


class Leg(RuleBasedStateMachine):
    """Everybody does what they like; the account is kept of the wire."""

    kind = ""

    @initialize(sign=st.sampled_from([1, -1]), gain=st.floats(0.01, 1), most=st.floats(0, 9),
                trip=st.floats(9, 18), rate=st.floats(1, 50))
    def begin(self, sign: int, gain: float, most: float, trip: float, rate: float) -> None:
        self.world = World(self.kind, sign=sign, gain_nm_per_pps=gain, max_nm=most, trip_nm=trip,
                           rate_nm_per_s=rate)
        self.allowed = False  # by an operator, and nothing has ended it
        self.was = 0.0

    def _tick(self, passed_s: float = PERIOD_S) -> None:
        """One tick; compare what is sent with what may be."""
        world, at = self.world, self.world.now
        late = at - self.ticked if hasattr(self, "ticked") else 0.0
        self.ticked = at
        nm = world.limits.sign * world.tick(passed_s)
        silent = at + PERIOD_S - world.usable_s  # when the next tick comes
        if world.adapter.state == "off":
            self.allowed = False
        if world.adapter.state == "on" and silent >= 0.1:
            raise AssertionError(f"still on {silent} s after the last usable frame")
        size = world.step_nm + 1e-9
        most = world.limits.rate_nm_per_s * min(late, PERIOD_S)
        assert nm >= -world.zero_nm, "the wrong way"
        assert nm <= max(world.limits.max_nm, world.zero_nm) + 1e-9, "too much"
        assert nm - self.was <= most + size, "too fast"
        ending = world.adapter.state != "on" or at - world.usable_s > 0.029
        assert ending or self.was - nm <= most + size, "too fast, downwards"
        assert self.allowed or nm <= world.zero_nm, "nobody allowed that"
        assert silent < 0.1 or nm <= world.zero_nm, "too long after the last usable frame"
        if not world.peer.silent:
            on = world.adapter.state == "on"
            assert abs(abs(world.does()) - on * abs(nm)) < 1e-9 + world.zero_nm
        self.was = nm

    @rule(n=st.integers(1, 40), drive=DRIVES)
    def good(self, n: int, drive: float) -> None:
        for _ in range(n):
            self.world.frame(drive if drive < 7000 or math.isnan(drive) else 6553.4)
            self._tick()

    @rule(n=st.integers(1, 15))
    def lose(self, n: int) -> None:
        for _ in range(n):
            self.world.lose()
            self._tick()

    @rule(state=st.sampled_from(sorted(STATE.values())), n=st.integers(1, 4))
    def other_state(self, state: int, n: int) -> None:
        for _ in range(n):
            self.world.frame(state=state)
            self._tick()

    @rule(change=st.sampled_from([{"age_ms": 81.0}, {"age_ms": math.nan}, {"model_id16": 8}]))
    def bad(self, change: dict[str, Any]) -> None:
        self.world.frame(**change)
        self._tick()

    @rule(noise=st.binary(max_size=70), kind=st.integers(0, 255))
    def noise(self, noise: bytes, kind: int) -> None:
        if kind >> 4 not in (2, 3):  # these have no check but that of the framing
            self.world.receiver.serial(kind, noise, self.world.now)

    @rule(late_s=st.sampled_from([0.011, 0.019, 0.029, 0.031, 0.2]))
    def late(self, late_s: float) -> None:
        self.world.frame()
        self._tick(late_s)

    @rule(n=st.integers(0, 80))
    def arm(self, n: int) -> None:
        self.world.adapter.arm(self.world.now)
        self.allowed = True
        self.good(n + 1, 100.0)

    @rule()
    def type_something(self) -> None:
        self.world.adapter.stop("the operator typed 'Enter'")
        self.allowed = False

    @rule(silent=st.booleans())
    def machine_silent(self, silent: bool) -> None:
        self.world.peer.silent = silent

    @rule(frames=st.lists(st.tuples(st.sampled_from([0, 1, 0x47, 0x49, 0x78, 0x96]),
                                    st.binary(min_size=6, max_size=8)), max_size=3))
    def machine_says(self, frames: list[tuple[int, bytes]]) -> None:
        self.world.adapter.machine.hear(frames, self.world.now)

    @invariant()
    def what_is_sent_is_what_was_allowed(self) -> None:
        if hasattr(self, "world"):
            assert self.world.adapter.largest_nm <= self.world.limits.max_nm


class H3Leg(Leg):
    kind = "h3"


class MitLeg(Leg):
    kind = "mit"


for _leg in (H3Leg, MitLeg):
    _leg.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None,
                                      phases=(Phase.explicit, Phase.reuse, Phase.generate))
TestH3Leg, TestMitLeg = H3Leg.TestCase, MitLeg.TestCase
