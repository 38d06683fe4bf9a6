"""Drive to torque, and the three states of every adapter: OFF, ASKED, ON.

Torque = sign x gain x max(0, drive - threshold), at most `max_nm`, no faster than `rate_nm_per_s`,
times the receiver's share of assistance. Only an operator leads from OFF to ASKED; from there it
goes ON once the decoder's frames are usable and the machine talks, or back to OFF. Every trouble
leads to OFF: zero torque, then disable. Time is passed in.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from spikewire.adapters.bus import Frame
from spikewire.adapters.limits import Limits
from spikewire.link.receiver import Receiver
from spikewire.link.table import REQUESTS, STATES

OFF, ASKED, ON = "off", "asked", "on"
PERIOD_S = 0.010  # the H3 wants a set-point this often
LATE_S = 0.030  # a loop that did not run for so long has lost hold of the machine
SILENT_S = 0.030  # as long as public hosts of the H3 wait for it
ASK_S = 2.0  # how long a request of the operator stands
STARTS = 4  # so many, over more than SILENT_S, so that it has heard one and talked since
FAREWELLS = 10  # times that a stop is sent to a machine that can hear it
REQUEST = {name: number for number, name in REQUESTS.items()}
FAULT = next(number for number, name in STATES.items() if name == "FAULT")


class Machine(Protocol):
    """One kind of machine; frames out, what it says in.

    Attributes
    ----------
    name : str
    heard_s : float
        When the last of it was heard that must keep coming, s; -inf if never.
    """

    name: str

    @property
    def heard_s(self) -> float: ...

    def hear(self, frames: Sequence[Frame], now: float) -> None:
        """Take what came on the bus."""
        ...

    def fault(self) -> str:
        """Return what speaks against going on, in words, or nothing."""
        ...

    def forget(self) -> None:
        """Forget what was heard, since an operator arms again."""
        ...

    def start(self) -> list[Frame]:
        """Return what makes it talk, and hold zero torque."""
        ...

    def torque(self, nm: float) -> list[Frame]:
        """Return one set-point; what the machine must never be sent is cut here once more."""
        ...

    def stop(self) -> list[Frame]:
        """Return torque 0, then disable."""
        ...


class Law:
    """From drive to torque, tick by tick.

    Attributes
    ----------
    level_nm : float
        What full assistance would be, N.m without sign.
    out_nm : float
        What was returned last, N.m without sign.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.level_nm = self.out_nm = 0.0

    def step(self, drive: float, share: float, passed_s: float) -> float:
        """Return the torque of one tick.

        Parameters
        ----------
        drive : float
            pulse/s; what is not finite is none.
        share : float
            Of assistance, 0 to 1; what is outside is none.
        passed_s : float
            Time since the last tick, s.

        Returns
        -------
        float
            N.m with sign, at most `max_nm`. Away from zero it never moves faster than the rate,
            towards zero only where the share sinks.
        """
        own = self._limits
        excess = max(0.0, drive - own.threshold_pps) if math.isfinite(drive) else 0.0
        wanted = min(own.max_nm, own.gain_nm_per_pps * excess)
        most = own.rate_nm_per_s * max(0.0, passed_s)
        share = share if 0.0 <= share <= 1.0 else 0.0
        self.level_nm += max(-most, min(most, wanted - self.level_nm))
        self.out_nm = min(self.level_nm * share, self.out_nm + most)
        return own.sign * self.out_nm

    def reset(self) -> None:
        """Begin at zero."""
        self.level_nm = self.out_nm = 0.0


class Adapter:
    """Decides, tick by tick, what one machine is sent.

    Parameters
    ----------
    machine : Machine
    receiver : Receiver
        Of the decoder's frames; somebody else feeds it.
    limits : Limits

    Attributes
    ----------
    state : str
        OFF, ASKED or ON.
    stops : counter of str
        Reasons for which it went OFF.
    armed : int
        Times that it went ON.
    largest_nm : float
        Largest torque sent, without sign.
    longest_s : float
        Longest time between two ticks.
    """

    def __init__(self, machine: Machine, receiver: Receiver, limits: Limits) -> None:
        self.machine, self.receiver = machine, receiver
        self.state = OFF
        self.stops: Counter[str] = Counter()
        self.armed = 0
        self.largest_nm = self.longest_s = 0.0
        self._law = Law(limits)
        self._drive = math.nan  # of the last usable frame
        self._farewells = FAREWELLS  # what an adapter that was killed may have left is ended first
        self._asked_s, self._ticked_s = -math.inf, math.inf  # no time has passed at the first tick
        self._starts = 0  # sent in a row to a machine that talks
        self._news: list[str] = []

    @property
    def request(self) -> int:
        """What to ask of the decoder, a key of `table.REQUESTS`."""
        if self.state == OFF:
            return REQUEST["disarm"]
        last = self.receiver.stats.last
        failed = last is not None and last.state == FAULT
        return REQUEST["clear" if failed and self.state == ASKED else "arm"]

    def news(self) -> list[str]:
        """Return what an operator should read, once."""
        said, self._news = self._news, []
        return said

    def arm(self, now: float) -> None:
        """Do what an operator asks; nothing if it is not OFF."""
        if self.state == OFF:
            self.state, self._asked_s, self._starts = ASKED, now, 0
            self.machine.forget()
            self._law.reset()

    def stop(self, reason: str) -> None:
        """Go OFF; the next tick sends zero torque and disables."""
        if self.state == OFF:
            return
        verb = "stopped" if self.state == ON else "not armed"
        self.state, self._farewells = OFF, FAREWELLS
        self.stops[reason] += 1
        self._news.append(f"{verb}: {reason}; to arm, type arm and Enter")

    def tick(self, now: float) -> list[Frame]:
        """Return what to send at `now`; it holds until the next tick.

        Parameters
        ----------
        now : float
            s; `receiver` and `machine` have heard everything that came before.
        """
        passed_s, self._ticked_s = now - self._ticked_s, now
        self.longest_s = max(self.longest_s, passed_s)
        last, usable = self.receiver.stats.last, self.receiver.usable(now)
        silent = not now - self.machine.heard_s < SILENT_S
        if last is not None and usable:
            self._drive = last.drive[self.receiver.slot]
        if self.state != OFF:
            self._judge(now, passed_s, usable, silent)
        if self.state == ON:
            share = self.receiver.assist(now)
            nm = self._law.step(self._drive, share, min(passed_s, PERIOD_S))
            self.largest_nm = max(self.largest_nm, abs(nm))
            return self.machine.torque(nm)
        if self.state == ASKED and usable:
            self._starts += not silent
            return self.machine.start()
        self._starts = 0
        if self._farewells:  # a machine that was cut off goes on, and must hear it when it is back
            self._farewells -= not silent
            return self.machine.stop()
        return []

    def _judge(self, now: float, passed_s: float, usable: bool, silent: bool) -> None:
        """Stop if anything speaks against going on; go ON if nothing is missing any more."""
        # What is sent now holds until the next tick: end one tick early rather than late.
        self.receiver.assist(now + PERIOD_S)
        if passed_s >= LATE_S:
            self.stop(f"the loop did not run for {1e3 * passed_s:.0f} ms")
        elif fault := self.machine.fault():
            self.stop(fault)
        elif self.state == ON and self.receiver.latched:
            self.stop("the decoder's frames ended, or are no longer usable")
        elif self.state == ON and silent:
            self.stop(f"{self.machine.name} is silent and may go on with its last torque, press "
                      "the emergency stop")
        elif self.state == ASKED and self._starts >= STARTS and not silent and usable:
            self.receiver.rearm(now)
            self.state, self.armed = ON, self.armed + 1
            self._news.append("armed; any line but arm stops")
        elif self.state == ASKED and now - self._asked_s >= ASK_S:
            self.stop(f"{self.machine.name} is silent; is it on, and on this bus?" if usable else
                      "no usable frames of the decoder; is it READY, and may this line arm it?")
