"""Quattrocento. Truth: commands written out by hand from its protocol sheet (v1.7), and its CRC.

Byte 0 is `1 DECIM REC FS1 FS0 NCH1 NCH0 ACQ`: 2048 Hz is FS 01, 120 channels is NCH 00, so
1 0 0 0 1 0 0 1 = 0x89 starts. Bytes 1 and 2 choose the analogue output: 0. Each of the 12 inputs
has muscle, sensor and adapter, and `side side HPF HPF LPF LPF mode mode`: side 00, 10 Hz is 01,
500 Hz is 01, monopolar is 00: 0 0 0 1 0 1 0 0 = 0x14. The last byte is a CRC.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikewire.emulate.quattrocento import Quattrocento, checksum
from spikewire.io.quattrocento import LAYOUT, LSB_UV, command, crc8
from spikewire.io.source import open_source
from spikewire.runtime.clock import MonotonicClock
from spikewire.signals import InputError


def test_the_crc_is_the_catalogued_one() -> None:
    """CRC-8/MAXIM-DOW: its check value is 0xA1; the vendor's sheet leaves the polynomial out."""
    assert crc8(b"123456789") == checksum(b"123456789") == 0xA1


@given(st.binary(max_size=64))
def test_two_algorithms_agree(data: bytes) -> None:
    assert crc8(data) == checksum(data)


def test_start_as_derived_by_hand() -> None:
    expected = bytes.fromhex("89 00 00" + 12 * "00 00 14" + "F8")
    assert len(expected) == 40
    assert command(True) == expected


def test_stop_is_byte_0_with_nothing_but_its_leading_one() -> None:
    body = bytes.fromhex("80 00 00" + 12 * "00 00 14")
    assert command(False) == body + bytes([checksum(body)])


def test_the_vendors_example_has_the_vendors_crc() -> None:
    """Its stop of 408 channels ends in 0x62, its start in 0x05; the head of it is given."""
    start = bytes.fromhex("CF 09 00" + 12 * "00 00 14")
    stop = b"\x80" + start[1:]
    assert (crc8(start), crc8(stop)) == (0x05, 0x62)


@pytest.mark.parametrize(("high", "low", "byte"), [
    (0, 0, 0x00), (1, 1, 0x14), (2, 2, 0x28), (3, 3, 0x3C), (0, 3, 0x0C), (3, 0, 0x30)])
def test_filters_stay_in_their_bits(high: int, low: int, byte: int) -> None:
    assert set(command(True, high, low)[5:39:3]) == {byte}


def test_microvolts_of_a_count() -> None:
    """5 V in 2^16 steps at a gain of 150."""
    assert pytest.approx(0.50863, abs=5e-6) == LSB_UV


def test_the_grid_lies_behind_two_inputs_of_sixteen() -> None:
    """120 = IN 1 and 2 of 16, MULTIPLE IN 1 of 64, 16 AUX, 8 accessory: counter first of these."""
    assert (LAYOUT.words, LAYOUT.grid, LAYOUT.counter, LAYOUT.free) == (
        16 + 16 + 64 + 16 + 8, slice(32, 96), 120 - 8, 120 - 5)


@pytest.mark.parametrize(("query", "words"), [
    ("?hpf=20", "hpf=20 came, allowed are 0.7, 10, 100, 200"),
    ("?lpf=1000", "lpf=1000 came, allowed are 130, 500, 900, 4400"),
    ("?mode=1", "option 'mode' is unknown, allowed are hpf, lpf"),
    (":70000", "port '70000' came, allowed are 1 to 65535; type quattrocento:169.254.1.10:23456"),
])
def test_what_it_cannot_be_asked_for(query: str, words: str) -> None:
    with pytest.raises(InputError, match=words.replace("?", r"\?")):
        open_source(f"quattrocento:127.0.0.1{query}", MonotonicClock())


def test_the_emulator_obeys_good_commands_only() -> None:
    box = Quattrocento()
    start, stop = command(True), command(False)
    assert box.hear(start[:7]) == (b"", [])
    assert box.hear(start[7:] + stop) == (b"", ["start", "stop"])
    spoilt = bytearray(start)
    spoilt[5] ^= 1
    assert "checksum" in box.hear(bytes(spoilt))[1][0]
    other = bytes([0x8B, *start[1:39]])  # 216 channels
    assert "not emulated" in box.hear(other + bytes([checksum(other)]))[1][0]
