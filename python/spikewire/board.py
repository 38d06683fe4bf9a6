"""A board is a file of facts, boards/ID.toml, read strictly: a new board is a new file, no code.

A release carries the same facts as board.json, which a board's own Python can read. What they mean
and may be stands in `spikewire.boardfacts`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spikewire.boardfacts import (
    PYTHONS,
    Board,
    Can,
    Flash,
    JetPack,
    Power,
    Realtime,
    Uart,
    rows,
)
from spikewire.signals import InputError
from spikewire.tomlfile import LARGEST_BYTES, read_toml

__all__ = ["Board", "all_boards", "from_table", "read_board", "read_facts", "to_json"]

HERE = Path(__file__).parent
FOLDERS = (HERE / "boards", HERE.parents[1] / "boards")  # of an installed package, of the sources
# SoC -> registers that switch pins; a board file may write nowhere else
PIN_REGISTERS = {
    "t194": (0x0C303000, 0x0C303FFC),
    "t234": (0x0C303000, 0x0C303FFC),
    "t264": (0x8110310000, 0x8110311FFC),
}
ONCE: dict[str, Any] = {"power": Power, "realtime": Realtime}
LISTED: dict[str, Any] = {"jetpack": JetPack, "flash": Flash}
# of named entries: class, and what a name may be
NAMED: dict[str, tuple[Any, str]] = {
    "can": (Can, "v?can[0-9]{1,2}"),
    "uart": (Uart, "[a-z0-9]{1,20}"),
}


def read_board(word: str | Path) -> Board:
    """Read a supported board.

    Parameters
    ----------
    word : str or Path
        An id such as "orin-nano-super", or the path of a .toml or .json file.

    Raises
    ------
    InputError
        No such board, one that is not supported, or a file that is not right.
    """
    board = read_facts(word)
    if not board.supported:
        raise InputError(f"board {board.id} is not supported: {board.reason}; allowed are "
                         + ", ".join(b.id for b in all_boards() if b.supported))
    return board


def read_facts(word: str | Path) -> Board:
    """Read a board whether it is supported or not; else as `read_board`."""
    path = Path(word)
    if path.suffix == ".json":
        return from_table(_json(path), str(path))
    if path.suffix != ".toml":
        ids = sorted(found.stem for found in _folder().glob("*.toml"))
        if str(word) not in ids:
            raise InputError(f"board {str(word)!r} is unknown, allowed are {', '.join(ids)}, or "
                             "the path of a .toml file; boards/README.md says how to add one")
        path = _folder() / f"{word}.toml"
    return from_table(read_toml(path, "cannot read the board ({}); boards/README.md says how to "
                                "add one"), str(path))


def all_boards() -> list[Board]:
    """Return all boards that come with the package, by id."""
    return [read_facts(path) for path in sorted(_folder().glob("*.toml"))]


def _folder() -> Path:
    """Return the folder of the boards."""
    return next(folder for folder in FOLDERS if folder.is_dir())


def _json(path: Path) -> Any:
    """Read a JSON file."""
    try:
        with open(path, "rb") as file:
            return json.loads(file.read(LARGEST_BYTES))
    except OSError as error:
        raise InputError(f"{path}: cannot read the board ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a JSON file ({error}); build the release again") from None


def to_json(board: Board) -> bytes:
    """Return a board as board.json: one spelling for one board."""
    return json.dumps(asdict(board), sort_keys=True, indent=1).encode() + b"\n"


def from_table(table: Any, where: str) -> Board:
    """Check a table of a board's facts, and return them as a board.

    Parameters
    ----------
    table : dict, as TOML or JSON reads it
    where : str
        What an error begins with.

    Raises
    ------
    InputError
        Names the key, the value and what is allowed.
    """
    if not isinstance(table, dict):
        raise InputError(f"{where}: a board is {table!r:.80}, allowed is a table")
    sections = [*ONCE, *LISTED, *NAMED]
    values = _checked(Board, {k: v for k, v in table.items() if k not in sections}, where, "",
                      sections)
    for name, kind in ONCE.items():
        values[name] = _section(kind, table.get(name), where, name)
    for name, kind in LISTED.items():
        entries = _typed(list, table.get(name, []), where, name, f"[[{name}]] sections")
        values[name] = tuple(_section(kind, entry, where, f"{name}[{k}]")
                             for k, entry in enumerate(entries))
    for name, (kind, pattern) in NAMED.items():
        entries = _typed(dict, table.get(name, {}), where, name, f"[{name}.NAME] sections")
        for key in entries:
            if not re.fullmatch(pattern, key):
                raise InputError(f"{where}: {name} {key!r} is unknown, allowed is {pattern}")
        values[name] = {key: _section(kind, entries[key], where, f"{name}.{key}")
                        for key in sorted(entries)}
    board = Board(**values)
    for key, value, allowed in _clashes(board):
        raise InputError(f"{where}: {key} is {value!r}, allowed is {allowed}")
    return board


def _typed(kind: type, value: Any, where: str, key: str, allowed: str) -> Any:
    """Return a value of the right type."""
    if not isinstance(value, kind):
        raise InputError(f"{where}: {key} is {value!r:.80}, allowed are {allowed}")
    return value


def _section(kind: Any, values: Any, where: str, key: str) -> Any:
    """Return one section as its class."""
    if values is None:
        raise InputError(f"{where}: section [{key}] is missing, allowed are its keys "
                         + ", ".join(rows(kind)))
    return kind(**_checked(kind, _typed(dict, values, where, key, "keys and values"), where,
                           key + "."))


def _checked(kind: Any, table: dict[str, Any], where: str, prefix: str,
             sections: list[str] | None = None) -> dict[str, Any]:
    """Return a section's values, each under its row."""
    known = rows(kind)
    for key in table:
        if key not in known:
            raise InputError(f"{where}: key {prefix + str(key)!r} is unknown, allowed are "
                             + ", ".join([*known, *(sections or [])]))
    values = {}
    for key, (row, default) in known.items():
        value = table.get(key, default)
        if value is None:
            raise InputError(f"{where}: key {prefix + key!r} is missing, allowed is {row.allowed}")
        if not row.holds(value):
            raise InputError(f"{where}: {prefix}{key} is {value!r:.200}, allowed is {row.allowed}")
        values[key] = row.make(value)
    return values


def _clashes(board: Board) -> Iterator[tuple[str, Any, str]]:
    """Yield what is right by itself but not beside the rest: key, value, what is allowed."""
    power, versions = board.power, [jetpack.version for jetpack in board.jetpack]
    if board.supported == bool(board.reason):
        yield "reason", board.reason, "a sentence if supported is false, else nothing"
    if board.supported and not board.python:
        yield "python", board.python, "one or more of " + ", ".join(PYTHONS)
    if board.engine == "tensorrt" and not (board.sm and versions):
        yield "engine", board.engine, "native where sm is 0 or no jetpack is named"
    if power.mode == "MAXN_SUPER" and not power.allow_maxn_super:
        yield "power.mode", power.mode, ("a mode with a number of watts, or MAXN_SUPER with "
                                         "allow_maxn_super = true on a carrier cooled for it")
    for cpu in board.realtime.cpus:
        if board.cores and cpu >= board.cores:
            yield "realtime.cpus", list(board.realtime.cpus), f"0 to {board.cores - 1}"
    for jetpack in board.jetpack:
        if board.supported and jetpack.python not in board.python:
            yield "jetpack.python", jetpack.python, " or ".join(board.python)
    for flash in board.flash:
        if flash.jetpack not in versions:
            yield "flash.jetpack", flash.jetpack, " or ".join(versions) or "none without jetpack"
    for name, can in board.can.items():
        yield from _can_clashes(f"can.{name}", can, board.soc)


def _can_clashes(key: str, can: Can, soc: str) -> Iterator[tuple[str, Any, str]]:
    """Yield what does not fit in one CAN section."""
    if can.fd and can.dbitrate < can.bitrate:
        yield f"{key}.dbitrate", can.dbitrate, f"bitrate ({can.bitrate}) or more"
    if can.pinmux == "sfio":
        return
    if soc not in PIN_REGISTERS:
        yield f"{key}.pinmux", can.pinmux, f'"sfio": no registers of {soc} are known'
        return
    low, high = PIN_REGISTERS[soc]
    for pair in can.pinmux:
        if not (low <= int(pair[0]) <= high and int(pair[0]) % 4 == 0
                and 0 <= int(pair[1]) < 1 << 32):
            yield (f"{key}.pinmux", f"[{int(pair[0]):#x}, {int(pair[1]):#x}]",
                   f"[{low:#x} to {high:#x} in steps of 4, 32 bits]")
