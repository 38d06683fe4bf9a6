"""The text that goes to and comes from slcan adapters.

Truth: the commands of Lawicel's CAN232 manual (S6 is 500 kbit/s, O opens, C closes, t is a frame,
CR is yes and BEL is no), lines typed by hand, and python-can's slcan bus at the other end of a
pseudo-terminal.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_link_uart import SmallPort

from spikewire.link.canlink import CanLink
from spikewire.link.codec import Arm, Step
from spikewire.link.profile import Info
from spikewire.link.slcan import SPEEDS, SlcanBus, line, parse
from spikewire.link.transport import CanFrame, LinkError, open_link
from spikewire.link.uart import PtyPort

VECTOR = Step(state=3, step=1234, drive=(812.4, 0, 0, 0), activation=(40.5, 0, 0, 0), age_ms=23.5)


class Adapter(SmallPort):
    """A port that answers what a test puts into `answers`, and takes everything by default."""

    def __init__(self, room: list[int] | None = None) -> None:
        super().__init__(list(room or [1000] * 1000))
        self.answers = b""

    def read(self) -> bytes:
        came, self.answers = self.answers, b""
        return came


def linked(adapter: Adapter) -> tuple[CanLink, list[float]]:
    """A link on it, and its clock."""
    now = [0.0]
    link = CanLink(SlcanBus(adapter, 6), "slcan:x", clock=lambda: now[0])
    link._framer._periods = []
    return link, now


@pytest.fixture
def far(tmp_path: Path) -> Iterator[PtyPort]:
    port = PtyPort(str(tmp_path / "adapter"))
    yield port
    port.close()


def test_the_vector_of_the_contract_as_a_line() -> None:
    adapter = Adapter()
    link, _ = linked(adapter)
    for _ in range(3):
        link.send([Step()])
    adapter.wire = b""
    link.send([VECTOR])
    assert adapter.wire == b"t6808FB33D204BC1F512F\r"


@pytest.mark.parametrize(("bitrate", "digit"), [
    ("10000", b"0"), ("125000", b"4"), ("250000", b"5"), ("500000", b"6"), ("1000000", b"8"),
])
def test_the_channel_is_opened_at_the_bit_rate(bitrate: str, digit: bytes) -> None:
    adapter = Adapter()
    SlcanBus(adapter, SPEEDS[bitrate])
    assert adapter.wire == b"\rC\rS" + digit + b"\rO\r"


def test_python_can_understands_both_ways(far: PtyPort) -> None:
    """python-can plays the adapter: its bus writes and reads the same lines."""
    can = pytest.importorskip("can")
    link = open_link(f"slcan:{far.path}?arm=1")
    link._framer._periods = []
    time.sleep(0.02)
    opened = far.read()
    assert opened == b"\rC\rS6\rO\r"
    for _ in range(4):
        link.send([VECTOR])
    time.sleep(0.02)
    text = far.read()
    near = PtyPort(far.path + "2")
    bus = can.Bus(near.path, interface="slcan", sleep_after_open=0)
    near.read()
    near.write(text)
    message = [bus.recv(1.0) for _ in range(4)][3]
    assert (message.arbitration_id, bytes(message.data)) == (0x680, bytes.fromhex(
        "fb33d204bc1f512f"))
    bus.send(can.Message(arbitration_id=0x6A0, is_extended_id=False,
                         data=bytes.fromhex("43103412cdaba000")))
    time.sleep(0.02)
    text = near.read()
    assert text == b"t6A0843103412CDABA000\r"
    bus.shutdown()
    near.close()
    far.write(text)
    time.sleep(0.02)
    assert link.poll() == [Arm(1, 0xABCD1234)] or link.rejected == 1
    link.close()


@pytest.mark.parametrize(("text", "frame"), [
    (b"t12324142", CanFrame(0x123, b"AB")),
    (b"t6A08FB33D204BC1F512F", CanFrame(0x6A0, bytes.fromhex("fb33d204bc1f512f"))),
    (b"t6A08FB33D204BC1F512F1A2B", CanFrame(0x6A0, bytes.fromhex("fb33d204bc1f512f"))),  # a time
    (b"t7FF0", CanFrame(0x7FF, b"")),
    (b"T000006A0241FF", None),
    (b"r6A08", None),
    (b"t6A08FB", None),
    (b"t6A09FB33D204BC1F512F00", None),
    (b"z", None), (b"", None), (b"V1013", None), (b"t6A", None), (b"t6A0-", None), (b"tXYZ0", None),
])
def test_lines_by_hand(text: bytes, frame: CanFrame | None) -> None:
    assert parse(text) == frame


@given(st.integers(0, 0x7FF), st.binary(max_size=8))
def test_what_is_written_is_read(identifier: int, data: bytes) -> None:
    frame = CanFrame(identifier, data)
    assert line(frame).endswith(b"\r")
    assert parse(line(frame)[:-1]) == frame


@given(st.lists(st.binary(max_size=40), max_size=12))
def test_any_bytes_in_any_pieces_are_survived(pieces: list[bytes]) -> None:
    """And a line after a carriage return is always found."""
    adapter = Adapter()
    bus = SlcanBus(adapter, 6)
    for piece in pieces:
        adapter.answers = piece
        for frame in bus.receive():
            assert len(frame.data) <= 8
        assert len(bus._part) <= 32
    adapter.answers = b"\rt12324142\r"
    assert bus.receive()[-1] == CanFrame(0x123, b"AB")


def test_a_line_comes_in_pieces() -> None:
    adapter = Adapter()
    bus, got = SlcanBus(adapter, 6), []
    for byte in b"\r\rz\rt12324142\rt7FF0\r":
        adapter.answers = bytes([byte])
        got += bus.receive()
    assert got == [CanFrame(0x123, b"AB"), CanFrame(0x7FF, b"")]


def test_refusals_are_trouble_and_reopen_the_channel() -> None:
    """The two that opening a closed channel may bring are not."""
    adapter = Adapter()
    link, now = linked(adapter)
    adapter.answers = b"\a\a\r\r"
    link.poll()
    assert not link.trouble
    adapter.wire = b""
    for _ in range(15):
        link.send([Step()])
        adapter.answers = b"\a"
        link.poll()
        assert link.trouble
        now[0] += 0.01
        if link._recovery._thread:
            link._recovery._thread.join(5.0)
    assert b"\rC\rS6\rO\r" in adapter.wire
    assert link.recoveries == 1
    assert link.errors["refused"] == 15
    adapter.answers = b"z\r" * 5
    link.poll()
    assert link.send([Step()])  # the one before may have been refused
    assert link.trouble
    assert link.send([Step()])
    assert (link.trouble, link.recovered) == (False, 1)


@pytest.mark.parametrize("room", [[9, 22, 10, 1000], [9, 22, 0, 1000], [9, 22, 20, 5, 1000]])
def test_a_cut_line_never_spoils_the_next(room: list[int]) -> None:
    adapter = Adapter(room)
    link, _ = linked(adapter)
    sent = [link.send([Step(step=number)]) for number in range(len(room) - 1)]
    assert sent == [True] + [False] * (len(room) - 3) + [True]
    whole = [text for text in adapter.wire.split(b"\r") if len(text) == 21]
    assert [int.from_bytes(parse(text).data[2:4], "little") for text in whole] == [
        0, len(room) - 2]
    assert [parse(text).data[1] & 15 for text in whole] == [0, len(room) - 2]


def test_counts_of_64_units_go_together() -> None:
    adapter = Adapter()
    link = CanLink(SlcanBus(adapter, 6, 4), "slcan:x", "counts", info=Info(7, (64,)))
    link._framer._periods = []
    adapter.wire = b""
    adapter.waiting = 88
    assert link.send([Step(counts=VECTOR.counts.repeat(0))]) is True  # counts unknown: drive only
    adapter.waiting = 89
    assert link.send([Step()]) is False
    assert link.errors == {"backlog": 1}


def test_an_unplugged_adapter_is_a_link_error(far: PtyPort) -> None:
    link = open_link(f"slcan:{far.path}")
    assert link.send([Step()])
    far.close()
    for use in (lambda: link.send([Step()]), link.poll):
        with pytest.raises(LinkError, match=r"went away .*plug it in and start again"):
            use()
    link.close()


def test_who_reads_nothing_costs_steps_not_time(far: PtyPort) -> None:
    link = open_link(f"slcan:{far.path}")
    began = time.monotonic()
    sent = sum(link.send([Step(step=number)]) for number in range(4000))
    assert time.monotonic() - began < 5.0
    assert 0 < link.dropped == 4000 - sent
    link.close()
