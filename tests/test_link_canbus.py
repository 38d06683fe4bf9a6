"""SocketCAN: sockets and interfaces.

Truth: struct can_frame and can_filter of linux/can.h typed by hand; python-can's own `virtual` bus;
and where the machine has a virtual CAN interface, Linux itself.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from can_kernel import INTERFACE, Kernel, foreign, has_interface, take

from spikewire.link import canbus, caninterface
from spikewire.link.canbus import KernelWire, PythonCanWire, SocketBus, open_wire
from spikewire.link.codec import Arm, Step, encode_arm
from spikewire.link.profile import Info
from spikewire.link.transport import CanFrame, LinkError, open_link, parse_uri

needs_interface = pytest.mark.skipif(not has_interface(), reason=f"no {INTERFACE} here")


class Script:
    """A socket that says what a test wants."""

    def __init__(self, *packets: bytes) -> None:
        self.packets, self.sent = list(packets), []

    def send(self, packet: bytes) -> int:
        self.sent.append(packet)
        return len(packet)

    def recv(self, size: int) -> bytes:
        if not self.packets:
            raise BlockingIOError
        return self.packets.pop(0)


def test_frames_as_the_kernel_takes_them() -> None:
    sock: Any = Script()
    wire = KernelWire(sock)
    wire.put(CanFrame(0x680, b"\x01\x02\x03"))
    wire.put(CanFrame(0x690, bytes(range(64))))
    classic = bytes.fromhex("80060000 03 000000 0102030000000000")
    assert sock.sent == [classic, bytes.fromhex("90060000 40 01 0000") + bytes(range(64))]


def test_frames_as_the_kernel_gives_them() -> None:
    packets = ["80060000 03 000000 0102030000000000", "a0060080 01 000000 ff00000000000000",
               "40000020 08 000000 0004000000000000", "90060000 0c 00 0000" + "aa" * 64]
    wire = KernelWire(Script(*map(bytes.fromhex, packets)))
    assert [wire.take() for _ in range(5)] == [
        CanFrame(0x680, b"\x01\x02\x03"), CanFrame(0x800006A0, b"\xff"),
        CanFrame(0x40, bytes.fromhex("0004000000000000"), error=True),
        CanFrame(0x690, b"\xaa" * 12), None,
    ]


def test_python_can_says_the_same() -> None:
    can = pytest.importorskip("can")
    far = can.Bus("same", interface="virtual")
    wire = PythonCanWire(can.Bus("same", interface="virtual"))
    wire.put(CanFrame(0x680, b"\x01\x02\x03"))
    wire.put(CanFrame(0x690, bytes(64)))
    got = [far.recv(0), far.recv(0)]
    assert [(m.arbitration_id, m.is_fd, m.bitrate_switch, m.is_extended_id) for m in got] == [
        (0x680, False, False, False), (0x690, True, True, False)]
    far.send(can.Message(arbitration_id=0x6A0, data=b"\xff"))  # extended, by default
    far.send(can.Message(arbitration_id=0x6A0, is_extended_id=False, data=b"\xfe"))
    far.send(can.Message(arbitration_id=0x40, is_extended_id=False, is_error_frame=True,
                         data=bytes(8)))
    assert [wire.take() for _ in range(4)] == [
        CanFrame(0x800006A0, b"\xff"), CanFrame(0x6A0, b"\xfe"),
        CanFrame(0x40, bytes(8), error=True), None,
    ]
    far.shutdown()
    wire.close()


@pytest.mark.parametrize(("code", "expected"), [
    (errno.ENOBUFS, errno.ENOBUFS), (errno.ENETDOWN, errno.ENETDOWN), (None, errno.EAGAIN),
])
def test_python_cans_errors_become_the_systems(code: int | None, expected: int) -> None:
    can = pytest.importorskip("can")

    def refuse(*_: Any, **__: Any) -> None:
        raise can.CanOperationError("no", code)

    wire = PythonCanWire(SimpleNamespace(send=refuse, recv=refuse))
    with pytest.raises(OSError, match="no") as caught:
        wire.put(CanFrame(0x680, b""))
    assert caught.value.errno == expected
    with pytest.raises(OSError, match="no"):
        wire.take()


def test_an_error_after_frames_comes_next_time() -> None:
    kernel = Kernel()
    bus = SocketBus("can0", lambda: KernelWire(kernel.socket()), kernel.restart, 1)
    kernel.say(0x123, b"")
    kernel.down()
    assert bus.receive() == [CanFrame(0x123, b"")]
    with pytest.raises(OSError, match="down"):
        bus.receive()


def test_a_bus_closed_in_a_repair_stays_closed() -> None:
    kernel = Kernel(permitted=False)
    bus = SocketBus("can0", lambda: KernelWire(kernel.socket()), kernel.restart, 1)
    bus.close()
    bus.recover()
    assert kernel.sockets == []


def test_a_kernel_without_can_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(LinkError, match=r"no CAN \(Address.*modprobe can_raw; sudo ip link set "
                       r"can0 up type can bitrate 500000; .*slcan:/dev/ttyACM0.*serial:") as caught:
        open_link("can:can0")
    assert "\n" not in str(caught.value)
    monkeypatch.delattr(socket, "AF_CAN", raising=False)
    with pytest.raises(LinkError, match="this kernel has no CAN"):
        open_link("can:can0")


@pytest.fixture
def interfaces(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> dict[str, dict[int, int]]:
    """Interfaces of a kernel with CAN: name -> answers to its requests."""
    there = {"can0": {0x8913: 0x41, 0x8921: 16}, "can1": {0x8913: 0x40, 0x8921: 72}}
    for name, kind in (("can0", 280), ("can1", 280), ("eth0", 1)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "type").write_text(f"{kind}\n")
    monkeypatch.setattr(caninterface, "INTERFACES", tmp_path)
    monkeypatch.setattr(caninterface, "_ask", lambda request, name: there[name][request])
    monkeypatch.setattr(socket, "socket", lambda *_: SimpleNamespace(close=lambda: None))
    return there


@pytest.mark.parametrize(("uri", "words"), [
    ("can:can7", "no CAN interface 'can7'; allowed: can0, can1; type for instance can:can0"),
    ("can:eth0", "no CAN interface 'eth0'"),
    ("can:", "no CAN interface ''"),
    ("can:can1", "the interface is down; type: sudo ip link set can1 up type can bitrate 500000"),
    ("can:can0?profile=fd", "set to classic CAN; type profile=classic, or: sudo ip link set can0 "
     "down; sudo ip link set can0 up type can bitrate 500000 dbitrate 2000000 fd on"),
])
def test_an_interface_that_cannot_be_used(
    interfaces: dict[str, dict[int, int]], uri: str, words: str
) -> None:
    with pytest.raises(LinkError) as caught:
        open_link(uri)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_interface_that_can(interfaces: dict[str, dict[int, int]]) -> None:
    caninterface.check_interface(parse_uri("can:can0"), wants_fd=False)
    interfaces["can1"][0x8913] = 0x41
    caninterface.check_interface(parse_uri("can:can1"), wants_fd=True)


def test_down_and_up_keep_the_other_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux, sockios.h: 0x8913 reads flags, 0x8914 sets them; the lowest bit is up."""
    asked = []

    def answer(request: int, name: str, value: int = 0) -> int:
        asked.append((request, name, value))
        return 0x10040 | 0x81

    monkeypatch.setattr(caninterface, "_ask", answer)
    caninterface.restart("can0")
    assert asked == [(0x8913, "can0", 0), (0x8914, "can0", 0xC0), (0x8914, "can0", 0xC1)]


@needs_interface
@pytest.mark.parametrize("with_python_can", [True, False])
def test_linux_takes_both_ways(
    monkeypatch: pytest.MonkeyPatch, with_python_can: bool
) -> None:
    if with_python_can:
        pytest.importorskip("can")
    else:
        monkeypatch.setitem(sys.modules, "can", None)
    far = foreign(fd=True)
    kind = PythonCanWire if with_python_can else KernelWire
    for profile, identifier in (("classic", 0x680), ("counts", 0x680), ("fd", 0x690)):
        link: Any = open_link(f"can:{INTERFACE}?profile={profile}&arm=1", Info(7, (64,)))
        assert isinstance(link._bus._wire, kind)
        assert link.send([Step(step=5, counts=np.ones(64, np.uint8))])
        assert take(far)[0][0] == identifier
        request = encode_arm(Arm(1, 9))
        for other in (0x123, 0x6A0 | 1 << 31, 0x6A0, 0x6A1):
            far.send(struct.pack("=IB3x8s", other, 8, request))
        assert link.poll() == [Arm(1, 9)]
        far.send(struct.pack("=IB3x8s", 0x6A0, 8, request[::-1]))
        assert (link.poll(), link.rejected) == ([], 1)
        link.close()
    far.close()


@needs_interface
def test_linux_refuses_fd_frames_on_a_classic_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (sys.modules.get("can"), None):
        monkeypatch.setitem(sys.modules, "can", module)
        wire = open_wire(INTERFACE, fd=False, identifier=None)
        with pytest.raises(OSError, match="nvalid argument"):
            wire.put(CanFrame(0x690, bytes(64)))
        wire.close()


@needs_interface
def test_linux_never_makes_a_step_wait() -> None:
    link = open_link(f"can:{INTERFACE}?profile=counts", Info(7, (64,)))
    took = []
    for number in range(500):
        began = time.perf_counter()
        link.send([Step(step=number, counts=np.ones(64, np.uint8))])
        took.append(time.perf_counter() - began)
    assert link.sent == 500
    assert np.median(took) < 0.005
    link.close()


@needs_interface
def test_linux_interface_down_is_trouble_and_comes_back() -> None:
    """Needs to be root; otherwise the interface stays down, and that is said."""
    link: Any = open_link(f"can:{INTERFACE}")
    assert link.send([Step()])
    flags = caninterface._ask(caninterface.GET_FLAGS, INTERFACE) & 0xFFFF
    try:
        caninterface._ask(caninterface.SET_FLAGS, INTERFACE, flags & ~1)
    except PermissionError:
        pytest.skip("only root may take an interface down")
    began = time.monotonic()
    while not link.recovered and time.monotonic() - began < 3.0:
        link.send([Step()])
        link.poll()
        time.sleep(0.01)
    assert 0.08 < time.monotonic() - began < 2.0
    assert (link.recovered, link.trouble, link.recoveries) == (1, False, 1)
    assert link.errors["ENETDOWN"] >= 5
    link.close()


def test_python_can_is_taken_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the standard library's sockets do the same."""
    opened: list[str] = []
    sock = SimpleNamespace(setblocking=opened.append, setsockopt=lambda *_: None)
    fake = SimpleNamespace(
        Bus=lambda **options: SimpleNamespace(socket=sock, options=opened.append(options)),
        Message=None, CanError=RuntimeError)
    monkeypatch.setitem(sys.modules, "can", fake)
    assert isinstance(open_wire("can0", True, 0x6A0), PythonCanWire)
    assert opened == [{"interface": "socketcan", "channel": "can0", "fd": True}, False]
    monkeypatch.setitem(sys.modules, "can", None)
    monkeypatch.setattr(canbus, "_kernel", lambda name, fd: SimpleNamespace(sock=sock, name=name))
    assert open_wire("can0", True, None).name == "can0"
