"""Kinds of fault, injected again and again into decoder, line and controller; see `bench.py`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from spikewire.link.bench import MODEL, PERIOD_S, Bench

AFTER = 30  # steps that are watched after a fault
RECOVERS = 400  # steps within which all must be well again

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
    """Kill -9, then a fresh start on the same machine, whose clock has gone on."""
    b.decoder.alive, clock_s = False, b.decoder.clock_s

    def restart() -> None:
        b.decoder = b.fresh_decoder()
        b.decoder.clock_s = clock_s
    return restart


def rebooted(b: Bench) -> Undo:
    """The machine starts anew: its clock loses the time since the last start, 11 s or more."""
    start = killed(b)

    def restart() -> None:
        start()
        b.decoder.clock_s -= b.rng.uniform(11, 4000)
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
    "machine rebooted": on_decoder(rebooted, 30, 60),
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
    "held up, then all at once", "decoder killed", "machine rebooted", "decoder stopped",
    "source frozen", "clock stepped", "no number", "queue full", "controller silent, then back",
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
