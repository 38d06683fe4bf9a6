"""What is made from the message table for others: a CAN database, a C header, a page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from spikewire.durable import write_durably
from spikewire.link.dbc import database
from spikewire.link.header import header
from spikewire.link.page import page
from spikewire.link.table import BASE, BY_CAN_ID

# file -> what makes it, from the first CAN identifier
FILES: dict[str, Callable[[int], str]] = {
    "spikewire.dbc": database,
    "spikewire_link.h": header,
    "link.md": page,
}
LARGEST_BASE = 0x7FF - (max(BY_CAN_ID) - BASE)  # the last identifier has 11 bits, too


def generate(folder: Path, base: int = BASE) -> list[Path]:
    """Write every file of `FILES` into a folder; it is made if it is not there.

    Parameters
    ----------
    folder : Path
    base : int
        First CAN identifier, 0 to `LARGEST_BASE`.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    OSError
        The folder cannot be made or written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = {folder / name: make(base) for name, make in FILES.items()}
    for path, text in texts.items():
        _write(path, text)
    return list(texts)


def _write(path: Path, text: str) -> None:
    """Write one file."""
    write_durably(path, lambda file: file.write(text.encode()))
