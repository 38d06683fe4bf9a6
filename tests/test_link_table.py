"""The message table against what the contract says in words.

Truth: the contract's byte positions, written out here again by hand; hashlib.
"""

from __future__ import annotations

import dataclasses
import hashlib

import pytest

from spikewire.link import table

# message -> field -> (first byte, high nibble?, bits, elements), typed from the contract
CLASSIC = {"crc": (0, False, 8, 1), "counter": (1, False, 4, 1)}
PLACES = {
    "DRIVE": CLASSIC | {
        "state": (1, True, 4, 1),
        "step": (2, False, 16, 1),
        "drive": (4, False, 16, 1),
        "activation": (6, False, 8, 1),
        "age_ms": (7, False, 8, 1),
    },
    "COUNTS": CLASSIC | {"bank": (1, True, 4, 1), "counts": (2, False, 2, 24)},
    "VALID": {"units": (0, False, 1, 64)},
    "STATUS": CLASSIC | {
        "state": (1, True, 4, 1),
        "faults": (2, False, 16, 1),
        "good_channels": (4, False, 8, 1),
        "n_mu": (5, False, 8, 1),
        "latency_p99_ms": (6, False, 8, 1),
        "temperature_c": (7, False, 8, 1),
    },
    "INFO": {
        "proto": (0, False, 8, 1),
        "n_mu": (1, False, 8, 1),
        "step_period_us": (2, False, 16, 1),
        "model_id": (4, False, 32, 1),
    },
    "INFO2": CLASSIC | {"table_hash": (2, False, 32, 1)},
    "STEP": {
        "crc": (0, False, 16, 1),
        "counter": (2, False, 8, 1),
        "state": (3, False, 4, 1),
        "proto": (3, True, 4, 1),
        "step": (4, False, 32, 1),
        "sample_time_us": (8, False, 32, 1),
        "age_ms": (12, False, 16, 1),
        "faults": (14, False, 16, 1),
        "drive": (16, False, 16, 4),
        "activation": (24, False, 8, 4),
        "n_mu": (28, False, 8, 1),
        "good_channels": (29, False, 8, 1),
        "model_id16": (30, False, 16, 1),
        "counts": (32, False, 4, 64),
    },
    "SHORT": {
        "step": (0, False, 32, 1),
        "drive": (4, False, 16, 1),
        "activation": (6, False, 8, 1),
        "counter": (7, False, 4, 1),
        "state": (7, True, 4, 1),
        "age_ms": (8, False, 16, 1),
        "faults": (10, False, 16, 1),
        "model_id16": (12, False, 16, 1),
    },
    "ARM": {
        "crc": (0, False, 8, 1),
        "counter": (1, False, 4, 1),
        "request": (1, True, 4, 1),
        "model_id": (2, False, 32, 1),
        "max_age_ms": (6, False, 16, 1),
    },
}


@pytest.mark.parametrize("message", table.MESSAGES, ids=lambda message: message.name)
def test_fields_lie_where_the_contract_puts_them(message: table.Message) -> None:
    found = {
        row.name: (row.bit // 8, row.bit % 8 == 4, row.width, row.count) for row in message.fields
    }
    assert found == PLACES[message.name]


@pytest.mark.parametrize("message", table.MESSAGES, ids=lambda message: message.name)
def test_no_field_lies_on_another_or_outside(message: table.Message) -> None:
    bits = [
        bit for row in message.fields for bit in range(row.bit, row.bit + row.width * row.count)
    ]
    assert len(bits) == len(set(bits))
    assert max(bits) < message.size * 8


@pytest.mark.parametrize("message", table.MESSAGES, ids=lambda message: message.name)
def test_marks_fit_and_lie_past_the_values(message: table.Message) -> None:
    for row in message.fields:
        marks = [mark for mark in (row.saturated, row.invalid) if mark is not None]
        assert all(row.largest < mark < 1 << row.width for mark in marks)
        assert row.largest < 1 << row.width


def test_ids_and_sizes() -> None:
    """Contract: offsets from the base 0x680; every classic frame has 8 bytes."""
    offsets = {
        "DRIVE": 0, "COUNTS": 4, "VALID": 7, "STEP": 0x10, "STATUS": 0xF, "INFO": 0xE,
        "INFO2": 0xD, "ARM": 0x20,
    }  # fmt: skip
    on_can = {m.name: m for m in table.MESSAGES if m.can_id is not None}
    assert {name: m.can_id - 0x680 for name, m in on_can.items()} == offsets
    assert {m.size for name, m in on_can.items() if name != "STEP"} == {8}
    assert (table.STEP.size, table.SHORT.size, table.SHORT.can_id) == (64, 16, None)
    assert [m.slots for m in (table.DRIVE, table.COUNTS, table.STEP)] == [4, 3, 4]
    assert len(table.BY_CAN_ID) == sum(m.slots for m in on_can.values())  # none twice
    assert table.BY_CAN_ID[0x682] == (table.DRIVE, 2)
    assert table.STEP.data_id(3) == 0x693
    assert table.STEP.data_id(3, base=0x100) == 0x113


def test_serial_types() -> None:
    """Contract: slot k of the full frame has type 0x10 + k; no two messages share a type."""
    types = {m.serial_type: m for m in table.MESSAGES if m.serial_type is not None}
    assert types[0x10] is table.STEP
    assert len(table.BY_TYPE) == sum(m.slots for m in types.values())
    assert table.BY_TYPE[0x12] == (table.STEP, 2)
    assert 0x40 in table.BY_TYPE


def test_the_hash_travels_little_endian() -> None:
    assert table.table_number().to_bytes(4, "little") == table.table_hash()


def test_ranges_of_the_physical_values() -> None:
    """Contract: drive to 6553.3 pulse/s, activation to 125 %, age to 655.33 ms, counts to 13."""
    largest = {row.name: row.largest * row.scale for row in table.STEP.fields}
    assert largest["drive"] == pytest.approx(6553.3)
    assert largest["activation"] == pytest.approx(125.0)
    assert largest["age_ms"] == pytest.approx(655.33)
    assert largest["counts"] == 13
    assert table.ARM.field("max_age_ms").scale == 0.5


def test_states_and_faults() -> None:
    assert [table.STATES[k] for k in range(7)] == [
        "BOOT", "IDLE", "READY", "ACTIVE", "DEGRADED", "SAFE", "FAULT",
    ]  # fmt: skip
    assert table.STATES[15] == "NA"
    assert table.FAULTS[12] == "drift"
    assert table.FAULTS[15] == "latched"


def test_hash_is_of_the_text_and_ignores_prose(monkeypatch: pytest.MonkeyPatch) -> None:
    before = table.table_hash()
    assert before == hashlib.sha256(table.table_text().encode()).digest()[:4]
    first, *rest = table.MESSAGES
    monkeypatch.setattr(table, "MESSAGES", (dataclasses.replace(first, doc="other"), *rest))
    assert table.table_hash() == before


def test_hash_sees_every_field(monkeypatch: pytest.MonkeyPatch) -> None:
    first, *rest = table.MESSAGES
    seen = {table.table_hash()}
    for at, row in enumerate(first.fields):
        moved = dataclasses.replace(row, scale=row.scale * 2)
        fields = (*first.fields[:at], moved, *first.fields[at + 1 :])
        changed = dataclasses.replace(first, fields=fields)
        monkeypatch.setattr(table, "MESSAGES", (changed, *rest))
        seen.add(table.table_hash())
    assert len(seen) == 1 + len(first.fields)


def test_unknown_field_is_named() -> None:
    with pytest.raises(KeyError, match="STEP has no field 'torque'"):
        table.STEP.field("torque")
    with pytest.raises(ValueError, match="CAN only"):
        table.Message("X", 8, ()).type_of()
