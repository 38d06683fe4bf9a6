"""One contract for every link.

Truth: the contract in the docstring of `transport.Link`; frames on bytes are taken apart with the
`cobs` package and zlib, those on CAN by the positions that the message contract gives.
"""

from __future__ import annotations

import re
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from can_kernel import INTERFACE, Kernel, foreign, has_interface, take, unpack
from cobs import cobs

from spikewire.link import transport
from spikewire.link.canbus import KernelWire, PythonCanWire, SocketBus
from spikewire.link.canlink import CanLink
from spikewire.link.codec import Arm, FrameError, Notice, Step, decode_frame, encode_arm
from spikewire.link.framing import frame
from spikewire.link.loopback import LoopbackLink
from spikewire.link.table import ARM
from spikewire.link.transport import (
    Link,
    LinkError,
    open_link,
    options,
    parse_uri,
)
from spikewire.link.uart import PtyPort


@dataclass
class End:
    """The far end of a link under test."""

    steps: Callable[[], list[Any]]
    answer: Callable[[Arm], object]
    stall: Callable[[], object]
    free: Callable[[], object]
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


def drives(frames: list[tuple[int, bytes]]) -> list[Any]:
    """MU_DRIVE frames on a CAN bus, by the positions in the contract."""
    return [
        SimpleNamespace(slot=identifier - 0x680, counter=data[1] & 15,
                        step=struct.unpack_from("<H", data, 2)[0])
        for identifier, data in frames if 0x680 <= identifier < 0x684
    ]


def adapter(line: bytes) -> list[tuple[int, bytes]]:
    """What an slcan adapter would put on its bus."""
    frames = []
    for text in line.decode("ascii").split("\r"):
        if found := re.fullmatch(r"t([0-7][0-9A-F]{2})([0-8])((?:[0-9A-F]{2})*)", text):
            frames.append((int(found[1], 16), bytes.fromhex(found[3])))
            assert len(frames[-1][1]) == int(found[2])
    return frames


def wait_for(take: Callable[[], list[Any]]) -> list[Any]:
    """Poll until something comes: a pseudo-terminal hands bytes over a little later."""
    limit = time.monotonic() + 2.0
    while time.monotonic() < limit:
        if got := take():
            return got
        time.sleep(0.001)
    return []


def read(end: End, n: int) -> list[Any]:
    """Read until so many steps have come, for the same reason."""
    got: list[Any] = []
    while end.hears and len(got) < n and (more := wait_for(end.steps)):
        got += more
    return got


def in_process(kind: str, tmp_path: Path) -> tuple[Link, End, str, Callable[[], object]]:
    """`null:` and `loopback:`."""
    link = open_link(f"{kind}:?arm=1")
    assert isinstance(link, LoopbackLink)
    return link, End(
        lambda: take_apart(link.received()), link.answer, lambda: setattr(link, "stalled", True),
        lambda: setattr(link, "stalled", False), kind == "loopback",
    ), f"{kind}:?arm=1", lambda: None


def on_a_pty(kind: str, tmp_path: Path) -> tuple[Link, End, str, Callable[[], object]]:
    """`serial:` and `slcan:`."""
    port = PtyPort(str(tmp_path / "exo"))
    uri = f"{kind}:{tmp_path}/exo?{'baud=921600' if kind == 'serial' else 'bitrate=250000'}&arm=1"
    link: Any = open_link(uri)
    near = link._port if kind == "serial" else link._bus._port
    arm_line = (lambda arm: frame(ARM.type_of(), encode_arm(arm))) if kind == "serial" else \
        (lambda arm: b"t6A08%s\r" % encode_arm(arm).hex().upper().encode())
    return link, End(
        (lambda: take_apart(port.read())) if kind == "serial" else
        (lambda: drives(adapter(port.read()))),
        lambda arm: port.write(arm_line(arm)), lambda: vars(near).update(queued=lambda: 10_000),
        lambda: vars(near).pop("queued"),
    ), uri, port.close


def over_udp(kind: str, tmp_path: Path) -> tuple[Link, End, str, Callable[[], object]]:
    """`udp:`, with another socket at the far end."""
    far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    far.bind(("127.0.0.1", 0))
    far.settimeout(1.0)
    uri = f"udp:127.0.0.1:{far.getsockname()[1]}?arm=1&lab=1"
    link: Any = open_link(uri)
    near, peer = link._sock, link._sock.getsockname()

    def full(_: bytes) -> int:
        raise BlockingIOError

    stalled = SimpleNamespace(send=full, recv=near.recv, close=near.close, fileno=near.fileno)
    return link, End(
        lambda: take_apart(far.recv(4096)),
        lambda arm: far.sendto(frame(ARM.type_of(), encode_arm(arm)), peer),
        lambda: setattr(link, "_sock", stalled), lambda: setattr(link, "_sock", near),
    ), uri, far.close


def can_end(
    link: Any, frames: Callable[[], list[tuple[int, bytes]]], say: Callable[[bytes], object],
) -> End:
    """The far end of a CAN bus whose own frames are said to wait while it stalls."""
    bus = vars(link._bus)
    return End(lambda: drives(frames()), lambda arm: say(encode_arm(arm)),
               lambda: bus.update(queued=lambda: 10_000), lambda: bus.pop("queued"))


def on_a_fake(kind: str, tmp_path: Path) -> tuple[Link, End, str, Callable[[], object]]:
    """SocketCAN on a fake of the kernel."""
    kernel = Kernel()
    bus = SocketBus("fake", lambda: KernelWire(kernel.socket()), kernel.restart, 1)
    link = CanLink(bus, "can:fake", may_arm=True, clock=lambda: 0.0)  # nothing is repaired

    def frames() -> list[tuple[int, bytes]]:
        return [unpack(kernel.wire.pop(0)) for _ in kernel.wire[:]]

    return link, can_end(link, frames, lambda data: kernel.say(0x6A0, data)), link.uri, lambda: None


def on_python_can(kind: str, tmp_path: Path) -> tuple[Link, End, str, Callable[[], object]]:
    """The bus that python-can keeps for tests, in this process."""
    can = pytest.importorskip("can")
    far = can.Bus(str(tmp_path), interface="virtual")
    bus = SocketBus("virtual", lambda: PythonCanWire(can.Bus(str(tmp_path), interface="virtual")),
                    Kernel().restart, 1)
    link = CanLink(bus, "can:virtual", may_arm=True, clock=lambda: 0.0)

    def frames() -> list[tuple[int, bytes]]:
        return [(m.arbitration_id, bytes(m.data)) for m in iter(lambda: far.recv(0), None)]

    def say(data: bytes) -> None:
        far.send(can.Message(arbitration_id=0x6A0, is_extended_id=False, data=data))

    return link, can_end(link, frames, say), link.uri, far.shutdown


def on_the_kernel(kind: str, tmp_path: Path) -> tuple[Link, End, str, Callable[[], object]]:
    """SocketCAN itself."""
    if not has_interface():
        pytest.skip(f"no {INTERFACE} here")
    uri, far = f"can:{INTERFACE}?arm=1", foreign()
    link = open_link(uri)

    def say(data: bytes) -> None:
        far.send(struct.pack("=IB3x8s", 0x6A0, 8, data))

    return link, can_end(link, lambda: take(far), say), uri, far.close


KINDS: dict[str, Callable[[str, Path], tuple[Link, End, str, Callable[[], object]]]] = {
    "null": in_process, "loopback": in_process, "serial": on_a_pty, "slcan": on_a_pty,
    "udp": over_udp, "can, fake": on_a_fake, "can, python-can": on_python_can,
    "can, kernel": on_the_kernel,
}


@pytest.fixture(params=KINDS)
def ends(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Link, End, str]]:
    """Give a link and what is at its other end."""
    link, end, uri, close = KINDS[request.param](request.param, tmp_path)
    yield link, end, uri
    link.close()
    close()


def test_a_new_link_knows_itself(ends: tuple[Link, End, str]) -> None:
    link, _, uri = ends
    assert (link.uri, link.may_arm, link.sent, link.dropped) == (uri, True, 0, 0)
    assert (link.trouble, link.recovered) == (False, 0)
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
    got = read(end, 6)
    if end.hears:
        assert [step.step for step in got] == list(range(6))
        assert [step.slot for step in got] == [0, 1, 0, 1, 0, 1]
        assert [step.counter for step in got] == [0, 0, 1, 1, 2, 2]
        assert not isinstance(got[5], Step) or got[5].counts[0] == 5
    else:
        assert got == []


def test_a_full_queue_drops_the_new_step_at_once_and_is_trouble(
    ends: tuple[Link, End, str],
) -> None:
    link, end, _ = ends
    link.send([Step(step=1)])
    end.stall()
    began = time.monotonic()
    assert [link.send([Step(step=number)]) for number in range(2, 5)] == [False] * 3
    assert time.monotonic() - began < 0.5
    assert (link.sent, link.dropped, link.trouble, link.recovered) == (1, 3, True, 0)
    end.free()
    assert link.send([Step(step=5)])
    assert (link.sent, link.dropped, link.trouble, link.recovered) == (2, 3, False, 1)
    assert [step.step for step in read(end, 2)] == [1, 5] * end.hears


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
    assert [step.counter for step in read(end, 2)] == [0, 1] * end.hears


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
        ("usart:/dev/x", "unknown scheme 'usart'; allowed: can:, loopback:, lsl:, null:, serial:, "
         "slcan:, udp:; type for instance serial:"),
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
        ("can:can0?profile=full", "profile=full came; allowed: classic, counts, fd; type for"),
        ("can:can0?base=0x7e0", "base=0x7e0 came; allowed: 0x0 to 0x7df; type for .*base=0x680"),
        ("can:can0?base=low", "base=low came; allowed: 0x0 to 0x7df"),
        ("can:can0?bitrate=500000", "unknown option 'bitrate'; allowed: arm, profile, base"),
        ("slcan:/dev/x?profile=fd", "profile=fd came; allowed: classic, counts; type for"),
        ("slcan:/dev/x?bitrate=9600", "bitrate=9600 came; allowed: 500000, 10000"),
        ("slcan:?bitrate=10000", "a frame takes 14 ms at bitrate 10000, a step 9.8 ms; raise bit"),
        ("slcan:/dev/x?baud=9600", "a frame takes 23 ms at baud 9600"),
        ("slcan:", "names no port; type for instance slcan:/dev/ttyACM0"),
        ("slcan:/dev/no-such-port", "port '/dev/no-such-port': not there; list the ports"),
        ("udp:127.0.0.1", "'127.0.0.1' came; allowed: HOST:PORT, port 1 to 65535; type for"),
        ("udp:127.0.0.1:0", "allowed: HOST:PORT"),
        ("udp:0.0.0.0:9", "0.0.0.0 is nobody in particular; allowed: one machine; type for"),
        ("udp:239.1.1.1:9", "239.1.1.1 is nobody in particular"),
        ("udp:127.0.0.1:9?arm=1", "for the laboratory only; leave arm=1 out, or type udp:.*lab=1"),
        ("udp:127.0.0.1:9?profile=fd", "profile=fd came; allowed: full, short"),
        ("loopback:?bitrate=-1", "bitrate=-1 came; allowed: 0 to 10000000"),
        ("loopback:?profile=long", "profile=long came; allowed: full, short, classic, counts, fd"),
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


def test_third_parties_are_imported_only_when_asked_for() -> None:
    code = (
        "import sys; from spikewire.link.transport import open_link; open_link('null:'); "
        "sys.exit(len({'serial', 'can'} & set(sys.modules)))"
    )
    root = Path(transport.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, check=False, timeout=20)
    assert done.returncode == 0
