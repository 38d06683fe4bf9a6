"""Serial ports on pseudo-terminals, and on a port that takes only part of a frame.

Truth: the kernel's own pseudo-terminals and pyserial opening the other end as a foreign program;
the bytes are checked with the `cobs` package.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import serial
from cobs import cobs

from spikewire.link.codec import Arm, Step, encode_arm, encode_step
from spikewire.link.framing import Deframer, frame
from spikewire.link.profile import Info
from spikewire.link.transport import LinkError, open_link
from spikewire.link.uart import FrameWriter, PtyPort, SerialLink, SerialPort, open_port


class SmallPort:
    """A port that takes only so many bytes, then so many, as the script says."""

    def __init__(self, room: list[int], waiting: int = 0) -> None:
        self.room = room
        self.waiting = waiting
        self.wire = b""

    def read(self) -> bytes:
        return b""

    def write(self, data: bytes) -> int:
        taken = data[: self.room.pop(0)]
        self.wire += taken
        return len(taken)

    def queued(self) -> int:
        return self.waiting

    def close(self) -> None:
        pass


def read(port: PtyPort, n: int) -> bytes:
    """Read until so many bytes have come: the kernel hands them over a little later."""
    line = port.read()
    limit = time.monotonic() + 2.0
    while len(line) < n and time.monotonic() < limit:
        time.sleep(0.001)
        line += port.read()
    return line


@pytest.fixture
def far(tmp_path: Path) -> Iterator[PtyPort]:
    """Give the far end of the line `tmp_path`/exo."""
    port = PtyPort(str(tmp_path / "exo"))
    yield port
    port.close()


def test_a_foreign_program_reads_and_writes_the_line(far: PtyPort) -> None:
    """A foreign program: pyserial at the end where the decoder sits, with settings of its own."""
    with serial.Serial(far.path, 115200, timeout=2.0) as other:
        sent = frame(0x40, encode_arm(Arm(1, 2)))
        assert far.write(sent) == len(sent)
        assert other.read(len(sent)) == sent
        line = bytes(range(256)) * 4  # no byte is changed, swallowed or echoed
        other.write(line)
        other.flush()
        assert read(far, len(line)) == line
        assert far.read() == b""


def test_queued_counts_what_the_other_end_has_not_read(far: PtyPort) -> None:
    assert far.queued() == 0
    far.write(b"x" * 50)
    limit = time.monotonic() + 2.0  # the kernel hands over a little later
    while far.queued() != 50 and time.monotonic() < limit:
        time.sleep(0.001)
    assert far.queued() == 50


def test_arm_requests_do_not_pile_up_while_nobody_reads(far: PtyPort) -> None:
    line = frame(0x40, encode_arm(Arm(1, 2)))
    writer = FrameWriter(far, len(line))
    went = 0
    for _ in range(20):
        went += writer.write(line)
        time.sleep(0.005)  # the kernel hands over a little later
    assert 2 <= went <= 3


def only_steps(link: Any) -> Any:
    """The same link without the messages that come once a second."""
    link._framer._periods = []
    return link


@pytest.mark.parametrize(("waiting", "goes"), [(0, True), (71, True), (72, False)])
def test_more_than_one_queued_frame_drops_the_new_one(waiting: int, goes: bool) -> None:
    port = SmallPort([1000], waiting)
    link = only_steps(SerialLink(port, "serial:small"))
    assert link.send([Step()]) is goes
    assert (link.sent, link.dropped) == (int(goes), int(not goes))
    assert len(port.wire) == (71 if goes else 0)


@pytest.mark.parametrize("room", [[71, 30, 1000], [71, 30, 0, 1000], [71, 30, 1, 40, 1000]])
def test_a_cut_frame_is_counted_and_never_corrupts_the_next(room: list[int]) -> None:
    port = SmallPort(list(room))
    link = only_steps(SerialLink(port, "serial:small"))
    sent = [link.send([Step(step=number)]) for number in range(len(room))]
    assert sent == [True] + [False] * (len(room) - 2) + [True]
    assert (link.sent, link.dropped) == (2, len(room) - 2)
    whole = [piece for piece in port.wire.split(b"\0")[:-1] if len(piece) == 70]
    last = len(room) - 1
    payloads = [encode_step(Step(step=number, counter=number)) for number in (0, last)]
    assert [cobs.decode(piece)[1:-4] for piece in whole] == payloads
    assert [payload for _, payload in Deframer().feed(port.wire)] == payloads


def test_a_reader_that_stops_costs_frames_not_time(far: PtyPort) -> None:
    """The kernel's buffer fills; afterwards every frame that counts as sent is whole."""
    link = only_steps(open_link(f"serial:{far.path}"))
    began = time.monotonic()
    sent = sum(link.send([Step(step=number)]) for number in range(1500))
    assert time.monotonic() - began < 2.0
    assert 0 < link.dropped == 1500 - sent
    deframer = Deframer()
    got = []
    while data := read(far, 1) if len(got) < sent else b"":
        got += deframer.feed(data)
    assert len(got) == sent
    assert link.send([Step(step=7)])
    assert len(deframer.feed(read(far, 71))) == 1
    assert deframer.bad_cobs + deframer.bad_crc + deframer.too_long <= 1  # the cut one
    link.close()


def test_a_line_unplugged_in_mid_run_is_a_link_error(far: PtyPort) -> None:
    link = open_link(f"serial:{far.path}")
    assert link.send([Step()])
    far.close()
    with pytest.raises(LinkError, match=r"went away .*plug it in and start again") as caught:
        link.send([Step()])
    assert "\n" not in str(caught.value)
    with pytest.raises(LinkError, match="went away"):
        link.poll()
    link.close()


def test_a_busy_port_is_a_link_error(far: PtyPort) -> None:
    first = SerialPort(far.path)
    with pytest.raises(LinkError, match=f"in use by another program.*fuser {far.path}"):
        SerialPort(far.path)
    first.close()
    SerialPort(far.path).close()


def test_what_is_no_serial_line_is_a_link_error(tmp_path: Path) -> None:
    plain = tmp_path / "file"
    plain.write_text("")
    with pytest.raises(LinkError, match="no serial line that can be set up"):
        SerialPort(str(plain))
    with pytest.raises(LinkError, match="not there"):
        SerialPort(str(tmp_path / "absent"))


def test_two_stop_bits_and_default_rates_reach_the_port(far: PtyPort) -> None:
    for query, baud, stop in (
        ("", 921600, 1),
        ("?profile=short", 115200, 1),
        ("?baud=460800&stop=2", 460800, 2),
    ):
        link = open_link(f"serial:{far.path}{query}")
        assert isinstance(link, SerialLink)
        port = link._port
        assert isinstance(port, SerialPort)
        assert (port._serial.baudrate, port._serial.stopbits) == (baud, stop)
        assert (port._serial.bytesize, port._serial.parity) == (8, "N")
        link.close()


def test_a_pty_replaces_an_old_link_and_removes_its_own(tmp_path: Path) -> None:
    place = tmp_path / "exo"
    place.symlink_to("/dev/pts/no-such-terminal")
    port = open_port(f"pty:{place}")
    assert os.readlink(place).startswith("/dev/")
    port.close()
    port.close()
    assert not place.is_symlink()
    with pytest.raises(LinkError, match="went away"):
        port.read()
    with pytest.raises(LinkError, match="went away"):
        port.queued()


def test_a_pty_touches_nothing_that_is_no_link(tmp_path: Path) -> None:
    place = tmp_path / "notes.txt"
    place.write_text("keep")
    with pytest.raises(LinkError, match="exists and is no link; type a new name"):
        PtyPort(str(place))
    assert place.read_text() == "keep"
    with pytest.raises(LinkError, match="no link can be made at"):
        PtyPort(str(tmp_path / "absent" / "exo"))


@pytest.mark.parametrize("uri", ["null:", "pty:", "pty:/tmp/x?baud=9600"])
def test_open_port_names_what_is_allowed(uri: str) -> None:
    with pytest.raises(LinkError, match="is no port; allowed: serial:PORT, pty:PATH; type for"):
        open_port(uri)


@pytest.mark.parametrize(("query", "words"), [
    ("baud=230400", "4 frames of 71 bytes take 12 ms at 230400 baud, a step 9.8 ms"),
    ("profile=short&baud=57600", "4 frames of 23 bytes take 16 ms"),
    ("baud=921600", "no-such-port"),  # fits: only the port is missing
])
def test_the_frames_of_several_bundles_must_fit_into_a_step(query: str, words: str) -> None:
    with pytest.raises(LinkError, match=words):
        open_link(f"serial:/dev/no-such-port?{query}", Info(units=(5,) * 4))


@pytest.mark.parametrize(("query", "words"), [
    ("baud=9600", "a frame of 71 bytes takes 74 ms at 9600 baud, a step 9.8 ms"),
    ("baud=57600&profile=full&stop=2", "raise baud, or take profile=short"),
    ("baud=19200&profile=short", "a frame of 23 bytes takes 12 ms"),
])
def test_a_line_that_cannot_carry_every_step_is_refused(query: str, words: str) -> None:
    """10 or 11 bits a byte, 102.4 frames a second."""
    with pytest.raises(LinkError, match=words):
        open_link(f"serial:/dev/no-such-port?{query}")


def test_the_frames_of_one_step_may_wait_together() -> None:
    """With two bundles two frames may be queued, and go or stay together."""
    for waiting, taken in ((0, True), (142, True), (143, False)):
        port = SmallPort([1000] * 4, waiting)
        link = only_steps(SerialLink(port, "serial:small", info=Info(units=(3, 4))))
        assert link.send([Step(slot=0), Step(slot=1)]) is taken
        assert len(port.wire) == (142 if taken else 0)
