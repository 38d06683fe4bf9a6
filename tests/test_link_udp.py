"""UDP on this machine: one peer, one datagram per step.

Truth: plain sockets at the other end; frames are taken apart with the `cobs` package.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
from cobs import cobs

from spikewire.link.codec import Arm, Step, encode_arm, encode_step
from spikewire.link.framing import frame
from spikewire.link.profile import Info
from spikewire.link.transport import LinkError, open_link, parse_uri
from spikewire.link.udp import UdpPort

ARM_LINE = frame(0x40, encode_arm(Arm(1, 5)))


def udp() -> socket.socket:
    """A socket of another program."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.settimeout(2.0)
    return sock


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    with udp() as sock:
        yield sock


def uri(peer: socket.socket, query: str = "") -> str:
    return f"udp:127.0.0.1:{peer.getsockname()[1]}{query}"


def test_a_step_is_one_datagram_with_the_serial_frames(peer: socket.socket) -> None:
    link = open_link(uri(peer), Info(7, (3, 4)))
    steps = [Step(slot=0, step=1), Step(slot=1, step=1)]
    assert link.send(steps)
    bodies = [cobs.decode(part) for part in peer.recv(4096).split(b"\0")[:-1]]
    assert [body[0] for body in bodies[:3]] == [0x10, 0x11, 0x30]
    assert [body[1:-4] for body in bodies[:2]] == [encode_step(step) for step in steps]
    link.close()


def test_only_the_peer_is_heard(peer: socket.socket) -> None:
    link = open_link(uri(peer, "?arm=1&lab=1"))
    address = link._sock.getsockname()
    assert address[0] == "127.0.0.1"  # not on the network
    with udp() as stranger:
        stranger.sendto(ARM_LINE, address)
        time.sleep(0.02)
        assert link.poll() == []
    peer.sendto(ARM_LINE[:-3], address)  # a torn one spoils only itself
    peer.sendto(ARM_LINE + ARM_LINE, address)
    time.sleep(0.02)
    assert link.poll() == [Arm(1, 5)] * 2
    link.close()


def test_a_peer_that_comes_late_is_no_error() -> None:
    peer = udp()
    address = peer.getsockname()
    link = open_link(uri(peer))
    peer.close()
    for _ in range(5):  # refused by the kernel, at the latest at the next step
        link.send([Step()])
        link.poll()
    assert link.trouble
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(address)
        peer.settimeout(2.0)
        for number in range(3):
            link.send([Step(step=number)])
            link.poll()
        assert (link.trouble, link.recovered) == (False, 1)
        assert len(peer.recv(4096)) >= 71
    link.close()


def test_may_arm_only_in_the_laboratory(peer: socket.socket) -> None:
    for query, may in (("", False), ("?lab=1", False), ("?lab=1&arm=1", True)):
        link = open_link(uri(peer, query))
        assert link.may_arm is may
        link.close()
    for query in ("?arm=1", "?arm=1&lab=0"):
        with pytest.raises(LinkError, match="for the laboratory only"):
            open_link(uri(peer, query))


def test_nobody_in_particular_is_refused() -> None:
    for host in ("0.0.0.0", "224.0.0.1", "255.255.255.255", "[::]"):
        with pytest.raises(LinkError, match=r"allowed: one machine|cannot be used"):
            open_link(f"udp:{host}:9")


def test_the_controllers_end_answers_whom_it_heard_first() -> None:
    probe = udp()
    place = f"udp:127.0.0.1:{probe.getsockname()[1]}"
    probe.close()
    port = UdpPort(parse_uri(place))
    assert (port.read(), port.write(ARM_LINE), port.queued()) == (b"", 0, 0)
    link = open_link(place + "?arm=1&lab=1")
    link.send([Step()])
    time.sleep(0.02)
    assert len(port.read()) >= 71
    with udp() as stranger:
        stranger.sendto(b"x" * 10, port._sock.getsockname())
        time.sleep(0.02)
        assert port.read() == b""
    assert port.write(ARM_LINE) == len(ARM_LINE)
    time.sleep(0.02)
    assert link.poll() == [Arm(1, 5)]
    with pytest.raises(LinkError, match=r"cannot be used .*in use"):
        UdpPort(parse_uri(place))
    port.close()
    link.close()


def test_a_full_step_of_four_bundles_fits_into_a_datagram(peer: socket.socket) -> None:
    link = open_link(uri(peer), Info(7, (16,) * 4))
    for _ in range(30):
        assert link.send([Step(slot=slot) for slot in range(4)])
        assert len(peer.recv(65536)) <= 1472  # of an Ethernet frame
    link.close()
