"""Words to the service manager. Truth: sd_notify(3), heard on a real socket as it binds one."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")

from test_runtime_loop import PERIOD, Bench

from spikewire.link.transport import LinkError
from spikewire.runtime.engine import EngineError
from spikewire.runtime.notify import Notifier
from spikewire.signals import STEP


class Manager:
    """The far end: what came, datagram by datagram."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.setblocking(False)

    def heard(self) -> list[str]:
        out = []
        while True:
            try:
                out.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return out


@pytest.fixture(params=["path", "abstract"])
def manager(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Manager]:
    made = Manager(str(tmp_path / "n") if request.param == "path" else f"@spikewire-{os.getpid()}")
    yield made
    made.socket.close()


def test_ready_once_then_the_watchdog_at_most_every_fifth_of_a_second(manager: Manager) -> None:
    notifier = Notifier(manager.address)
    assert manager.heard() == []
    for step in range(103):  # 1.006 s
        notifier.handed_over(5.0 + step * PERIOD)
    notifier.stopping()
    notifier.handed_over(99.0)
    notifier.close()
    notifier.close()
    assert manager.heard() == ["READY=1\nWATCHDOG=1", *["WATCHDOG=1"] * 4, "STOPPING=1"]
    assert notifier.failed == 0


def test_without_a_manager_nothing_is_opened_or_counted() -> None:
    notifier = Notifier()
    notifier.handed_over(0.0)
    notifier.stopping()
    assert not notifier.listens
    assert not notifier.tell(b"READY=1")
    assert notifier.failed == 0


@pytest.mark.parametrize("address", [
    "/nowhere/at/all", "relative", "/" + "x" * 300, "@" + "x" * 300, "vsock:2:1234", "@",
    "\udcff/x",
])
def test_an_address_that_cannot_be_costs_a_count_and_no_more(address: str) -> None:
    notifier = Notifier(address)
    notifier.handed_over(0.0)
    notifier.handed_over(0.01)
    assert notifier.failed == 2
    notifier.close()


def test_a_manager_that_does_not_read_never_holds_the_loop_up(tmp_path: Path) -> None:
    """Its queue is full after some; READY is said again until it went."""
    manager = Manager(str(tmp_path / "n"))
    flood = Notifier(manager.address)
    while flood.tell(b"X=1"):
        pass
    notifier = Notifier(manager.address)
    notifier.handed_over(0.0)
    assert notifier.failed == 1
    manager.heard()
    notifier.handed_over(0.01)
    assert manager.heard() == ["READY=1\nWATCHDOG=1"]
    for each in (flood, notifier, manager.socket):
        each.close()


def test_a_manager_that_binds_anew_is_heard_again(tmp_path: Path) -> None:
    address = str(tmp_path / "n")
    first, notifier = Manager(address), Notifier(address)
    notifier.handed_over(0.0)
    first.socket.close()
    notifier.handed_over(0.3)
    assert notifier.failed == 1
    os.unlink(address)
    second = Manager(address)
    notifier.handed_over(0.31)
    assert second.heard() == ["WATCHDOG=1"]
    notifier.close()
    second.socket.close()


@pytest.fixture
def bench(bundle_path: Path, manager: Manager) -> Iterator[Callable[..., Bench]]:
    """Makes a scripted loop that tells the manager."""
    notifier = Notifier(manager.address)

    def make(**more: object) -> Bench:
        made = Bench(bundle_path, **more)
        made.loop.notifier = notifier
        return made

    yield make
    notifier.close()


def test_the_loop_says_ready_feeds_and_stops(bench, manager: Manager) -> None:
    """60 steps, 0.586 s: after the first frame, and 0.2 and 0.4 s later."""
    bench(steps=60).run()
    assert manager.heard() == ["READY=1\nWATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1", "STOPPING=1"]


def test_an_amplifier_that_is_off_is_no_bad_release(bench, manager: Manager) -> None:
    """No sample ever comes; the frames that say so go out, and are told."""
    made = bench(blocks=[(0, STEP, 10.5)])
    made.loop.run(lambda: made.clock.now() > 10.45)
    assert made.loop.tally.steps == 0
    assert manager.heard() == ["READY=1\nWATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1", "STOPPING=1"]


def test_a_loop_that_hands_no_frames_over_feeds_nothing(bench, manager: Manager) -> None:
    """It runs for a second; from step 30 on it decodes, but its frames get lost on the way."""
    made = bench(steps=100)
    exchange = made.loop._exchange
    made.loop._exchange = lambda steps, now: (
        exchange(steps, now) if made.loop.tally.steps < 30 else LinkError("gone"))
    with pytest.raises(LinkError):
        made.run()
    assert manager.heard() == ["READY=1\nWATCHDOG=1", "WATCHDOG=1", "STOPPING=1"]


def test_a_loop_that_hangs_feeds_nothing(bench, manager: Manager) -> None:
    made = bench(steps=100)
    made.engine.takes[50] = 30.0  # the scripted engine sleeps so long in one step
    fed: list[list[str]] = []
    sleep = made.clock.sleep_until
    made.clock.sleep_until = lambda moment: (
        fed.append(manager.heard()) if moment > made.clock.now() + 10 else None, sleep(moment))
    made.loop.run(lambda: bool(fed))
    assert [len(words) for words in fed] == [3]


def test_a_run_that_fails_at_once_was_never_ready(bench, manager: Manager) -> None:
    """Its last frames say FAULT: they are no sign of life."""
    made = bench()

    def fail(emg: object) -> None:
        raise EngineError("broken")

    made.engine.advance = fail
    with pytest.raises(EngineError):
        made.run()
    assert manager.heard() == ["STOPPING=1"]


def test_no_link_is_never_ready(bench, manager: Manager) -> None:
    made = bench()
    made.loop.links.clear()
    made.loop.run(lambda: False)
    assert manager.heard() == ["STOPPING=1"]


def test_a_controller_that_is_off_is_no_hanging_loop(bench, manager: Manager) -> None:
    """The wire takes nothing: the link's trouble, told in frames and status, mended by the link."""
    made = bench(steps=60)
    made.link.stalled = True
    made.run()
    assert made.link.sent == 0
    assert manager.heard()[:2] == ["READY=1\nWATCHDOG=1", "WATCHDOG=1"]
