"""What a caller says and a file does not: which of its grids, and perhaps its unit and rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spikewire.signals import UNITS_UV, InputError

SPELLINGS = {"uv": "uV", "µv": "uV", "μv": "uV", "microv": "uV", "microvolt": "uV",
             "microvolts": "uV", "millivolt": "mV", "millivolts": "mV", "volt": "V", "volts": "V"}
MOST_CHANNELS = 4096
MOST_LISTED = 12


@dataclass(frozen=True)
class Ask:
    """What was asked for beside the path.

    Attributes
    ----------
    grid : str
        Number from 1, "all", or nothing: from `FILE#2`.
    unit : str
        Of a file that names none.
    fs_hz : float or None
        Rate of a file that names none.
    """

    grid: str = ""
    unit: str = ""
    fs_hz: float | None = None


ANY = Ask()


def known_unit(text: str) -> str | None:
    """One of uV, mV and V in any usual spelling, or None."""
    text = text.strip()
    return text if text in UNITS_UV else SPELLINGS.get(text.lower())


def pick(path: Path, grids: Sequence[str], ask: Ask) -> list[int]:
    """Grids to read, by number from 0.

    Raises
    ------
    InputError
        Several and none chosen, or a number that is not there; the message lists them.
    """
    shown = ", ".join(f"{k} = {' '.join(g.split())[:90]}"
                      for k, g in enumerate(grids[:MOST_LISTED], 1))
    if len(grids) == 1 and ask.grid in ("", "1", "all"):
        return [0]
    if ask.grid == "all":
        return list(range(len(grids)))
    if ask.grid.isdecimal() and 1 <= int(ask.grid) <= len(grids):
        return [int(ask.grid) - 1]
    if ask.grid:
        raise InputError(f"{path}: has no grid {ask.grid!r}, it holds {shown or 'none'}")
    raise InputError(f"{path}: holds {len(grids)} grids ({shown}); take one as {path.name}#1, or "
                     f"all side by side as {path.name}#all")


def settle_unit(path: Path, ask: Ask, stated: str = "") -> str:
    """Unit of a file: what it states, or else what was asked for."""
    unit = known_unit(stated or ask.unit)
    if unit is None:
        came = f"its unit is {(stated or ask.unit)[:20]!r}" if stated or ask.unit else \
            "it does not say its unit"
        raise InputError(f"{path}: {came}, allowed are {', '.join(UNITS_UV)}; if you know it, "
                         f"type: mu-convert {path.name} OUT.npz --unit uV")
    if stated and ask.unit and known_unit(ask.unit) != unit:
        raise InputError(f"{path}: says {unit} itself; --unit is for files that say none")
    return unit


def settle_rate(path: Path, ask: Ask, stated: float | None = None) -> float:
    """Rate of a file: what it states, or else what was asked for."""
    if stated is None and ask.fs_hz is None:
        raise InputError(f"{path}: does not say its rate; if you know it, type: mu-convert "
                         f"{path.name} OUT.npz --fs 2048")
    if stated is not None and ask.fs_hz not in (None, stated):
        raise InputError(f"{path}: says {stated:g} Hz itself; --fs is for files that say none")
    rate = stated if stated is not None else ask.fs_hz
    assert rate is not None
    if not 0 < rate < float("inf"):
        raise InputError(f"{path}: its rate is {rate:g}, allowed is a rate in Hz")
    return float(rate)
