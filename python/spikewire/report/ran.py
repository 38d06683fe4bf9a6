"""What was run: the command as it was typed, versions, engine, processor, date."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import spikewire
from spikewire.report import page

NAMED = ("numpy", "scipy", "keras", "tensorflow", "onnxruntime", "tensorrt")


def processor(path: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name, as the system has it."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {len(names) or '?'} threads" \
        if names else platform.machine()


def versions() -> str:
    """Python, and what of the packages that matter is loaded."""
    found = [f"{n} {getattr(sys.modules[n], '__version__', '?')}" for n in NAMED
             if n in sys.modules]
    return ", ".join([f"spikewire {spikewire.__version__}", f"Python {platform.python_version()}",
                      *found])


def section(command: str, more: Sequence[tuple[str, object]] = ()) -> page.Section:
    """The last section of every page.

    Parameters
    ----------
    command : str
        The command line as it was typed.
    more : list of (name, value)
        Engine, bundle, seed and the like, of this kind of page.
    """
    return "What was run", page.facts([
        ("command", command), *more, ("versions", versions()), ("processor", processor()),
        ("system", platform.platform(terse=True)),
        ("written", datetime.now().astimezone().isoformat(sep=" ", timespec="seconds"))])
