"""The board's checks: one thing of a Jetson in order is changed, one finding must say so."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from jetson import LIMITS, make_jetson, put

from spikewire.doctor import board
from spikewire.doctor.finding import Asked
from spikewire.doctor.machine import Machine

CPU0 = "sys/devices/system/cpu/cpu0/cpufreq"
GPU = "sys/class/devfreq/17000000.gpu"
CLOCK = "sys/devices/system/clocksource/clocksource0/current_clocksource"

# file, what it says instead (None: it is gone), check, state, words of evidence or remedy
ROWS = [
    ("etc/group", "", "jetpack", "ok", "L4T 36.4.3, JetPack 6.2"),
    ("etc/nv_tegra_release", "# R35 (release), REVISION: 4.1,", "jetpack", "warn",
     "flash JetPack 6.2 or 7.2"),
    ("etc/nv_tegra_release", "# R41 (release), REVISION: 1.0,", "jetpack", "warn", "nobody has"),
    ("etc/nv_tegra_release", None, "jetpack", "warn", "names no release"),
    ("etc/group", "", "power", "ok", "25W (mode 1), of 15W, 25W, MAXN_SUPER, 7W; cores 0-5"),
    ("var/lib/nvpmodel/status", None, "power", "warn", "sudo nvpmodel -q"),
    ("var/lib/nvpmodel/status", "pmode:0009", "power", "warn", "? (mode 9)"),
    (f"{GPU}/max_freq", "1020000000", "power", "warn", "the GPU may run at 1020 MHz, the mode al"),
    ("etc/group", "", "clocks", "ok", "6 x CPU at 1344 MHz, GPU at 918 MHz"),
    (f"{CPU0}/scaling_min_freq", "729600", "clocks", "warn", "CPU 730 to 1344 MHz, 5 x CPU at"),
    (f"{GPU}/min_freq", "306000000", "clocks", "warn", "sudo jetson_clocks"),
    (f"{CPU0}/scaling_max_freq", b"\xff", "clocks", "warn", "CPU unknown, 5 x"),
    ("etc/group", "", "rights", "ok", "SCHED_FIFO yes, locked memory yes (here), ordinary kernel"),
    ("sys/kernel/realtime", "1\n", "rights", "ok", "PREEMPT_RT"),
    ("proc/self/limits", LIMITS.format(memory="8388608", priority=90), "rights", "warn",
     "SCHED_FIFO yes, locked memory no"),
    ("proc/self/limits", LIMITS.format(memory="unlimited", priority=10), "rights", "warn",
     "SCHED_FIFO no, locked memory yes"),
    ("proc/self/limits", None, "rights", "warn", "sudo tee /etc/security/limits.d/spikewire.conf"),
    ("etc/group", "", "heat", "ok", "51 degC, the hottest of 1 zones"),
    ("sys/class/thermal/thermal_zone3/temp", "91000", "heat", "warn", "91 degC"),
    ("etc/group", "", "time_source", "ok", "counter arch_sys_counter, "),
    (CLOCK, "jiffies", "time_source", "warn", "coarse"),
    ("run/systemd/timesync/synchronized", None, "time_source", "ok", "no time service seen"),
]


def ask(root: Path, check: str, asked: Asked = Asked()):  # noqa: B008
    (found,) = getattr(board, check)(Machine(root), asked)
    return found


@pytest.mark.parametrize(("path", "text", "check", "state", "words"), ROWS)
def test_one_change_one_finding(
    tmp_path: Path, path: str, text: str | bytes | None, check: str, state: str, words: str
) -> None:
    make_jetson(tmp_path)
    if text is None:
        (tmp_path / path).unlink()
    else:
        put(tmp_path, path, text)
    found = ask(tmp_path, check)
    assert (found.state, words in f"{found.evidence} {found.remedy}") == (state, True), found


@pytest.mark.parametrize(("cap", "yes"), [(23, "SCHED_FIFO yes, locked memory no"),
                                          (14, "SCHED_FIFO no, locked memory yes")])
def test_a_capability_is_a_right_too(tmp_path: Path, cap: int, yes: str) -> None:
    """Truth: linux/capability.h, CAP_SYS_NICE is 23, CAP_IPC_LOCK 14."""
    make_jetson(tmp_path)
    put(tmp_path, "proc/self/limits", LIMITS.format(memory="65536", priority=0))
    put(tmp_path, "proc/self/status", f"Name:\tx\nCapEff:\t{1 << cap:016x}\nCapBnd:\t0\n")
    assert yes in ask(tmp_path, "rights").evidence


@pytest.mark.parametrize(("text", "state", "words"), [
    ('{"power": {"mode": "25W"}}', "ok", "25W"),
    ('{"power": {"mode": ""}}', "ok", "25W"),
    ('{"power": {"mode": "MAXN_SUPER"}}', "warn", "wants MAXN_SUPER: sudo nvpmodel -m 2"),
    ('{"power": {"mode": "99W"}}', "warn", "correct the board file"),
    ('{"power": [1]}', "ok", "25W"), ("[" * 100_000, "ok", "25W"), ("\x00", "ok", "25W"),
    ('{"power": {"mode": 7}}', "ok", "25W"),
])
def test_the_release_s_board_file_says_the_mode(
    tmp_path: Path, text: str, state: str, words: str
) -> None:
    make_jetson(tmp_path)
    put(tmp_path, "release/board.json", text)
    asked = Asked(bundle=str(tmp_path / "release/bundle.mub"))
    found = ask(tmp_path, "power", asked)
    assert found.state == state
    assert words in f"{found.evidence} {found.remedy}"


def test_a_computer_that_is_no_jetson_has_nothing_to_set(tmp_path: Path) -> None:
    for check in ("jetpack", "power", "clocks", "heat"):
        assert ask(tmp_path, check).state == "n/a"


def test_tensorrt_is_asked_for_by_name_or_expected_on_a_jetson(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(board, "version_of", lambda module, package: "")
    assert ask(tmp_path, "tensorrt").state == "n/a"
    wanted = ask(tmp_path, "tensorrt", Asked(engine="tensorrt"))
    assert wanted.state == "fail"
    assert wanted.evidence == "library missing, binding missing, cuda-bindings missing"
    make_jetson(tmp_path)
    found = ask(tmp_path, "tensorrt")
    assert found.state == "warn"
    assert found.evidence.startswith("library 10.3.0.30-1+cuda12.5, binding missing")
    assert "python3-libnvinfer" in found.remedy
    monkeypatch.setattr(board, "version_of", lambda module, package: "10.3.0")
    assert ask(tmp_path, "tensorrt").state == "ok"


def test_what_is_not_installed_is_named(tmp_path: Path, monkeypatch) -> None:
    find = board.util.find_spec
    monkeypatch.setattr(board.util, "find_spec",
                        lambda name: None if name in ("serial", "onnxruntime") else find(name))
    found = ask(tmp_path, "packages")
    assert found.state == "warn"
    assert "numpy 2" in found.evidence or "numpy 1" in found.evidence
    gone = found.evidence.partition("not installed: ")[2]
    assert {"pyserial", "onnxruntime"} <= set(gone.split(", "))
    assert found.remedy.endswith("pip install pyserial")


@pytest.mark.parametrize(("free", "flags", "state", "words"), [
    (50e9, 0, "ok", "/ 50.0 GB free"), (0.5e9, 0, "warn", "sudo apt clean"),
    (0.05e9, 0, "fail", "sudo apt clean"), (0, 0, "fail", "0.0 GB"),
    (50e9, os.ST_RDONLY, "warn", "read-only"),
])
def test_room_on_the_disk(tmp_path, monkeypatch, free, flags, state, words) -> None:
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(
        f_bavail=free / 4096, f_frsize=4096, f_flag=flags))
    found = ask(tmp_path, "disk")
    assert found.state == state
    assert words in f"{found.evidence} {found.remedy}"


def test_a_disk_that_cannot_be_asked(tmp_path: Path, monkeypatch) -> None:
    def broken(path: object) -> None:
        raise OSError("stale")

    monkeypatch.setattr(os, "statvfs", broken)
    assert ask(tmp_path, "disk").evidence == "no file system can be asked"


def test_a_date_before_this_was_written_is_wrong(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 0.0)
    found = ask(tmp_path, "time_source")
    assert found.state == "warn"
    assert "1970-01-01" in found.evidence
    assert "timedatectl" in found.remedy
