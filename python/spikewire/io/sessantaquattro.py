"""Sessantaquattro and Sessantaquattro+ of OT Bioelettronica over Wi-Fi: 64 channels, 2000 Hz.

The box calls us and gets two bytes. Its sample has 64 channels and 4, 6 or 8 more words, whatever
its protocol sheet says: which, its counter tells. Settings without GO make it hang up, so only the
start is ever sent. Source: Sessantaquattro+ TCP communication protocol v2.1 (firmware 1.26).
"""

from __future__ import annotations

from spikewire.io.amplifier import Amplifier
from spikewire.io.dial import address
from spikewire.io.source import Clock, chosen, refuse_unknown
from spikewire.io.stream import Stream
from spikewire.io.words import Layout, Words

PORT = 45454
FS_HZ, FS_CODE, NCH_CODE, MONOPOLAR = 2000.0, 0b10, 0b11, 0
PACKET = 4  # samples; blocks of about half a kilobyte
LAYOUTS = tuple(Layout(64 + more, slice(0, 64), counter=63 + more) for more in (8, 6, 4))
GAINS = {"8": 0b00, "6": 0b10, "4": 0b01}
GAIN_8_UV = 4.8 / 2**16 / 256 * 1e6
HIGH_PASS_ON, GO = 1 << 6, 1


def command(on: bool, gain: int = 0) -> bytes:
    """The two bytes that set the box up: 16 bits, high-pass at 10.5 Hz."""
    return bytes([FS_CODE << 5 | NCH_CODE << 3 | MONOPOLAR,
                  HIGH_PASS_ON | gain << 4 | (GO if on else 0)])


def open_uri(uri: str, where: str, options: dict[str, str], clock: Clock) -> Stream:
    """Open `sessantaquattro:?gain=8`; `sessantaquattro:ADDRESS:PORT` listens there only.

    Raises
    ------
    InputError
        Unknown option, a port that is taken, or no samples at their pace.
    """
    refuse_unknown(uri, options, {"gain"})
    gain = chosen(uri, options, "gain", "8", GAINS)
    lsb_uv = GAIN_8_UV * 8 / float(options.get("gain", "8"))
    return Stream(uri, Amplifier(
        "Sessantaquattro", FS_HZ, lsb_uv, 64, PACKET, ((command(True, gain), 0.0),),
        command(False, gain), lambda: Words(LAYOUTS, big=True),
        own=address(uri, where, "0.0.0.0", PORT),
        advice="is the box on, in this network, not recording to its card, and set to call this "
               "machine?",
    ), clock).open()
