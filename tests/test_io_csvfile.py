"""CSV that other programs may write, typed by hand; unit and rate are never guessed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spikewire.io import read_recording, read_trains
from spikewire.io.csvfile import write_recording
from spikewire.signals import InputError, Recording

ROWS = [(100 * np.sin(0.2 * k), 50 * np.cos(0.3 * k)) for k in range(500)]
PLAIN = "".join(f"{a:.6f},{b:.6f}\n" for a, b in ROWS)
TIMED = "".join(f"{k / 2000:.6f};{a / 1000:.9f};{b / 1000:.9f}\n" for k, (a, b) in enumerate(ROWS))


@pytest.mark.parametrize(("text", "options", "rate"), [
    ("# fs_hz=2048 unit=uV\nch1,ch2\n" + PLAIN, {}, 2048),
    ("# device: x\n# Sampling_rate: 2000, Unit: µV\n" + PLAIN, {}, 2000),
    ("time;a [mV];b [mV]\n" + TIMED, {}, 2000),
    (PLAIN, {"unit": "uV", "fs_hz": 2048}, 2048),
    ("a,b\n" + PLAIN, {"unit": "uV", "fs_hz": 2048}, 2048),
    ("\ufeff# fs=2048 unit=uV\n" + PLAIN.replace(",", "\t"), {}, 2048),
])
def test_unit_and_rate_are_in_the_head_or_said(
    tmp_path: Path, text: str, options: dict[str, object], rate: float
) -> None:
    path = tmp_path / "r.csv"
    path.write_text(text)
    r = read_recording(path, **options)
    np.testing.assert_allclose(r.emg, ROWS, atol=1e-5)
    assert r.fs_hz == rate


def test_round_trip(tmp_path: Path) -> None:
    emg = np.random.default_rng(0).normal(0, 90, (300, 5)).astype(np.float32)
    write_recording(tmp_path / "r.csv", Recording(emg, 2048.0))
    back = read_recording(tmp_path / "r.csv")
    np.testing.assert_allclose(back.emg, emg, rtol=1e-6)
    assert back.fs_hz == 2048


@pytest.mark.parametrize(("text", "words"), [
    (PLAIN, "does not say its unit"), ("# unit=uV\n" + PLAIN, "does not say its rate"),
    ("# unit=furlong fs=2048\n" + PLAIN, "its unit is 'furlong'"),
    ("# unit=uV fs=1e400\n" + PLAIN, "its rate is inf"),
    ("# unit=uV fs=1.2.3\n" + PLAIN, "its rate is"),
    ("# unit=uV fs=2048\n1,2\n3\n", "no table of numbers"),
    ("# unit=uV fs=2048\n1,nan\n" * 5 + PLAIN, "NaN or infinity"),
    ("# unit=uV fs=2048\na,b\n", "no table of numbers"),
    ("# only words\n", "no table of numbers"), ("x" * (2 << 20), "no table of numbers"),
    ("a" + ",a" * 5000 + "\n", "5001 columns"), ("\0\0\0\n\1", "no table of numbers"),
    ("# unit=uV fs=2048\n1,5;2\n3,4;5\n", "no table of numbers|more samples"),
    ("time;a [mV]\n0;1\n1;2\n9;3\n", "has gaps or steps back"),
])
def test_tables_that_do_not_fit_are_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "r.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        read_recording(path)
    with pytest.raises(InputError, match="no spike trains"):
        read_trains(path)
