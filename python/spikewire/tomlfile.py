"""A TOML file of ours as a table; tomllib came with Python 3.11, before it tomli does the same."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from spikewire.signals import InputError

LARGEST_BYTES = 1 << 16  # more is no file of ours


def read_toml(path: str | Path, unreadable: str) -> dict[str, Any]:
    """Read a TOML file.

    Parameters
    ----------
    path : str or Path
    unreadable : str
        What to say, with `{}` for the reason, if the file cannot be opened.

    Raises
    ------
    InputError
        No such file, no TOML, or no reader for it.
    """
    try:
        if sys.version_info >= (3, 11):
            import tomllib
        else:
            import tomli as tomllib
    except ImportError as error:
        raise InputError(f"{path}: needs the package {error.name}, which is not installed; "
                         "type: pip install 'spikewire[can]'") from None
    try:
        with open(path, "rb") as file:
            text = file.read(LARGEST_BYTES + 1)
        if len(text) > LARGEST_BYTES:
            raise InputError(f"{path}: not a TOML file (more than {LARGEST_BYTES} bytes)")
        return dict(tomllib.loads(text.decode()))
    except OSError as error:
        raise InputError(f"{path}: {unreadable.format(error.strerror)}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a TOML file ({error})") from None
