"""Asking the operating system: what is granted, and what is said when it is not."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from spikewire.runtime import realtime


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """A system that grants everything and notes what it was asked."""
    notes: list[object] = []
    monkeypatch.setattr(os, "sched_setscheduler", lambda *a: notes.append(a))
    monkeypatch.setattr(os, "sched_setaffinity", lambda *a: notes.append(a))
    monkeypatch.setattr(realtime.ctypes, "CDLL", lambda *_, **__: SimpleNamespace(
        mlockall=lambda flags: notes.append(flags) or 0))
    return notes


def test_everything_is_asked_for(asked: list[object]) -> None:
    assert realtime.enter(1) == ({"fifo": True, "locked": True, "cpu": 1}, [])
    (who, policy, how), flags, (_, cores) = asked
    assert who == 0
    assert policy == os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
    assert how.sched_priority == 20
    assert flags == 3  # MCL_CURRENT | MCL_FUTURE, sys/mman.h
    assert cores == {1}


def test_what_is_refused_is_one_line_each_and_no_end(asked, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    monkeypatch.setattr(realtime.ctypes, "CDLL", lambda *_, **__: SimpleNamespace(
        mlockall=lambda flags: -1))
    monkeypatch.setattr(realtime.ctypes, "get_errno", lambda: errno.ENOMEM)
    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    granted, missing = realtime.enter(99)
    assert granted == {"fifo": False, "locked": False, "cpu": None}
    fifo, lock, core = missing
    assert "SCHED_FIFO was refused (Operation not permitted)" in fifo
    assert "cap_sys_nice" in fifo
    assert "mlockall was refused (Cannot allocate memory)" in lock
    assert core.startswith("core 99 was refused")
    assert "take one of " in core


def test_a_real_process_goes_on_whatever_it_is_granted() -> None:
    """The true calls, in a process of its own; a program that it starts is an ordinary one."""
    code = ("import json, os, subprocess, sys; from spikewire.runtime.realtime import enter; "
            "got, missing = enter(min(os.sched_getaffinity(0))); "
            "child = subprocess.run([sys.executable, '-c', "
            "'import os; print(os.sched_getscheduler(0))'], capture_output=True, text=True); "
            "print(json.dumps([got, os.sched_getscheduler(0), child.stdout.strip()]))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    got, policy, child = json.loads(done.stdout)
    assert (policy & ~os.SCHED_RESET_ON_FORK == os.SCHED_FIFO) == got["fifo"]
    assert child == str(os.SCHED_OTHER)
