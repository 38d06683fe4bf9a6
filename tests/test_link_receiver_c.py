"""The receiver in C against the one in Python.

Truth: the receiver in Python, which has tests of its own. Both get the same scripts, of good
frames and of everything that may happen to them, and must say the same after every event.
"""

from __future__ import annotations

import ctypes
import math
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikewire.link import receiver
from spikewire.link.codec import Arm, Step, decode, encode_arm
from spikewire.link.framing import Deframer, frame
from spikewire.link.packing import CRCS, pack
from spikewire.link.receiver import Receiver
from spikewire.link.table import (
    ARM,
    BASE,
    BY_CAN_ID,
    BY_TYPE,
    COUNTS,
    DRIVE,
    INFO,
    INFO2,
    SHORT,
    STATES,
    STATUS,
    STEP,
    VALID,
    Message,
    table_number,
)
from spikewire.link.transport import ArmReader

FOLDER = Path(__file__).parents[1] / "runtime/receiver"
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wconversion", "-Wshadow"]
pytestmark = pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")

PERIOD_US = 9766
MODEL = 0xDEADBEEF
STATE = {name: key for key, name in STATES.items()}
# profile -> what bears the drive
BEARERS = {"full": STEP, "short": SHORT, "classic": DRIVE, "fd": STEP}
ON_CAN = ("classic", "fd")
REASONS = ("length", "crc", "range", "state", "proto", "request", "model", "table", "slot", "type",
           "repeated", "jump", "old")  # fmt: skip
COUNTED = ("accepted", "usable", "gaps", "stale_marked_valid", "late")
FRAMING = ("bad_crc", "bad_cobs", "too_long")
LAST = ("step", "sample_time_us", "age_us", "faults", "drive", "activation", "state", "counter",
        "n_mu", "good_channels", "model_id16")  # fmt: skip
HELD = ("step", "drive", "activation", "state")
NO_AGE = (1 << 32) - 1

SHIM = """
#include "spikewire_rx.h"
size_t rx_size(void);
void rx_start(spw_rx *rx, uint32_t model_id, int any, int slot, uint32_t base, uint32_t wire_us);
void rx_look(spw_rx *rx, uint64_t now, uint32_t *out, uint8_t *counts);
size_t rx_size(void) { return sizeof(spw_rx); }
void rx_start(spw_rx *rx, uint32_t model_id, int any, int slot, uint32_t base, uint32_t wire_us) {
    spw_rx_config config = spw_rx_defaults(model_id);
    config.any_model = (uint8_t)any;
    config.slot = (uint8_t)slot;
    config.base = (uint16_t)base;
    config.wire_us = wire_us;
    spw_rx_init(rx, &config);
}
void rx_look(spw_rx *rx, uint64_t now, uint32_t *out, uint8_t *counts) {
    size_t k;
    const spw_rx_stats *s = &rx->stats;
    const spw_rx_step *t = &rx->step, *h = &rx->held;
    const uint32_t latched = rx->latched, usable = (uint32_t)spw_rx_usable(rx, now);
    const uint32_t assist = spw_rx_assist(rx, now);
    const uint32_t found[] = {
        s->accepted, s->usable, s->gaps, s->stale_marked_valid, s->late,
        s->bad_crc32, s->bad_cobs, s->too_long,
        t->step, t->sample_time_us, t->age_us, t->faults, t->drive, t->activation, t->state,
        t->counter, t->n_mu, t->good_channels, t->model_id16,
        h->step, h->drive, h->activation, h->state, spw_rx_age_us(rx, now),
        latched, usable, assist, rx->latched};
    for (k = 0; k < sizeof found / sizeof found[0]; k++) *out++ = found[k];
    for (k = 0; k < SPW_RX_N_REASONS; k++) *out++ = s->rejected[k];
    for (k = 0; k < SPW_N_UNITS; k++) counts[k] = rx->counts[k];
}
"""
SEEN = (*COUNTED, *FRAMING, *LAST, *(f"held {name}" for name in HELD), "age now",
        "latched before", "usable now", "assist", "latched",
        "not ok", *(f"not {name}" for name in REASONS))  # fmt: skip


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("rx")
    (folder / "shim.c").write_text(SHIM)
    subprocess.run(["gcc", *STRICT, "-O2", "-shared", "-fPIC", f"-I{FOLDER}",
                    str(FOLDER / "spikewire_rx.c"), str(folder / "shim.c"),
                    "-o", str(folder / "rx.so")], check=True)
    c = ctypes.CDLL(str(folder / "rx.so"))
    c.rx_size.restype = c.spw_rx_arm_bytes.restype = ctypes.c_size_t
    return c


@pytest.fixture(scope="module", autouse=True)
def ties() -> Iterator[None]:
    """Times in C are whole microseconds, in Python floats: what is equal there is equal here.

    Each limit moves by more than a float's error and less than the 5000th part of a microsecond,
    the smallest step in C.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name, change in {"LATCH_S": -1e-10, "LOSS_S": -1e-10, "INFO_S": 1e-10,
                             "OTHER_CLOCK_S": 1e-10}.items():
            patch.setattr(receiver, name, getattr(receiver, name) + change)
        yield


AGE_MAX_MS = 80.0 + 5e-8


class Both:
    """The two receivers behind one line."""

    def __init__(
        self, c: ctypes.CDLL, model_id: int | None = MODEL, slot: int = 0, base: int = BASE,
        wire_us: int = 0,
    ) -> None:
        self.c, self.slot, self.base = c, slot, base
        self.python = Receiver(model_id, slot, AGE_MAX_MS, wire_us / 1e3, base)
        self.deframer = Deframer()
        self.rx = ctypes.create_string_buffer(c.rx_size())
        c.rx_start(self.rx, model_id or 0, model_id is None, slot, base, wire_us)
        self.banks: dict[int, list[int]] = {}  # of the newest step
        self.held: Step | None = None  # the last usable one
        self.usable = 0
        self.seen: Counter[str] = Counter()

    def line(self, data: bytes, now_us: int) -> None:
        """Hand over bytes of a serial line."""
        accepted = 0
        for kind, payload in self.deframer.feed(data):
            accepted += self._python_took(self.python.serial(kind, payload, now_us / 1e6))
        assert self.c.spw_rx_bytes(self.rx, data, ctypes.c_size_t(len(data)),
                                   ctypes.c_uint64(now_us)) == accepted
        self.look(now_us)

    def bus(self, can_id: int, data: bytes, now_us: int) -> None:
        """Hand over a CAN frame."""
        before = self.python.notices.get("COUNTS")
        step = self.python.can(can_id, data, now_us / 1e6)
        self._python_took(step)
        notice = self.python.notices.get("COUNTS")
        if notice is not None and notice is not before:
            self.banks[notice.values["bank"]] = notice.values["counts"].tolist()
        result = self.c.spw_rx_can(self.rx, can_id, data, ctypes.c_size_t(len(data)),
                                   ctypes.c_uint64(now_us))
        assert (result == 1) is (step is not None)
        self.look(now_us)

    def _python_took(self, step: Step | None) -> bool:
        """Forget the counts of the step before, and remember one that was usable when it came."""
        if step is not None:
            self.banks.clear()
            if self.python.stats.usable > self.usable:
                self.held = step
            self.usable = self.python.stats.usable
        return step is not None

    def rearm(self, now_us: int) -> None:
        """Ask both."""
        allowed = self.python.rearm(now_us / 1e6)
        assert bool(self.c.spw_rx_rearm(self.rx, ctypes.c_uint64(now_us))) is allowed
        self.seen["allowed"] += allowed
        self.look(now_us)

    def in_c(self, now_us: int) -> tuple[dict[str, int], list[int]]:
        """What the receiver in C says, and its counts."""
        out, counts = (ctypes.c_uint32 * len(SEEN))(), (ctypes.c_uint8 * 64)()
        self.c.rx_look(self.rx, ctypes.c_uint64(now_us), out, counts)
        return dict(zip(SEEN, out, strict=True)), list(counts)

    def look(self, now_us: int) -> None:
        """Compare everything."""
        now, python, stats = now_us / 1e6, self.python, self.python.stats
        wanted: dict[str, int] = {"latched before": python.latched}
        wanted["usable now"] = python.usable(now)
        wanted |= {name: getattr(stats, name) for name in COUNTED}
        wanted |= {name: getattr(self.deframer, name) for name in FRAMING}
        wanted |= {f"not {name}": stats.rejected[name] for name in REASONS}
        assist = python.assist(now)
        wanted |= {"assist": math.floor(1000 * assist + 1e-3), "latched": python.latched}
        found, counts = self.in_c(now_us)
        assert found == found | wanted
        assert sum(stats.rejected.values()) == sum(stats.rejected[name] for name in REASONS)
        if stats.last is not None:
            self._compare_last(stats.last, found, counts, now_us)
        held = self.held or Step(state=STATE["NA"], drive=(0.0,) * 4, activation=(0.0,) * 4)
        assert [found[f"held {name}"] for name in HELD] == [
            held.step, round(held.drive[self.slot] / 0.1),
            255 if math.isnan(held.activation[self.slot])
            else round(held.activation[self.slot] / 0.5), held.state]
        self.seen.update(+Counter({name: int(number > 0) for name, number in wanted.items()}))
        self.seen["part"] += 0 < assist < 1

    def _compare_last(
        self, last: Step, found: dict[str, int], counts: list[int], now_us: int
    ) -> None:
        """Compare the last accepted step."""
        for name in ("step", "sample_time_us", "faults", "state", "counter", "n_mu",
                     "good_channels", "model_id16"):
            assert found[name] == getattr(last, name), name
        for name, scale, mark in (("drive", 0.1, 0xFFFF), ("activation", 0.5, 0xFF)):
            value = getattr(last, name)[self.slot]
            assert found[name] == (mark if math.isnan(value) else round(value / scale)), name
        unknown = math.isnan(last.age_ms)
        assert found["age_us"] == (NO_AGE if unknown else round(1e3 * last.age_ms))
        held_ms = self.python._late_ms + self.python.wire_ms
        held_ms += (now_us / 1e6 - self.python._received_at) * 1e3
        age_us = 1e3 * (last.age_ms + held_ms)
        assert found["age now"] == (NO_AGE if unknown else math.ceil(age_us - 1e-4))
        full = last.counts.tolist() or [15] * 64
        for bank, spikes in self.banks.items():
            full[24 * bank : 24 * bank + 24] = spikes
        assert counts == full[:64]


@dataclass
class Decoder:
    """What sends: counter, clock, a way to the receivers, and a method per kind of event."""

    both: Both
    profile: str
    now_us: int
    clock_us: int = 0  # the decoder's clock minus the receiver's, less the time on the way
    counter: int = 0
    drift_us: int = 0  # by which the clock falls behind with every step
    change: dict[str, Any] = field(default_factory=dict)  # of the steps to come
    last: tuple[Message, int, bytes] | None = None

    def deliver(self, message: Message, slot: int, data: bytes) -> None:
        """Hand a message over."""
        if self.profile in ON_CAN and message.can_id is not None:
            self.both.bus(message.data_id(slot, self.both.base), data, self.now_us)
        elif self.profile not in ON_CAN and message.serial_type is not None:
            self.both.line(frame(message.type_of(slot), data), self.now_us)

    def send(self, message: Message, slot: int = 0, **values: Any) -> None:
        """Encode and hand over."""
        self.deliver(message, slot, pack(message, values, slot, self.both.base))

    def step(self, slot: int | None = None, **change: Any) -> tuple[Message, int, bytes]:
        """The frame of the next step."""
        message = BEARERS[self.profile]
        slot = self.both.slot if slot is None else slot
        age_ms = change.get("age_ms", self.change.get("age_ms", 3.5))
        sample = self.now_us + self.clock_us - round(1e3 * (0 if math.isnan(age_ms) else age_ms))
        values = {"counter": self.counter, "state": STATE["ACTIVE"], "proto": 1,
                  "step": self.counter, "sample_time_us": sample, "age_ms": age_ms, "faults": 5,
                  "drive": 80.5, "activation": 12.5, "n_mu": 7, "good_channels": 60,
                  "model_id16": MODEL & 0xFFFF, "counts": np.arange(64) % 14} | self.change | change
        if message is STEP:
            for name in ("drive", "activation"):
                values[name] = [values[name] if k == slot else math.nan for k in range(4)]
        return message, slot, pack(message, values, slot, self.both.base)

    def good(self, n: int = 1, **change: Any) -> None:
        """Send steps in time."""
        for _ in range(n):
            self.now_us += PERIOD_US
            self.clock_us -= self.drift_us
            self.last = self.step(**change)
            self.counter += 1
            self.deliver(*self.last)

    def lose(self, n: int) -> None:
        """Steps that vanish on the way."""
        self.now_us += n * PERIOD_US
        self.counter += n

    def again(self, n: int) -> None:
        """The last frame once more."""
        for _ in range(n if self.last else 0):
            self.now_us += 1000
            self.deliver(*self.last)

    def flip(self, at: int) -> None:
        """A step with a bit wrong, on the wire."""
        self.now_us += PERIOD_US
        message, slot, data = self.step()
        self.counter += 1
        on_can = self.profile in ON_CAN
        wrong = bytearray(data if on_can else frame(message.type_of(slot), data))
        wrong[at // 8 % len(wrong)] ^= 1 << at % 8
        if on_can:
            self.both.bus(message.data_id(slot, self.both.base), bytes(wrong), self.now_us)
        else:
            self.both.line(bytes(wrong), self.now_us)

    def cut(self, at: int) -> None:
        """A step that ends early, or has more bytes than it should."""
        self.now_us += PERIOD_US
        message, slot, data = self.step()
        self.counter += 1
        if self.profile in ON_CAN:
            self.deliver(message, slot, (data + b"\1")[: at % (len(data) + 2)])
        else:
            line = frame(message.type_of(slot), data)
            self.both.line(line[: at % len(line)], self.now_us)

    def short(self, at: int) -> None:
        """A frame whose length is wrong and whose framing is not."""
        message, slot, data = self.step()
        self.deliver(message, slot, data[: at % len(data)])

    def forged(self, number: int, data: bytes) -> None:
        """Any message with any bytes under a CRC that fits."""
        known = BY_CAN_ID if self.profile in ON_CAN else BY_TYPE
        message, slot = list(known.values())[number % len(known)]
        data = data.ljust(message.size, b"\0")[: message.size]
        width, crc = CRCS[message.crc]
        data_id = message.data_id(slot, self.both.base).to_bytes(2, "little")
        data = crc(data_id, data[width:]).to_bytes(width, "little") + data[width:]
        self.deliver(message, slot, data)

    def noise(self, number: int, data: bytes) -> None:
        """Bytes that nobody meant."""
        if self.profile in ON_CAN:
            self.both.bus(number % 0x800, data[:64], self.now_us)
        else:
            self.both.line(data, self.now_us)
            self.both.line(b"\0" + frame(number % 256, data[:60]), self.now_us)

    def say(self, name: str, value: Any) -> None:
        """From now on steps say this; None ends it."""
        if value is None:
            self.change.pop(name, None)
        else:
            self.change[name] = value

    def introduce(self, model_id: int, table: int) -> None:
        """INFO and INFO2."""
        self.send(INFO, proto=1, n_mu=7, step_period_us=PERIOD_US, model_id=model_id)
        self.send(INFO2, counter=self.counter, table_hash=table)

    def status(self, state: int) -> None:
        """What comes beside the steps."""
        self.send(STATUS, counter=self.counter, state=state, faults=9, good_channels=3, n_mu=7,
                  latency_p99_ms=4.0, temperature_c=math.nan)
        self.send(VALID, units=np.ones(64, np.uint8))

    def banks(self, bank: int, count: int) -> None:
        """Counts of a classic bus."""
        counts = (np.arange(24) * count) % 4
        self.send(COUNTS, bank, counter=self.counter, bank=bank, counts=counts)

    def other_slot(self, slot: int) -> None:
        """A step of another bundle."""
        self.deliver(*self.step(slot))

    def ask(self, request: int) -> None:
        """A controller's request, which is nothing for a controller."""
        arm = Arm(request, MODEL, self.counter % 15)
        self.deliver(ARM, 0, encode_arm(arm, self.both.base))

    def wait(self, us: int) -> None:
        """Silence."""
        self.now_us += us
        self.both.look(self.now_us)

    def delay(self, us: int) -> None:
        """From now on frames take longer, or less long."""
        self.clock_us -= us

    def restart(self, clock_us: int) -> None:
        """Another start of the decoder, with another clock."""
        self.counter, self.clock_us = 0, clock_us

    def drift(self, us: int) -> None:
        """From now on the clocks drift apart."""
        self.drift_us = us

    def rearm(self, after_us: int = 0) -> None:
        """A person asks for assistance again, after some time in which nobody asked anything."""
        self.now_us += after_us
        self.both.rearm(self.now_us)


LIMITS = (30_000, 70_000, 76_500, 80_000, 100_000, 1_000_000, 2_000_000, 10_000_000)
NEAR = st.builds(lambda limit, by: limit + by, st.sampled_from(LIMITS), st.integers(-2, 2))
AGES = st.sampled_from([0.0, 79.5, 79.99, 80.0, 80.01, 80.5, 126.5, 127.0, 1e6, math.nan, 3.5])
BYTES = st.binary(max_size=90) | st.binary(min_size=60, max_size=64)


def operation(name: str, *arguments: Any) -> st.SearchStrategy[tuple[Any, ...]]:
    """A call of a method of `Decoder`."""
    return st.tuples(st.just(name), *arguments)


GOOD = operation("good", st.integers(1, 8))
INTRODUCE = operation("introduce", st.just(MODEL), st.just(table_number()))
EVENTS = st.one_of(
    GOOD, GOOD, GOOD, INTRODUCE,
    operation("introduce", st.sampled_from([MODEL, MODEL ^ 0x10000, 0]),
              st.sampled_from([table_number(), 0])),
    operation("lose", st.integers(1, 6) | st.integers(10, 300)),
    operation("again", st.integers(1, 4)),
    operation("flip", st.integers(0, 8 * 71)),
    operation("cut", st.integers(0, 80)),
    operation("short", st.integers(0, 70)),
    operation("forged", st.integers(0, 30), BYTES),
    operation("noise", st.integers(0, 0x7FF), BYTES),
    operation("say", st.just("state"), st.sampled_from([None, None, *STATES])),
    operation("say", st.just("age_ms"), st.none() | AGES),
    operation("say", st.just("drive"), st.sampled_from([None, None, math.nan, 0.0, 9e9])),
    operation("say", st.just("model_id16"), st.sampled_from([None, None, 7])),
    operation("say", st.just("sample_time_us"), st.sampled_from([None, None, 0])),
    operation("status", st.sampled_from(sorted(STATES))),
    operation("banks", st.integers(0, 2), st.integers(0, 3)),
    operation("other_slot", st.integers(0, 3)),
    operation("ask", st.integers(0, 2)),
    operation("wait", NEAR | st.integers(0, 3_000_000)),
    operation("delay", NEAR | st.integers(-200_000, 200_000)),
    operation("restart", st.integers(0, 1 << 32)),
    operation("drift", st.integers(-3, 3)),
    operation("rearm"),
    operation("rearm", st.integers(0, 300_000)),
)  # fmt: skip
CLOCKS = st.integers(0, (1 << 32) - 1) | st.just((1 << 32) - 99_999)
SCRIPTS = st.lists(EVENTS, max_size=50)
BEGUN: list[tuple[Any, ...]] = [("introduce", MODEL, table_number()), ("good", 4)]
# what must not be left to chance: every reason, and every way into and out of a latch
TOUR: list[tuple[Any, ...]] = [
    ("introduce", MODEL, table_number()), ("good", 20), ("wait", 65_000), ("good", 3), ("lose", 2),
    ("good", 3), ("lose", 5), ("good", 8), ("rearm",), ("good", 2), ("again", 4), ("good", 3),
    ("say", "age_ms", 80.0), ("good", 2), ("say", "age_ms", 80.5), ("good", 12), ("rearm",),
    ("say", "age_ms", None), ("good", 3), ("rearm",), ("say", "state", 5), ("good", 2),
    ("say", "state", None), ("good", 1), ("rearm",), ("flip", 9), ("cut", 5), ("short", 5),
    ("good", 1), ("flip", 8), ("good", 4), ("say", "model_id16", 7), ("good", 4),
    ("say", "model_id16", None), ("other_slot", 3), ("ask", 1), ("introduce", 0, 0), ("good", 3),
    ("introduce", MODEL, table_number()), ("good", 3), ("delay", 90_000), ("good", 3),
    ("delay", -90_000), ("good", 3), ("noise", 0x777, b"\0\1\2\0\5\5\0" + b"\7" * 80 + b"\0"),
    ("short", 5), ("noise", 0x32, b"\7" * 8),
    ("restart", 9), ("good", 9), ("rearm",), ("good", 300), ("wait", 2_000_001), ("good", 4),
    ("introduce", MODEL, table_number()), ("good", 4), ("rearm",), ("good", 4),
    *(("forged", k, b"\xff" * 64) for k in range(25)),
    *(("forged", k, bytes([0, 0, 0, 0x70, *[0] * 60])) for k in range(25)),
    *(("forged", k, bytes([0, 0x90] + [0] * 62)) for k in range(25)),
    ("good", 4), ("rearm",), ("drift", 2), ("good", 150), ("banks", 2, 3), ("status", 6),
]  # fmt: skip

# what lies exactly on a limit, or needs many steps in a certain order; after four good ones
TO_A_SECOND = 1_000_000 - 98 * PERIOD_US  # from the 99th step on, counted from the first
EDGES: dict[str, list[tuple[Any, ...]]] = {
    "two lost in a second": [("good", 49), ("lose", 2), ("good", 43), ("wait", TO_A_SECOND),
                             ("good", 1)],
    "six lost in a second": [*[("good", 20), ("lose", 2)] * 3, ("good", 28), ("wait", TO_A_SECOND),
                             ("good", 1)],
    "three in a row": [("lose", 5), ("good", 3), ("lose", 1), ("good", 1), ("good", 1),
                       ("good", 1)],
    "another slot": [("lose", 5), ("good", 3), ("other_slot", 3), ("good", 1), ("good", 1)],
    "infos": [("good", 200), ("wait", 2_000_000 - 204 * PERIOD_US), ("wait", 1)],
    "no drive": [("say", "drive", math.nan), ("good", 2), ("say", "drive", None), ("good", 2)],
    "silence": [("rearm", 100_000), ("good", 1), ("rearm", 99_999), ("good", 1), ("rearm",)],
    "ramp": [("wait", 30_000), ("wait", 1), ("wait", 34_999), ("wait", 34_999), ("wait", 1)],
    "quicker": [("good", 3), ("drift", 2), ("good", 1), ("drift", -1), ("good", 1), ("drift", 0),
                ("delay", 50), ("good", 1)],
    **{f"other clock {by}": [("good", 3), ("delay", 10_000_000 + by), ("good", 1)]
       for by in (-1, 0, 1, 5_000_000)},
    "repeats": [("again", 2), ("again", 1), ("good", 1), ("again", 2)],
    "another model": [("say", "model_id16", 9), ("good", 3), ("say", "model_id16", None),
                      ("good", 1)],
}  # fmt: skip


def play(
    both: Both, profile: str, script: list[tuple[Any, ...]], now_us: int = 0, clock_us: int = 77_000
) -> None:
    """Run a script."""
    decoder = Decoder(both, profile, now_us, clock_us)
    for name, *arguments in script:
        getattr(decoder, name)(*arguments)
        both.look(decoder.now_us)


@pytest.mark.parametrize("profile", BEARERS)
def test_both_receivers_say_the_same(library: ctypes.CDLL, profile: str) -> None:
    @given(SCRIPTS, st.booleans(), st.sampled_from([MODEL, MODEL, MODEL, None]), st.integers(0, 3),
           st.sampled_from([BASE, 0x100, 0]), st.sampled_from([0, 770, 6160]),
           st.integers(0, 5_000_000_000), CLOCKS)
    @settings(deadline=None, max_examples=150)
    def check(
        script: list[tuple[Any, ...]], runs: bool, model_id: int | None, slot: int, base: int,
        wire_us: int, now_us: int, clock_us: int,
    ) -> None:
        both = Both(library, model_id, slot, base, wire_us)
        play(both, profile, BEGUN + script if runs else script, now_us, clock_us)

    check()


@pytest.mark.parametrize("profile", BEARERS)
@pytest.mark.parametrize("edge", EDGES)
def test_both_receivers_say_the_same_on_a_limit(
    library: ctypes.CDLL, edge: str, profile: str
) -> None:
    play(Both(library), profile, BEGUN + EDGES[edge])


@pytest.mark.parametrize("profile", BEARERS)
def test_the_tour_sees_everything(library: ctypes.CDLL, profile: str) -> None:
    """The comparison would prove little of a receiver that never gets anywhere."""
    both = Both(library)
    play(both, profile, TOUR)
    wanted = {*COUNTED, *(f"not {name}" for name in REASONS)}
    wanted |= {"latched", "usable now", "part", "allowed"}
    if profile not in ON_CAN:
        wanted |= set(FRAMING)
    assert {name for name in wanted if not both.seen[name]} == set()


# ---- requests to the decoder


@pytest.mark.parametrize("base", [BASE, 0x100])
def test_arm_requests_are_those_of_our_codec(library: ctypes.CDLL, base: int) -> None:
    both, reader = Both(library, base=base), ArmReader()
    for number in range(40):
        arm = Arm(number % 3, MODEL, number % 15)
        wanted = encode_arm(arm, base)
        if number % 2:
            line = ctypes.create_string_buffer(15)
            assert library.spw_rx_arm_bytes(both.rx, number % 3, line) == 15
            assert line.raw == frame(ARM.type_of(), wanted)
            assert reader.feed(line.raw) == ([arm] if base == BASE else [])
        else:
            data = ctypes.create_string_buffer(8)
            assert library.spw_rx_arm_can(both.rx, number % 3, data) == ARM.data_id(0, base)
            assert data.raw == wanted
            assert decode(ARM, 0, data.raw, base) == arm


# ---- damaged lines, under sanitizers

FUZZED = 150_000  # about a second
SANITIZE = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def fuzz(folder: Path, receiver_c: str, frames: int, *options: str) -> subprocess.CompletedProcess:
    """Build the fuzz program with a receiver, and run it."""
    (folder / "rx.c").write_text(receiver_c)
    program, sources = folder / "fuzz_rx", (FOLDER / "fuzz_rx.c", folder / "rx.c")
    subprocess.run(["gcc", *STRICT, *options, "-DSPW_FUZZ_MAIN", f"-I{FOLDER}",
                    *map(str, sources), "-o", str(program)], check=True)
    return subprocess.run([str(program), str(frames)], capture_output=True, text=True)


def test_a_bad_line_makes_nothing_wrong(tmp_path: Path) -> None:
    """Of what is sent five in six frames are whole, and all of these are found."""
    done = fuzz(tmp_path, (FOLDER / "spikewire_rx.c").read_text(), FUZZED, *SANITIZE)
    assert done.returncode == 0, done.stderr[-3000:]
    sent, whole, accepted, usable = (int(n) for n in re.findall(r"(\d+) [a-z]+,", done.stdout)[:4])
    assert FUZZED <= sent < FUZZED + 1024
    assert 0.7 * sent < usable < accepted < whole < sent
    assert "none wrong" in done.stdout


@pytest.mark.parametrize(
    ("line", "mistake", "said"),
    [
        ("step.drive = m.drive[f->slot];", "step.drive = m.drive[1];", "drive of an accepted step"),
        ("rx->filled = rx->skipping = 0;", "rx->filled = 0;", "every whole frame"),
        ("if (rx->latched || !rx->has_usable) return 0;", "if (!rx->has_usable) return 0;",
         "no assist while latched"),
        ("if (!cobs_decode(rx->line, &size)) {", "size--; if (!cobs_decode(rx->line, &size)) {",
         "every whole frame"),
    ],
)
def test_the_fuzz_program_notices_mistakes(
    tmp_path: Path, line: str, mistake: str, said: str
) -> None:
    good = (FOLDER / "spikewire_rx.c").read_text()
    assert good.count(line) == 1
    done = fuzz(tmp_path, good.replace(line, mistake), 20_000)
    assert done.returncode != 0
    assert said in done.stderr


@pytest.mark.skipif(not shutil.which("g++"), reason="needs g++")
def test_the_header_goes_with_cpp(tmp_path: Path) -> None:
    (tmp_path / "x.cpp").write_text('#include "spikewire_rx.h"\nspw_rx rx{};\n')
    subprocess.run(["g++", "-std=c++17", "-Wall", "-Wextra", "-Werror", "-pedantic",
                    "-fsyntax-only", f"-I{FOLDER}", str(tmp_path / "x.cpp")], check=True)
