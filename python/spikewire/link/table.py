"""The message table: the one place where the layout of a message is written.

Codec, CAN database, C header and documentation page are derived from `MESSAGES` (`generate.py`). A
new message is a new row; no code changes. Identifiers are those of the base 0x680; a link with
another base shifts all of them, and with them the data ids in the CRCs.

Everything is little endian. Bit b of a message is bit b % 8 of byte b // 8, as in a CAN database.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as attribute
from functools import cached_property

PROTO = 1  # goes up when a controller that knows the older layout would misread a frame

STATES: dict[int, str] = {
    0: "BOOT",
    1: "IDLE",
    2: "READY",
    3: "ACTIVE",
    4: "DEGRADED",
    5: "SAFE",
    6: "FAULT",
    15: "NA",
}
FAULTS: dict[int, str] = {  # bit number -> name
    0: "stale",
    1: "gap",
    2: "liftoff",
    3: "saturated",
    4: "implausible",
    5: "overrun",
    6: "engine",
    7: "nan",
    8: "link",
    9: "thermal",
    10: "config",
    11: "clock",
    12: "drift",
    15: "latched",
}
REQUESTS: dict[int, str] = {0: "disarm", 1: "arm", 2: "clear"}

BASE = 0x680  # outside CANopen's predefined sets, and away from the H3 (0x32 to 0x96)
N_UNITS = 64  # motor units that a full frame has room for
N_DRIVES = 4  # drive slots, one per bundle
COUNT_NA = 15  # count of a motor unit that is not available


@dataclass(frozen=True)
class Field:
    """One signal of a message, or a run of `count` equal ones without holes between them.

    value = raw * scale + offset.

    Attributes
    ----------
    name : str
    bit : int
        First bit; see the module's docstring for the numbering.
    width : int
        Bits of one element: 8, 16, 32 or 64 on a byte boundary, or less than 8 inside one byte.
    count : int
        Elements.
    scale, offset : float
        From raw to `unit`.
    unit : str
        Unit of the value, empty for a plain number.
    maximum : int or None
        Largest raw that is a value; None derives it from the marks below and the width.
    invalid : int or None
        Raw that means "not available".
    saturated : int or None
        Raw that means "more than `maximum`"; without it a larger value is refused.
    modulus : int or None
        Set for counters and clocks only, which wrap on purpose: raw = value modulo this.
    choices : mapping of int to str or None
        The raws that are allowed and their names; any other is refused.
    doc : str
        One line for the documentation.
    """

    name: str
    bit: int
    width: int
    count: int = 1
    scale: float = 1.0
    offset: float = 0.0
    unit: str = ""
    maximum: int | None = None
    invalid: int | None = None
    saturated: int | None = None
    modulus: int | None = None
    choices: Mapping[int, str] | None = attribute(default=None, hash=False)
    doc: str = ""

    @cached_property
    def largest(self) -> int:
        """Largest raw that is a value and not a mark."""
        if self.maximum is not None:
            return self.maximum
        if self.modulus is not None:
            return self.modulus - 1
        marks = [mark for mark in (self.invalid, self.saturated) if mark is not None]
        return min(marks, default=1 << self.width) - 1


@dataclass(frozen=True)
class Message:
    """One message: its names on each wire, its size and its fields.

    Attributes
    ----------
    name : str
    size : int
        Payload, bytes.
    fields : tuple of Field
    serial_type : int or None
        Type byte on a serial line (of slot 0), None if the message is not sent there.
    can_id : int or None
        CAN identifier (of slot 0), None if the message is not sent there.
    crc : str
        "crc8" or "crc16" in the first bytes, or "" where only the framing protects it.
    slots : int
        Copies of the message; slot k has serial type `serial_type` + k and CAN identifier
        `can_id` + k.
    can_name : str
        In the CAN database and the C header; a slot's number follows it.
    every : float
        Seconds between two of them; 0 is every step.
    sender : str
        "decoder" or "controller".
    doc : str
        One line for the documentation.
    """

    name: str
    size: int
    fields: tuple[Field, ...]
    serial_type: int | None = None
    can_id: int | None = None
    crc: str = ""
    slots: int = 1
    can_name: str = ""
    every: float = 0.0
    sender: str = "decoder"
    doc: str = ""

    def field(self, name: str) -> Field:
        """Return the field called `name`; KeyError if there is none."""
        for row in self.fields:
            if row.name == name:
                return row
        raise KeyError(f"{self.name} has no field {name!r}")

    def data_id(self, slot: int = 0, base: int = BASE) -> int:
        """Return the number mixed into the CRC: the CAN identifier, on every kind of line.

        A message that has none has no CRC of its own either, and gives 0.
        """
        return 0 if self.can_id is None else self.can_id + slot + base - BASE

    def type_of(self, slot: int = 0) -> int:
        """Return the serial type byte of `slot`; ValueError if it is not sent on serial lines."""
        if self.serial_type is None:
            raise ValueError(f"{self.name} has no serial type; it is sent on CAN only")
        return self.serial_type + slot


U32 = 1 << 32

AGE = "from acquisition of the newest sample to hand-over of the frame"
MVC = "drive as a share of maximal voluntary contraction"
CRC8 = Field("crc", 0, 8, doc="CRC-8 over data id low, high, then bytes 1..7")
COUNTER = Field("counter", 8, 4, modulus=15, doc="of frames of this identifier, 0..14")
STATE = Field("state", 12, 4, choices=STATES, doc="state of the decoder")


def half_ms(name: str, bit: int, doc: str) -> Field:
    """A time in one byte, 0 to 126.5 ms."""
    return Field(name, bit, 8, scale=0.5, unit="ms", invalid=0xFF, saturated=0xFE, doc=doc)


DRIVE = Message(
    name="DRIVE",
    can_id=0x680,
    size=8,
    crc="crc8",
    slots=N_DRIVES,
    can_name="MU_DRIVE",
    doc="Neural drive of one bundle; classic CAN.",
    fields=(
        CRC8,
        COUNTER,
        STATE,
        Field("step", 16, 16, modulus=1 << 16, unit="step", doc="steps since start; wraps"),
        Field(
            "drive", 32, 16, scale=0.1, unit="pulse/s", invalid=0xFFFF, saturated=0xFFFE,
            doc="neural drive of the slot",
        ),
        Field(
            "activation", 48, 8, scale=0.5, unit="%", maximum=250, invalid=0xFF,
            saturated=0xFE, doc=MVC,
        ),
        half_ms("age_ms", 56, AGE),
    ),
)  # fmt: skip

UNITS_PER_BANK, BANKS = 24, 3
COUNTS = Message(
    name="COUNTS",
    can_id=0x684,
    size=8,
    crc="crc8",
    slots=BANKS,
    can_name="MU_COUNTS",
    doc="Spikes of 24 motor units in one step; the units of all bundles in order; classic CAN.",
    fields=(
        CRC8,
        COUNTER,
        Field("bank", 12, 4, maximum=BANKS - 1, doc="motor units 24 bank .. 24 bank + 23"),
        Field(
            "counts", 16, 2, UNITS_PER_BANK, unit="spike", saturated=3,
            doc="spikes of each motor unit in this step; 3 is three or more",
        ),
    ),
)  # fmt: skip

VALID = Message(
    name="VALID",
    serial_type=0x33,
    can_id=0x687,
    size=8,
    can_name="MU_VALID",
    every=1.0,
    doc="Which motor units are decoded; also three times when that changes.",
    fields=(Field("units", 0, 1, N_UNITS, doc="1 for a motor unit in use, in order"),),
)

STEP = Message(
    name="STEP",
    serial_type=0x10,
    can_id=0x690,
    size=64,
    crc="crc16",
    slots=N_DRIVES,
    can_name="MU_STEP_FD",
    doc="Everything about one step of one bundle; CAN FD and serial.",
    fields=(
        Field("crc", 0, 16, doc="CRC-16 over bytes 2..63, then data id low, high"),
        Field("counter", 16, 8, modulus=256, doc="of frames of this slot"),
        Field("state", 24, 4, choices=STATES, doc="state of the decoder"),
        Field("proto", 28, 4, choices={PROTO: "this table"}, doc="version of the table"),
        Field("step", 32, 32, modulus=U32, unit="step", doc="steps since start; wraps"),
        Field("sample_time_us", 64, 32, modulus=U32, unit="us", doc="newest sample; wraps"),
        Field(
            "age_ms", 96, 16, scale=0.01, unit="ms", invalid=0xFFFF, saturated=0xFFFE, doc=AGE
        ),
        Field("faults", 112, 16, doc="bits of FAULTS"),
        Field(
            "drive", 128, 16, N_DRIVES, 0.1, unit="pulse/s", invalid=0xFFFF, saturated=0xFFFE,
            doc="neural drive of slot 0..3",
        ),
        Field(
            "activation", 192, 8, N_DRIVES, 0.5, unit="%", maximum=250, invalid=0xFF,
            saturated=0xFE, doc=MVC,
        ),
        Field("n_mu", 224, 8, maximum=N_UNITS, doc="motor units of the bundle"),
        Field("good_channels", 232, 8, maximum=0xFD, saturated=0xFE, doc="electrodes in use"),
        Field("model_id16", 240, 16, doc="low 16 bits of the model id"),
        Field(
            "counts", 256, 4, N_UNITS, unit="spike", invalid=COUNT_NA, saturated=14,
            doc="spikes of each motor unit in this step",
        ),
    ),
)  # fmt: skip

SHORT = Message(
    name="SHORT",
    serial_type=0x20,
    size=16,
    slots=N_DRIVES,
    can_name="MU_SHORT",
    doc="Drive of one bundle for slow serial lines; the framing's CRC-32 protects it.",
    fields=(
        Field("step", 0, 32, modulus=U32, unit="step", doc="steps since start; wraps"),
        Field(
            "drive", 32, 16, scale=0.1, unit="pulse/s", invalid=0xFFFF, saturated=0xFFFE,
            doc="neural drive of the frame's slot",
        ),
        Field(
            "activation", 48, 8, scale=0.5, unit="%", maximum=250, invalid=0xFF,
            saturated=0xFE, doc=MVC,
        ),
        Field("counter", 56, 4, modulus=15, doc="of frames of this slot, 0..14"),
        Field("state", 60, 4, choices=STATES, doc="state of the decoder"),
        Field(
            "age_ms", 64, 16, scale=0.01, unit="ms", invalid=0xFFFF, saturated=0xFFFE, doc=AGE
        ),
        Field("faults", 80, 16, doc="bits of FAULTS"),
        Field("model_id16", 96, 16, doc="low 16 bits of the model id"),
    ),
)  # fmt: skip

STATUS = Message(
    name="STATUS",
    serial_type=0x32,
    can_id=0x68F,
    size=8,
    crc="crc8",
    can_name="MU_STATUS",
    every=0.1,
    doc="How the decoder is; also at once when its state changes.",
    fields=(
        CRC8,
        COUNTER,
        STATE,
        Field("faults", 16, 16, doc="bits of FAULTS"),
        Field("good_channels", 32, 8, maximum=0xFD, saturated=0xFE, doc="electrodes in use"),
        Field("n_mu", 40, 8, maximum=0xFD, saturated=0xFE, doc="motor units of all bundles"),
        half_ms("latency_p99_ms", 48, "99th percentile of the age since the start"),
        Field(
            "temperature_c", 56, 8, offset=-40, unit="degC", maximum=0xFD, invalid=0xFF,
            saturated=0xFE, doc="hottest part of the board",
        ),
    ),
)  # fmt: skip

INFO = Message(
    name="INFO",
    serial_type=0x30,
    can_id=0x68E,
    size=8,
    can_name="MU_INFO",
    every=1.0,
    doc="What decodes; a receiver uses nothing before it and INFO2.",
    fields=(
        Field("proto", 0, 8, choices={PROTO: "this table"}, doc="version of the table"),
        Field("n_mu", 8, 8, maximum=0xFE, saturated=0xFF, doc="motor units of all bundles"),
        Field("step_period_us", 16, 16, unit="us", doc="from one step to the next"),
        Field("model_id", 32, 32, doc="CRC-32 over the bundles' sha256; to be named when arming"),
    ),
)

INFO2 = Message(
    name="INFO2",
    serial_type=0x31,
    can_id=0x68D,
    size=8,
    crc="crc8",
    can_name="MU_INFO2",
    every=1.0,
    doc="Which table the decoder speaks; a receiver uses nothing before it and INFO.",
    fields=(
        CRC8,
        COUNTER,
        Field("table_hash", 16, 32, doc="first 4 bytes of the SHA-256 of the table, as a number"),
    ),
)

ARM = Message(
    name="ARM",
    serial_type=0x40,
    can_id=0x6A0,
    size=8,
    crc="crc8",
    can_name="EXO_ARM",
    every=0.1,
    sender="controller",
    doc="From the controller, at least 10 times a second, for as long as the decoder may act.",
    fields=(
        CRC8,
        COUNTER,
        Field("request", 12, 4, choices=REQUESTS, doc="what the controller wants"),
        Field("model_id", 16, 32, doc="of the model that the controller expects"),
        Field(
            "max_age_ms", 48, 16, scale=0.5, unit="ms", invalid=0xFFFF, saturated=0xFFFE,
            doc="oldest age that the controller accepts",
        ),
    ),
)  # fmt: skip

MESSAGES: tuple[Message, ...] = (
    DRIVE, COUNTS, VALID, STEP, SHORT, STATUS, INFO, INFO2, ARM,
)  # fmt: skip

# serial type byte -> message and slot
BY_TYPE: dict[int, tuple[Message, int]] = {
    message.type_of(slot): (message, slot)
    for message in MESSAGES
    if message.serial_type is not None
    for slot in range(message.slots)
}

# CAN identifier (of the usual base) -> message and slot
BY_CAN_ID: dict[int, tuple[Message, int]] = {
    message.data_id(slot): (message, slot)
    for message in MESSAGES
    if message.can_id is not None
    for slot in range(message.slots)
}


def table_text() -> str:
    """Return the table as canonical text: everything that decides what bytes mean, no prose."""
    lines = [f"proto {PROTO}", f"states {sorted(STATES.items())}"]
    lines += [f"faults {sorted(FAULTS.items())}", f"requests {sorted(REQUESTS.items())}"]
    for message in MESSAGES:
        lines.append(
            f"message {message.name} {message.size} {message.serial_type} {message.can_id} "
            f"{message.crc or '-'} {message.slots} {message.sender}"
        )
        for row in message.fields:
            choices = sorted(row.choices) if row.choices else None
            lines.append(
                f"field {row.name} {row.bit} {row.width} {row.count} {row.scale!r} {row.offset!r} "
                f"{row.unit or '-'} {row.largest} {row.invalid} {row.saturated} {row.modulus} "
                f"{choices}"
            )
    return "\n".join(lines) + "\n"


def table_hash() -> bytes:
    """Return the 4 bytes by which two programs see that they use the same table.

    Returns
    -------
    bytes (4,)
        The first bytes of the SHA-256 of `table_text`.
    """
    return hashlib.sha256(table_text().encode()).digest()[:4]


def table_number() -> int:
    """Return `table_hash` as it travels in INFO2: little endian."""
    return int.from_bytes(table_hash(), "little")
