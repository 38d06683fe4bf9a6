"""A MATLAB file of either kind (5, and 7.3 which is HDF5) as plain values, and whose it is."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from spikewire.io.bounded import reason
from spikewire.io.mat5 import Mat5
from spikewire.signals import InputError

HDF5 = b"\x89HDF\r\n\x1a\n"
# Whose export it is -> variables that only such a file holds.
MAKERS = {
    "otb": {"Data", "Description", "SamplingFrequency"},
    "demuse": {"SIG", "fsamp"},
    "muedit": {"signal"},
}
DAMAGED = (ValueError, EOFError, struct.error, zlib.error, OverflowError, MemoryError, OSError)


def _open(path: Path) -> Any:
    """Reader of the file's kind."""
    with open(path, "rb") as file:
        start = file.read(520)
    if HDF5 in (start[:8], start[512:]):
        from spikewire.io.mat73 import Mat73

        return Mat73(path)
    return Mat5(path)


def maker(path: Path) -> str:
    """Module of `spikewire.io` that reads this file.

    Raises
    ------
    InputError
        Not a MATLAB file, or none of a known maker; names what it holds.
    """
    try:
        names = _open(path).names()
    except InputError:
        raise
    except DAMAGED as error:
        raise InputError(f"{path}: not a readable MATLAB file ({reason(error)})") from None
    for module, needed in MAKERS.items():
        if needed <= set(names):
            return module
    raise InputError(f"{path}: holds {', '.join(names)[:160] or 'nothing'}; a readable .mat is an "
                     "export of OTBiolab+ (Data, Description), MUedit (signal) or DEMUSE (SIG)")


def load(path: Path, what: str, needed: set[str], optional: set[str]) -> dict[str, Any]:
    """Variables of a file of the maker `what`.

    Raises
    ------
    InputError
        Damaged, or a needed variable is missing.
    """
    try:
        found: dict[str, Any] = _open(path).read(needed | optional)
    except InputError:
        raise
    except DAMAGED as error:
        raise InputError(f"{path}: not a readable {what} .mat ({reason(error)})") from None
    if needed - found.keys():
        raise InputError(f"{path}: not a readable {what} .mat (has no "
                         f"{', '.join(sorted(needed - found.keys()))})")
    return found


def is_numbers(value: Any) -> bool:
    """Whether a value is an array of real numbers."""
    return isinstance(value, np.ndarray) and value.dtype.kind in "iufb"


def number(path: Path, name: str, value: Any) -> float:
    """One finite number."""
    if not is_numbers(value) or value.size != 1 or not np.isfinite(value).all():
        raise InputError(f"{path}: {name} is not one number")
    return float(value.reshape(()))


def cells(value: Any) -> list[Any]:
    """What a cell array holds, down its columns; what is none, as its only cell."""
    if isinstance(value, np.ndarray) and value.dtype == object:
        return list(value.ravel(order="F"))
    return [] if value is None else [value]


def text(value: Any) -> str:
    """A string, also one inside cells."""
    while isinstance(value, np.ndarray) and value.dtype == object and value.size:
        value = value.flat[0]
    return value.strip() if isinstance(value, str) else ""
