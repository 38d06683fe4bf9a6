"""One contract for every link: null, loopback, serial on a pseudo-terminal.

Truth: the contract in the docstring of `transport.Link`; frames are taken apart with the `cobs`
package and zlib, not with our own deframer.
"""

from __future__ import annotations

import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from cobs import cobs

from spikewire.link import transport
from spikewire.link.codec import Arm, FrameError, Notice, Step, decode_frame, encode_arm
from spikewire.link.framing import frame
from spikewire.link.table import ARM
from spikewire.link.transport import (
    Link,
    LinkError,
    LoopbackLink,
    open_link,
    options,
    parse_uri,
)
from spikewire.link.uart import PtyPort, SerialLink


@dataclass
class End:
    """The far end of a link under test."""

    read: Callable[[], bytes]
    answer: Callable[[Arm], object]
    stall: Callable[[], object]
    hears: bool = True


def take_apart(line: bytes) -> list[Step]:
    """Decode what was on the wire with foreign COBS and CRC-32; the steps of it."""
    return [found for found in everything(line) if isinstance(found, Step)]


def everything(line: bytes) -> list[Step | Arm | Notice]:
    """Also what is sent beside the steps."""
    found = []
    for encoded in line.split(b"\0")[:-1]:
        body = cobs.decode(encoded)
        assert zlib.crc32(body[:-4]) == int.from_bytes(body[-4:], "little")
        found.append(decode_frame(body[0], body[1:-4]))
    return found


def wait_for(take: Callable[[], list[Arm]]) -> list[Arm]:
    """Poll until something comes: a pseudo-terminal hands bytes over a little later."""
    limit = time.monotonic() + 2.0
    while time.monotonic() < limit:
        if got := take():
            return got
        time.sleep(0.001)
    return []


def read(end: End, n: int) -> bytes:
    """Read until so many steps have come, for the same reason."""
    line = end.read()
    limit = time.monotonic() + 2.0
    while end.hears and len(take_apart(line)) < n and time.monotonic() < limit:
        time.sleep(0.001)
        line += end.read()
    return line


@pytest.fixture(params=["null", "loopback", "serial"])
def ends(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Link, End, str]]:
    """Give a link and what is at its other end."""
    kind = request.param
    if kind == "serial":
        port = PtyPort(str(tmp_path / "exo"))
        uri = f"serial:{tmp_path}/exo?baud=921600&arm=1"
        link = open_link(uri)
        assert isinstance(link, SerialLink)
        serial_port = link._port
        queue_full = {"queued": lambda: 10_000}
        yield (
            link,
            End(
                port.read,
                lambda arm: port.write(frame(ARM.type_of(), encode_arm(arm))),
                lambda: vars(serial_port).update(queue_full),
            ),
            uri,
        )
        port.close()
    else:
        uri = f"{kind}:?arm=1"
        link = open_link(uri)
        assert isinstance(link, LoopbackLink)
        loop = link
        end = End(
            loop.received, loop.answer, lambda: setattr(loop, "stalled", True), kind == "loopback"
        )
        yield link, end, uri
    link.close()


def test_a_new_link_knows_itself(ends: tuple[Link, End, str]) -> None:
    link, _, uri = ends
    assert (link.uri, link.may_arm, link.sent, link.dropped) == (uri, True, 0, 0)
    assert link.poll() == []


def test_frames_arrive_in_order_with_the_counter_of_their_slot(
    ends: tuple[Link, End, str],
) -> None:
    link, end, _ = ends
    for number in range(6):
        sent = Step(
            slot=number % 2, counter=99, step=number, counts=np.array([number], np.uint8), n_mu=1
        )
        assert link.send([sent]) is True
    assert (link.sent, link.dropped) == (6, 0)
    got = take_apart(read(end, 6))
    if end.hears:
        assert [step.step for step in got] == list(range(6))
        assert [step.slot for step in got] == [0, 1, 0, 1, 0, 1]
        assert [step.counter for step in got] == [0, 0, 1, 1, 2, 2]
        assert got[5].counts[0] == 5
    else:
        assert got == []


def test_a_full_queue_drops_the_new_frame_at_once(ends: tuple[Link, End, str]) -> None:
    link, end, _ = ends
    link.send([Step(step=1)])
    end.stall()
    began = time.monotonic()
    assert [link.send([Step(step=number)]) for number in range(2, 5)] == [False] * 3
    assert time.monotonic() - began < 0.5
    assert (link.sent, link.dropped) == (1, 3)
    assert [step.step for step in take_apart(read(end, 1))] == [1] * end.hears


def test_a_dropped_frame_shows_as_a_gap() -> None:
    link = LoopbackLink("loopback:")
    for link.stalled in (False, True, False):
        link.send([Step()])
    assert [step.counter for step in take_apart(link.received())] == [0, 2]


def test_a_refused_step_leaves_no_gap(ends: tuple[Link, End, str]) -> None:
    link, end, _ = ends
    link.send([Step()])
    for bad in (Step(slot=4), Step(state=9)):
        with pytest.raises(FrameError):
            link.send([bad])
    link.send([Step()])
    assert link.sent == 2
    if end.hears:
        assert [step.counter for step in take_apart(read(end, 2))] == [0, 1]


def test_arm_requests_come_back(ends: tuple[Link, End, str]) -> None:
    link, end, _ = ends
    arms = [Arm(request=1, model_id=0xABCD1234, counter=k) for k in range(3 * end.hears)]
    for arm in arms:
        end.answer(arm)
    got: list[Arm] = []
    while len(got) < len(arms) and (more := wait_for(link.poll)):
        got += more
    assert got == arms
    assert link.poll() == []


def test_a_closed_link_says_so(ends: tuple[Link, End, str]) -> None:
    link, _, _ = ends
    link.close()
    link.close()
    with pytest.raises(LinkError):
        link.send([Step()])
    with pytest.raises(LinkError):
        link.poll()


def test_short_profile() -> None:
    link = open_link("loopback:?profile=short")
    assert isinstance(link, LoopbackLink)
    for number in range(17):
        link.send([Step(slot=3, step=number, drive=(1.0, 2.0, 3.0, 4.0))])
    line = link.received()
    assert len(line) == 17 * 23 + 2 * 15  # and INFO and INFO2 once
    steps = take_apart(line)
    assert [step.counter for step in steps] == [*range(15), 0, 1]
    assert steps[0].drive[3] == pytest.approx(4.0)


def test_loopback_loses_corrupts_and_delays() -> None:
    link = LoopbackLink("loopback:")
    link._framer._periods = []  # nothing but steps
    link.lose, link.corrupt = 1, 1
    for number in range(4):  # frame 0 is lost, frame 1 is corrupt
        assert link.send([Step(step=number)])
    link.delay = 1
    lines = link.received().split(b"\0")
    assert len(lines) == 2 + 1
    with pytest.raises((cobs.DecodeError, AssertionError)):
        take_apart(lines[0] + b"\0")
    assert [step.step for step in take_apart(lines[1] + b"\0")] == [2]
    link.delay = 0
    assert [step.step for step in take_apart(link.received())] == [3]


def test_loopback_keeps_a_bounded_number() -> None:
    link = LoopbackLink("loopback:")
    for number in range(100):
        link.send([Step(step=number)])
        link.answer(Arm(1, number))
    assert [step.step for step in take_apart(link.received())] == list(range(36, 100))
    assert [arm.model_id for arm in link.poll()] == list(range(36, 100))


def test_arm_reader_counts_what_is_none() -> None:
    reader = transport.ArmReader()
    good = Arm(2, 5)
    payload = encode_arm(good)
    line = frame(0x41, payload) + frame(0x40, payload[::-1]) + frame(0x40, payload[:-1])
    assert reader.feed(line + frame(0x40, payload)) == [good]
    assert reader.rejected == 3


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("usart:/dev/x", "unknown scheme 'usart'; allowed: loopback:, null:, serial:; type for"),
        ("loopback", "has no scheme; type for instance serial:/dev/ttyTHS1"),
        ("null:?speed=3", "unknown option 'speed'; allowed: arm, profile; type for instance null:"),
        ("null:?arm=yes", "arm=yes came; allowed: 0, 1; type for instance null:.arm=0"),
        ("loopback:?arm", "arm= came; allowed: 0, 1"),
        ("null:here", "takes no path; type null:"),
        ("serial:?baud=9600", "names no port; type for instance serial:/dev/ttyUSB0"),
        ("serial:/dev/x?baud=9601", "baud=9601 came; allowed: auto, 115200"),
        ("serial:/dev/x?stop=3", "stop=3 came; allowed: 1, 2"),
        ("serial:/dev/x?profile=long", "profile=long came; allowed: full, short"),
        ("serial:/dev/no-such-port", "port '/dev/no-such-port': not there; list the ports"),
    ],
)
def test_errors_say_what_came_what_is_allowed_what_next(uri: str, message: str) -> None:
    with pytest.raises(LinkError, match=message) as caught:
        open_link(uri)
    assert "\n" not in str(caught.value)


def test_options_without_arm_may_not_arm() -> None:
    assert open_link("null:").may_arm is False
    assert options(parse_uri("null:"))["profile"] == "full"


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "spikewire.link.uart", raising=False)
    monkeypatch.setitem(sys.modules, "serial", None)
    with pytest.raises(LinkError, match=r"needs the package serial.*pip install pyserial"):
        open_link("serial:/dev/x")


def test_pyserial_is_imported_only_when_asked_for() -> None:
    code = (
        "import sys; from spikewire.link.transport import open_link; open_link('null:'); "
        "sys.exit('serial' in sys.modules)"
    )
    root = Path(transport.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, check=False, timeout=20)
    assert done.returncode == 0
