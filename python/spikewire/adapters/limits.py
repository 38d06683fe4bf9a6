"""What one person's machine may do: a TOML file, read strictly, below ceilings that stand in code.

Every key is a `Row`; a machine adds rows of its own to `COMMON`. What is not allowed is refused
with the key, the value and what is allowed. No file lifts a ceiling.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from spikewire.link.table import DRIVE
from spikewire.signals import InputError
from spikewire.tomlfile import read_toml

LARGEST_PPS = DRIVE.field("drive").largest * DRIVE.field("drive").scale


class Row(NamedTuple):
    """One key: its default (None: it must be given), what is allowed in words, and as a test."""

    default: Any
    allowed: str
    holds: Callable[[Any], bool]


def number(default: float | None, low: float, high: float, unit: str) -> Row:
    """Return the row of a number from `low` to `high`; NaN and bool are none."""
    return Row(default, f"{low:g} to {high:g} {unit}",
               lambda value: type(value) in (int, float) and low <= value <= high)


def whole(default: int | None, low: int, high: int) -> Row:
    """Return the row of an integer from `low` to `high`."""
    return Row(default, f"an integer, {low} to {high}",
               lambda value: type(value) is int and low <= value <= high)


def choice(default: Any, *values: Any) -> Row:
    """Return the row of one of `values`, all of one type."""
    return Row(default, " or ".join(str(value) for value in values),
               lambda value: type(value) is type(values[0]) and value in values)


COMMON: dict[str, Row] = {
    # Three that have no default: they belong to a person, a muscle and a way of mounting.
    "sign": choice(None, 1, -1),
    "gain_nm_per_pps": number(None, 0.0, 1.0, "N.m per pulse/s"),
    "threshold_pps": number(None, 0.0, LARGEST_PPS, "pulse/s"),
}


def torques(max_nm: float, trip_nm: float, rate: float, ceiling: float, reported: float,
            fastest: float) -> dict[str, Row]:
    """Return the rows of a machine's torques: three defaults, then three ceilings."""
    return {
        "max_nm": number(max_nm, 0.0, ceiling, "N.m"),
        "trip_nm": number(trip_nm, 1.0, reported, "N.m"),
        "rate_nm_per_s": number(rate, 0.1, fastest, "N.m/s"),
    }


@dataclass(frozen=True)
class Limits:
    """One limits file.

    Attributes
    ----------
    sign : int
        1 or -1: which way the machine helps.
    gain_nm_per_pps, threshold_pps : float
        Assistance is gain times what the drive exceeds the threshold by.
    max_nm : float
        Largest torque that is ever sent.
    trip_nm : float
        Torque reported by the machine that stops it.
    rate_nm_per_s : float
        Fastest change of torque.
    own : mapping
        The machine's own keys.
    """

    sign: int
    gain_nm_per_pps: float
    threshold_pps: float
    max_nm: float
    trip_nm: float
    rate_nm_per_s: float
    own: Mapping[str, Any]


def read_limits(path: str | Path, machine: Mapping[str, Row]) -> Limits:
    """Read and check a limits file.

    Parameters
    ----------
    path : str or Path
    machine : mapping of key to Row
        The keys of one machine, `torques` among them.

    Raises
    ------
    InputError
        Missing file, bad TOML, a key that is unknown or missing, a value that is not allowed.
    """
    rows = {**COMMON, **machine}
    values = read_toml(path, "cannot read the limits ({}); copy docs/adapters/h3_ankle.toml")
    for key in values:
        if key not in rows:
            raise InputError(f"{path}: key {key!r} is unknown, allowed are {', '.join(rows)}")
    for key, row in rows.items():
        if key not in values:
            if row.default is None:
                raise InputError(f"{path}: key {key!r} is missing, allowed is {row.allowed}")
            values[key] = row.default
        elif not row.holds(values[key]):
            raise InputError(f"{path}: {key} is {values[key]!r}, allowed is {row.allowed}")
    if values["trip_nm"] < values["max_nm"]:
        raise InputError(f"{path}: trip_nm is {values['trip_nm']:g}, allowed is max_nm "
                         f"({values['max_nm']:g}) or more: less would stop what was asked for")
    fields = set(Limits.__dataclass_fields__) - {"own"}
    own = {key: value for key, value in values.items() if key not in fields}
    return Limits(**{key: values[key] for key in fields}, own=own)


def bounded(nm: float, most: float) -> float:
    """Return a torque within `most` of zero; what is no number is none."""
    return max(-most, min(most, nm)) if nm == nm else 0.0
