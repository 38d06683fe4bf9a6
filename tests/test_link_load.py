"""How much of a wire the messages take.

Truth: the tables of the message contract (bits of a classic frame, times of a CAN FD frame, loads
at three bit rates, bytes and times on serial lines), and bit stuffing done bit by bit.
"""

from __future__ import annotations

import numpy as np
import pytest

from spikewire.link import load
from spikewire.link.codec import Step
from spikewire.link.load import Bucket, classic_bits, fd_bits
from spikewire.link.loopback import LoopbackLink
from spikewire.link.profile import Info
from spikewire.link.transport import open_link

STEPS_HZ = 102.4
TABLE_4D = {  # profile, motor units -> bit/s; one INFO a second, ten STATUS
    ("classic", 10): 15_309,
    ("counts", 24): 29_133,
    ("counts", 64): 56_781,
}
TABLE_4E = {  # profile -> bytes a second, ms of a frame at each baud rate
    "full": (7270, {115200: 6.16, 230400: 3.08, 460800: 1.54, 921600: 0.77}),
    "short": (2355, {115200: 2.00, 230400: 1.00, 460800: 0.50, 921600: 0.25}),
}


def sending(
    profile: str, units: int, steps: int = 2048, only_steps: bool = False, **rates: int
) -> LoopbackLink:
    """A loopback over which so many steps were sent."""
    link = LoopbackLink("loopback:", profile, info=Info(7, (units,)), **rates)
    if only_steps:
        link._framer._periods = []
    for number in range(steps):
        link.send([Step(step=number, state=2, n_mu=units, counts=np.ones(units, np.uint8))])
    return link


def stuffed(bits: str) -> str:
    """Bits with one of the other kind after every five that are equal."""
    out = ""
    for bit in bits:
        out += bit
        if len(out) >= 5 and len(set(out[-5:])) == 1:
            out += "10"[int(bit)]
    return out


@pytest.mark.parametrize("size", range(9))
def test_bits_of_a_classic_frame(size: int) -> None:
    """Start, identifier, control and CRC are 34 bits; the worst are 5 equal, then 4 and 4."""
    worst = ("11111" + "00001111" * 20)[: 34 + 8 * size]
    assert classic_bits(size) == len(stuffed(worst)) + 13
    if size == 8:
        assert classic_bits(8) == 135  # 111 without stuffing


@pytest.mark.parametrize(("rate", "data_rate", "time_us"), [
    (500_000, 2_000_000, 405), (1_000_000, 2_000_000, 372), (1_000_000, 5_000_000, 169),
])
def test_time_of_a_fd_frame(rate: int, data_rate: int, time_us: float) -> None:
    slow, fast = fd_bits(64)
    assert 1e6 * (slow / rate + fast / data_rate) == pytest.approx(time_us, rel=0.02)
    link = sending("fd", 64, only_steps=True, bitrate=rate, dbitrate=data_rate)
    assert link.load() == pytest.approx(time_us * 1e-6 * STEPS_HZ, rel=0.02)


@pytest.mark.parametrize("rate", [250_000, 500_000, 1_000_000])
@pytest.mark.parametrize(("profile", "units"), TABLE_4D)
def test_load_of_a_classic_bus(profile: str, units: int, rate: int) -> None:
    link = sending(profile, units, bitrate=rate)
    assert link.load() == pytest.approx(TABLE_4D[profile, units] / rate, rel=0.02)
    assert (link.sent, link.dropped) == (2048, 0)


@pytest.mark.parametrize("profile", TABLE_4E)
def test_load_of_a_serial_line(profile: str) -> None:
    bytes_s, times_ms = TABLE_4E[profile]
    for baud, time_ms in times_ms.items():
        link = sending(profile, 64, 256, only_steps=True, bitrate=baud)
        assert link.load() == pytest.approx(bytes_s * 10 / baud, rel=0.02)
        assert link.load() == pytest.approx(time_ms * 1e-3 * STEPS_HZ, rel=0.02)
        assert link.dropped == 0


def test_an_overloaded_bus_drops_what_does_not_fit() -> None:
    """56,781 bit/s do not fit on 50 kbit/s: of 1024 steps, 12 % must go."""
    link = sending("counts", 64, bitrate=50_000)
    assert link.load() == pytest.approx(56_781 / 50_000, rel=0.02)
    assert link.sent / 2048 == pytest.approx(1 / link.load(), rel=0.02)
    assert link.dropped == 2048 - link.sent
    assert link.recovered > 100
    assert sending("counts", 64, bitrate=60_000).dropped == 0


def test_a_step_that_is_dropped_leaves_nothing_on_the_wire() -> None:
    link = sending("counts", 64, 2, bitrate=20_000)
    assert link.sent == 2  # one is queued when the next comes
    link.received_can()
    assert not link.send([Step(n_mu=64, counts=np.zeros(64, np.uint8))])
    assert link.received_can() == []
    assert link.trouble


def test_the_bucket_never_gives_more_than_the_wire_has() -> None:
    """Of a second of wire for ten seconds of frames, a second and two steps go at most."""
    bucket = Bucket(0.01)
    wire_s = [0.1 if k % 3 else 0.05 for k in range(100)]
    went = sum(s for s in wire_s if bucket.take(s))
    assert 0.9 < went < 1.0 + 2 * 0.1
    assert bucket.load() == pytest.approx(sum(wire_s))


def test_no_bit_rate_no_load() -> None:
    link = sending("classic", 4, 10)
    assert (link.load(), link.sent) == (0.0, 10)


def test_a_uri_says_what_the_wire_is() -> None:
    link = open_link("loopback:?profile=fd&bitrate=1000000&dbitrate=5000000", Info(7, (64,)))
    assert isinstance(link, LoopbackLink)
    link._framer._periods = []
    link.send([Step()])
    assert link.load() == pytest.approx(169e-6 * STEPS_HZ, rel=0.02)
    (frame,) = link.received_can()
    assert (frame.identifier, len(frame.data)) == (0x690, 64)


def test_loopback_corrupts_one_bit_of_a_can_frame() -> None:
    link = LoopbackLink("loopback:", "classic")
    link.corrupt = 1
    link.send([Step(step=1)])
    twin = LoopbackLink("loopback:", "classic")
    twin.send([Step(step=1)])
    pairs = list(zip(link.received_can(), twin.received_can(), strict=True))
    wrong = [int.from_bytes(a.data, "big") ^ int.from_bytes(b.data, "big") for a, b in pairs]
    assert [bin(bits).count("1") for bits in wrong] == [1, 0, 0]


@pytest.mark.parametrize(
    ("slow", "fast", "us"), [(500e3, 2e6, 405), (1e6, 2e6, 372), (1e6, 5e6, 169)])
def test_time_of_a_full_frame_on_can_fd(slow: int, fast: int, us: float) -> None:
    assert 1e6 * load.fd_seconds(64, slow, fast) == pytest.approx(us, rel=0.02)


def test_bytes_on_a_serial_line() -> None:
    assert [load.serial_bytes(size) for size in (64, 16, 8)] == [71, 23, 15]


@pytest.mark.parametrize(
    ("profile", "units", "bits"),
    [("classic", 1, 15309), ("counts", 24, 29133), ("counts", 64, 56781)])
def test_what_a_profile_takes_of_a_classic_bus(profile: str, units: int, bits: float) -> None:
    """The contract's figures are of before INFO2 and VALID, which come once a second."""
    assert load.classic_bits_per_s(profile, units) == pytest.approx(bits, rel=0.02)


@pytest.mark.parametrize(("profile", "rate"), [("full", 7270), ("short", 2355)])
def test_what_a_profile_takes_of_a_serial_line(profile: str, rate: float) -> None:
    """Steps alone by the contract, here with STATUS, INFO, INFO2 and VALID: 15 bytes each."""
    rest = 15 * (13 if profile == "full" else 2)
    assert load.serial_bytes_per_s(profile, 64) == pytest.approx(rate + rest, rel=1e-3)
