"""Fault injection: decoder, bad line and controller on one simulated clock, judged by an oracle.

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
AFTER = 30  # steps that are watched after a fault
RECOVERS = 400  # steps within which all must be well again
NUMBER = {name: key for key, name in STATES.items()}
Judge = Callable[[float, Any], tuple[int, int]]


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


Undo = Callable[[], None]
Fault = Callable[[Bench], tuple[float, Undo]]  # -> how many steps it lasts, and its end


def on_line(change: Callable[[Bench, bytes], Sequence[tuple[float, bytes]]],
            least: int = 1, most: int = 8) -> Fault:
    """A fault of the line: what becomes of the bytes of a step, for some steps."""
    def start(b: Bench) -> tuple[float, Undo]:
        def end() -> None:
            b.mangle = None

        b.mangle = lambda data: change(b, data)
        return float(b.rng.integers(least, most + 1)), end
    return start


def on_decoder(change: Callable[[Bench], Undo | None], least: int = 1, most: int = 30) -> Fault:
    """A fault of the decoder or the controller, for some steps."""
    def start(b: Bench) -> tuple[float, Undo]:
        end = change(b)
        return float(b.rng.integers(least, most + 1)), end or (lambda: None)
    return start


def garbled(b: Bench, data: bytes, count: int) -> bytes:
    """So many bits wrong, anywhere."""
    out = bytearray(data)
    for bit in b.rng.choice(8 * len(out), count, replace=False):
        out[bit // 8] ^= 1 << bit % 8
    return bytes(out)


def lose_bytes(b: Bench, data: bytes) -> list[tuple[float, bytes]]:
    """Some bytes of a step vanish."""
    first, count = b.rng.integers(len(data)), b.rng.integers(1, 10)
    return [(0.0, data[:first] + data[first + count :])]


def chatter(b: Bench, data: bytes) -> list[tuple[float, bytes]]:
    """What a boot loader prints on the same pin."""
    text = b"\r\n[    0.0000] Booting Linux on physical CPU 0x0\r\n"
    return [(0.0, text[: b.rng.integers(1, len(text))] + data)]


def wrong_baud(b: Bench, data: bytes) -> list[tuple[float, bytes]]:
    """Bytes that have nothing to do with what was sent."""
    return [(0.0, b.rng.integers(0, 256, len(data) * 2 // 3, np.uint8).tobytes())]


def noise_between(b: Bench, data: bytes) -> list[tuple[float, bytes]]:
    """Random bytes before a step."""
    return [(0.0, b.rng.integers(0, 256, b.rng.integers(1, 200), np.uint8).tobytes() + data)]


def reordered(b: Bench, data: bytes) -> list[tuple[float, bytes]]:
    """Steps that overtake each other."""
    return [(PERIOD_S * float(b.rng.integers(0, 3)), data)]


def spliced(b: Bench, data: bytes) -> list[tuple[float, bytes]]:
    """The head of this step and the tail of an older one."""
    old = b.history[int(b.rng.integers(len(b.history)))]
    return [(0.0, data[: b.rng.integers(len(data))] + old[b.rng.integers(len(old)) :])]


def replayed(b: Bench, data: bytes) -> list[tuple[float, bytes]]:
    """Recorded frames, such as a logger would play back, after the true ones."""
    return [(0.0, data), (0.004, b.history[int(b.rng.integers(len(b.history)))])]


def held_up(b: Bench) -> tuple[float, Undo]:
    """A reader or a bridge that sleeps, then hands over everything at once."""
    steps = float(b.rng.integers(3, 60))
    until = b.now + steps * PERIOD_S

    def end() -> None:
        b.mangle = None

    b.mangle = lambda data: [(max(0.0, until - b.now), data)]
    return steps, end


def silent_line(b: Bench) -> tuple[float, Undo]:
    """Nothing arrives."""
    def end() -> None:
        b.mangle = None

    b.mangle = lambda data: []
    return float(b.rng.integers(1, 60)), end


def killed(b: Bench) -> Undo:
    """Kill -9, then a fresh start with another clock."""
    b.decoder.alive = False

    def restart() -> None:
        b.decoder = b.fresh_decoder()
        b.decoder.clock_s = b.rng.uniform(0, 4000)
    return restart


def frozen_decoder(b: Bench) -> Undo:
    """Stopped (SIGSTOP, swapping); then it consumes what has come meanwhile, and says so."""
    b.decoder.alive, began = False, b.now

    def go_on() -> None:
        b.decoder.alive = True
        b.decoder.skipped = round((b.now - began) / PERIOD_S)
        b.decoder.step += b.decoder.skipped
    return go_on


def frozen_source(b: Bench) -> Undo:
    """The amplifier delivers nothing more; the decoder says so with its true age."""
    b.decoder.frozen_at = b.now

    def go_on() -> None:
        b.decoder.frozen_at = None
    return go_on


def stepped_clock(b: Bench) -> Undo:
    """The decoder's clock jumps, and back; what looks late stays late until the reader restarts.

    A decoder of ours reads a clock that cannot jump.
    """
    was = b.decoder.clock_s
    b.decoder.clock_s += b.rng.choice([-1, 1]) * 10 ** b.rng.uniform(-3, 3)

    def back() -> None:
        b.decoder.clock_s = was
        b.restart_controller()
    return back


def not_a_number(b: Bench) -> Undo:
    """The engine answers with NaN: a fault that latches."""
    b.decoder.finite = False

    def end() -> None:
        b.decoder.finite = True
    return end


def full_queue(b: Bench) -> Undo:
    """The decoder finds no room and drops."""
    b.decoder.room = False

    def end() -> None:
        b.decoder.room = True
    return end


def late_rearm(b: Bench) -> Undo:
    """The controller stops asking; what it says later is no arming."""
    b.asking = False

    def end() -> None:
        b.asking = True
    return end


def second_sender(model: int) -> Callable[[Bench], Undo]:
    """Somebody else sends on the same slot."""
    def start(b: Bench) -> Undo:
        other = b.fresh_decoder(model)
        for _ in range(int(b.rng.integers(1, 200))):  # its counters stand elsewhere
            other.turn(b.now)
        b.others = [other]

        def end() -> None:
            b.others = []
        return end
    return start


def other_table(b: Bench) -> Undo:
    """A decoder of another version takes over."""
    old, b.decoder = b.decoder, b.fresh_decoder(MODEL ^ 0x10000)  # the 16 bits are the same

    def end() -> None:
        b.decoder = old
    return end


# The kinds of fault; 1 and 2 bits first, since every CRC must catch all of them.
FAULTS: dict[str, Fault] = {
    "one bit wrong": on_line(lambda b, d: [(0.0, garbled(b, d, 1))]),
    "two bits wrong": on_line(lambda b, d: [(0.0, garbled(b, d, 2))]),
    "many bits wrong": on_line(lambda b, d: [(0.0, garbled(b, d, int(b.rng.integers(3, 60))))]),
    "bytes lost": on_line(lose_bytes),
    "end of a step lost": on_line(lambda b, d: [(0.0, d[: b.rng.integers(len(d))])]),
    "boot chatter": on_line(chatter, 1, 3),
    "noise between frames": on_line(noise_between),
    "wrong baud rate": on_line(wrong_baud, 1, 40),
    "line stuck at zero": on_line(lambda b, d: [(0.0, bytes(len(d)))], 1, 40),
    "line stuck at one": on_line(lambda b, d: [(0.0, b"\xff" * len(d))], 1, 40),
    "two halves spliced": on_line(spliced),
    "every frame twice": on_line(lambda b, d: [(0.0, d), (0.001, d)], 1, 30),
    "recorded frames played back": on_line(replayed, 1, 30),
    "frames reordered": on_line(reordered, 2, 12),
    "some steps lost": on_line(lambda b, d: [] if b.rng.random() < 0.3 else [(0.0, d)], 1, 30),
    "silence": silent_line,
    "held up, then all at once": held_up,
    "decoder killed": on_decoder(killed, 1, 60),
    "decoder stopped": on_decoder(frozen_decoder, 1, 60),
    "source frozen": on_decoder(frozen_source, 1, 60),
    "clock stepped": on_decoder(stepped_clock, 1, 60),
    "no number": on_decoder(not_a_number, 1, 3),
    "queue full": on_decoder(full_queue, 1, 40),
    "controller silent, then back": on_decoder(late_rearm, 20, 60),
    "a second sender, same model": on_decoder(second_sender(MODEL), 1, 30),
    "a second sender, another model": on_decoder(second_sender(MODEL ^ 0xFFFF), 1, 30),
    "another decoder takes over": on_decoder(other_table, 1, 30),
}


# Of them, those that CAN can have: it delivers whole frames, or none. Its own CRC is passed over
# here, so wrong bits meet only ours, of 8 bits, which lets one of 256 frames with many through.
ON_CAN = (
    "one bit wrong", "two bits wrong", "many bits wrong", "every frame twice",
    "recorded frames played back", "frames reordered", "some steps lost", "silence",
    "held up, then all at once", "decoder killed", "decoder stopped", "source frozen",
    "clock stepped", "no number", "queue full", "controller silent, then back",
    "a second sender, same model", "a second sender, another model", "another decoder takes over",
)


def soak(
    name: str, trials: int, seed: int, profile: str, new_guard: Callable[[int], Any],
    health: Callable[..., Any],
) -> dict[str, Any]:
    """Inject one kind of fault again and again; what the oracle saw, ready for JSON.

    Parameters
    ----------
    name : key of FAULTS
    trials, seed : int
    profile : "full", "short" or "classic"
    new_guard, health : the decoder's guard (model id) and what it looks at

    Returns
    -------
    dict
        `corrupted` frames passed COBS and CRC-32 by chance; of them `believed` were accepted.
        `stale`, `late_zero` and `resumed` are milliseconds in which a promise was broken.
    """
    rng = np.random.default_rng([seed, sum(name.encode())])
    bench, lame = Bench(new_guard, health, profile, rng), 0
    for _ in range(trials):
        for _ in range(RECOVERS):
            if bench.well:
                break
            bench.run(1)
        else:  # it must not stay out for good either
            lame += 1
        bench.run(rng.uniform(1, 3))
        steps, undo = FAULTS[name](bench)
        bench.run(steps)
        undo()
        bench.run(AFTER)
    seen = bench.seen
    rest = np.array(seen.rest_ms or [0.0])
    return {"fault": name, "trials": trials, "profile": profile, "sent": seen.sent,
            "accepted": seen.accepted, "corrupted": seen.corrupted, "believed": seen.believed,
            "believed_by_chance": seen.corrupted * 2.0 ** (-8 if bench.on_can else -32),
            "stale": seen.stale, "late_zero": seen.late_zero, "resumed": seen.resumed,
            "not_recovered": lame, "ended_assistance": seen.latched,
            "rest_ms_max": round(float(rest.max()), 2)}


def broken(row: dict[str, Any]) -> int:
    """How often a promise was broken; believed frames only beyond what the CRC lets through."""
    chance = row["believed_by_chance"]
    return max(0, math.ceil(row["believed"] - chance - 5 * math.sqrt(chance))) + sum(
        row[k] for k in ("stale", "late_zero", "resumed", "not_recovered"))
