"""Whole steps over CAN, and a bus that fails in every way.

Truth: the contract (whole steps or none, never block, never raise, 100 ms between repairs), the
database of the message contract typed here and read by cantools, and a fake of Linux's queue that
was compared with Linux 6.1.
"""

from __future__ import annotations

import errno
import struct
import threading
import time

import numpy as np
import pytest
from can_kernel import ERROR, QUEUE, Kernel, unpack
from hypothesis import given, settings
from hypothesis import strategies as st

from spikewire.link.canbus import KernelWire, SocketBus
from spikewire.link.canlink import BACK_OFF_S, CanLink
from spikewire.link.codec import Arm, Step, encode_arm
from spikewire.link.profile import Info
from spikewire.link.transport import LinkError

PERIOD_S = 20 / 2048
FRAMES = {"classic": 1, "counts": 4, "fd": 1}  # of one step of 64 motor units
DATABASE = """
VERSION ""
BU_: MUDEC EXO
BO_ 1664 MU_DRIVE0: 8 MUDEC
 SG_ E2E_CRC : 0|8@1+ (1,0) [0|255] "" EXO
 SG_ E2E_CNT : 8|4@1+ (1,0) [0|14] "" EXO
 SG_ State : 12|4@1+ (1,0) [0|15] "" EXO
 SG_ Step : 16|16@1+ (1,0) [0|65535] "step" EXO
 SG_ Drive : 32|16@1+ (0.1,0) [0|6553.3] "pulse/s" EXO
 SG_ Activation : 48|8@1+ (0.5,0) [0|125] "%" EXO
 SG_ Age : 56|8@1+ (0.5,0) [0|126.5] "ms" EXO
BO_ 1679 MU_STATUS: 8 MUDEC
 SG_ Faults : 16|16@1+ (1,0) [0|65535] "" EXO
 SG_ LatencyP99 : 48|8@1+ (0.5,0) [0|126.5] "ms" EXO
 SG_ Temp : 56|8@1+ (1,-40) [-40|214] "degC" EXO
BO_ 1680 MU_STEP_FD: 64 MUDEC
 SG_ Step : 32|32@1+ (1,0) [0|4294967295] "step" EXO
 SG_ Age : 96|16@1+ (0.01,0) [0|655.33] "ms" EXO
 SG_ Drive0 : 128|16@1+ (0.1,0) [0|6553.3] "pulse/s" EXO
 SG_ Count_00 : 256|4@1+ (1,0) [0|15] "spike" EXO
 SG_ Count_63 : 508|4@1+ (1,0) [0|15] "spike" EXO
BO_ 1696 EXO_ARM: 8 EXO
 SG_ E2E_CRC : 0|8@1+ (1,0) [0|255] "" MUDEC
 SG_ E2E_CNT : 8|4@1+ (1,0) [0|14] "" MUDEC
 SG_ Request : 12|4@1+ (1,0) [0|2] "" MUDEC
 SG_ ModelId : 16|32@1+ (1,0) [0|4294967295] "" MUDEC
 SG_ MaxAge : 48|16@1+ (0.5,0) [0|32766.5] "ms" MUDEC
BA_DEF_ BO_ "VFrameFormat" ENUM "StandardCAN","ExtendedCAN","r2","r3","r4","r5","r6","r7","r8",\
"r9","r10","r11","r12","r13","StandardCAN_FD","ExtendedCAN_FD";
BA_DEF_DEF_ "VFrameFormat" "StandardCAN";
BA_ "VFrameFormat" BO_ 1680 14;
"""


class Bench:
    """A link on a fake kernel, with a clock of its own that goes on by a step at each send."""

    def __init__(
        self, kernel: Kernel | None = None, profile: str = "classic", units: int = 64
    ) -> None:
        self.kernel = kernel or Kernel()
        self.now = 0.0
        bus = SocketBus(
            "can0", lambda: KernelWire(self.kernel.socket(profile == "fd")),
            lambda name: self.kernel.restart(name), FRAMES[profile],
        )
        self.link = CanLink(bus, "can:can0", profile, info=Info(7, (units,)),
                            clock=lambda: self.now)
        self.link._framer._periods = []
        self.number = 0

    def send(self, n: int = 1) -> list[bool]:
        """Send so many steps; repairs, if any, are over afterwards."""
        went = []
        for _ in range(n):
            step = Step(step=self.number, state=2, counts=np.full(64, self.number % 3, np.uint8))
            went.append(self.link.send([step]))
            self.number += 1
            self.now += PERIOD_S
            self.repaired()
        return went

    def poll(self) -> list[Arm]:
        """Hear what came, likewise."""
        arms = self.link.poll()
        self.repaired()
        return arms

    def repaired(self) -> None:
        """Wait for the end of a repair."""
        if thread := self.link._recovery._thread:
            thread.join(5.0)

    def frames(self) -> list[tuple[int, bytes]]:
        """What left."""
        return [unpack(packet) for packet in self.kernel.wire]

    def steps(self) -> list[int]:
        """Numbers of the steps that left."""
        return [struct.unpack_from("<H", data, 2 if identifier < 0x690 else 4)[0]
                for identifier, data in self.frames() if identifier in (0x680, 0x690)]


def crc8(data: bytes) -> int:
    """CRC-8 by long division, polynomial 0x11D."""
    rest = 0
    for byte in data:
        rest ^= byte
        for _ in range(8):
            rest = rest << 1 ^ (0x11D if rest & 0x80 else 0)
    return rest


def arm_bytes(identifier: int, request: int, model: int, counter: int) -> bytes:
    """An arm request by hand."""
    body = struct.pack("<BIH", counter | request << 4, model, 160)
    return bytes([crc8(struct.pack("<H", identifier) + body)]) + body


def test_the_vector_of_the_contract_is_on_the_bus() -> None:
    bench = Bench()
    bench.send(3)
    bench.link.send([Step(state=3, step=1234, drive=(812.4, 0, 0, 0), activation=(40.5, 0, 0, 0),
                          age_ms=23.5)])
    assert bench.frames()[3] == (0x680, bytes.fromhex("fb33d204bc1f512f"))


@pytest.mark.parametrize("profile", FRAMES)
def test_cantools_reads_what_is_on_the_bus(profile: str) -> None:
    cantools = pytest.importorskip("cantools")
    database = cantools.database.load_string(DATABASE, "dbc")
    bench = Bench(profile=profile)
    step = Step(state=4, step=300, drive=(123.4, 0, 0, 0), activation=(50, 0, 0, 0), age_ms=9.5,
                counts=np.arange(64, dtype=np.uint8) % 5)
    bench.link.send([step])
    identifier, data = bench.frames()[0]
    message = database.get_message_by_frame_id(identifier)
    assert message.is_fd == (profile == "fd") == (len(data) > 8)
    found = message.decode(data, decode_choices=False)
    drive = found["Drive0" if profile == "fd" else "Drive"]
    assert (found["Step"], drive, found["Age"]) == (300, pytest.approx(123.4), pytest.approx(9.5))
    if profile == "fd":
        assert (found["Count_00"], found["Count_63"]) == (0, 63 % 5)
    else:
        assert (found["State"], found["Activation"], found["E2E_CNT"]) == (4, 50.0, 0)


@pytest.mark.parametrize("profile", ["classic", "counts"])
def test_no_fd_frame_on_a_classic_bus(profile: str) -> None:
    """Whatever is sent in ten seconds; the fake's socket would refuse one, too."""
    bench = Bench(profile=profile)
    bench.link._framer = type(bench.link._framer)(profile, Info(7, (64,)))
    assert all(bench.send(1024))
    assert {len(packet) for packet in bench.kernel.wire} == {16}
    assert {identifier for identifier, _ in bench.frames()} >= {0x680, 0x68D, 0x68E, 0x68F}


def test_only_steps_are_fd_frames_on_a_fd_bus() -> None:
    bench = Bench(profile="fd")
    bench.link._framer = type(bench.link._framer)("fd", Info(7, (64,)))
    assert all(bench.send(200))
    assert {i for i, data in bench.frames() if len(data) > 8} == {0x690}
    assert {i for i, data in bench.frames() if len(data) <= 8} == {0x687, 0x68D, 0x68E, 0x68F}
    flags = {packet[5] for packet in bench.kernel.wire if len(packet) == 72}
    assert flags == {1}  # CANFD_BRS


def test_a_step_waits_in_the_queue_but_not_two() -> None:
    """One step's frames may wait when the next comes, as on a serial line."""
    bench = Bench(profile="counts")
    bench.kernel.stuck = True
    assert bench.send(5) == [True, True, False, False, False]
    assert len(bench.kernel.queue) == 8
    bench.kernel.free()
    assert bench.send(1) == [True]
    assert bench.steps() == [0, 1, 5]
    assert dict(bench.link.errors) == {"backlog": 3}


def test_the_kernels_full_queue_drops_a_step() -> None:
    """Other programs' frames fill the interface's queue."""
    bench = Bench(profile="counts")
    other = bench.kernel.socket()
    bench.kernel.stuck = True
    for _ in range(QUEUE - 2):
        other.send(struct.pack("=IB3x8s", 0x10, 8, b""))
    assert bench.send(2) == [False, False]  # two of four frames fitted, then none
    assert bench.link.errors["ENOBUFS"] == 2
    bench.kernel.free()
    assert bench.send() == [True]
    assert (bench.link.sent, bench.link.dropped, bench.link.recovered) == (1, 2, 1)


@pytest.mark.parametrize("way", ["down", "off", "stuck"])
@pytest.mark.parametrize("permitted", [True, False])
def test_trouble_is_repaired_after_100_ms(way: str, permitted: bool) -> None:
    bench = Bench(Kernel(permitted))
    bench.send(3)
    bench.kernel.down() if way == "down" else setattr(bench.kernel, way, True)
    if way == "stuck":
        bench.send(2)  # what the queue may hold
    sockets = bench.kernel.sockets[:]
    began = bench.now
    while not bench.link.recoveries:
        bench.send()
        assert bench.link.trouble
    assert bench.now - began == pytest.approx(BACK_OFF_S, abs=2.1 * PERIOD_S)
    if permitted:
        bench.kernel.stuck = False
        assert bench.kernel.restarts == 1
        assert bench.send(2) == [True, True]
        assert (bench.link.trouble, bench.link.recovered) == (False, 1)
    else:  # another socket, but not while frames of the old one wait
        assert (bench.kernel.sockets == sockets) is (way == "stuck")
        assert bench.kernel.restarts == 0
        assert bench.send(30) == [False] * 30
        assert 2 <= bench.link.recoveries <= 4
        bench.kernel.up, bench.kernel.off = True, False
        bench.kernel.free()
        assert bench.send(1) == [True]
    assert len(bench.kernel.sockets) == 1


def test_a_repair_that_hangs_stops_nothing() -> None:
    """Linux's slcan driver takes a second to give up; a step has 9.8 ms."""
    bench, gate = Bench(), threading.Event()
    bench.kernel.restart = lambda name: gate.wait(10.0)
    bench.kernel.down()
    took, touched = [], []
    for number in range(60):
        if bench.link._recovery.running:
            bench.link._bus.send = bench.link._bus.receive = touched.append
        began = time.monotonic()
        assert bench.link.send([Step(step=number)]) is False
        assert bench.link.poll() == []
        took.append(time.monotonic() - began)
        bench.now += PERIOD_S
    assert bench.link._recovery.running
    assert (bench.link.recoveries, touched) == (1, [])
    assert np.median(took) < 0.005
    began = time.monotonic()
    bench.link.close()
    assert time.monotonic() - began < 0.5
    gate.set()


def test_what_only_hearing_shows_is_trouble() -> None:
    bench = Bench()
    bench.send(1)
    bench.kernel.down()
    assert not bench.link.trouble
    assert bench.link.poll() == []
    assert bench.link.trouble
    assert dict(bench.link.errors) == {"ENETDOWN": 1}


def test_bus_off_is_heard_and_nothing_sent_until_it_is_over() -> None:
    """Linux, can/error.h: class 0x40 is bus-off, 0x100 restarted."""
    bench = Bench()
    bench.send(1)
    bench.kernel.say(ERROR | 0x040, bytes(8))
    assert bench.link.poll() == []
    assert bench.link.trouble
    assert bench.send(2) == [False, False]  # though this kernel would take them
    bench.kernel.say(ERROR | 0x100, bytes(8))
    bench.link.poll()
    assert bench.send(2) == [True, True]
    assert (bench.link.trouble, bench.link.recovered, bench.link.recoveries) == (False, 1, 0)
    assert dict(bench.link.errors) == {"bus-off": 1, "restarted": 1}
    bench.kernel.say(ERROR | 0x040, bytes(8))
    bench.link.poll()
    assert bench.send(12)[:10] == [False] * 10
    assert bench.kernel.restarts == 1  # nobody else restarted it
    assert bench.send(2) == [True, True]


def test_an_unplugged_adapter_is_a_link_error() -> None:
    bench = Bench()
    bench.kernel.gone = True
    for use in (lambda: bench.link.send([Step()]), bench.link.poll):
        with pytest.raises(LinkError, match=r"CAN interface can0 went away; plug it in and start"):
            use()


def test_arm_requests_are_found_among_frames_of_others() -> None:
    bench = Bench()
    good = arm_bytes(0x6A0, 1, 0xABCD1234, 3)
    assert good == encode_arm(Arm(1, 0xABCD1234, 3))
    for identifier, data in ((0x123, good), (0x6A0 | 1 << 31, good), (0x6A0 | 1 << 30, good),
                             (0x6A0, good), (0x6A0, good[:7]), (0x6A0, good[::-1]),
                             (0x680, good), (0x6A0, arm_bytes(0x680, 1, 1, 1))):
        bench.kernel.say(identifier, data)
    assert bench.link.poll() == [Arm(1, 0xABCD1234, 3)]
    assert bench.link.rejected == 3
    assert bench.link.poll() == []


def test_another_base_moves_everything() -> None:
    kernel = Kernel()
    bus = SocketBus("can0", lambda: KernelWire(kernel.socket()), kernel.restart, 1)
    link = CanLink(bus, "can:can0", base=0x100)
    link.send([Step(slot=2)])
    identifier, data = unpack(kernel.wire[0])
    assert identifier == 0x102
    assert data[0] == crc8(b"\x02\x01" + data[1:])
    kernel.say(0x6A0, arm_bytes(0x6A0, 1, 5, 0))
    kernel.say(0x120, arm_bytes(0x120, 1, 5, 0))
    assert link.poll() == [Arm(1, 5, 0)]


def test_a_flood_is_read_in_portions() -> None:
    bench = Bench()
    for _ in range(200):
        bench.kernel.say(0x123, bytes(8))
    bench.link.poll()
    assert len(bench.kernel.sockets[0].inbox) == 200 - 64


EVENTS = st.lists(st.sampled_from(
    ["send"] * 6 + ["stuck", "free", "down", "up", "off", "on", "bus-off", "restarted", "others",
                    "noise", "wait"]), max_size=80)


@settings(max_examples=150, deadline=None)
@given(EVENTS, st.sampled_from(list(FRAMES)), st.booleans())
def test_nothing_that_happens_blocks_raises_tears_or_queues(
    events: list[str], profile: str, permitted: bool
) -> None:
    bench = Bench(Kernel(permitted), profile)
    kernel, restart = bench.kernel, bench.kernel.restart
    accepted: list[int] = []
    purged: list[int] = []

    def lost() -> None:
        """Note whose frames go when the queue is emptied."""
        purged.extend(number for number in accepted if number not in bench.steps())

    def noted(name: str) -> None:
        if permitted:
            lost()
        restart(name)

    kernel.restart = noted
    other = kernel.socket()
    began = time.monotonic()
    for event in events:
        if event == "send":
            number = bench.number
            accepted += [number] if bench.send() == [True] else []
            waiting = sum(sock is not other for sock, _ in kernel.queue)
            assert waiting <= min(2 * FRAMES[profile] + 1, QUEUE)
        elif event == "free":
            kernel.free()
        elif event == "down":
            lost()
            kernel.down()
        elif event == "wait":
            bench.now += BACK_OFF_S
        elif event in ("bus-off", "restarted", "noise"):
            codes = {"bus-off": ERROR | 0x40, "restarted": ERROR | 0x100, "noise": 0x6A0}
            kernel.say(codes[event], b"\1\2\3")
        elif event == "others":
            while kernel.stuck and kernel.up and not kernel.off and len(kernel.queue) < QUEUE - 1:
                other.send(struct.pack("=IB3x8s", 0x10, 8, b""))
        else:
            setattr(kernel, {"on": "off"}.get(event, event), event != "on")
        assert bench.poll() == []
    kernel.free()
    assert time.monotonic() - began < 2.0
    whole = [number for number in accepted if number not in purged]
    assert [number for number in bench.steps() if number in accepted] == whole
    assert bench.link.sent == len(accepted)
    assert bench.link.sent + bench.link.dropped == bench.number
    if profile == "counts":
        ids = [identifier for identifier, _ in bench.frames() if identifier != 0x10]
        starts = [k for k, identifier in enumerate(ids) if identifier == 0x680]
        torn = [n for n, k in zip(bench.steps(), starts, strict=True)
                if ids[k : k + 4] != [0x680, 0x684, 0x685, 0x686]]
        assert not set(torn) & set(accepted)
    if events and not bench.link.trouble:
        assert bench.number == 0 or accepted


def test_errors_are_counted_by_name() -> None:
    bench = Bench()
    bench.kernel.down()
    bench.send(2)
    bench.kernel.up, bench.kernel.off = True, True
    bench.send(1)
    assert dict(bench.link.errors) == {"ENETDOWN": 2, errno.errorcode[errno.ENOBUFS]: 1}
