"""Frames on a serial line.

Truth: the `cobs` package, zlib and the published check value of CRC-32, the examples of the COBS
article in Wikipedia, and the wire sizes that the contract lists.
"""

from __future__ import annotations

import tracemalloc
import zlib

import pytest
from cobs import cobs
from hypothesis import given
from hypothesis import strategies as st

from spikewire.link.framing import MAX_ENCODED, Deframer, cobs_decode, cobs_encode, frame
from spikewire.link.packing import FrameError

# data -> encoded, examples 1 to 11 of the article
ARTICLE = [
    ("00", "0101"),
    ("0000", "010101"),
    ("001100", "01021101"),
    ("11220033", "0311220233"),
    ("11223344", "0511223344"),
    ("11000000", "0211010101"),
    (bytes(range(1, 255)).hex(), "ff" + bytes(range(1, 255)).hex()),
    (bytes(range(255)).hex(), "01ff" + bytes(range(1, 255)).hex()),
    (bytes(range(1, 256)).hex(), "ff" + bytes(range(1, 255)).hex() + "02ff"),
    ((bytes(range(2, 256)) + b"\0").hex(), "ff" + bytes(range(2, 256)).hex() + "0101"),
    ((bytes(range(3, 256)) + b"\0\1").hex(), "fe" + bytes(range(3, 256)).hex() + "0201"),
]
payloads = st.binary(max_size=64)
kinds = st.integers(0, 255)


@pytest.mark.parametrize(("data", "encoded"), ARTICLE)
def test_examples_of_the_article(data: str, encoded: str) -> None:
    assert cobs_encode(bytes.fromhex(data)).hex() == encoded
    assert cobs_decode(bytes.fromhex(encoded)).hex() == data


@given(
    st.lists(st.sampled_from([b"\0", b"x", b"y" * 253, b"z" * 254, b"\xff" * 300]), max_size=8).map(
        b"".join
    )
    | st.binary(max_size=600)
)
def test_agrees_with_the_cobs_package(data: bytes) -> None:
    encoded = cobs_encode(data)
    assert encoded == cobs.encode(data)
    assert cobs_decode(encoded) == data == cobs.decode(encoded)


@given(st.binary(max_size=300))
def test_refuses_what_the_cobs_package_refuses(data: bytes) -> None:
    try:
        expected = cobs.decode(data)
    except cobs.DecodeError:
        with pytest.raises(FrameError):
            cobs_decode(data)
    else:
        assert cobs_decode(data) == expected


@given(kinds, payloads)
def test_a_foreign_reader_takes_a_frame_apart(kind: int, payload: bytes) -> None:
    line = frame(kind, payload)
    assert line.endswith(b"\0")
    assert line.count(0) == 1
    body = cobs.decode(line[:-1])
    assert body[:-4] == bytes([kind]) + payload
    assert int.from_bytes(body[-4:], "little") == zlib.crc32(body[:-4])


def test_check_value_and_wire_sizes() -> None:
    assert zlib.crc32(b"123456789") == 0xCBF43926
    assert [len(frame(1, bytes(size))) for size in (64, 16, 8)] == [71, 23, 15]


@given(st.lists(st.tuples(kinds, payloads), max_size=8), st.integers(1, 40))
def test_frames_survive_any_cutting(sent: list[tuple[int, bytes]], size: int) -> None:
    line = b"".join(frame(kind, payload) for kind, payload in sent)
    deframer = Deframer()
    got = []
    for at in range(0, len(line), size):
        got += deframer.feed(line[at : at + size])
    assert got == sent
    assert (deframer.bad_crc, deframer.bad_cobs, deframer.too_long) == (0, 0, 0)


@given(st.lists(st.binary(max_size=200), max_size=6), payloads, payloads)
def test_finds_back_within_one_frame_after_any_garbage(
    garbage: list[bytes], first: bytes, second: bytes
) -> None:
    """Contract: boot chatter costs at most one frame. The buffer never outgrows one frame."""
    deframer = Deframer()
    for piece in garbage:
        deframer.feed(piece)
        assert len(deframer._part) <= MAX_ENCODED
    deframer.feed(frame(1, first))
    assert deframer.feed(frame(2, second)) == [(2, second)]


@given(payloads, st.data())
def test_a_changed_byte_never_gives_a_frame(payload: bytes, data: st.DataObject) -> None:
    line = bytearray(frame(1, payload))
    at = data.draw(st.integers(0, len(line) - 1))
    line[at] ^= data.draw(st.integers(1, 255))
    deframer = Deframer()
    assert deframer.feed(bytes(line)) == []
    assert deframer.feed(b"\0") + deframer.feed(frame(2, payload)) == [(2, payload)]


def test_reasons_are_counted() -> None:
    deframer = Deframer()
    good = frame(1, b"abc")
    assert deframer.feed(b"\0\0\0") == []  # an idle line is no error
    deframer.feed(b"\x05ab\0")
    deframer.feed(cobs_encode(b"\x01abcWXYZ") + b"\0")
    deframer.feed(cobs_encode(b"ab") + b"\0")  # no room for a CRC
    deframer.feed(b"\x01" * (MAX_ENCODED + 1) + b"\0")
    assert (deframer.bad_cobs, deframer.bad_crc, deframer.too_long) == (1, 2, 1)
    assert deframer.feed(good) == [(1, b"abc")]


def test_the_longest_frame_fits_and_nothing_longer() -> None:
    deframer = Deframer()
    assert deframer.feed(frame(1, b"\x01" * 64)) == [(1, b"\x01" * 64)]
    assert deframer.feed(frame(1, b"\x01" * 65)) == []
    assert deframer.too_long == 1


def test_an_endless_stretch_takes_no_memory() -> None:
    deframer = Deframer()
    chunk = b"\x55" * 4096
    deframer.feed(chunk)
    tracemalloc.start()
    for _ in range(2000):  # 8 MB without a delimiter
        assert deframer.feed(chunk) == []
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16_384
    assert deframer.too_long == 1
