"""Other programs: looked up on PATH, run without a shell, and never waited for without end."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

MISSING, TOO_LONG = 127, 124


class Done(NamedTuple):
    """What a program said and how it ended; 127 is missing, 124 took too long."""

    code: int
    text: str

    @property
    def last(self) -> str:
        """The last line it printed."""
        lines = [line.strip() for line in self.text.splitlines() if line.strip()]
        return lines[-1] if lines else f"exit code {self.code}"


def run(words: Sequence[str | Path], timeout_s: float = 60.0, given: bytes = b"",
        folder: Path | None = None) -> Done:
    """Run a program to its end; output and errors in one text."""
    try:
        done = subprocess.run([str(word) for word in words], input=given, cwd=folder, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout_s)
    except FileNotFoundError:
        return Done(MISSING, f"{words[0]}: no such program")
    except PermissionError:
        return Done(MISSING, f"{words[0]}: may not be run")
    except OSError as error:  # such as a script for an interpreter of another machine
        return Done(MISSING, f"{words[0]}: {error.strerror}")
    except subprocess.TimeoutExpired as late:
        text = (late.stdout or b"").decode(errors="replace")
        return Done(TOO_LONG, f"{text}\n{words[0]}: not done within {timeout_s:g} s")
    return Done(done.returncode, done.stdout.decode(errors="replace"))
