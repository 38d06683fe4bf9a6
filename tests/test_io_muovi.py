"""Muovi and Muovi+. Truth: the command written out by hand: `EMG << 3 | mode << 1 | GO`."""

from __future__ import annotations

import pytest

from spikewire.emulate.muovi import Muovi
from spikewire.io.muovi import LSB_UV, command
from spikewire.io.source import open_source
from spikewire.runtime.clock import MonotonicClock
from spikewire.signals import InputError


def test_start_and_stop_as_derived_by_hand() -> None:
    """EMG 1, mode 0 (monopolar, gain 8), GO: 1 << 3 | 0 << 1 | 1 = 9; without GO 8."""
    assert command(True) == b"\x09"
    assert command(False) == b"\x08"


def test_microvolts_of_a_count() -> None:
    """4.8 V in 2^16 steps at a gain of 256."""
    assert pytest.approx(0.2861, abs=5e-5) == LSB_UV


@pytest.mark.parametrize("scheme", ["muovi", "muovi+"])
@pytest.mark.parametrize("mode", ["1", "2", "3", "x"])
def test_every_other_mode_is_refused(scheme: str, mode: str) -> None:
    with pytest.raises(InputError, match=f"mode={mode} came, allowed is 0") as caught:
        open_source(f"{scheme}:?mode={mode}", MonotonicClock())
    assert "leave it out" in str(caught.value)


def test_the_emulator_obeys_two_bytes_only() -> None:
    assert Muovi(64).hear(b"\x09\x08") == (b"", ["start", "stop"])
    assert "not emulated" in Muovi(64).hear(b"\x0b")[1][0]
