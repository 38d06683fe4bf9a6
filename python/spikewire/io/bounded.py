"""What a file may unpack to: nothing grows beyond what a recording of its size can hold."""

from __future__ import annotations

import zlib
from pathlib import Path

from spikewire.signals import InputError

FREE_BYTES = 64 << 20
LONGEST_REASON = 160
GROWTH = 100  # EMG packs to a quarter at best; trains of zeros between it, a little more


def reason(error: BaseException) -> str:
    """What a parser says, short enough for one line: it may quote the file."""
    return " ".join(str(error).split())[:LONGEST_REASON] or type(error).__name__


class Budget:
    """Bytes that one file may still unpack to.

    Parameters
    ----------
    path : Path
        Named in the refusal.
    packed : int
        Size of the file.
    growth, free : int
        Times `packed`, and bytes beside.
    """

    def __init__(
        self, path: Path, packed: int, growth: int = GROWTH, free: int = FREE_BYTES
    ) -> None:
        self._path, self._all = path, free + growth * packed
        self.left = self._all

    def take(self, size: int) -> int:
        """Set `size` bytes aside; raises InputError if a recording cannot hold that many."""
        if not 0 <= size <= self.left:
            raise InputError(f"{self._path}: unpacks to more than {self._all >> 20} MB, far more "
                             "than a recording of its size; the file is damaged or no recording")
        self.left -= size
        return size

    def inflate(self, data: bytes | memoryview, wbits: int = zlib.MAX_WBITS) -> bytes:
        """Unpack deflated bytes; never more than what is left of the budget."""
        unpack = zlib.decompressobj(wbits)
        out = unpack.decompress(data, self.left + 1)
        self.take(len(out))
        if not unpack.eof:
            raise EOFError("the packed bytes end early")
        return out
