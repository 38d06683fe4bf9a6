"""The loop of an adapter: however it ends, the machine has been told to stop.

Truth: the simulated machine at the other end of the bus, and a clock that the test owns.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from itertools import pairwise

import pytest
from adapter_world import KINDS, MODEL, STATE, World

from spikewire.adapters.assist import FAREWELLS, PERIOD_S
from spikewire.adapters.loop import LAST_TRIES, Decoder, let_go, run
from spikewire.adapters.peers import H3Peer, MitPeer
from spikewire.link.codec import Step
from spikewire.link.ends import SerialEnd
from spikewire.link.loopback import LoopbackLink
from spikewire.link.profile import Info
from spikewire.link.transport import ArmReader, LinkError

both = pytest.mark.parametrize("kind", KINDS)


class Desk:
    """A world with the decoder behind a line: it is ACTIVE while the adapter asks for it."""

    def __init__(self, kind: str) -> None:
        self.world = World(kind)
        self.line = LoopbackLink("loopback:", info=Info(MODEL, (3,)))
        self.decoder = Decoder(SerialEnd(self), self.world.receiver)
        self.said: list[str] = []
        self.asked: list[tuple[float, int]] = []
        self.arms = ArmReader()
        self.steps, self.sleeps = 0, 0
        self.plan: dict[int, str] = {20: "arm"}  # what the operator types, by tick
        self.broken: Callable[[], None] = lambda: None  # called by each read of the line

    # of a Port
    def read(self) -> bytes:
        self.broken()
        return self.line.received()

    def write(self, data: bytes) -> int:
        self.asked += [(self.world.now, arm.request) for arm in self.arms.feed(data)]
        return len(data)

    def queued(self) -> int:
        return 0

    def close(self) -> None:
        pass

    def sleep(self, seconds: float) -> None:
        """Time goes on; machine and decoder do what is theirs."""
        self.world.peer.turn(self.world.now)
        self.world.now += seconds
        wanted = bool(self.asked) and self.asked[-1][1] == 1
        self.line.send([Step(state=STATE["ACTIVE" if wanted else "READY"], step=self.steps,
                             age_ms=5.0, drive=(100.0, math.nan, math.nan, math.nan),
                             model_id16=MODEL)])
        self.steps += 1

    def operator(self) -> str:
        self.sleeps += 1
        return self.plan.get(self.sleeps, "quit" if self.sleeps > 200 else "")

    def run(self) -> None:
        run(self.world.adapter, self.decoder, self.world.bus, self.operator, self.said.append,
            lambda: self.world.now, self.sleep)


@both
def test_a_whole_run(kind: str) -> None:
    desk = Desk(kind)
    torques: list[float] = []
    desk.broken = lambda: torques.append(desk.world.does())
    desk.run()
    assert max(torques) == pytest.approx(5.0, abs=desk.world.step_nm)
    assert abs(torques[20]) <= desk.world.zero_nm
    desk.world.peer.turn(desk.world.now)
    assert desk.world.off()
    assert desk.said == ["armed; any line but arm stops"]
    requests = [request for _, request in desk.asked]
    assert requests == [*sorted(requests[:-1]), 0]  # disarm, arm, and disarm at the end
    gaps = [b - a for (a, _), (b, _) in pairwise(desk.asked)]
    assert max(gaps) < 0.1 - PERIOD_S  # 10 a second at least


@both
@pytest.mark.parametrize("where", ["line", "bus", "operator", "say", "clock", "machine"])
@pytest.mark.parametrize("error", [LinkError("gone"), RuntimeError("bug"), KeyboardInterrupt(),
                                   MemoryError()])
def test_any_exception_ends_in_zero_and_disable(
    kind: str, where: str, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(kind)
    reached: list[float] = []

    def fail(*_: object) -> None:
        if desk.sleeps >= 120:
            reached.append(desk.world.does())
            raise error

    def failing(function: Callable[..., object]) -> Callable[..., object]:
        def called(*args: object) -> object:
            fail()
            return function(*args)
        return called

    if where == "line":
        desk.broken = fail
    elif where == "bus":
        monkeypatch.setattr(desk.world.bus, "read", failing(desk.world.bus.read))
    elif where == "machine":
        machine = desk.world.adapter.machine
        monkeypatch.setattr(machine, "torque", failing(machine.torque), raising=False)
        monkeypatch.setattr(machine, "fault", failing(machine.fault), raising=False)
    elif where == "say":
        desk.plan[120] = "Enter"
        desk.said = type("Said", (list,), {"append": lambda _, __: fail()})()
    elif where == "operator":
        monkeypatch.setattr(desk, "operator", failing(desk.operator))
    else:
        monkeypatch.setattr(desk, "sleep", failing(desk.sleep))
    with pytest.raises(type(error)):
        desk.run()
    if where != "say":  # that comes when the machine has been told
        assert reached[0] == pytest.approx(5.0, abs=desk.world.step_nm)
    desk.world.peer.turn(desk.world.now)
    assert desk.world.off()
    assert desk.asked[-1][1] == 0


@both
def test_a_bus_that_takes_nothing_is_said(kind: str) -> None:
    desk = Desk(kind)

    def cut() -> None:
        desk.world.bus.broken = desk.sleeps >= 120

    desk.broken = cut
    with pytest.raises(LinkError, match="could NOT be told to stop: press the emergency stop"):
        desk.run()


@both
def test_a_bus_that_takes_something_again_is_told(kind: str) -> None:
    world = World(kind).armed()
    world.bus.broken = True
    tries = iter(range(LAST_TRIES))

    def mend(seconds: float) -> None:
        world.bus.broken = next(tries) < 10

    assert let_go(world.adapter.machine, world.bus, mend)
    world.peer.turn(world.now)
    assert world.off()


def test_a_second_ctrl_c_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World("h3").armed()
    send, pressed = world.bus.send, iter(range(100))

    def interrupted(identifier: int, data: bytes) -> None:
        if next(pressed) < 3:
            raise KeyboardInterrupt
        send(identifier, data)

    monkeypatch.setattr(world.bus, "send", interrupted)
    assert let_go(world.adapter.machine, world.bus, lambda seconds: None)
    world.peer.turn(world.now)
    assert world.off()


def test_a_late_tick_is_not_made_up_for() -> None:
    desk = Desk("h3")
    times: list[float] = []

    def late() -> None:
        times.append(desk.world.now)
        if desk.sleeps == 50:
            desk.world.now += 0.1

    desk.broken = late
    desk.run()
    steps = [b - a for a, b in pairwise(times)]
    assert sum(step > 0.0101 for step in steps) == 1
    assert sum(step < 0.0099 for step in steps) <= 1  # the next one begins at once
    assert desk.said[1].startswith("stopped: the loop did not run for 100 ms; ")


def killed(world: World, seconds: float) -> float:
    """Let the machine be alone; return what it does in the end."""
    for _ in range(round(seconds / 0.01)):
        world.peer.turn(world.now)
        world.now += 0.01
    return world.does()


def test_what_a_killed_adapter_leaves_behind() -> None:
    """A kill -9 sends nothing. An H3 and an AK60 v3 go on; a drive with a time-out lets go."""
    assert killed(World("h3").armed(), 60.0) == 5
    assert killed(World("mit").armed(), 60.0) == pytest.approx(5.0, abs=0.01)
    assert killed(World("mit", {"timeout_s": 0.1}).armed(), 0.2) == 0


@both
def test_a_new_adapter_ends_what_a_killed_one_left(kind: str) -> None:
    left = World(kind).armed()
    assert killed(left, 1.0) > 4
    new = World(kind)
    for _ in range(FAREWELLS):
        new.tick()
        for identifier, data in new.sent:
            left.bus.send(identifier, data)
        left.peer.turn(left.now)
        assert left.off()


def test_the_simulated_h3_by_hand() -> None:
    world = World("h3")
    peer, bus = world.peer, world.bus
    assert isinstance(peer, H3Peer)
    bus.send(0x49, struct.pack("6b", 100, 0, 7, 0, 0, -100))
    peer.turn(0.0)
    assert (peer.torque_nm, bus.read(), str(peer)) == ([0.0] * 6, [], "off")
    bus.send(0x47, bytes((3, 3, 1, 0, 0, 3)))
    bus.send(0x55, bytes((1, 0, 0, 0, 0, 0)))
    peer.turn(0.001)
    assert peer.torque_nm == [50, 0, 0, 0, 0, -50]  # its own limit; position control is not torque
    assert bus.read() == [(0x78, bytes((50, 0, 0, 0, 0, 206))), (0x96, bytes(6))]
    for millisecond in range(2, 21):
        peer.turn(millisecond / 1e3)
    assert [identifier for identifier, _ in bus.read()] == [0x78, 0x96]
    assert str(peer).startswith("right_hip 50 N.m, ")


def test_the_simulated_motor_by_hand() -> None:
    world = World("mit")
    peer, bus = world.peer, world.bus
    assert isinstance(peer, MitPeer)
    bus.send(1, bytes.fromhex("8000800000000bff"))
    peer.turn(0.0)
    assert (peer.torque_nm, str(peer)) == (0.0, "off")  # not in motor mode
    assert bus.read() == [(0, bytes.fromhex("0180008008001900"))]
    for data in ("fffffffffffffffc", "8000800000000bff"):
        bus.send(1, bytes.fromhex(data))
    bus.send(2, bytes.fromhex("fffffffffffffffd"))  # another motor
    peer.turn(0.01)
    assert peer.torque_nm == pytest.approx(8.9978, abs=1e-4)
    assert bus.read()[-1] == (0, bytes.fromhex("018000800bff1900"))
    bus.send(1, bytes.fromhex("fffffffffffffffd"))
    peer.turn(0.02)
    assert peer.torque_nm == 0
