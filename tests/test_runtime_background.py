"""The other process: shared memory, failures, and its end by every way that the loop can end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from spikewire.runtime.background import NICE, Background, GivenUpError, Inline, WorkError

SHAPE = (2, 40, 3)
Asked = Callable[[], bool]


@dataclass
class Sum:
    answer: object


def total(state: Sum, emg: np.ndarray, good: np.ndarray, given_up: Asked) -> Sum:
    return Sum(state.answer + float(emg[:, good].sum()))


def nice_and_pid(state: Sum, emg: object, good: object, given_up: Asked) -> Sum:
    return Sum((os.nice(0), os.getpid()))


def fail(state: Sum, emg: object, good: object, given_up: Asked) -> Sum:
    raise ValueError("no way")


def sleep(state: Sum, emg: object, good: object, given_up: Asked) -> Sum:
    time.sleep(60)
    return state


def short(state: Sum, emg: object, good: object, given_up: Asked) -> Sum:
    time.sleep(1)
    return state


def until_given_up(state: Sum, emg: object, good: object, given_up: Asked) -> Sum:
    while not given_up():
        time.sleep(0.001)
    raise GivenUpError


def much(state: Sum, emg: object, good: object, given_up: Asked) -> Sum:
    return Sum(np.arange(1_000_000))


def result(ready: object, seconds: float = 30) -> object:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if (made := ready()) is not None:
            return made
        time.sleep(0.01)
    raise AssertionError("nothing came")


@pytest.fixture(params=[Background, Inline])
def helper(request: pytest.FixtureRequest) -> Iterator[Background | Inline]:
    made = request.param(Sum(1000.0), SHAPE)
    yield made
    made.close()


@pytest.fixture
def background() -> Iterator[Background]:
    made = Background(Sum(0.0), SHAPE)
    yield made
    made.close()


ALL = np.ones(3, bool)


def test_work_sees_the_half_that_the_loop_has_filled(helper: Background | Inline) -> None:
    helper.emg[1] = 2
    good = np.array([True, False, True])
    assert result(helper.start(total, 1, good)) == 1000 + 2 * 40 * 2
    assert result(helper.start(total, 0, good)) == 1160


def test_failed_work_leaves_the_state_and_the_next_work_runs(helper: Background | Inline) -> None:
    with pytest.raises(WorkError, match="ValueError: no way"):
        result(helper.start(fail, 0, ALL))
    assert result(helper.start(total, 0, ALL)) == 1000


def test_work_that_was_done_already_is_undone(helper: Background | Inline) -> None:
    helper.emg[0] = 1
    helper.start(total, 0, ALL)
    time.sleep(0.2)  # over there it is ready, and nobody asks for it
    answer = helper.start(total, 0, np.array([True, False, False]), instead=True)
    assert result(answer) == 1040
    assert result(helper.start(total, 0, ALL)) == 1160


def test_long_work_is_given_up_for_other_work(background: Background) -> None:
    background.start(until_given_up, 0, ALL)
    assert result(background.start(total, 0, ALL, instead=True)) == 0


def test_it_is_another_process_of_low_priority(background: Background) -> None:
    nice, pid = result(background.start(nice_and_pid, 0, ALL))
    assert pid == background.pid != os.getpid()
    assert nice == min(os.nice(0) + NICE, 19)


def test_an_answer_larger_than_the_pipe_comes_whole(background: Background) -> None:
    assert result(background.start(much, 0, ALL))[-1] == 999_999


def test_ctrl_c_is_the_loops_business(background: Background) -> None:
    assert result(background.start(total, 0, ALL)) == 0
    os.kill(background.pid, signal.SIGINT)
    assert result(background.start(total, 0, ALL)) == 0


def test_the_loop_learns_that_the_process_died_at_work(background: Background) -> None:
    answer = background.start(sleep, 0, ALL)
    time.sleep(0.1)
    os.kill(background.pid, signal.SIGKILL)
    with pytest.raises((EOFError, ConnectionError)):
        result(answer)
    with pytest.raises(BrokenPipeError):
        background.start(total, 0, ALL)


def test_close_does_not_wait_for_the_work(background: Background) -> None:
    background.start(sleep, 0, ALL)
    started = time.monotonic()
    background.close()
    assert time.monotonic() - started < 10
    assert ended(background.pid)


def ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[-1].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize("at_work", [False, True])
def test_after_kill_9_of_the_loop_nothing_stays_behind(at_work: bool) -> None:
    code = ("import sys, time\n"
            f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
            "from spikewire.runtime.background import Background\n"
            "from test_runtime_background import Sum, short\n"
            "if __name__ == '__main__':\n"
            "    b = Background(Sum(0), (2, 4, 1))\n"
            f"    {at_work} and b.start(short, 0, None)\n"
            "    print(b.pid, flush=True)\n"
            "    time.sleep(60)\n")
    loop = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        pid = int(loop.stdout.readline())
        time.sleep(0.5)
    finally:
        loop.kill()
        loop.wait()
        loop.stdout.close()
    until = time.monotonic() + 20
    while not ended(pid) and time.monotonic() < until:
        time.sleep(0.1)
    assert ended(pid)
