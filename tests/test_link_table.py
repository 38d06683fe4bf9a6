"""The message table against what the contract says in words.

Truth: the contract's byte positions, written out here again by hand; hashlib.
"""

from __future__ import annotations

import dataclasses
import hashlib

import pytest

from spikewire.link import table

# message -> field -> (first byte, high nibble?, bits, elements), typed from the contract
PLACES = {
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
    """Contract: full frame 0x690 and 64 bytes, arm request base 0x680 + 0x20 and 8 bytes."""
    assert (table.STEP.can_id, table.STEP.size) == (0x690, 64)
    assert (table.ARM.can_id, table.ARM.size) == (0x6A0, 8)
    assert table.SHORT.size == 16
    assert sorted(table.BY_TYPE) == [*range(0x10, 0x14), *range(0x20, 0x24), 0x40]
    assert table.BY_TYPE[0x12] == (table.STEP, 2)
    assert all(table.STEP.data_id(slot) == 0x690 for slot in range(4))


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
