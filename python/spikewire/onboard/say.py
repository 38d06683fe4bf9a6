"""What a board says: JSON, a line per step; and the one exception that ends a change."""

from __future__ import annotations

import json
import sys
from typing import Any, NamedTuple

OK, WARN, FAIL = "ok", "warn", "fail"


class Line(NamedTuple):
    """One step: how it went, what was seen, what to do about it."""

    step: str
    state: str
    evidence: str
    remedy: str = ""


class Stop(Exception):  # noqa: N818 - it is an order, also where nothing is wrong
    """A step that failed: nothing after it is done.

    Parameters
    ----------
    step, evidence, remedy : str
        As in `Line`.
    """

    def __init__(self, step: str, evidence: str, remedy: str = "") -> None:
        super().__init__(f"{step}: {evidence}")
        self.line = Line(step, FAIL, evidence, remedy)


def say(line: Line, **more: Any) -> None:
    """Print a line; goes on where nobody listens any more."""
    try:
        print(json.dumps({**line._asdict(), **more}), flush=True)
    except OSError:  # the connection is gone; the change is not
        sys.stdout = open("/dev/null", "w", encoding="utf-8")
