"""Sessantaquattro. Truth: commands written out by hand from its protocol sheet (v2.1).

`GETSET FS1 FS0 NCH1 NCH0 MODE2 MODE1 MODE0`: set is 0, 2000 Hz is FS 10, 64 channels is NCH 11,
monopolar is MODE 000: 0 10 11 000 = 0x58. `HRES HPF GAIN1 GAIN0 TRIG1 TRIG0 REC GO`: 16 bits is 0,
high-pass 1, gain 8 is 00, no trigger 00, no recording 0, GO 1: 0 1 00 00 0 1 = 0x41.
"""

from __future__ import annotations

import pytest

from spikewire.emulate.sessantaquattro import Sessantaquattro
from spikewire.io.sessantaquattro import GAIN_8_UV, GAINS, command
from spikewire.io.source import open_source
from spikewire.runtime.clock import MonotonicClock
from spikewire.signals import InputError


def test_start_and_stop_as_derived_by_hand() -> None:
    assert command(True) == bytes.fromhex("58 41")
    assert command(False) == bytes.fromhex("58 40")


@pytest.mark.parametrize(("gain", "second", "lsb_uv"), [
    ("8", 0b0_1_00_0001, 0.2861), ("6", 0b0_1_10_0001, 0.3815), ("4", 0b0_1_01_0001, 0.5722)])
def test_gains(gain: str, second: int, lsb_uv: float) -> None:
    """At gain 8 a count is 286.1 nV, at the code 10 381.5, at 01 572.2 (16 bits)."""
    assert command(True, GAINS[gain])[1] == second
    assert pytest.approx(lsb_uv, abs=5e-5) == GAIN_8_UV * 8 / float(gain)


def test_what_it_cannot_be_asked_for() -> None:
    with pytest.raises(InputError, match="gain=2 came, allowed are 8, 6, 4"):
        open_source("sessantaquattro:?gain=2", MonotonicClock())
    with pytest.raises(InputError, match="option 'hres' is unknown"):
        open_source("sessantaquattro:?hres=1", MonotonicClock())


def test_the_emulator_answers_questions_and_hangs_up_without_go() -> None:
    box = Sessantaquattro()
    assert box.hear(b"\x80\x00")[0] == bytes(13)
    assert len(box.hear(b"\x80\x01\x80\x02")[0]) == 3
    assert box.hear(command(True)) == (b"", ["start"])
    assert box.hear(command(False)) == (b"", ["hang up"])
    assert "not emulated" in box.hear(b"\x50\x41")[1][0]  # 32 channels
