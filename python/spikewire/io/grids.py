"""Electrode grids by name: which channel lies where."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikewire.signals import InputError

# Grids of OT Bioelettronica: rows, columns, distance in mm. Their columns run in a serpentine, and
# the first corner of the 13 x 5 ones carries no electrode.
GRIDS = {"GR08MM1305": (13, 5, 8.0), "GR04MM1305": (13, 5, 4.0), "GR10MM0808": (8, 8, 10.0)}
CODE = re.compile(r"(?:GR|HD)(\d\d)MM(\d\d)(\d\d)")
ANY = re.compile(r"(\d{1,3})x(\d{1,3})@(\d{1,3}(?:\.\d{1,3})?)")


@dataclass(frozen=True)
class Grid:
    """Where the channels of a grid lie.

    Attributes
    ----------
    name : str
        As it was typed.
    row, col : int64 (channels,)
    ied_mm : float
        Distance between neighbours.
    """

    name: str
    row: NDArray[np.int64]
    col: NDArray[np.int64]
    ied_mm: float


def serpentine(rows: int, columns: int, channels: int
               ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and column of each channel of a serpentine grid, its first corner absent if one is."""
    row = np.array([r if c % 2 == 0 else rows - 1 - r for c in range(columns) for r in range(rows)])
    absent = rows * columns - channels
    return row[absent:], np.repeat(np.arange(columns), rows)[absent:]


def grid_of(word: str, channels: int) -> Grid:
    """The grid that a name, or ROWSxCOLUMNS@MM, stands for.

    ROWSxCOLUMNS@MM is a plain grid: column after column, all in one direction. One electrode less
    than that is a grid whose first corner is empty.

    Raises
    ------
    InputError
        Unknown name, or a grid of another number of electrodes.
    """
    plain = ANY.fullmatch(word)
    if word in GRIDS:
        rows, columns, ied_mm = GRIDS[word]
        places = serpentine(rows, columns, min(channels, rows * columns))
    elif plain:
        rows, columns, ied_mm = int(plain[1]), int(plain[2]), float(plain[3])
        absent = max(rows * columns - channels, 0)
        places = (np.tile(np.arange(rows), columns)[absent:],
                  np.repeat(np.arange(columns), rows)[absent:])
    else:
        raise InputError(f"grid {word!r}: allowed are {', '.join(GRIDS)}, or ROWSxCOLUMNS@MM such "
                         "as 12x5@8")
    if rows * columns - channels not in (0, 1) or not ied_mm > 0:
        raise InputError(f"grid {word}: has {rows} x {columns} electrodes {ied_mm:g} mm apart, the "
                         f"source {channels} channels; name the grid that is on the skin")
    return Grid(word, *places, ied_mm)


def of_code(text: str, channels: int) -> tuple[Any, Any, float | None]:
    """Rows, columns and distance in mm of the grid whose code stands in a text; None if unknown.

    Of a code such as HD04MM0804 the distance is known, the wiring is not.
    """
    known = next((g for g in GRIDS if g in text), None)
    if known and GRIDS[known][0] * GRIDS[known][1] - channels in (0, 1):
        return *serpentine(*GRIDS[known][:2], channels), GRIDS[known][2]
    code = CODE.search(text)
    return None, None, float(code[1]) or None if code else None
