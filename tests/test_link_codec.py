"""Messages to bytes and back.

Truth: bytes packed here by hand from the contract with a bitwise CRC of our own, the contract's
vector of a drive frame (`fb33d204bc1f512f`), the published check values of the two CRCs, and
cantools reading a CAN database that is typed here.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import cantools
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikewire.link import packing, table
from spikewire.link.codec import (
    Arm,
    FrameError,
    Notice,
    Step,
    crc8,
    crc16,
    decode,
    decode_frame,
    encode_arm,
    encode_short,
    encode_step,
    id16,
)
from spikewire.link.table import ARM, COUNTS, DRIVE, SHORT, STATES, STATUS, VALID, Field, Message

CHECK = b"123456789"
NAN = math.nan
STEP = Step(
    slot=2,
    state=3,
    counter=7,
    step=1234,
    sample_time_us=0x89ABCDEF,
    age_ms=23.5,
    faults=0x8005,
    drive=(NAN, 812.4, 0.0, 7000.0),
    activation=(40.5, NAN, 125.0, 126.0),
    n_mu=5,
    good_channels=61,
    model_id16=0xBEEF,
    counts=np.array([0, 1, 13, 14, 200], np.uint8),
)


def bitwise_crc(data: bytes, width: int, poly: int, start: int) -> int:
    """Shift-register CRC, bit by bit, most significant first."""
    crc = start
    for byte in data:
        for bit in range(7, -1, -1):
            top = crc >> (width - 1) & 1
            crc = (crc << 1) & ((1 << width) - 1)
            if top ^ (byte >> bit & 1):
                crc ^= poly
    return crc


def decode_step(payload: bytes, slot: int = 0) -> Step:
    """Decode a full frame."""
    step = decode(table.STEP, slot, payload)
    assert isinstance(step, Step)
    return step


def step_by_hand(slot: int = 0) -> bytes:
    """Pack `STEP` byte by byte as the contract lists them; the identifier is that of the slot."""
    body = struct.pack("<BBIIHH", 7, 1 << 4 | 3, 1234, 0x89ABCDEF, 2350, 0x8005)
    body += struct.pack("<4H4B", 0xFFFF, 8124, 0, 0xFFFE, 81, 0xFF, 250, 0xFE)
    body += struct.pack("<BBH", 5, 61, 0xBEEF)
    counts = [0, 1, 13, 14, 14] + [15] * 59
    body += bytes(counts[k] | counts[k + 1] << 4 for k in range(0, 64, 2))
    data_id = bytes([0x90 + slot, 0x06])
    return struct.pack("<H", bitwise_crc(body + data_id, 16, 0x1021, 0xFFFF)) + body


def same(a: Sequence[float], b: Sequence[float]) -> bool:
    """Compare values in which NaN equals itself and floats may differ in the last place."""
    return np.array_equal(np.round(a, 9), np.round(b, 9), equal_nan=True)


def test_crc_check_values() -> None:
    """Catalogue of CRCs: 0x29B1 is CRC-16/CCITT-FALSE; 0x37 is the contract's CRC-8."""
    assert crc8(CHECK) == 0x37 == bitwise_crc(CHECK, 8, 0x1D, 0)
    assert crc16(CHECK) == 0x29B1 == bitwise_crc(CHECK, 16, 0x1021, 0xFFFF)


@given(st.binary(max_size=80))
def test_crcs_agree_with_a_shift_register(data: bytes) -> None:
    assert crc8(data) == bitwise_crc(data, 8, 0x1D, 0)
    assert crc16(data) == bitwise_crc(data, 16, 0x1021, 0xFFFF)


def test_step_equals_bytes_packed_by_hand() -> None:
    assert encode_step(STEP) == step_by_hand(2)
    assert encode_step(replace(STEP, counter=256 + 7)) == step_by_hand(2)


def test_step_decodes() -> None:
    step = decode_step(step_by_hand(2), slot=2)
    for name in ("slot", "state", "counter", "step", "sample_time_us", "faults", "n_mu"):
        assert getattr(step, name) == getattr(STEP, name)
    assert (step.good_channels, step.model_id16) == (61, 0xBEEF)
    assert step.age_ms == pytest.approx(23.5)
    assert same(step.drive, (NAN, 812.4, 0.0, 6553.4))  # past the range: its first value
    assert same(step.activation, (40.5, NAN, 125.0, 127.0))
    assert step.counts.tolist() == [0, 1, 13, 14, 14] + [15] * 59
    assert step.counts.dtype == np.uint8


def test_short_equals_bytes_packed_by_hand() -> None:
    """Contract: step, drive, activation, state and counter, age, faults, model id, 2 spare."""
    by_hand = struct.pack("<IHBBHHHH", 1234, 0, 250, 3 << 4 | 7, 2350, 0x8005, 0xBEEF, 0)
    assert encode_short(STEP) == by_hand
    assert encode_short(replace(STEP, counter=22)) == by_hand  # modulo 15
    step = decode(SHORT, 2, by_hand)
    assert isinstance(step, Step)
    assert (step.slot, step.state, step.counter, step.step) == (2, 3, 7, 1234)
    assert same(step.drive, (NAN, NAN, 0.0, NAN))
    assert same(step.activation, (NAN, NAN, 125.0, NAN))
    assert len(step.counts) == 0


def test_arm_equals_bytes_packed_by_hand() -> None:
    """Contract: CRC-8 over the CAN identifier 0x6A0, low byte first, then bytes 1..7."""
    body = struct.pack("<BIH", 1 << 4 | 9, 0xDEADBEEF, 160)
    by_hand = bytes([bitwise_crc(b"\xa0\x06" + body, 8, 0x1D, 0)]) + body
    arm = Arm(request=1, model_id=0xDEADBEEF, counter=9, max_age_ms=80.0)
    assert encode_arm(arm) == by_hand
    assert decode(ARM, 0, by_hand) == arm
    assert id16(0xDEADBEEF) == 0xBEEF


DATABASE = """VERSION ""
BU_: DEC EXO
BO_ 1680 MU_STEP_FD: 64 DEC
 SG_ Crc : 0|16@1+ (1,0) [0|65535] "" EXO
 SG_ Counter : 16|8@1+ (1,0) [0|255] "" EXO
 SG_ State : 24|4@1+ (1,0) [0|15] "" EXO
 SG_ Proto : 28|4@1+ (1,0) [0|15] "" EXO
 SG_ Step : 32|32@1+ (1,0) [0|4294967295] "step" EXO
 SG_ SampleTime : 64|32@1+ (1,0) [0|4294967295] "us" EXO
 SG_ Age : 96|16@1+ (0.01,0) [0|655.33] "ms" EXO
 SG_ Faults : 112|16@1+ (1,0) [0|65535] "" EXO
 SG_ Drive0 : 128|16@1+ (0.1,0) [0|6553.3] "pulse/s" EXO
 SG_ Drive1 : 144|16@1+ (0.1,0) [0|6553.3] "pulse/s" EXO
 SG_ Drive2 : 160|16@1+ (0.1,0) [0|6553.3] "pulse/s" EXO
 SG_ Drive3 : 176|16@1+ (0.1,0) [0|6553.3] "pulse/s" EXO
 SG_ Activation0 : 192|8@1+ (0.5,0) [0|125] "%" EXO
 SG_ Activation1 : 200|8@1+ (0.5,0) [0|125] "%" EXO
 SG_ Activation2 : 208|8@1+ (0.5,0) [0|125] "%" EXO
 SG_ Activation3 : 216|8@1+ (0.5,0) [0|125] "%" EXO
 SG_ NMu : 224|8@1+ (1,0) [0|64] "" EXO
 SG_ GoodChannels : 232|8@1+ (1,0) [0|253] "" EXO
 SG_ ModelId16 : 240|16@1+ (1,0) [0|65535] "" EXO
{counts}
BA_DEF_ BO_ "VFrameFormat" ENUM "StandardCAN","ExtendedCAN","3","4","5","6","7","8","9","10",\
"11","12","13","14","StandardCAN_FD","ExtendedCAN_FD";
BA_DEF_DEF_ "VFrameFormat" "StandardCAN";
BA_ "VFrameFormat" BO_ 1680 14;
""".format(
    counts="\n".join(
        f' SG_ Count_{k:02} : {256 + 4 * k}|4@1+ (1,0) [0|15] "spike" EXO' for k in range(64)
    )
)


@given(
    age_ms=st.floats(0, 655),
    drive=st.lists(st.floats(0, 6553), min_size=4, max_size=4),
    activation=st.lists(st.floats(0, 125), min_size=4, max_size=4),
    counts=st.lists(st.integers(0, 14), max_size=64),
    step=st.integers(0, 2**32 - 1),
    state=st.sampled_from(sorted(STATES)),
)
@settings(max_examples=50, deadline=None)
def test_cantools_reads_the_same_values(
    age_ms: float,
    drive: list[float],
    activation: list[float],
    counts: list[int],
    step: int,
    state: int,
) -> None:
    """A foreign reader: cantools with a CAN database written from the contract."""
    sent = Step(
        slot=1,
        state=state,
        counter=step,
        step=step,
        sample_time_us=step // 3,
        age_ms=age_ms,
        drive=drive,
        activation=activation,
        n_mu=len(counts),
        good_channels=60,
        model_id16=step & 0xFFFF,
        counts=np.array(counts, np.uint8),
    )
    payload = encode_step(sent)
    read: dict[str, Any] = dict(FOREIGN.decode(payload))
    assert abs(read["Age"] - age_ms) <= 0.0051
    for k in range(4):
        assert abs(read[f"Drive{k}"] - drive[k]) <= 0.051
        assert abs(read[f"Activation{k}"] - activation[k]) <= 0.251
    assert [read[f"Count_{k:02}"] for k in range(64)] == counts + [15] * (64 - len(counts))
    assert (read["State"], read["Proto"], read["Counter"]) == (state, 1, step % 256)
    assert (read["Step"], read["SampleTime"], read["NMu"]) == (step, step // 3, len(counts))
    assert FOREIGN.encode(read) == payload


FOREIGN: Any = cantools.database.load_string(DATABASE, "dbc").get_message_by_name("MU_STEP_FD")

def test_vector_of_the_drive_frame() -> None:
    """Contract: id 0x680, counter 3, ACTIVE, step 1234, 812.4 pulse/s, 40.5 %, 23.5 ms."""
    values = {"counter": 3, "state": 3, "step": 1234, "drive": 812.4}
    values |= {"activation": 40.5, "age_ms": 23.5}
    payload = packing.pack(DRIVE, values)
    assert payload.hex() == "fb33d204bc1f512f"
    read = packing.unpack(DRIVE, payload)
    assert {name: pytest.approx(value) for name, value in values.items()} == {
        name: read[name] for name in values
    }
    with pytest.raises(FrameError) as caught:
        packing.unpack(DRIVE, payload, slot=1)  # the identifier is in the CRC
    assert caught.value.check == "crc"


def test_other_classic_messages() -> None:
    """Bits placed by hand: 24 counts of 2 bits, a temperature with an offset, 64 flags."""
    counts = np.array([0, 1, 2, 3, 9] + [0] * 19, np.uint8)
    payload = packing.pack(COUNTS, {"counter": 1, "bank": 2, "counts": counts})
    assert payload[1:4] == bytes([0x21, 0 | 1 << 2 | 2 << 4 | 3 << 6, 3])
    assert packing.unpack(COUNTS, payload)["counts"][:5].tolist() == [0, 1, 2, 3, 3]
    assert payload[0] == bitwise_crc(b"\x84\x06" + payload[1:], 8, 0x1D, 0)
    status = {"counter": 0, "state": 4, "faults": 1, "good_channels": 60, "n_mu": 20}
    payload = packing.pack(STATUS, {**status, "latency_p99_ms": 9.5, "temperature_c": 25.0})
    assert payload[6:] == bytes([19, 65])
    assert packing.unpack(STATUS, payload)["temperature_c"] == 25.0
    flags = np.zeros(64, bool)
    flags[[0, 9, 63]] = True
    assert packing.pack(VALID, {"units": flags}) == (1 | 1 << 9 | 1 << 63).to_bytes(8, "little")
    with pytest.raises(FrameError, match="units: 2 came"):
        packing.pack(VALID, {"units": np.array([2], np.uint8)})


@pytest.mark.parametrize(
    "fields",
    [
        (Field("a", 0, 8), Field("b", 4, 8)),
        (Field("a", 6, 4),),
        (Field("a", 0, 4), Field("b", 4, 2, count=2)),
        (Field("a", 0, 16), Field("b", 8, 8)),
        (Field("a", 0, 24),),
    ],
)
def test_a_row_that_cannot_be_packed_is_refused_at_once(fields: tuple[Field, ...]) -> None:
    with pytest.raises(ValueError, match=r"not supported|lies on"):
        packing._compile(Message("X", 4, fields))


steps = st.builds(
    Step,
    slot=st.integers(0, 3),
    state=st.sampled_from(sorted(STATES)),
    counter=st.integers(0, 10**6),
    step=st.integers(0, 2**40),
    sample_time_us=st.integers(0, 2**40),
    age_ms=st.floats(allow_infinity=True, allow_nan=True),
    faults=st.integers(0, 0xFFFF),
    drive=st.tuples(*[st.floats()] * 4),
    activation=st.tuples(*[st.floats()] * 4),
    n_mu=st.integers(0, 64),
    good_channels=st.integers(0, 1000),
    model_id16=st.integers(0, 0xFFFF),
    counts=st.lists(st.integers(0, 255), max_size=64).map(lambda v: np.array(v, np.uint8)),
)


@given(steps)
@settings(deadline=None)
def test_values_saturate_and_never_wrap(step: Step) -> None:
    read = decode_step(encode_step(step), step.slot)
    limits = {"age_ms": (0.01, 655.34), "drive": (0.1, 6553.4), "activation": (0.5, 127.0)}
    for name, (scale, top) in limits.items():
        for sent, got in zip(
            np.atleast_1d(getattr(step, name)), np.atleast_1d(getattr(read, name)), strict=True
        ):
            if math.isnan(sent):
                assert math.isnan(got)
            elif 0 <= sent <= (125.0 if name == "activation" else top - scale):
                assert abs(sent - got) <= scale / 2 + 1e-9
            else:
                assert got == pytest.approx(0.0 if sent < 0 else top, abs=scale)
    sent_counts = [value if value == 15 else min(value, 14) for value in step.counts.tolist()]
    assert read.counts.tolist() == sent_counts + [15] * (64 - len(sent_counts))
    assert read.good_channels == min(step.good_channels, 254)
    assert (read.step, read.counter) == (step.step % 2**32, step.counter % 256)


@given(steps)
@settings(deadline=None)
def test_bytes_survive_a_round_trip(step: Step) -> None:
    for encode, message in ((encode_step, table.STEP), (encode_short, SHORT)):
        payload = encode(step)
        again = decode(message, step.slot, payload)
        assert isinstance(again, Step)
        assert encode(again) == payload


@given(
    st.builds(
        Arm,
        request=st.integers(0, 2),
        model_id=st.integers(0, 2**32 - 1),
        counter=st.integers(0, 14),
        max_age_ms=st.integers(0, 0xFFFD).map(lambda raw: raw * 0.5),
    )
)
def test_arm_survives_a_round_trip(arm: Arm) -> None:
    assert decode(ARM, 0, encode_arm(arm)) == arm
    assert decode(ARM, 0, encode_arm(arm, 0x100), 0x100) == arm


@given(st.integers(0, 511), st.integers(0, 511))
def test_every_one_and_two_bit_error_of_a_step_is_caught(a: int, b: int) -> None:
    payload = bytearray(step_by_hand())
    for bit in {a, b}:
        payload[bit // 8] ^= 1 << bit % 8
    with pytest.raises(FrameError) as caught:
        decode_step(bytes(payload))
    assert caught.value.check == "crc"


CLASSIC = [
    (DRIVE, {"counter": 3, "state": 3, "step": 1234, "drive": 812.4, "activation": 40.5,
             "age_ms": 23.5}),
    (COUNTS, {"counter": 1, "bank": 1, "counts": np.array([1, 0, 2], np.uint8)}),
    (STATUS, {"counter": 0, "state": 4, "faults": 1, "good_channels": 60, "n_mu": 20,
              "latency_p99_ms": 9.5, "temperature_c": 25.0}),
    (table.INFO2, {"counter": 2, "table_hash": 0xDEADBEEF}),
    (ARM, {"counter": 9, "request": 1, "model_id": 0xDEADBEEF, "max_age_ms": 80.0}),
]


@pytest.mark.parametrize(("message", "values"), CLASSIC, ids=lambda v: getattr(v, "name", ""))
def test_every_one_and_two_bit_error_of_a_classic_frame_is_caught(
    message: Message, values: dict[str, Any]
) -> None:
    """All 64 and all 2016 of them."""
    payload = int.from_bytes(packing.pack(message, values), "little")
    for a in range(64):
        for b in range(a + 1):  # a == b: one bit
            wrong = payload ^ (1 << a | 1 << b)
            with pytest.raises(FrameError) as caught:
                packing.unpack(message, wrong.to_bytes(8, "little"))
            assert caught.value.check == "crc"


@given(st.integers(0, 255), st.binary(max_size=70))
def test_hostile_payloads_give_a_frame_error_or_a_message(kind: int, payload: bytes) -> None:
    with suppress(FrameError):
        assert isinstance(decode_frame(kind, payload), (Step, Arm, Notice))


def resealed(payload: bytes, at: int, value: int) -> bytes:
    """Change one byte of a full frame and put the CRC right again."""
    body = payload[2:at] + bytes([value]) + payload[at + 1 :]
    return struct.pack("<H", bitwise_crc(body + b"\x90\x06", 16, 0x1021, 0xFFFF)) + body


@pytest.mark.parametrize(
    ("at", "value", "check"),
    [(3, 0x23, "proto"), (3, 0x17, "state"), (24, 251, "range"), (28, 65, "range")],
)
def test_a_payload_out_of_range_names_the_check(at: int, value: int, check: str) -> None:
    with pytest.raises(FrameError) as caught:
        decode_step(resealed(step_by_hand(), at, value))
    assert caught.value.check == check


def test_wrong_length_and_unknown_type() -> None:
    with pytest.raises(FrameError, match="63 bytes came, 64 are needed") as caught:
        decode_step(step_by_hand()[1:])
    assert caught.value.check == "length"
    with pytest.raises(FrameError, match="0x7f came, known: 0x10") as caught:
        decode_frame(0x7F, b"")
    assert caught.value.check == "type"
    assert decode_frame(0x13, step_by_hand(3)).slot == 3  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"slot": 4}, "slot 4 came, 0..3 is allowed"),
        ({"state": 7}, "state: 7 came, allowed: 0 BOOT"),
        ({"faults": 0x10000}, "faults: 65536 came"),
        ({"n_mu": 65}, "n_mu: 65 came"),
        ({"n_mu": NAN}, "n_mu: NaN came"),
        ({"drive": (1.0,)}, "drive: 1 values came, 4 are needed"),
        ({"counts": np.zeros(65, np.uint8)}, "counts: uint8 .65,. came, up to 64 integers fit"),
        ({"counts": np.zeros(3)}, "counts: float64 .3,. came"),
    ],
)
def test_what_fits_into_no_frame_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(FrameError, match=message):
        encode_step(Step(**change))


def test_the_edge_between_the_last_value_and_saturated() -> None:
    """Contract: raw 250 is 125 %, 254 means more; 251..253 mean nothing and are never sent."""
    payload = encode_step(Step(activation=(125.0, 125.2, 125.3, 126.5)))
    assert list(payload[24:28]) == [250, 250, 254, 254]
    payload = encode_step(Step(drive=(6553.3, 6553.34, 6553.36, 6553.4)))
    assert struct.unpack_from("<4H", payload, 16) == (0xFFFD, 0xFFFD, 0xFFFE, 0xFFFE)


def test_wide_counts_do_not_wrap() -> None:
    read = decode_step(encode_step(Step(counts=np.array([256, 257, -1, 2]))))
    assert read.counts[:4].tolist() == [14, 14, 0, 2]


def test_arm_refuses_unknown_requests() -> None:
    with pytest.raises(FrameError, match="request: 3 came, allowed: 0 disarm, 1 arm, 2 clear"):
        encode_arm(Arm(3, 0))
    with pytest.raises(FrameError, match="model_id"):
        encode_arm(Arm(1, 1 << 32))
