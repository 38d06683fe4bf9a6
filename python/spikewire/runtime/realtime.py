"""What the operating system can do so that a step never waits: ask for it, and live without it."""

from __future__ import annotations

import ctypes
import os
from typing import Any

PRIORITY = 20  # of SCHED_FIFO: above every ordinary program, below the kernel's own threads
LOCK_NOW, LOCK_LATER = 1, 2  # MCL_CURRENT, MCL_FUTURE


def _fifo() -> None:
    """Run before every ordinary program; programs that are started from here do not."""
    # Reset on fork: upkeep's process must never push the loop aside.
    policy = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
    os.sched_setscheduler(0, policy, os.sched_param(PRIORITY))


def _lock() -> None:
    """Keep all memory in RAM, also what comes."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(LOCK_NOW | LOCK_LATER):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def enter(cpu: int | None = None) -> tuple[dict[str, Any], list[str]]:
    """Prepare this process for its loop.

    Parameters
    ----------
    cpu : int or None
        Core to stay on.

    Returns
    -------
    got : what was granted, ready for JSON
    missing : one line for each thing that was not, with what to do about it
    """
    got: dict[str, Any] = {}
    missing: list[str] = []
    rows = (
        ("fifo", _fifo, "SCHED_FIFO", "setcap cap_sys_nice, or LimitRTPRIO= in its unit"),
        ("locked", _lock, "mlockall", "setcap cap_ipc_lock, or LimitMEMLOCK=infinity in its unit"),
    )
    for name, ask, words, remedy in rows:
        try:
            ask()
        except (OSError, AttributeError) as error:
            reason = getattr(error, "strerror", None) or "not on this system"
            missing.append(f"{words} was refused ({reason}); steps may wait: {remedy}")
        got[name] = not missing or not missing[-1].startswith(words)
    got["cpu"] = cpu
    if cpu is not None:
        try:
            os.sched_setaffinity(0, {cpu})
        except (OSError, AttributeError, OverflowError) as error:
            missing.append(f"core {cpu} was refused ({error}); take one of "
                           + ", ".join(map(str, sorted(os.sched_getaffinity(0)))))
            got["cpu"] = None
    return got, missing
