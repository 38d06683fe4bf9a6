"""MATLAB 5 files read without SciPy, every size checked against the bytes that are there.

Numbers come as arrays in MATLAB's shape, text as str, cells as object arrays, structs as dicts;
what no recording needs (sparse, objects, functions) as None. After MathWorks' "MAT-File Format".
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from spikewire.io.bounded import Budget

NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8",
           13: "u8"}
MATRIX, COMPRESSED = 14, 15
TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
CELL, STRUCT, CHAR = 1, 2, 4
NUMERIC = range(6, 16)
DEEPEST, MOST_ELEMENTS, MOST_DIMENSIONS = 16, 200_000, 8
HEAD = 4096  # bytes of an element that name its variable


class Mat5:
    """A MATLAB 5 file in memory.

    Raises ValueError, EOFError, struct.error or zlib.error for a damaged one, InputError for one
    that unpacks to too much.
    """

    def __init__(self, path: Path) -> None:
        self._bytes = path.read_bytes()
        self._budget = Budget(path, len(self._bytes))
        self._elements = MOST_ELEMENTS
        self._order = {b"IM": "<", b"MI": ">"}.get(self._bytes[126:128], "")
        if not self._order:
            raise ValueError("not a MATLAB 5 file")

    def names(self) -> list[str]:
        """Variables in the file; their values are not unpacked."""
        return [name for name, _, _ in self._variables()]

    def read(self, wanted: set[str]) -> dict[str, Any]:
        """Values of the wanted variables that are there."""
        out = {}
        for name, kind, data in self._variables():
            if name in wanted:
                if kind == COMPRESSED:
                    _, data, _ = self._element(memoryview(self._budget.inflate(data)), 0)
                out[name] = self._matrix(data, 0)[1]
        return out

    def _variables(self) -> Iterator[tuple[str, int, memoryview]]:
        """Name, kind and bytes of every element at the top."""
        view, at = memoryview(self._bytes), 128
        while at < len(view):
            kind, data, at = self._element(view, at)
            head = data
            if kind == COMPRESSED:
                head = memoryview(zlib.decompressobj().decompress(data, HEAD))[8:]
            if kind in (MATRIX, COMPRESSED) and len(head):
                yield self._head(head)[2], kind, data

    def _element(self, view: memoryview, at: int) -> tuple[int, memoryview, int]:
        """Kind, content, and where the next element begins."""
        kind, size = struct.unpack_from(self._order + "II", view, at)
        if kind >> 16:  # small: four bytes of content or fewer lie in the tag
            kind, size = kind & 0xFFFF, kind >> 16
            if size > 4:
                raise ValueError(f"a small element of {size} bytes")
            return kind, view[at + 4 : at + 4 + size], at + 8
        data = view[at + 8 : at + 8 + size]
        if len(data) != size:
            raise EOFError(f"an element of {size} bytes, {len(data)} are left")
        return kind, data, at + 8 + (size if kind == COMPRESSED else -(-size // 8) * 8)

    def _head(self, data: memoryview) -> tuple[int, tuple[int, ...], str, int]:
        """Class, dimensions, name, and where the content of a matrix begins."""
        _, flags, at = self._element(data, 0)
        _, dims, at = self._element(data, at)
        _, name, at = self._element(data, at)
        shape = struct.unpack(f"{self._order}{len(dims) // 4}i", dims[: len(dims) // 4 * 4])
        if not len(flags) or not 0 < len(shape) <= MOST_DIMENSIONS or min(shape) < 0:
            raise ValueError(f"a matrix of shape {shape}")
        kind = struct.unpack_from(self._order + "I", flags)[0] & 0xFF
        return kind, shape, bytes(name[:64]).decode("latin-1"), at

    def _matrix(self, data: memoryview, depth: int) -> tuple[str, Any]:
        """Name and value."""
        self._elements -= 1
        if depth > DEEPEST or self._elements < 0:
            raise ValueError("too many cells in one another")
        if not len(data):
            return "", np.zeros((0, 0))
        kind, shape, name, at = self._head(data)
        count = 1
        for n in shape:
            count *= n
        if kind == CELL:
            return name, self._cells(data, at, shape, count, depth)
        if kind == STRUCT:
            return name, self._struct(data, at, shape, count, depth)
        if kind == CHAR:
            stored, raw, _ = self._element(data, at)
            return name, bytes(raw).decode(
                TEXTS[stored] + ("-le" if self._order == "<" else "-be") * (stored in (4, 17, 18)),
                "replace") if stored in TEXTS else None
        if kind in NUMERIC:
            stored, raw, _ = self._element(data, at)
            values = np.frombuffer(raw, self._order + NUMBERS[stored]) \
                if stored in NUMBERS else np.zeros(0)
            if len(values) != count:
                raise ValueError(f"{len(values)} numbers in an array of shape {shape}")
            return name, values.reshape(shape, order="F")
        return name, None

    def _cells(
        self, data: memoryview, at: int, shape: tuple[int, ...], count: int, depth: int
    ) -> Any:
        """Object array of a cell array."""
        if count > len(data) // 8:
            raise ValueError(f"{count} cells in {len(data)} bytes")
        out = np.empty(count, object)
        for k in range(count):
            _, inner, at = self._element(data, at)
            out[k] = self._matrix(inner, depth + 1)[1]
        return out.reshape(shape, order="F")

    def _struct(
        self, data: memoryview, at: int, shape: tuple[int, ...], count: int, depth: int
    ) -> Any:
        """Dict of a struct; object array of dicts of a struct array."""
        _, width, at = self._element(data, at)
        _, text, at = self._element(data, at)
        size = struct.unpack_from(self._order + "i", width)[0]
        if size < 1 or len(text) % size:
            raise ValueError(f"field names of {size} bytes each in {len(text)}")
        fields = [bytes(text[k : k + size]).split(b"\0")[0].decode("latin-1")
                  for k in range(0, len(text), size)]
        if count * max(len(fields), 1) > len(data) // 8:
            raise ValueError(f"{count} structs in {len(data)} bytes")
        out = np.empty(count, object)
        for k in range(count):
            out[k] = {}
            for field in fields:
                _, inner, at = self._element(data, at)
                out[k][field] = self._matrix(inner, depth + 1)[1]
        return out[0] if count == 1 else out.reshape(shape, order="F")
