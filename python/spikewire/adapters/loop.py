"""The loop of an adapter: decoder in, machine in, operator in, one decision, machine out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress

from spikewire.adapters.assist import PERIOD_S, REQUEST, Adapter, Machine
from spikewire.adapters.bus import Bus
from spikewire.link.codec import Arm
from spikewire.link.ends import End
from spikewire.link.receiver import Receiver
from spikewire.link.transport import LinkError

ASK_EVERY_S = 0.05  # the decoder wants at least 10 Hz
LAST_TRIES, LAST_TOLD = 50, 3  # to end what the machine does, until the bus took it so often
PAUSE_S = 0.002  # between these; what was sent gets out before the bus is closed


class Decoder:
    """The decoder, as it is heard and asked over its line.

    Parameters
    ----------
    end : End
        The controller's end of the line.
    receiver : Receiver
        With the model id that is to be asked for.
    """

    def __init__(self, end: End, receiver: Receiver) -> None:
        self.end, self.receiver = end, receiver
        self._asked: int | None = None
        self._asked_s, self._sent = -math.inf, 0

    def listen(self, now: float) -> None:
        """Hand over what has come."""
        self.end.hear(self.receiver, now)

    def ask(self, request: int, now: float) -> None:
        """Send a request, if it is a new one or the last is long enough ago."""
        if request != self._asked or now - self._asked_s >= ASK_EVERY_S:
            self._asked, self._asked_s = request, now
            self._sent += self.end.ask(Arm(request, self.receiver.model_id or 0, self._sent))


def run(
    adapter: Adapter, decoder: Decoder, bus: Bus, operator: Callable[[], str],
    say: Callable[[str], None], clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Run an adapter until its operator quits; however that ends, the machine is told to stop.

    Parameters
    ----------
    adapter, decoder, bus : Adapter, Decoder, Bus
    operator : callable
        Returns "arm", "quit", "" for nothing, or another word, which stops; never waits.
    say : callable of str
        Tells an operator; called after the machine was told.
    clock, sleep : callable
        In seconds; the clock never goes back.

    Raises
    ------
    LinkError
        The decoder's line or the bus went away, or the machine could not be told to stop.
    """
    due = clock()
    try:
        while (wish := operator()) != "quit":
            now = clock()
            decoder.listen(now)
            adapter.machine.hear(bus.read(), now)
            if wish == "arm":
                adapter.arm(now)
            elif wish:
                adapter.stop(f"the operator typed {wish!r}")
            for identifier, data in adapter.tick(now):
                bus.send(identifier, data)
            decoder.ask(adapter.request, now)
            for words in adapter.news():
                say(words)
            due = max(due + PERIOD_S, now)  # a tick that is late is not made up for
            sleep(max(0.0, due - clock()))
    finally:
        told = let_go(adapter.machine, bus, sleep)
        with suppress(Exception):  # the decoder sees silence, too
            decoder.ask(REQUEST["disarm"], clock())
        if not told:
            raise LinkError(f"{adapter.machine.name} could NOT be told to stop: "
                            "press the emergency stop, then look at the bus")


def let_go(machine: Machine, bus: Bus, sleep: Callable[[float], None] = time.sleep) -> bool:
    """Tell a machine to stop until the bus has taken it; return whether it has.

    Nothing is raised, not even by a second Ctrl-C: this is what is left to do when something else
    went wrong.
    """
    told = 0
    for _ in range(LAST_TRIES):
        with suppress(BaseException):
            for identifier, data in machine.stop():
                bus.send(identifier, data)
            told += 1
        if told == LAST_TOLD:
            break
        with suppress(BaseException):
            sleep(PAUSE_S)
    return told > 0
