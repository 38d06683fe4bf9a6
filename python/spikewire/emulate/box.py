"""An emulated amplifier in motion: connections, the pace of its clock, and faults by script.

What it sends is decided sample by sample, so a fault stands exactly where the script has it, and
`happened` says at which sample that was. What it does not emulate: Wi-Fi (delays, repeats, slow
links), the amplifier's filters and noise, the time from the electrode to the wire.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from spikewire.emulate.played import Played
from spikewire.emulate.script import Event
from spikewire.emulate.wire import HANG_UP, START, STOP, Wire
from spikewire.io.source import Clock
from spikewire.signals import InputError

BUFFER_S = 0.5  # what a box keeps while it cannot send
BUFFER_BYTES = 60000
NAP_S = 0.02
AGAIN_S = 0.1  # between two calls of a box that calls
RAIL = 32767


class Box:
    """One amplifier.

    Parameters
    ----------
    wire : Wire
    played : Played
    script : list of Event, in order
    clock : Clock
    host : str, int
        Where it listens, or whom it calls; port 0 listens anywhere.

    Attributes
    ----------
    port : int
    happened : list of (str, float, int)
        Faults: name, amount, and the index of the sample before which it stood.
    refused : list of str
        Commands that were not obeyed, and why.
    sent : int
        Samples sent.
    started_s : float
        When sample 0 was acquired, on the clock; 0 before that.
    """

    def __init__(
        self, wire: Wire, played: Played, script: list[Event], clock: Clock,
        host: str = "127.0.0.1", port: int | None = None,
    ) -> None:
        self._wire, self._played, self._clock, self._host = wire, played, clock, host
        self._events = list(script)
        self.port = wire.port if port is None else port
        self.happened: list[tuple[str, float, int]] = []
        self.refused: list[str] = []
        self.sent, self.started_s = 0, 0.0
        self._doors = [] if wire.calls else self._listen()
        self._lines: list[socket.socket] = []
        self._out = bytearray()
        self._running = self._goes_on = False
        self._anchor: tuple[float, int] | None = None  # a moment, and the index then
        self._rate_hz = wire.fs_hz
        self._next = self._base = 0
        self._quiet_until = self._away_until = self._burst_until = self._full_until = float("-inf")
        self._late_s = self._called = 0.0
        self._dead: list[int] = []
        self._saturated: list[int] = []

    def _listen(self) -> list[socket.socket]:
        """Open the ports: commands at `port`, samples at the next if there are two."""
        doors = []
        for k in range(self._wire.ports):
            door = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                door.bind((self._host, self.port + k))
                door.listen(1)
            except OSError as error:
                raise InputError(f"{self._host}:{self.port + k} cannot be listened on "
                                 f"({error.strerror}); choose another --port") from None
            self.port = door.getsockname()[1] - k
            door.setblocking(False)
            doors.append(door)
        return doors[::-1]  # as in `_lines`: the last takes commands

    def run(self, stop: Callable[[], bool]) -> None:
        """Serve until `stop` says so."""
        try:
            while not stop():
                self.turn()
        finally:
            self._hang_up()
            self._shut()

    def _shut(self) -> None:
        """Stop listening."""
        for door in self._doors:
            door.close()
        self._doors = []

    def turn(self) -> None:
        """Connect, obey, send what is due; wait for the next of these, at most 20 ms."""
        now = self._clock.now()
        if now >= self._away_until:
            if not (self._wire.calls or self._doors):
                self._doors = self._listen()
            self._connect(now)
        self._obey()
        self._acquire()
        self._flush()
        sends = self._anchor is not None and self._running and self._lines
        wait = min(NAP_S, max(0.0, self._due_s() - self._clock.now())) if sends else NAP_S
        waiting = [*self._lines, *(self._doors if len(self._lines) < self._wire.ports else ())]
        select.select(waiting, self._lines[:1] if self._out else [], [], wait)

    # The clock.

    def _made(self) -> int:
        """Samples acquired by now."""
        if self._anchor is None:
            return 0
        moment, index = self._anchor
        return index + int((self._clock.now() - moment) * self._rate_hz)

    def _due_s(self) -> float:
        """When the next packet is complete."""
        assert self._anchor is not None
        moment, index = self._anchor
        return moment + (self._next + self._wire.packet - index) / self._rate_hz + self._late_s

    def index_at(self, moment: float) -> float:
        """Index of the sample that is acquired at a moment."""
        assert self._anchor is not None
        return self._anchor[1] + (moment - self._anchor[0]) * self._rate_hz

    # Connections.

    def _connect(self, now: float) -> None:
        """Take or make what is missing of a connection."""
        if self._wire.calls and not self._lines and now - self._called >= AGAIN_S:
            self._called = now
            line = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            line.settimeout(AGAIN_S)
            try:
                line.connect((self._host, self.port))
            except OSError:
                line.close()
                return
            self._greet(line)
        while len(self._lines) < len(self._doors):
            try:
                line, _ = self._doors[len(self._lines)].accept()
            except OSError:
                return
            self._greet(line)

    def _greet(self, line: socket.socket) -> None:
        """Set a new connection up."""
        line.setblocking(False)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._lines.append(line)
        self._running = self._goes_on
        self._next = max(self._next, self._made())

    def _hang_up(self) -> None:
        """Cut the connection."""
        for line in self._lines:
            line.close()
        self._lines, self._running = [], False
        self._out.clear()

    def _obey(self) -> None:
        """Hear the computer out."""
        for line in list(self._lines):
            try:
                data = line.recv(1 << 16)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if not data:
                # A program that died: a box that is called goes on sending to the next one.
                self._goes_on = not self._wire.calls and self._running
                self._hang_up()
                return
            answer, orders = self._wire.hear(data)
            if answer:
                with suppress(OSError):
                    line.send(answer)
            for order in orders:
                self._order(order)

    def _order(self, order: str) -> None:
        """Start, stop, hang up; anything else is a refusal."""
        if order == START:
            if not self._running:
                if self._anchor is None:
                    self.started_s = self._clock.now()
                    self._anchor = (self.started_s, 0)
                self._next = max(self._next, self._made())
                if self._wire.restarts:
                    self._base = self._next
            self._running, self._goes_on = True, False
        elif order in (STOP, HANG_UP):
            self._running = self._goes_on = False
            self._out.clear()
            if order == HANG_UP:
                self._hang_up()
        else:
            self.refused.append(order)

    # Samples.

    def _acquire(self) -> None:
        """Pack what is due; a buffer that runs over loses its oldest samples."""
        made = self._made() - int(self._late_s * self._rate_hz)
        if not self._running or not self._lines:
            return
        if self._clock.now() < self._quiet_until or self._out:
            overrun = made - int(BUFFER_S * self._rate_hz)
            if overrun > self._next:
                self._overrun(overrun - self._next)
            return
        packet = self._wire.packet
        while self._next + packet <= made and self._running and not self._out_is_long():
            stop = self._next + packet
            event = self._events[0] if self._events else None
            at = round(event.at_s * self._wire.fs_hz) if event else stop
            if event and at < stop:
                self._frames(self._next, self._next if self._wire.whole else at)
                self._events.pop(0)
                self._happen(event)
                made = min(made, self._made() - int(self._late_s * self._rate_hz))
                if self._clock.now() < self._quiet_until:
                    return
            else:
                self._frames(self._next, stop)

    def _overrun(self, lost: int) -> None:
        """Lose the oldest samples; one overrun is told once."""
        name, before, at = self.happened[-1] if self.happened else ("", 0, 0)
        if name == "overrun" and at + before == self._next:
            self.happened[-1] = (name, before + lost, at)
        else:
            self.happened.append(("overrun", lost, self._next))
        self._next += lost

    def _out_is_long(self) -> bool:
        """Whether the computer does not take what is sent."""
        return len(self._out) > BUFFER_BYTES

    def _frames(self, start: int, stop: int) -> None:
        """Pack samples [start, stop) and go on behind them."""
        if stop > start:
            self._out += self._packed(start, stop)
            self.sent += stop - start
            self._next = max(self._next, stop)

    def _packed(self, start: int, stop: int) -> bytes:
        """Bytes of samples [start, stop)."""
        index = np.arange(start, stop)
        emg: Any = self._played.between(start, stop).copy()
        now = self._clock.now()
        if now < self._burst_until:
            emg[:] = np.where(index[:, None] // 8 % 2, RAIL, -RAIL)
        emg[:, self._dead] = 0
        emg[:, self._saturated] = RAIL
        free = 100 if now < self._full_until else max(
            0, BUFFER_BYTES - (self._made() - stop) * 2 * self._wire.words)
        return self._wire.pack((index - self._base) % (1 << self._wire.bits), emg, free)

    def _happen(self, event: Event) -> None:
        """Let a fault happen before the next sample."""
        name, amount, now = event.name, event.amount, self._clock.now()
        self.happened.append((name, amount, self._next))
        if name == "drop":
            self._next += int(amount)
        elif name == "duplicate":
            size = 128 * -(-int(amount) // 128) if self._wire.whole else int(amount)
            self._out += self._packed(self._next - size, self._next)
        elif name == "partial":
            size = 128 if self._wire.whole else 1
            whole = self._packed(self._next, self._next + size)
            self._out += whole[: len(whole) // 2]
            self._next += size
        elif name == "drift":
            self._anchor = (now, self._made())
            self._rate_hz = self._wire.fs_hz * (1 + 1e-6 * amount)
        elif name in ("disconnect", "crash"):
            self._flush()
            self._goes_on = name == "crash"
            self._hang_up()
            self._shut()
            self._away_until = now + amount
        elif name == "width":
            self._wire.words = int(amount)
        elif name == "reset":
            self._base = self._next
        elif name in ("dead", "saturated"):
            {"dead": self._dead, "saturated": self._saturated}[name].append(int(amount))
        elif name == "late":
            self._late_s += amount
        else:  # stall, burst, full: for a time
            until = {"stall": "_quiet_until", "burst": "_burst_until", "full": "_full_until"}[name]
            setattr(self, until, now + amount)

    def _flush(self) -> None:
        """Send as much as the computer takes."""
        if not self._out or not self._lines:
            return
        try:
            del self._out[: self._lines[0].send(self._out)]
        except BlockingIOError:
            pass
        except OSError:
            self._goes_on = not self._wire.calls and self._running
            self._hang_up()
