"""What a run tells its monitors: the one place where these bytes are written down.

A datagram of the loop, and a frame of the page's WebSocket, is a sequence of records: kind,
version, bytes that follow, and the fields of `RECORDS` without holes between them. Everything is
little endian; a number that is not known is NaN. A reader skips kinds and versions that it does not
know, and whatever follows the fields that it does. The page decodes with this very table, which is
sent to it as JSON.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

VERSION = 1
HEAD = struct.Struct("<BBH")  # kind, version, bytes that follow
MOST_UNITS = 256
MAP_BYTES = MOST_UNITS // 8
MOST_CHANNELS = 4096
# type -> code of `struct`, bytes
TYPES = {"u8": ("B", 1), "u16": ("H", 2), "u32": ("I", 4), "f32": ("f", 4), "f64": ("d", 8),
         "map": (f"{MAP_BYTES}s", MAP_BYTES)}  # bit k % 8 of byte k // 8 is unit k


class LayoutError(ValueError):
    """Bytes that are no records."""


@dataclass(frozen=True)
class Field:
    """One field.

    Attributes
    ----------
    name : str
    kind : str, a key of TYPES, or "text" (UTF-8)
    count : int, elements; 0 is as many as there are, and then it is the last field
    unit, doc : str
    """

    name: str
    kind: str
    count: int = 1
    unit: str = ""
    doc: str = ""


@dataclass(frozen=True)
class Record:
    """One kind of record.

    Attributes
    ----------
    kind : int, 1 to 255
    name : str
    fields : tuple of Field
    every : str, how often it comes
    doc : str
    """

    kind: int
    name: str
    fields: tuple[Field, ...]
    every: str
    doc: str

    @cached_property
    def fixed(self) -> struct.Struct:
        """The fields of known length."""
        return struct.Struct("<" + "".join(
            (str(f.count) if f.count > 1 else "") + TYPES[f.kind][0] for f in self.fields if f.count
        ))

    @property
    def rest(self) -> Field | None:
        """The field that takes what is left."""
        return None if self.fields[-1].count else self.fields[-1]


STEP = Record(1, "STEP", (
    Field("sequence", "u32", doc="of datagrams; what is missing was dropped on the way"),
    Field("step", "u32", doc="steps since the start"),
    Field("now_s", "f64", unit="s", doc="the loop's clock"),
    Field("end", "f64", unit="sample", doc="the amplifier's counter after the newest sample"),
    Field("state", "u8", doc="of the message table"),
    Field("decoded", "u8", doc="1 if the units of this step are known"),
    Field("faults", "u16", doc="bits of the message table"),
    Field("age_ms", "f32", unit="ms", doc="of the newest sample when the frame left"),
    Field("compute_ms", "f32", unit="ms", doc="from the newest sample to the frame's hand-over"),
    Field("drive", "f32", 4, unit="pulse/s", doc="neural drive of each bundle, told or not"),
    Field("spikes", "u32", doc="of all units since the start"),
    Field("missed", "u32", doc="steps that were overtaken"),
    Field("gaps", "u32", doc="holes in the samples"),
    Field("silent", "u32", doc="periods without a sample"),
    Field("fired", "map", doc="units that fired in this step, counted over all bundles"),
), "each step", "What was decided.")
EMG = Record(2, "EMG", (
    Field("rms_uv", "f32", 0, unit="uV", doc="of each channel without its offset, if it is read"),
), "10 steps", "How loud each electrode was in the last 98 ms.")
UNITS = Record(3, "UNITS", (
    Field("muted", "map", doc="units whose source is lost"),
    Field("confidence", "f32", 0, doc="of each unit: silhouette of its peaks when last looked at"),
), "50 steps", "How far each unit can be believed.")
CHANNELS = Record(4, "CHANNELS", (
    Field("bad", "u8", 0, doc="bit k % 8 of byte k // 8 is channel k of the source"),
), "50 steps", "Electrodes that are not used.")
LINKS = Record(5, "LINKS", (
    Field("counts", "u32", 0, doc="of each link: frames sent, dropped, and lines recovered"),
), "50 steps", "What the links did.")
RUN = Record(6, "RUN", (
    Field("age_ms", "f32", 3, unit="ms", doc="p50, p99 and maximum since the start"),
    Field("compute_ms", "f32", 3, unit="ms", doc="p50, p99 and maximum since the start"),
    Field("temperature_c", "f32", unit="degC", doc="hottest part of the board"),
    Field("dropped", "u32", doc="datagrams that a monitor had no room for"),
    Field("monitors", "u16", doc="who listen to the loop"),
), "50 steps", "The run as a whole.")
ABOUT = Record(7, "ABOUT", (
    Field("json", "text", 0, doc="bundles, channels, rate, source, links, arm id"),
), "100 steps", "What runs.")
NOTE = Record(8, "NOTE", (
    Field("live", "u8", doc="1 while the run is heard"),
    Field("lost", "u32", doc="datagrams that did not reach the monitor"),
    Field("skipped", "u32", doc="datagrams that this page was too slow for"),
    Field("pages", "u16", doc="pages that look on"),
), "2 Hz, by mu-monitor", "What the monitor knows of itself.")

RECORDS = {r.kind: r for r in (STEP, EMG, UNITS, CHANNELS, LINKS, RUN, ABOUT, NOTE)}


def put(record: Record, into: bytearray, at: int, *values: Any, rest: Any = b"") -> int:
    """Write one record into a buffer; nothing else is allocated.

    Parameters
    ----------
    values
        The fixed fields, arrays flattened.
    rest : bytes or array, little endian
        The field without a count.

    Returns
    -------
    int
        Where the next record begins.
    """
    body, fixed = at + HEAD.size, record.fixed
    view = memoryview(rest)
    view = view.cast("B") if view.nbytes else memoryview(b"")
    HEAD.pack_into(into, at, record.kind, VERSION, fixed.size + len(view))
    fixed.pack_into(into, body, *values)
    end = body + fixed.size + len(view)
    memoryview(into)[end - len(view) : end] = view
    return end


def read(data: bytes | memoryview) -> Iterator[tuple[str, dict[str, Any]]]:
    """Records of a datagram or frame: name, and field -> value (lists where there are several).

    Raises
    ------
    LayoutError
        A record that ends outside the data, or is too short for its fields.
    """
    at = 0
    while at < len(data):
        if len(data) - at < HEAD.size:
            raise LayoutError(f"{len(data) - at} bytes are left, a record has {HEAD.size} at least")
        kind, version, size = HEAD.unpack_from(data, at)
        at += HEAD.size
        if size > len(data) - at:
            raise LayoutError(f"a record of {size} bytes, {len(data) - at} are left")
        record = RECORDS.get(kind)
        if record and version == VERSION:
            yield record.name, _fields(record, data[at : at + size])
        at += size


def _fields(record: Record, body: bytes | memoryview) -> dict[str, Any]:
    """The fields of one record."""
    if len(body) < record.fixed.size:
        raise LayoutError(f"{record.name} has {len(body)} bytes, needs {record.fixed.size}")
    values = list(record.fixed.unpack_from(body))
    out: dict[str, Any] = {}
    for field in record.fields:
        if field.count > 1:
            out[field.name], values = values[: field.count], values[field.count :]
        elif field.count:
            out[field.name] = values.pop(0)
    if record.rest:
        left = bytes(body[record.fixed.size :])
        if record.rest.kind == "text":
            out[record.rest.name] = left.decode("utf-8", "replace")
        else:
            size = TYPES[record.rest.kind][1]
            whole = left[: len(left) // size * size]
            out[record.rest.name] = np.frombuffer(
                whole, np.dtype(f"<{record.rest.kind[0]}{size}")).tolist()
    return out


def table() -> dict[str, Any]:
    """`RECORDS` for a reader in another language, ready for JSON."""
    return {
        "version": VERSION, "map_bytes": MAP_BYTES,
        "records": {str(k): {"name": r.name, "fields": [[f.name, f.kind, f.count]
                                                        for f in r.fields]}
                    for k, r in RECORDS.items()},
    }


def page() -> str:
    """`RECORDS` as a table of documentation."""
    lines = ["| record | kind | every | field | type | unit | |", "|---|---|---|---|---|---|---|"]
    for r in RECORDS.values():
        for k, f in enumerate(r.fields):
            first = f"| {r.name} | {r.kind} | {r.every} " if k == 0 else "| | | "
            count = {0: " ...", 1: ""}.get(f.count, f" x {f.count}")
            lines.append(f"{first}| {f.name} | {f.kind}{count} | {f.unit or ''} | {f.doc} |")
    return "\n".join(lines) + "\n"
