"""The bus of an adapter: the same contract for the local pair and for python-can.

Truth: python-can's own virtual bus at the other end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from spikewire.adapters.bus import MOST, Bus, CanBus, local_pair
from spikewire.link.transport import LinkError


def local() -> tuple[Bus, Bus]:
    return local_pair()


def virtual() -> tuple[Bus, Bus]:
    pytest.importorskip("can")
    return CanBus("virtual:test"), CanBus("virtual:test")


@pytest.fixture(params=[local, virtual])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[Bus, Bus]]:
    make: Callable[[], tuple[Bus, Bus]] = request.param
    one, other = make()
    yield one, other
    one.close()
    other.close()


def test_frames_arrive_in_order_at_the_other_end_only(ends: tuple[Bus, Bus]) -> None:
    one, other = ends
    assert one.read() == []
    sent = [(0x47, bytes(6)), (0x49, b"\x01\x02"), (0x7FF, b"")]
    for identifier, data in sent:
        one.send(identifier, data)
    assert one.read() == []
    assert other.read() == sent
    assert other.read() == []
    other.send(1, b"\xff" * 8)
    assert one.read() == [(1, b"\xff" * 8)]


def test_frames_of_another_kind_are_passed_over() -> None:
    can = pytest.importorskip("can")
    with can.Bus(interface="virtual", channel="kinds") as foreign:
        bus = CanBus("virtual:kinds")
        for more in ({"is_extended_id": True}, {"is_remote_frame": True}, {"is_error_frame": True},
                     {"is_fd": True}, {}):
            kind = {"is_extended_id": False, **more}
            foreign.send(can.Message(arbitration_id=5, **kind))
        assert bus.read() == [(5, b"")]
        bus.send(6, b"\x01")
        heard = foreign.recv(0)
        assert (heard.arbitration_id, heard.is_extended_id, bytes(heard.data)) == (6, False, b"\1")
        bus.close()


def test_a_flood_does_not_hold_the_loop() -> None:
    can = pytest.importorskip("can")
    with can.Bus(interface="virtual", channel="flood") as foreign:
        bus = CanBus("virtual:flood")
        for _ in range(MOST + 10):
            foreign.send(can.Message(arbitration_id=5, is_extended_id=False))
        assert [len(bus.read()), len(bus.read())] == [MOST, 10]
        bus.close()


@pytest.mark.parametrize("text", ["can0", "can:", "usb:can0", "can:can0?bitrate=5"])
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(LinkError, match="for instance") as caught:
        CanBus(text)
    assert "\n" not in str(caught.value)


def test_a_bus_that_is_not_there_is_one_line() -> None:
    pytest.importorskip("can")
    with pytest.raises(LinkError, match=r"bus 'can:none9' cannot be opened \(.*\); a SocketCAN"):
        CanBus("can:none9")


def test_a_bus_that_goes_away_is_a_link_error() -> None:
    pytest.importorskip("can")
    bus = CanBus("virtual:away")
    bus.close()
    with pytest.raises(LinkError, match="takes nothing"):
        bus.send(1, b"")
    with pytest.raises(LinkError, match="went away"):
        bus.read()
