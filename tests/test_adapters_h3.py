"""Frames of the Exo-H3.

Truth: Technaid's identifiers and codes (0x47 control type, 3 torque control; 0x49 set-points, int8
N.m, RH, RK, RA, LH, LK, LA; 0x55 mode 1; 0x78 and 0x96 back), bytes by hand, and the same six
signals encoded by cantools.
"""

from __future__ import annotations

import math

import cantools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikewire.adapters import h3
from spikewire.adapters.limits import Limits

JOINTS = ("RH", "RK", "RA", "LH", "LK", "LA")
TORQUES = cantools.database.load_string(
    "VERSION \"\"\nBU_: HOST H3\nBO_ 73 SET_TORQUE: 6 HOST\n"
    + "".join(f' SG_ {joint} : {8 * n}|8@1- (1,0) [-50|50] "Nm" H3\n'
              for n, joint in enumerate(JOINTS)), "dbc").get_message_by_name("SET_TORQUE")


def machine(joint: str = "right_ankle", trip_nm: float = 20.0) -> h3.H3:
    return h3.H3(Limits(1, 0.1, 0.0, 10.0, trip_nm, 20.0, {"joint": joint}))


def hex_of(frames: list[tuple[int, bytes]]) -> list[tuple[int, str]]:
    return [(identifier, data.hex()) for identifier, data in frames]


def test_bytes_by_hand() -> None:
    ankle = machine()
    assert hex_of(ankle.start()) == [(0x55, "010000000000"), (0x49, "000000000000"),
                                     (0x47, "000003000000")]
    assert hex_of(ankle.torque(5.0)) == [(0x49, "000005000000")]
    assert hex_of(ankle.torque(-5.0)) == [(0x49, "0000fb000000")]
    assert hex_of(ankle.stop()) == [(0x49, "000000000000"), (0x47, "000000000000")]
    assert hex_of(machine("left_hip").start())[2] == (0x47, "000000030000")
    assert hex_of(machine("left_knee").torque(1.0)) == [(0x49, "000000000100")]


@pytest.mark.parametrize(("nm", "byte"), [
    (0.999, 0), (-0.999, 0), (9.999, 9), (-9.999, -9), (25.0, 25), (25.9, 25), (127.0, 25),
    (128.0, 25), (-128.0, -25), (-129.0, -25), (200.0, 25), (1e300, 25), (-math.inf, -25),
    (math.nan, 0),
])
def test_a_torque_is_cut_before_it_becomes_a_byte(nm: float, byte: int) -> None:
    """A cast of 200 N.m to int8 would be -56."""
    assert machine().torque(nm) == [(0x49, bytes((0, 0, byte & 0xFF, 0, 0, 0)))]


@given(st.floats(), st.sampled_from(JOINTS))
def test_set_points_as_cantools_encodes_them(nm: float, joint: str) -> None:
    place = JOINTS.index(joint)
    ((identifier, data),) = machine(h3.JOINTS[place]).torque(nm)
    assert identifier == TORQUES.frame_id
    said = TORQUES.decode(data)
    assert data == TORQUES.encode(said)
    assert {name for name, value in said.items() if value} <= {joint}
    assert abs(said[joint]) <= min(25, abs(nm)) or math.isnan(nm)
    assert said[joint] * nm >= 0 or math.isnan(nm)


STANDING = bytes(6)


def test_both_messages_must_keep_coming() -> None:
    ankle = machine()
    assert ankle.heard_s == -math.inf
    ankle.hear([(0x96, STANDING)], 1.0)
    assert ankle.heard_s == -math.inf
    ankle.hear([(0x78, bytes(6))], 1.01)
    assert ankle.heard_s == 1.0
    ankle.hear([(0x96, STANDING), (0x78, bytes(6))], 2.0)
    assert ankle.heard_s == 2.0
    ankle.hear([(0x96, STANDING[:5]), (0x78, b""), (0x6E, bytes(6))], 3.0)  # too short, another
    assert ankle.heard_s == 2.0
    assert ankle.fault() == ""
    ankle.forget()
    assert ankle.heard_s == -math.inf


@pytest.mark.parametrize(("state", "words"), [
    *((state, "") for state in (0, 11, 12, 16)),
    (1, "1 walking"), (10, "10 walking"), (14, "14 standing up"), (19, "19 joints blocked"),
    (23, "23 failure of right_ankle"), (26, "26 failure of left_ankle"), (200, "200 unknown"),
])
def test_an_h3_that_does_something_by_itself_stops(state: int, words: str) -> None:
    ankle = machine()
    ankle.hear([(0x96, bytes((state, 0, 0, 0, 0, 0)))], 0.0)
    assert words in ankle.fault()
    assert bool(ankle.fault()) is bool(words)


def test_a_command_of_its_app_stops() -> None:
    ankle = machine()
    ankle.hear([(0x96, bytes((0, 7, 0, 0, 0, 0)))], 0.0)  # whatever it was before
    assert ankle.fault() == ""
    ankle.hear([(0x96, bytes((0, 8, 0, 0, 0, 0)))], 0.01)
    assert ankle.fault() == "the H3's app gave command 8"
    ankle.forget()
    ankle.hear([(0x96, bytes((0, 8, 0, 0, 0, 0)))], 0.02)
    assert ankle.fault() == ""


@pytest.mark.parametrize(("nm", "stops"), [(20, False), (-20, False), (21, True), (-128, True)])
def test_a_reported_torque_past_the_trip_stops(nm: int, stops: bool) -> None:
    ankle = machine(trip_nm=20.0)
    ankle.hear([(0x78, bytes((0, 0, nm & 0xFF, 0, 0, 0)))], 0.0)
    assert bool(ankle.fault()) is stops
    ankle.forget()
    ankle.hear([(0x78, bytes((nm & 0xFF, nm & 0xFF, 0, 0, 0, 0)))], 0.0)  # other joints
    assert ankle.fault() == ""


@pytest.mark.parametrize("identifier", [0x46, 0x47, 0x48, 0x49, 0x51, 0x55])
def test_somebody_else_who_commands_it_stops(identifier: int) -> None:
    ankle = machine()
    ankle.hear([(identifier, bytes(6))], 0.0)
    assert ankle.fault() == f"somebody else commands the H3 (0x{identifier:02x} came)"


@given(st.lists(st.tuples(st.integers(0, 0x7FF), st.binary(max_size=8)), max_size=20))
def test_any_frames_are_heard_without_an_error(frames: list[tuple[int, bytes]]) -> None:
    ankle = machine()
    ankle.hear(frames, 0.0)
    assert "\n" not in ankle.fault()
