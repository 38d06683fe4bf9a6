"""Decoder, bad line and controller on one simulated clock, judged by an oracle.

The decoder is the real guard and the real framer, the controller the real deframer and receiver;
only time and the line are simulated. The oracle knows every byte that was sent and when its EMG was
acquired, and asks three things every millisecond: was a frame accepted that nobody sent, is a value
usable whose EMG is too old, does the output rest 100 ms after the last good frame until a person
has armed again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from spikewire.link.codec import Arm, Step, encode_arm, id16
from spikewire.link.framing import Deframer, frame
from spikewire.link.profile import PROFILES, Framer, Info, Payload
from spikewire.link.receiver import ACTIVE, LATCH_S, Receiver
from spikewire.link.table import ARM, DRIVE, STATES
from spikewire.link.transport import ArmReader, on_serial

PERIOD_S, TICK_S = 20 / 2048, 0.001
MODEL, UNITS, RATE = 0x5EED1234, 4, 80.0
RECORD = 10  # bytes of a CAN frame on the simulated bus: identifier and data
ARM_EVERY_S = 0.05
AGE_S = 0.002  # of a healthy decoder's newest sample
STALE_S = 0.0815  # 80 ms, the time on the wire, and what two clocks may differ by
NUMBER = {name: key for key, name in STATES.items()}


@dataclass
class Decoder:
    """What sends: a state machine, a framer, and EMG that may stop."""

    guard: Any
    health: Callable[..., Any]
    framer: Framer
    model: int = MODEL
    clock_s: float = 5.0  # its own clock minus the true one
    step: int = 0
    alive: bool = True
    frozen_at: float | None = None  # when its source stopped
    finite: bool = True
    room: bool = True  # of the queue behind it
    skipped: int = 0  # overdue steps, at the next one

    def turn(self, now: float) -> tuple[bytes, float] | None:
        """Bytes of one step and when the EMG behind them was acquired."""
        if not self.alive:
            return None
        acquired = now - AGE_S if self.frozen_at is None else self.frozen_at - AGE_S
        age_s = now - acquired
        self.step += self.frozen_at is None
        state, faults = self.guard.judge(now, self.health(
            age_s, finite=self.finite, skipped_in_a_row=self.skipped))
        self.skipped = 0
        valid = state in (NUMBER["READY"], NUMBER["ACTIVE"], NUMBER["DEGRADED"])
        drive = RATE if valid else math.nan
        sent = Step(state=state, step=self.step, faults=faults, age_ms=1e3 * age_s,
                    sample_time_us=int(1e6 * (acquired + self.clock_s)) % (1 << 32),
                    drive=(drive, math.nan, math.nan, math.nan), n_mu=UNITS, good_channels=60,
                    model_id16=id16(self.model), counts=np.ones(UNITS, np.uint8))
        payloads = self.framer.frames([sent])
        data = on_can(payloads) if DRIVE in self.framer.messages else on_serial(payloads)
        return (data, acquired) if self.room else None


def on_can(payloads: Sequence[Payload]) -> bytes:
    """Messages of one step as records of an identifier and eight bytes."""
    return b"".join(p.message.data_id(p.slot).to_bytes(2, "little") + p.data for p in payloads)


@dataclass
class Seen:
    """What the oracle counts."""

    sent: int = 0
    accepted: int = 0
    corrupted: int = 0  # frames that the line has changed
    believed: int = 0  # of them, those that were accepted
    stale: int = 0  # ticks at which too old a value was usable
    late_zero: int = 0  # ticks at which the output had not come to rest
    resumed: int = 0  # ticks at which it came back by itself
    latched: int = 0  # faults that ended the assistance
    rest_ms: list[float] = field(default_factory=list)  # from the last good frame to rest


class Bench:
    """One run: decoder, line, controller, oracle."""

    def __init__(self, new_guard: Callable[[int], Any], health: Callable[..., Any], profile: str,
                 rng: np.random.Generator) -> None:
        self.new_guard, self.health, self.profile, self.rng = new_guard, health, profile, rng
        self.now, self.seen = 1.0, Seen()
        self.on_can = DRIVE in PROFILES[profile]
        self.decoder = self.fresh_decoder()
        self.others: list[Decoder] = []
        self.line: list[tuple[float, bytes]] = []  # on its way: arrival, bytes
        self.mangle: Callable[[bytes], Sequence[tuple[float, bytes]]] | None = None
        self.asking = True
        self.history: list[bytes] = []
        self._acquired: dict[bytes, float] = {}  # payload -> when its EMG was
        self._receiver = Receiver(MODEL)
        self._deframer, self._reader = Deframer(), ArmReader()
        self._arms, self._asked, self._due = 0, 0.0, self.now
        self._good = -math.inf  # last usable frame that was really sent
        self._source = 0.0  # when the EMG of the accepted frame was
        self._operator: float | None = None  # when a person arms again
        self._rested, self._held = True, False

    def restart_controller(self) -> None:
        """A person starts the reader anew."""
        self._receiver, self._deframer = Receiver(MODEL), Deframer()
        self._good, self._rested, self._held = -math.inf, True, False

    def fresh_decoder(self, model: int = MODEL) -> Decoder:
        """A decoder that has just started."""
        return Decoder(self.new_guard(model), self.health,
                       Framer(self.profile, Info(model, (UNITS,))), model)

    def run(self, steps: float) -> None:
        """So many periods."""
        for _ in range(round(steps * PERIOD_S / TICK_S)):
            self.tick()

    def tick(self) -> None:
        """One millisecond."""
        self.now += TICK_S
        if self.now >= self._due:
            self._due += PERIOD_S
            for decoder in (self.decoder, *self.others):
                self._send(decoder)
        if self.asking and self.now - self._asked >= ARM_EVERY_S:
            self._asked = self.now
            self._ask(1)
        self._deliver()
        self._judge()

    def _ask(self, request: int) -> None:
        """A request of the controller, through its own framing."""
        data = frame(ARM.type_of(), encode_arm(Arm(request, MODEL, self._arms)))
        self._arms += 1
        for arm in self._reader.feed(data):
            for decoder in (self.decoder, *self.others):
                decoder.guard.arm(self.now, arm)

    def _send(self, decoder: Decoder) -> None:
        """Put a step on the line, or what the line makes of it."""
        made = decoder.turn(self.now)
        if made is None:
            return
        data, acquired = made
        self.seen.sent += 1
        for piece in self._frames(data):
            self._acquired.pop(piece, None)  # INFO says the same again: it is as new as now
            self._acquired[piece] = acquired
        self.history.append(data)
        if len(self._acquired) > 4000:
            for old in list(self._acquired)[:2000]:
                del self._acquired[old]
            del self.history[:-300]
        out = [(0.0, data)] if self.mangle is None else self.mangle(data)
        self.line += [(self.now + delay, piece) for delay, piece in out]

    def _deliver(self) -> None:
        """Hand over what has arrived."""
        arrived = [d for at, d in self.line if at <= self.now]
        self.line = [(at, d) for at, d in self.line if at > self.now]
        for data in arrived:
            if self.on_can:
                for record in self._frames(data):
                    identifier = int.from_bytes(record[:2], "little")
                    self._take(record, self._receiver.can(identifier, record[2:], self.now))
                continue
            for kind, payload in self._deframer.feed(data):
                step = self._receiver.serial(kind, payload, self.now)
                self._take(frame(kind, payload)[:-1], step)

    def _frames(self, data: bytes) -> list[bytes]:
        """Frames of a step as the oracle knows them."""
        if self.on_can:
            return [data[k : k + RECORD] for k in range(0, len(data), RECORD)]
        return data.split(b"\0")[:-1]

    def _take(self, known: bytes, step: Step | None) -> None:
        """One frame that passed the framing, and what the receiver made of it."""
        sent = known in self._acquired
        self.seen.corrupted += not sent
        if step is None:
            return
        self.seen.accepted += 1
        self.seen.believed += not sent
        # What had to be believed counts as a good frame, once it is counted as believed.
        self._source = self._acquired.get(known, self.now)
        if step.state == ACTIVE and self._receiver.usable(self.now):
            self._good = self.now

    def _judge(self) -> None:
        """Every promise, now."""
        receiver, seen = self._receiver, self.seen
        assist, latched = receiver.assist(self.now), receiver.latched
        if receiver.usable(self.now):
            seen.stale += self.now - self._source > STALE_S
        silent = self.now - self._good
        seen.late_zero += silent >= LATCH_S + TICK_S and assist > 0
        if assist == 0 and not self._rested:
            seen.rest_ms.append(1e3 * min(silent, 1.0))
            seen.latched += latched
        seen.resumed += self._held and assist > 0
        self._rested, self._held = assist == 0, latched
        if latched and self._operator is None:
            self._operator = self.now + self.rng.uniform(0.12, 0.3)
        if self._operator is not None and self.now >= self._operator:
            self._rearm()

    def _rearm(self) -> None:
        """A person looks; if what comes is usable, the output is allowed again.

        Else the decoder is let go and cleared, and the controller's next request arms it.
        """
        if self._receiver.rearm(self.now):
            self._operator, self._held = None, False
            self._rested = self._receiver.assist(self.now) == 0
            return
        self._ask(0)
        self._ask(2)
        self._asked, self._operator = self.now, self.now + 0.2

    @property
    def well(self) -> bool:
        """Everything runs: the decoder is armed, and what it says is used."""
        return self._receiver.usable(self.now) and self._receiver.assist(self.now) == 1.0
