"""How long a message takes on a wire.

Truth: bits of frames counted by hand from ISO 11898-1, and the figures of the message contract.
"""

from __future__ import annotations

import pytest

from spikewire.link import load


def test_bits_of_a_classic_frame() -> None:
    """1 start, 11 + 1 + 1 + 1 + 4 head, data, 15 CRC, stuffed; 1 + 2 + 7 + 3 after that."""
    assert load.HEAD + 8 * 8 + load.TAIL == 111
    assert load.classic_bits(8) == 135
    assert load.classic_bits(0) == 34 + 8 + 13


@pytest.mark.parametrize(
    ("slow", "fast", "us"), [(500e3, 2e6, 405), (1e6, 2e6, 372), (1e6, 5e6, 169)])
def test_time_of_a_full_frame_on_can_fd(slow: int, fast: int, us: float) -> None:
    assert 1e6 * load.fd_seconds(64, slow, fast) == pytest.approx(us, rel=0.02)


def test_bytes_on_a_serial_line() -> None:
    assert [load.serial_bytes(size) for size in (64, 16, 8)] == [71, 23, 15]


@pytest.mark.parametrize(
    ("profile", "units", "bits"),
    [("classic", 1, 15309), ("counts", 24, 29133), ("counts", 64, 56781)])
def test_load_of_a_classic_bus(profile: str, units: int, bits: float) -> None:
    """The contract's figures are of before INFO2 and VALID, which come once a second."""
    assert load.classic_bits_per_s(profile, units) == pytest.approx(bits, rel=0.02)


@pytest.mark.parametrize(("profile", "rate"), [("full", 7270), ("short", 2355)])
def test_load_of_a_serial_line(profile: str, rate: float) -> None:
    """Steps alone by the contract, here with STATUS, INFO, INFO2 and VALID: 15 bytes each."""
    rest = 15 * (13 if profile == "full" else 2)
    assert load.serial_bytes_per_s(profile, 64) == pytest.approx(rate + rest, rel=1e-3)
