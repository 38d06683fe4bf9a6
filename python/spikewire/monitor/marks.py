"""Events that a person marks: one JSON line each, appended and flushed to the disk."""

from __future__ import annotations

import json
import os
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from spikewire.signals import InputError

LONGEST_MESSAGE, LONGEST_LABEL, LARGEST_FILE = 512, 120, 16 << 20
EVERY_S, AT_ONCE = 0.2, 10.0


class Marks:
    """Appends to a file, which is made by the first mark.

    Parameters
    ----------
    path : Path
    source : str, named in every line
    """

    def __init__(self, path: Path, source: str) -> None:
        if path.suffix != ".jsonl":
            raise InputError(f"--events {path}: the name ends in .jsonl")
        if not path.parent.is_dir():
            raise InputError(f"--events {path}: no such folder; make it first")
        if path.is_dir():
            raise InputError(f"--events {path}: is a folder; name a file")
        self.path, self._source = path, source
        self._left, self._then = AT_ONCE, time.monotonic()

    def take(self, message: str, newest: int, now_s: float) -> dict[str, Any]:
        """Write what a page asks for: {"mark": label, "step": what it shows, "now_s": and when}.

        Returns
        -------
        dict
            What was written and where, or why not; ready for JSON.

        Raises
        ------
        ValueError
            The message is none that a page sends.
        """
        step, label, at = parse(message, newest)
        now = time.monotonic()
        self._left = min(AT_ONCE, self._left + (now - self._then) / EVERY_S)
        self._then = now
        if self._left < 1:
            return {"refused": "too many marks; wait a second"}
        self._left -= 1
        line = {"step": step, "now_s": now_s if at is None else at, "label": label,
                "utc": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
                "newest_step": newest, "source": self._source}
        try:
            self._append(json.dumps(line).encode() + b"\n")
        except OSError as error:
            return {"refused": f"{self.path}: {error.strerror or error}"}
        return {"marked": line, "file": str(self.path)}

    def _append(self, line: bytes) -> None:
        """One write, so that a line is there or not."""
        made = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            if os.fstat(made).st_size > LARGEST_FILE:
                raise OSError("is full; start mu-monitor with another --events")
            os.write(made, line)
            os.fsync(made)
        finally:
            os.close(made)


def parse(message: str, newest: int) -> tuple[int, str, float | None]:
    """Step, label and loop time of a message; ValueError if it is none."""
    if len(message) > LONGEST_MESSAGE:
        raise ValueError("too long")
    try:
        said = json.loads(message)
    except RecursionError:
        raise ValueError("too deep") from None
    if not isinstance(said, dict) or not isinstance(said.get("mark"), str):
        raise ValueError("no mark")
    step, at = said.get("step", newest), said.get("now_s")
    if type(step) is not int or not 0 <= step <= 0xFFFFFFFF:
        raise ValueError("no step")
    if at is not None and not (type(at) in (int, float) and 0 <= at < 1e12):
        raise ValueError("no time")
    label = "".join(c if c.isprintable() else " " for c in said["mark"])
    return step, label[:LONGEST_LABEL], at
