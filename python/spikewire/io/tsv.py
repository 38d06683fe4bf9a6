"""BIDS tables and sidecars: tab-separated columns by name, and JSON objects, of bounded size."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spikewire.durable import write_durably
from spikewire.io.bounded import reason
from spikewire.signals import InputError

LARGEST_BYTES = 64 << 20
NONE = "n/a"


def _text(path: Path) -> str:
    """Text of a file that is not too large."""
    if path.stat().st_size > LARGEST_BYTES:
        raise InputError(f"{path}: {path.stat().st_size >> 20} MB are no table of BIDS")
    try:
        return path.read_text("utf-8-sig")
    except ValueError:
        raise InputError(f"{path}: is no text in UTF-8") from None


def read_table(path: Path) -> dict[str, list[str]]:
    """Columns by name, all of one length.

    Raises
    ------
    InputError
        No header, a column twice, or a row of another length.
    """
    lines = [line for line in _text(path).split("\n") if line.strip()]
    rows = [line.rstrip("\r").split("\t") for line in lines]
    names = rows[0] if rows else []
    if not names or len(set(names)) < len(names):
        raise InputError(f"{path}: its first line names no columns, or one twice")
    odd = next((k for k, row in enumerate(rows) if len(row) != len(names)), None)
    if odd is not None:
        raise InputError(f"{path}: line {odd + 1} has {len(rows[odd])} columns, its header "
                         f"{len(names)}; they are separated by tabs")
    return {name: [row[k] for row in rows[1:]] for k, name in enumerate(names)}


def write_table(path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    """Write columns of one length; whole, or not at all."""
    rows = [list(columns), *zip(*columns.values(), strict=True)]
    text = "".join("\t".join(_cell(v) for v in row) + "\n" for row in rows)
    write_durably(path, lambda file: file.write(text.encode()))


def _cell(value: Any) -> str:
    """One cell: no tab, no line end, never empty."""
    text = NONE if value is None else f"{value:.10g}" if isinstance(value, float) else str(value)
    return " ".join(text.split()) or NONE


def read_sidecar(path: Path) -> dict[str, Any]:
    """JSON object of a sidecar; empty if there is no such file.

    Raises
    ------
    InputError
        No JSON object.
    """
    if not path.is_file():
        return {}
    try:
        found = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable JSON ({reason(error)})") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: is no JSON object")
    return found


def write_sidecar(path: Path, facts: Mapping[str, Any]) -> None:
    """Write a JSON object; whole, or not at all."""
    write_durably(path, lambda file: file.write((json.dumps(facts, indent=2) + "\n").encode()))


def positive(value: Any) -> float | None:
    """A positive finite number of a sidecar, or None."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1e12:
        return float(value)
    return None
