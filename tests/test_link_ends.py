"""The controller's end on a CAN bus, opposite our own link; serial ends are tested by `mu-link`.

Truth: what the sending link counted; the fake of the kernel carries frames from one to the other.
"""

from __future__ import annotations

import math
import socket
from typing import Any

import numpy as np
import pytest
from can_kernel import Kernel, unpack

from spikewire.link.canbus import KernelWire, SocketBus
from spikewire.link.canlink import CanLink
from spikewire.link.codec import Arm, Step
from spikewire.link.ends import CanEnd, SerialEnd, open_end
from spikewire.link.profile import Info
from spikewire.link.receiver import Receiver
from spikewire.link.transport import LinkError
from spikewire.link.udp import UdpPort

PERIOD_S = 20 / 2048


class Pair:
    """A decoder and a controller on one bus; the `Kernel` of each delivers to the other."""

    def __init__(self, profile: str = "classic", base: int = 0x680) -> None:
        self.decoder, self.controller = Kernel(), Kernel()
        buses = [SocketBus("can0", lambda k=k: KernelWire(k.socket(True)), k.restart, 4)
                 for k in (self.decoder, self.controller)]
        self.link = CanLink(buses[0], "can:can0", profile, True, Info(0x1F, (64,)), base)
        self.end = CanEnd(buses[1], base)
        self.receiver = Receiver(0x1F, base=base)
        self.heard: list[Any] = []

    def step(self, number: int) -> None:
        """Send a step and hear it."""
        counts = np.ones(64, np.uint8)
        self.link.send([Step(step=number, state=3, age_ms=4.0, drive=(9.0,) + (math.nan,) * 3,
                             counts=counts, n_mu=64, model_id16=0x1F)])
        for packet in self.decoder.wire:
            for sock in self.controller.sockets:
                sock.inbox.append(packet)
        self.decoder.wire.clear()
        self.heard += self.end.hear(self.receiver, number * PERIOD_S)

    def ask(self, arm: Arm) -> bool:
        """Ask the decoder."""
        went = self.end.ask(arm)
        for packet in self.controller.wire:
            self.decoder.say(*unpack(packet))
        self.controller.wire.clear()
        return went


@pytest.mark.parametrize("base", [0x680, 0x100])
@pytest.mark.parametrize("profile", ["classic", "counts", "fd"])
def test_steps_arrive_and_requests_come_back(profile: str, base: int) -> None:
    pair = Pair(profile, base)
    for number in range(100):
        pair.step(number)
    stats = pair.receiver.stats
    assert (stats.accepted, stats.usable, stats.gaps) == (100, 98, 0)  # trusted from the third on
    assert pair.end.rejected() + stats.rejected == {}
    assert [step.step for step in pair.heard if step is not None] == list(range(100))
    assert int(stats.spikes.sum()) == (6400 if profile == "fd" else 0)
    assert pair.ask(Arm(1, 0x1F, 3))
    assert pair.link.poll() == [Arm(1, 0x1F, 3)]


def test_frames_of_others_are_passed_over() -> None:
    pair = Pair()
    for identifier in (0x123, 0x67F, 0x6A0, 0x680 | 1 << 31, 0x680 | 1 << 29):
        pair.controller.say(identifier, bytes(8))
    assert pair.end.hear(pair.receiver, 0.0) == []
    assert pair.receiver.stats.rejected == {}
    pair.controller.say(0x680, bytes(8))
    assert pair.end.hear(pair.receiver, 0.0) == [None]
    assert pair.receiver.stats.rejected == {"crc": 1}


def test_a_bus_that_is_down_is_counted_and_one_that_is_gone_said() -> None:
    pair = Pair()
    pair.controller.up = False
    assert pair.end.hear(pair.receiver, 0.0) == []
    assert pair.end.ask(Arm(1, 5)) is False
    assert pair.end.rejected() == {"bus": 2}
    pair.controller.up, pair.controller.gone = True, True
    with pytest.raises(LinkError, match="went away"):
        pair.end.ask(Arm(1, 5))
    with pytest.raises(LinkError, match="went away"):
        pair.end.hear(pair.receiver, 0.0)


@pytest.mark.parametrize(("uri", "words"), [
    ("null:", "is no port; allowed: serial:PORT, pty:PATH, can:INTERFACE, slcan:PORT, udp:HOST"),
    ("can:no-such0", "CAN"),
    ("can:can0?bood=1", "unknown option 'bood'; allowed: arm, profile, base"),
    ("slcan:/dev/no-such-port", "not there; list the ports"),
    ("udp:192.0.2.1:9", "cannot be used"),
    ("udp:127.0.0.1:9?speed=3", "unknown option 'speed'"),
])
def test_what_cannot_be_opened(uri: str, words: str) -> None:
    with pytest.raises(LinkError, match=words) as caught:
        open_end(uri)
    assert "\n" not in str(caught.value)


def test_udp_is_a_serial_end() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    end = open_end(f"udp:127.0.0.1:{port}")
    assert isinstance(end, SerialEnd)
    assert isinstance(end._port, UdpPort)
    assert end.hear(Receiver(), 0.0) == []
    end.close()
