"""How long messages take on a wire at worst, and what share of it the decoder's messages need.

Bits of a frame are those of ISO 11898-1 with as many stuff bits as there can be.
"""

from __future__ import annotations

import math

from spikewire.link.framing import frame
from spikewire.link.profile import PROFILES
from spikewire.link.table import COUNTS, UNITS_PER_BANK, Message

STEP_HZ = 2048 / 20
CLASSIC = 8  # bytes that a classic CAN frame has room for
# bits of a frame around its payload: from start to the end of the CRC, where bits are stuffed, and
# from the CRC's delimiter to the end of the gap before the next frame, where they are not
HEAD, TAIL = 34, 13
FD_ARBITRATION = 17  # from start to the switch of the bit rate
FD_HEAD = 5  # ESI and length, at the higher rate
FD_CRC = 4 + 21 + 7  # stuff count, CRC, and their stuff bits at fixed places


def _stuffed(bits: int) -> int:
    """Bits with as many stuff bits as can be: one after the first five, then after every four."""
    return bits + (bits - 1) // 4


def classic_bits(size: int) -> int:
    """Return the bits of a classic CAN frame with a payload of `size` bytes."""
    return _stuffed(HEAD + 8 * size) + TAIL


def fd_bits(size: int) -> tuple[int, int]:
    """Return the bits of a CAN FD frame at the lower and at the higher rate.

    Parameters
    ----------
    size : int
        Payload, 20 to 64 bytes; below that the CRC is shorter.
    """
    all_stuffed = _stuffed(FD_ARBITRATION + FD_HEAD + 8 * size)
    slow = _stuffed(FD_ARBITRATION)
    return slow + TAIL, all_stuffed - slow + FD_CRC


def fd_seconds(size: int, slow_hz: int, fast_hz: int) -> float:
    """Return the time of a CAN FD frame at two bit rates."""
    slow, fast = fd_bits(size)
    return slow / slow_hz + fast / fast_hz


def serial_bytes(size: int) -> int:
    """Return the bytes of a payload of `size` bytes with framing."""
    return len(frame(1, bytes([1]) * size))


def rates(profile: str, units: int, step_hz: float = STEP_HZ) -> list[tuple[Message, float]]:
    """Return the messages of a profile and how many of each go out in a second.

    Parameters
    ----------
    profile : str
        Key of `profile.PROFILES`.
    units : int
        Motor units of the one bundle.
    step_hz : float
        Steps per second.
    """
    def rate(message: Message) -> float:
        copies = math.ceil(units / UNITS_PER_BANK) if message is COUNTS else 1
        return 1 / message.every if message.every else copies * step_hz

    return [(message, rate(message)) for message in PROFILES[profile]]


def classic_bits_per_s(profile: str, units: int) -> float:
    """Return what the messages of a profile that fit into classic frames take of a bus."""
    return sum(classic_bits(m.size) * hz for m, hz in rates(profile, units) if m.size <= CLASSIC)


def serial_bytes_per_s(profile: str, units: int) -> float:
    """Return what a profile takes of a serial line."""
    return sum(serial_bytes(m.size) * hz for m, hz in rates(profile, units))
