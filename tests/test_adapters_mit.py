"""Packets of MIT-style motors.

Truth: bytes by hand from the layout (p16 v12 kp12 kd12 t12, big endian; AK80-9: 12.5 rad, 50 rad/s,
500, 5, 18 N.m), and cantools with the same layout as a CAN database.
"""

from __future__ import annotations

import math

import cantools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikewire.adapters import mit
from spikewire.adapters.limits import Limits

STEP_NM = 36 / 4095
DATABASE = cantools.database.load_string(f"""VERSION ""
BU_: HOST MOTOR
BO_ 1 COMMAND: 8 HOST
 SG_ P : 7|16@0+ ({25 / 65535},-12.5) [-12.5|12.5] "rad" MOTOR
 SG_ V : 23|12@0+ ({100 / 4095},-50) [-50|50] "rad/s" MOTOR
 SG_ KP : 27|12@0+ ({500 / 4095},0) [0|500] "" MOTOR
 SG_ KD : 47|12@0+ ({5 / 4095},0) [0|5] "" MOTOR
 SG_ T : 51|12@0+ ({STEP_NM},-18) [-18|18] "Nm" MOTOR
BO_ 2 FEEDBACK: 8 MOTOR
 SG_ ID : 7|8@0+ (1,0) [0|255] "" HOST
 SG_ P : 15|16@0+ ({25 / 65535},-12.5) [-12.5|12.5] "rad" HOST
 SG_ V : 31|12@0+ ({100 / 4095},-50) [-50|50] "rad/s" HOST
 SG_ T : 35|12@0+ ({STEP_NM},-18) [-18|18] "Nm" HOST
 SG_ TEMP : 55|8@0+ (1,0) [0|255] "degC" HOST
 SG_ ERROR : 63|8@0+ (1,0) [0|255] "" HOST
""", "dbc")
COMMAND, FEEDBACK = (DATABASE.get_message_by_name(n) for n in ("COMMAND", "FEEDBACK"))


def machine(can_id: int = 1, trip_nm: float = 6.0) -> mit.Mit:
    return mit.Mit(Limits(1, 0.1, 0.0, 3.0, trip_nm, 10.0, {"can_id": can_id, "motor": "AK80-9"}))


def hex_of(frames: list[tuple[int, bytes]]) -> list[tuple[int, str]]:
    return [(identifier, data.hex()) for identifier, data in frames]


def test_bytes_by_hand() -> None:
    """Zero: raws 0x8000, 0x800, 0, 0, 0x800. 9 N.m: 1023.75 steps of 36/4095 above the middle."""
    zero = "8000800000000800"
    motor = machine(5)
    assert hex_of(motor.start()) == [(5, "fffffffffffffffc"), (5, zero)]
    assert hex_of(motor.torque(0.0)) == [(5, zero)]
    assert hex_of(motor.torque(9.0)) == [(5, "8000800000000bff")]
    assert hex_of(motor.torque(-9.0)) == [(5, "8000800000000400")]
    assert hex_of(motor.stop()) == [(5, zero), (5, "fffffffffffffffd")]


@given(st.floats())
def test_torques_as_cantools_decodes_them(nm: float) -> None:
    """Never more than asked or than 9 N.m, never more than a step less; gains always zero."""
    said = COMMAND.decode(mit.command(nm))
    assert (said["KP"], said["KD"]) == (0, 0)
    assert abs(said["P"]) < 1e-3
    assert abs(said["V"]) < 0.02
    asked = 0.0 if math.isnan(nm) else max(-9.0, min(9.0, nm))
    assert abs(said["T"]) <= max(abs(asked), STEP_NM / 2) + 1e-9
    assert abs(said["T"]) > abs(asked) - STEP_NM - 1e-9
    assert said["T"] * asked >= 0 or abs(asked) < 1e-300


@given(st.floats(), st.sampled_from([12.0, 18.0, 25.0]))
def test_twelve_bits_never_wrap(nm: float, most: float) -> None:
    if math.isfinite(nm):
        raw = mit.torque_raw(nm, most)
        assert 0 <= raw <= 0xFFF
        assert (raw >= 0x800) is (nm >= 0)


def test_a_torque_is_never_taken_for_another_command() -> None:
    """Enter, exit and zero begin with seven bytes of FF; a position of zero does not."""
    for raw in range(-900, 901):
        assert mit.command(raw / 100)[:2] == b"\x80\x00"


@given(st.integers(0, 255), st.integers(0, 65535), st.integers(0, 4095), st.integers(0, 4095),
       st.integers(0, 255))
def test_feedback_as_cantools_encodes_it(can_id: int, p: int, v: int, t: int, error: int) -> None:
    data = FEEDBACK.encode({"ID": can_id, "P": p * 25 / 65535 - 12.5, "V": v * 100 / 4095 - 50,
                            "T": t * STEP_NM - 18, "TEMP": 25, "ERROR": error})
    said, expected = mit.feedback(data), FEEDBACK.decode(data)
    assert said is not None
    assert (said.can_id, said.error) == (can_id, error)
    assert [said.position_rad, said.speed_rad_s, said.torque_nm] == pytest.approx(
        [expected["P"], expected["V"], expected["T"]], abs=1e-9)
    assert mit.feedback(data[:6]) == said._replace(error=0)
    for size in (0, 1, 5, 7):
        assert mit.feedback(data[:size]) is None


def told(torque_nm: float = 0.0, error: int = 0, can_id: int = 1) -> bytes:
    return FEEDBACK.encode({"ID": can_id, "P": 0.0, "V": 0.0, "T": torque_nm, "TEMP": 25,
                            "ERROR": error}, strict=False)


def test_only_its_own_answers_count() -> None:
    """Drives answer under identifier 0 or their own, and name themselves in the first byte."""
    motor = machine()
    for identifier, data in ((0, told(can_id=2)), (2, told()), (0, told()[:7])):
        motor.hear([(identifier, data)], 1.0)
        assert motor.heard_s == -math.inf
    motor.hear([(0, told())], 2.0)
    assert motor.heard_s == 2.0
    motor.hear([(1, told())], 3.0)
    assert (motor.heard_s, motor.fault()) == (3.0, "")


@pytest.mark.parametrize(("data", "words"), [
    (told(5.9), ""), (told(6.1), "motor 1 reports 6.1 N.m, trip_nm is 6"),
    (told(-6.1), "motor 1 reports -6.1 N.m, trip_nm is 6"),
    (told(error=1), "motor 1 reports error 1, too hot"),
    (told(error=77), "motor 1 reports error 77, unknown"),
    (told()[:6], ""),
])
def test_what_it_says_may_stop(data: bytes, words: str) -> None:
    motor = machine()
    motor.hear([(0, data)], 0.0)
    assert motor.fault() == words
    motor.forget()
    assert (motor.fault(), motor.heard_s) == ("", -math.inf)


@pytest.mark.parametrize("data", [mit.ENTER, mit.EXIT, mit.command(3.0), mit.command(0.0)])
def test_somebody_else_who_commands_it_stops(data: bytes) -> None:
    motor = machine()
    motor.hear([(1, data)], 0.0)
    assert motor.fault() == "somebody else commands motor 1"


@given(st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=8)), max_size=20))
def test_any_frames_are_heard_without_an_error(frames: list[tuple[int, bytes]]) -> None:
    motor = machine()
    motor.hear(frames, 0.0)
    assert "\n" not in motor.fault()
