"""Rows of the message table to bytes and back, and the checks that protect them.

The layout of each message is compiled once, at import. Values saturate as the table says and never
wrap, except where the table gives a modulus; NaN means "not available".
"""

from __future__ import annotations

import binascii
import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from spikewire.link.table import BASE, MESSAGES, Field, Message

CODES = {8: "B", 16: "H", 32: "I", 64: "Q"}


class FrameError(ValueError):
    """Bytes that are no frame, or values that fit into none.

    Attributes
    ----------
    check : str
        What failed: "length", "crc", "range", "proto", "state", "request", "slot", "type", "cobs".
    """

    def __init__(self, check: str, message: str) -> None:
        super().__init__(message)
        self.check = check


def _crc8_bytes() -> bytes:
    """CRC-8 of each single byte, polynomial 0x1D."""
    rest = np.arange(256)
    for _ in range(8):
        rest = np.where(rest & 0x80, (rest << 1) ^ 0x1D, rest << 1) & 0xFF
    return rest.astype(np.uint8).tobytes()


_CRC8 = _crc8_bytes()


def crc8(data: bytes) -> int:
    """Return CRC-8, polynomial 0x1D, start 0, nothing xor-ed at the end.

    b"123456789" gives 0x37. The form called SAE-J1850 starts from 0xFF and gives 0x4B: it is
    another code, go by the check value.
    """
    crc = 0
    for byte in data:
        crc = _CRC8[crc ^ byte]
    return crc


def crc16(data: bytes) -> int:
    """Return CRC-16/CCITT-FALSE, polynomial 0x1021, start 0xFFFF; b"123456789" gives 0x29B1."""
    return binascii.crc_hqx(data, 0xFFFF)


# name -> bytes it takes at the head of the message, and the check over the data id and the rest:
# AUTOSAR E2E profile 11 takes the id first, profile 5 last
CRCS: dict[str, tuple[int, Callable[[bytes, bytes], int]]] = {
    "": (0, lambda data_id, body: 0),
    "crc8": (1, lambda data_id, body: crc8(data_id + body)),
    "crc16": (2, lambda data_id, body: crc16(body + data_id)),
}


def _refuse_choice(row: Field, raw: int) -> NoReturn:
    """Raise for a raw that the table does not list."""
    allowed = ", ".join(f"{key} {name}" for key, name in (row.choices or {}).items())
    raise FrameError(row.name, f"{row.name}: {raw} came, allowed: {allowed}")


def _to_raw(row: Field) -> Callable[[float], int]:
    """Return the function from value to raw; the table says what saturates, wraps or is refused.

    A function of its own for every field, since a step has two dozen of them to encode.
    """
    modulus, largest, saturated, choices = row.modulus, row.largest, row.saturated, row.choices
    scale, offset = row.scale, row.offset
    plain = scale == 1.0 and offset == 0.0

    def wrapped(value: float) -> int:
        return int(value) % (modulus or 1)

    def raw_of(value: float) -> int:
        whole = plain and type(value) is int and 0 <= value <= largest
        raw = int(value) if whole else rounded(value)
        if choices is not None and raw not in choices:
            _refuse_choice(row, raw)
        return raw

    def rounded(value: float) -> int:
        if value != value:
            if row.invalid is None:
                raise FrameError(
                    "range", f"{row.name}: NaN came, it has no mark for 'not available'")
            return row.invalid
        scaled = (value - offset) / scale
        if saturated is not None:
            if scaled >= largest + 0.5:
                return saturated
            scaled = max(scaled, 0.0)
        elif not -0.5 < scaled < largest + 0.5:
            raise FrameError("range", f"{row.name}: {value} came, raw 0..{largest} is allowed")
        return round(scaled)

    return raw_of if modulus is None else wrapped


def _from_raw(row: Field, raw: int) -> float:
    """Return the value of one raw; a saturated one gives the first values past the range."""
    if raw == row.invalid:
        return math.nan
    if raw > row.largest and raw != row.saturated:
        raise FrameError("range", f"{row.name}: raw {raw} came, 0..{row.largest} is allowed")
    if row.choices is not None and raw not in row.choices:
        _refuse_choice(row, raw)
    if row.scale == 1.0 and row.offset == 0.0:
        return raw
    return raw * row.scale + row.offset


class _Run:
    """A run of elements of less than a byte, such as the counts: numpy packs them at once."""

    def __init__(self, row: Field) -> None:
        self.row = row
        self.per_byte = 8 // row.width
        self.shifts = np.arange(self.per_byte, dtype=np.uint8) * np.uint8(row.width)
        self.mask = (1 << row.width) - 1
        self.raws = bytes(self._raw(value) for value in range(256))
        self.missing = bytes([0 if row.invalid is None else row.invalid])

    def _raw(self, value: int) -> int:
        """Raw of a value; in a run the mark "not available" stands for itself."""
        too_large = value > self.row.largest and value != self.row.invalid
        return self.row.saturated if too_large and self.row.saturated is not None else value

    def pack(self, values: NDArray[Any]) -> bytes:
        """Values to bytes; the elements past the end are "not available"."""
        row = self.row
        if values.ndim != 1 or len(values) > row.count or values.dtype.kind not in "uib":
            came = f"{values.dtype} {values.shape}"
            raise FrameError("range", f"{row.name}: {came} came, up to {row.count} integers fit")
        if values.dtype != np.uint8:
            values = np.clip(values, 0, 255).astype(np.uint8)
        raw = values.tobytes().translate(self.raws).ljust(row.count, self.missing)
        if max(raw) > self.mask:
            raise FrameError("range", f"{row.name}: {max(raw)} came, 0..{row.largest} is allowed")
        bits = np.frombuffer(raw, np.uint8).reshape(-1, self.per_byte) << self.shifts
        return bytes(np.bitwise_or.reduce(bits, axis=1))

    def unpack(self, data: bytes) -> NDArray[np.uint8]:
        """Bytes to values."""
        packed = np.frombuffer(data, np.uint8)
        values: NDArray[np.uint8] = (packed[:, None] >> self.shifts) & np.uint8(self.mask)
        return values.ravel()


@dataclass(frozen=True)
class _Layout:
    """A message compiled: one entry of `words` for each item of `fmt`, or for a run of items."""

    fmt: struct.Struct
    words: tuple[tuple[Field, ...], ...]
    runs: Mapping[str, _Run]
    raws: Mapping[str, Callable[[float], int]]


def _code(word: tuple[Field, ...]) -> str:
    """Return the struct code of the fields that begin in one byte."""
    row = word[0]
    alone = len(word) == 1 and row.bit % 8 == 0
    if alone and row.count > 1 and row.width in (1, 2, 4) and row.count * row.width % 8 == 0:
        return f"{row.count * row.width // 8}s"
    if alone and row.width in CODES:
        return f"{row.count}{CODES[row.width]}"
    fits = all(part.count == 1 and part.bit % 8 + part.width <= 8 for part in word)
    if not fits or sum(part.width for part in word) > 8:
        raise ValueError(f"{row.name}: {row.width} bits at bit {row.bit} are not supported")
    return "B"


def _compile(message: Message) -> _Layout:
    """Work out the struct of a message; ValueError if the table has holes that cannot be."""
    rows = sorted(message.fields, key=lambda row: row.bit)
    words = tuple(tuple(group) for _, group in groupby(rows, key=lambda row: row.bit // 8))
    fmt = "<"
    for word in words:
        pad = word[0].bit // 8 - struct.calcsize(fmt)
        if pad < 0:
            raise ValueError(f"{message.name}.{word[0].name} lies on the field before it")
        fmt += f"{pad}x{_code(word)}"
    fmt += f"{message.size - struct.calcsize(fmt)}x"
    runs = {row.name: _Run(row) for row in rows if row.count > 1 and row.width < 8}
    return _Layout(struct.Struct(fmt), words, runs, {row.name: _to_raw(row) for row in rows})


_LAYOUTS = {message.name: _compile(message) for message in MESSAGES}


def _check(message: Message, payload: bytes, slot: int, base: int) -> tuple[int, int]:
    """Return the width in bytes and the value of the CRC that `payload` should have."""
    width, function = CRCS[message.crc]
    return width, function(message.data_id(slot, base).to_bytes(2, "little"), payload[width:])


def pack(message: Message, values: Mapping[str, Any], slot: int = 0, base: int = BASE) -> bytes:
    """Encode one message.

    Parameters
    ----------
    message : Message
        A row of the table.
    values : mapping
        Field name to value, to a sequence of values where the field has more than one, to an
        array of integers where these are narrower than a byte. The CRC is filled in.
    slot : int
        Which copy of the message.
    base : int
        First CAN identifier of the link.

    Returns
    -------
    bytes (message.size,)

    Raises
    ------
    FrameError
        A value is out of range and the table has no mark for that.
    """
    layout = _LAYOUTS[message.name]
    raws = layout.raws
    flat: list[Any] = []
    for word in layout.words:
        row = word[0]
        name = row.name
        if name in layout.runs:
            flat.append(layout.runs[name].pack(values[name]))
        elif row.count > 1:
            raw = raws[name]
            flat += [raw(value) for value in values[name]]
        elif len(word) > 1 or row.width < 8:
            flat.append(sum(raws[part.name](values[part.name]) << part.bit % 8 for part in word))
        else:
            flat.append(0 if name == "crc" else raws[name](values[name]))
    payload = layout.fmt.pack(*flat)
    width, crc = _check(message, payload, slot, base)
    return crc.to_bytes(width, "little") + payload[width:]


def unpack(
    message: Message, payload: bytes, slot: int = 0, base: int = BASE
) -> dict[str, Any]:
    """Decode one message.

    Parameters
    ----------
    message : Message
        A row of the table.
    payload : bytes (message.size,)
    slot, base : int
        As for `pack`.

    Returns
    -------
    dict
        Field name to value, as `pack` takes it.

    Raises
    ------
    FrameError
        `check` is "length", "crc", "range", or the name of a field that has fixed choices.
    """
    if len(payload) != message.size:
        came = f"{message.name}: {len(payload)} bytes came"
        raise FrameError("length", f"{came}, {message.size} are needed")
    width, crc = _check(message, payload, slot, base)
    if crc != int.from_bytes(payload[:width], "little"):
        raise FrameError("crc", f"{message.name}: the {message.crc} does not fit the bytes")
    return _values(_LAYOUTS[message.name], payload)


def _values(layout: _Layout, payload: bytes) -> dict[str, Any]:
    """Return the values of a payload whose length and CRC are right."""
    flat = iter(layout.fmt.unpack(payload))
    values: dict[str, Any] = {}
    for word in layout.words:
        row = word[0]
        if row.name in layout.runs:
            values[row.name] = layout.runs[row.name].unpack(next(flat))
        elif row.count > 1:
            values[row.name] = tuple([_from_raw(row, next(flat)) for _ in range(row.count)])
        else:
            raw = next(flat)
            for part in word:
                mask = (1 << part.width) - 1
                values[part.name] = _from_raw(part, raw >> part.bit % 8 & mask)
    return values
