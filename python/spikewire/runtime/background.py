"""The other process, where slow work is done: low priority, no Ctrl-C, no life after the loop.

Another thread would not do: numpy copies megabytes while it holds the interpreter's lock, and a
step has ten milliseconds. The signal lies in memory that both processes see and what the work
knows stays over there, so the loop hands over an index and takes back an answer.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from spikewire.signals import Floats

NICE = 10
PIPE_BYTES = 1 << 20  # holds a whole answer, so that neither side waits for the other

# work(state, emg, good, given_up) -> the next state, whose `answer` the loop gets. Long work asks
# given_up() now and then, and raises GivenUpError if so.
Work = Callable[[Any, Floats, Any, Callable[[], bool]], Any]


class GivenUpError(Exception):
    """Something else is wanted instead."""


class WorkError(Exception):
    """What went wrong over there; the state is as before."""


def _serve(
    state: Any, shared: Any, shape: tuple[int, ...], orders: Connection, answers: Connection
) -> None:
    """The other process: work until the loop is gone."""
    os.nice(NICE)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    emg = np.frombuffer(shared, np.float32).reshape(shape)
    before = state
    with contextlib.suppress(EOFError, OSError):  # the loop has ended, by whatever way
        while True:
            number, work, half, good, instead = orders.recv()
            if instead:
                state = before
            before = state
            try:
                state = work(state, emg[half], good, orders.poll)
                answers.send((number, state.answer))
            except GivenUpError:
                pass
            except Exception as error:
                answers.send((number, WorkError(f"{type(error).__name__}: {error}")))


class Background:
    """One other process, doing one piece of work at a time.

    Parameters
    ----------
    state : what the first piece of work starts from
    shape : (2, samples, channels) of the shared signal

    Attributes
    ----------
    emg : float32 of that shape
        Written by the loop; while one half is worked on, the other is filled.
    """

    def __init__(self, state: Any, shape: tuple[int, int, int]) -> None:
        context = get_context("spawn")
        shared = context.RawArray("f", int(np.prod(shape)))
        self.emg: Floats = np.frombuffer(shared, np.float32).reshape(shape)
        orders, self._orders = context.Pipe(duplex=False)
        self._answers, answers = context.Pipe(duplex=False)
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            with contextlib.suppress(OSError):
                fcntl.fcntl(answers.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._process = context.Process(
            target=_serve, args=(state, shared, shape, orders, answers), daemon=True)
        self._process.start()
        self._number = 0
        orders.close()  # or the end of one side would go unseen by the other
        answers.close()

    @property
    def pid(self) -> int:
        """Of the other process."""
        assert self._process.pid is not None
        return self._process.pid

    def start(
        self, work: Work, half: int, good: Any, instead: bool = False
    ) -> Callable[[], Any | None]:
        """Begin `work(state, emg[half], good)`; not before the work before it has answered.

        With `instead` the work before it is given up, and what it has done is undone.

        Returns
        -------
        callable
            The answer, None while there is none. It raises WorkError if the work failed, OSError
            or EOFError if the other process is no more.
        """
        self._number = number = self._number + 1
        self._orders.send((number, work, half, good, instead))
        return lambda: self._answer(number)

    def _answer(self, number: int) -> Any | None:
        """What has come back of it; what was given up may have answered before."""
        while self._answers.poll():
            of, came = self._answers.recv()
            if of == number:
                if isinstance(came, WorkError):
                    raise came
                return came
        return None

    def close(self) -> None:
        """End the other process, whatever it is doing."""
        self._process.kill()
        self._process.join()
        self._orders.close()
        self._answers.close()


class Inline:
    """The same in the caller's own thread, when the answer is asked for."""

    def __init__(self, state: Any, shape: tuple[int, int, int]) -> None:
        self.emg: Floats = np.zeros(shape, np.float32)
        self._state = state

    def start(
        self, work: Work, half: int, good: Any, instead: bool = False
    ) -> Callable[[], Any]:
        """See Background.start; what is not asked for its answer is never done."""

        def answer() -> Any:
            try:
                self._state = work(self._state, self.emg[half], good, lambda: False)
            except Exception as error:
                raise WorkError(f"{type(error).__name__}: {error}") from error
            return self._state.answer

        return answer

    def close(self) -> None:
        """Nothing runs."""
