"""How long messages take on a wire, what share profiles need of it, and a wire that is finite.

Time is counted in steps, of which a decoder sends one for every period whatever happens, so nothing
here looks at a clock.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from spikewire.link.framing import frame
from spikewire.link.profile import PROFILES, Payload
from spikewire.link.table import COUNTS, UNITS_PER_BANK, Message
from spikewire.link.transport import parse_uri

STEP_HZ = 2048 / 20
SERIAL_BITS = 10  # of a byte: start, eight, stop
CLASSIC_MAX = 8  # bytes of a classic CAN frame; a longer message is a CAN FD frame


def classic_bits(size: int) -> int:
    """Bits of a classic CAN frame of `size` bytes with most stuffing and the pause after it.

    ISO 11898-1: 34 bits and the data are stuffed, one in four after the first; 13 are not.
    """
    stuffed = 34 + 8 * size
    return stuffed + (stuffed - 1) // 4 + 13


def fd_bits(size: int) -> tuple[int, int]:
    """Bits of a CAN FD frame at the slow and at the fast rate, likewise.

    ISO 11898-1:2015: 17 bits up to the switch of rates, stuffed, and 12 from the acknowledgement
    on. Between them 5 bits and the data, stuffed, then the stuff count and the CRC with their fixed
    stuff bits, and a delimiter.
    """
    check = 4 + 17 + 6 if size <= 16 else 4 + 21 + 7
    fast = 5 + 8 * size
    return 17 + 16 // 4 + 12, fast + fast // 4 + check + 1


def can_s(payloads: Iterable[Payload], bitrate: int, dbitrate: int) -> float:
    """Seconds that messages take on a CAN bus, each with most stuffing.

    Parameters
    ----------
    payloads : iterable of Payload
    bitrate, dbitrate : int, bit/s
        Of the bus, and of the data of its FD frames.
    """
    total = 0.0
    for p in payloads:
        if len(p.data) <= CLASSIC_MAX:
            total += classic_bits(len(p.data)) / bitrate
        else:
            slow, fast = fd_bits(len(p.data))
            total += slow / bitrate + fast / dbitrate
    return total


def serial_s(payloads: Iterable[Payload], baud: int) -> float:
    """Seconds that messages take on a serial line, 8N1."""
    return sum(len(frame(p.message.type_of(p.slot), p.data)) for p in payloads) * SERIAL_BITS / baud


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
    return sum(classic_bits(m.size) * hz for m, hz in rates(profile, units)
               if m.size <= CLASSIC_MAX)


def serial_bytes_per_s(profile: str, units: int) -> float:
    """Return what a profile takes of a serial line."""
    return sum(serial_bytes(m.size) * hz for m, hz in rates(profile, units))


def wire_s(uri: str, units: Sequence[int]) -> float | None:
    """How long one step's frames are on the wire of a link.

    Parameters
    ----------
    uri : str
        Of a link that was opened.
    units : motor units of each bundle

    Returns
    -------
    float, seconds; None where the URI does not say how fast the wire is
    """
    link = parse_uri(uri)
    chosen = dict(link.query)
    if link.scheme == "serial":
        from spikewire.link.uart import DEFAULT_BAUD

        profile, baud = chosen.get("profile", "full"), chosen.get("baud", "auto")
        bits = SERIAL_BITS - 1 + int(chosen.get("stop", "1"))
        size = sum(serial_bytes(m.size) for m in PROFILES[profile] if not m.every)
        return len(units) * size * bits / int(DEFAULT_BAUD[profile] if baud == "auto" else baud)
    if link.scheme == "slcan" and "bitrate" in chosen:
        sent = [m for m in PROFILES[chosen.get("profile", "classic")] if not m.every]
        return sum((math.ceil(n / UNITS_PER_BANK) if m is COUNTS else 1) * classic_bits(m.size)
                   for m in sent for n in units) / int(chosen["bitrate"])
    return None


class Bucket:
    """A wire as a token bucket: it takes a step unless more than one is still queued.

    Parameters
    ----------
    period_s : float
        From one step to the next, in which so many seconds' worth of frames leave.
    """

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._queued_s = self._asked_s = 0.0
        self._steps = 0

    def take(self, wire_s: float) -> bool:
        """Take a step whose frames need `wire_s`, or refuse it."""
        self._steps += 1
        self._asked_s += wire_s
        self._queued_s = max(0.0, self._queued_s - self._period_s)
        if self._queued_s > wire_s:
            return False
        self._queued_s += wire_s
        return True

    def load(self) -> float:
        """Share of the wire's time that the steps so far need; above 1 some were refused."""
        return self._asked_s / (self._steps * self._period_s) if self._steps else 0.0
