"""What a machine says of itself. Truth: public dumps of real boards, typed in jetson.py."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
from jetson import MODES, make_jetson, on_path, put, shim

from spikewire.doctor import machine as work
from spikewire.doctor.machine import (
    Machine,
    gpu_limits,
    jetpack_of,
    package_version,
    power_mode,
    power_modes,
    tegra,
)


def test_the_files_of_an_orin_nano(tmp_path: Path) -> None:
    machine = Machine(make_jetson(tmp_path))
    assert tegra(machine) == "36.4.3"
    assert jetpack_of("36.4.3") == "6.2"
    assert power_modes(machine) == {0: "15W", 1: "25W", 2: "MAXN_SUPER", 3: "7W"}
    assert power_mode(machine) == 1
    assert gpu_limits(machine) == {0: 612e6, 1: 918e6}
    assert package_version(machine, r"libnvinfer\d+") == "10.3.0.30-1+cuda12.5"
    assert package_version(machine, "libnothing") == ""


@pytest.mark.parametrize(("release", "jetpack"), [
    ("32.7.1", "4"), ("35.6.4", "5"), ("36.3.0", "6.0"), ("36.4.0", "6.1"), ("36.4.4", "6.2.1"),
    ("36.5.0", "6.2.2"), ("38.2.1", "7.0"), ("38.4.0", "7.1"), ("39.2.0", "7.2"), ("40.1.0", "?"),
    ("?", "?"), ("", "?"), ("3", "?"),
])
def test_jetpacks(release: str, jetpack: str) -> None:
    """Truth: NVIDIA's archive of Jetson Linux releases."""
    assert jetpack_of(release) == jetpack


def test_a_jetson_without_its_release_file_is_still_one(tmp_path: Path) -> None:
    make_jetson(tmp_path)
    put(tmp_path, "etc/nv_tegra_release", b"\xff\xfe\0")
    assert tegra(Machine(tmp_path)) == "?"
    (tmp_path / "etc/nv_tegra_release").unlink()
    assert tegra(Machine(tmp_path)) == "?"
    (tmp_path / "proc/device-tree/compatible").unlink()
    assert tegra(Machine(tmp_path)) == ""


def test_what_is_no_text_is_none(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    put(tmp_path, "esc", b"a\x1b[31mred\0b\r\n second")
    assert machine.line("/esc") == "a[31mred b"
    put(tmp_path, "long", b"x" * 1_000_000)
    assert len(machine.text("long")) == 1 << 16
    assert len(machine.line("long")) == 80
    os.mkfifo(tmp_path / "pipe")
    assert machine.text("pipe") == machine.text("no") == machine.text("") == ""
    assert machine.text("a\0b") == ""
    for text in ("", "x", "nan", "inf", "1e999"):
        put(tmp_path, "n", text)
        assert math.isnan(machine.number("n"))


def test_programs_that_fail_hang_or_are_not_there_say_nothing(tmp_path: Path, monkeypatch) -> None:
    on_path(monkeypatch, tmp_path)
    monkeypatch.setattr(work, "PROGRAM_S", 0.2)
    shim(tmp_path, "good", "said")
    shim(tmp_path, "bad", "said", 1)
    (tmp_path / "hangs").write_text("#!/bin/sh\nexec /bin/sleep 9\n")
    (tmp_path / "other").write_bytes(b"\x7fELF of another machine")
    for name in ("hangs", "other"):
        (tmp_path / name).chmod(0o755)
    said = [Machine().program(name, "-x") for name in ("good", "bad", "hangs", "other", "none")]
    assert said == ["said", None, None, None, None]


def test_modes_in_disorder(tmp_path: Path) -> None:
    put(tmp_path, "etc/nvpmodel.conf", MODES.replace("NAME=25W", "NAME=") + "< POWER_MODEL ID=7\n")
    machine = Machine(tmp_path)
    assert power_modes(machine) == {0: "15W", 2: "MAXN_SUPER", 3: "7W"}
    assert power_mode(machine) is None
