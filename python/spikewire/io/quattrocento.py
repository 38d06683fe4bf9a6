"""Quattrocento of OT Bioelettronica over Ethernet: the 64 electrodes at MULTIPLE IN 1, 2048 Hz.

The box listens; 40 bytes with a CRC set it up and start it. It is asked for its smallest set of 120
channels, of which columns 32 to 95 are MULTIPLE IN 1. It goes on sending after a program that used
it has died, also to the next one, so it is stopped before it is started.
Source: Quattrocento configuration protocol v1.7 and the vendor's own client.
"""

from __future__ import annotations

from spikewire.io.amplifier import Amplifier
from spikewire.io.dial import address
from spikewire.io.source import Clock, chosen, refuse_unknown
from spikewire.io.stream import Stream
from spikewire.io.words import Layout, Words

HOST, PORT = "169.254.1.10", 23456
FS_HZ, FS_CODE, NCH_CODE = 2048.0, 0b01, 0b00
PACKET = 12  # samples of 120 channels
LSB_UV = 5.0 / 2**16 / 150 * 1e6
LAYOUT = Layout(120, slice(32, 96), counter=112, free=115)  # the last 8 words are accessory
INPUTS = 12  # IN 1 to 8 and MULTIPLE IN 1 to 4, three bytes each
HIGH_PASS = {"0.7": 0, "10": 1, "100": 2, "200": 3}
LOW_PASS = {"130": 0, "500": 1, "900": 2, "4400": 3}
QUIET_S = 0.15  # after the stop, for what is still under way


def crc8(data: bytes) -> int:
    """CRC-8/MAXIM-DOW: polynomial x^8 + x^5 + x^4 + 1, low bit first, from 0."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x8C if crc & 1 else 0)
    return crc


def command(on: bool, high_pass: int = 1, low_pass: int = 1) -> bytes:
    """The 40 bytes that set the box up; all inputs monopolar."""
    first = 0x80 | FS_CODE << 3 | NCH_CODE << 1 | 1 if on else 0x80
    words = bytes([first, 0, 0]) + bytes([0, 0, high_pass << 4 | low_pass << 2]) * INPUTS
    return words + bytes([crc8(words)])


def open_uri(uri: str, where: str, options: dict[str, str], clock: Clock) -> Stream:
    """Open `quattrocento:169.254.1.10?hpf=10&lpf=500`; the host may be left out.

    Raises
    ------
    InputError
        Unknown option, or no samples at their pace.
    """
    refuse_unknown(uri, options, {"hpf", "lpf"})
    filters = (chosen(uri, options, "hpf", "10", HIGH_PASS),
               chosen(uri, options, "lpf", "500", LOW_PASS))
    stop, start = (command(on, *filters) for on in (False, True))
    return Stream(uri, Amplifier(
        "Quattrocento", FS_HZ, LSB_UV, 64, PACKET, ((stop, QUIET_S), (start, 0.0)), stop,
        lambda: Words((LAYOUT,), big=False), calls=(address(uri, where, HOST, PORT),),
        advice="is the box on, its cable in, this machine's address in 169.254.x.x, and no other "
               "program connected?",
    ), clock).open()
