"""What a board is asked and told: its files as NVIDIA writes them, its programs as they are called.

The texts are those of Jetson Linux (nv_tegra_release, nvpmodel.conf, nvpmodel -q, dpkg-query); the
bit timing is compared with `ip link help can`'s words. No Jetson has been seen.
"""

from __future__ import annotations

import mmap
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from board_world import BOARD, make_root

from spikewire.onboard import __main__ as onboard
from spikewire.onboard import canbus, facts, power, preflight, programs
from spikewire.onboard.place import Place
from spikewire.onboard.programs import Done
from spikewire.onboard.say import Stop

CONF = """
< PARAM TYPE=CLOCK NAME=CPU_A78_0 >
< POWER_MODEL ID=0 NAME=15W >
CPU_ONLINE CORE_0 1
< POWER_MODEL ID=1 NAME=25W >
< POWER_MODEL ID=2 NAME=MAXN_SUPER >
< POWER_MODEL ID=3 NAME=7W >
< PM_CONFIG DEFAULT=1 >
"""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = make_root(tmp_path / "root")
    (place.root / "etc/nvpmodel.conf").write_text(CONF)
    return place


@pytest.fixture
def told(monkeypatch) -> list[list[str]]:
    """Nvpmodel and the others, as scripts: a mode that is set is the mode."""
    calls: list[list[str]] = []
    names = {"0": "15W", "1": "25W", "2": "MAXN_SUPER", "3": "7W"}
    mode = ["15W"]

    def run(words, timeout_s=60.0, given=b"", folder=None) -> Done:
        calls.append([str(word) for word in words])
        if words[:2] == ["nvpmodel", "-m"]:
            mode[0] = names[words[2]] if words[2] != "3" else mode[0]  # 7W asks for a reboot
        return Done(0, f"NV Power Mode: {mode[0]}\n0\n" if words[0] == "nvpmodel" else "")

    monkeypatch.setattr(programs, "run", run)
    return calls


def test_what_a_board_is(place: Place) -> None:
    assert facts.l4t(place.root) == "36.4.3"
    assert facts.compatible(place.root)[0] == "nvidia,p3768-0000+p3767-0005-super"
    assert facts.power_modes(place.root) == {"15W": "0", "25W": "1", "MAXN_SUPER": "2", "7W": "3"}
    assert facts.machine(place.root) == os.uname().machine
    assert facts.python(place.root).startswith(f"3.{sys.version_info[1]}.")
    empty = place.root / "nothing"
    assert facts.l4t(empty) is None
    assert facts.compatible(empty) == []
    assert facts.uptime_s(empty) is None
    assert set(facts.read(place.root)) == set(facts.FACTS)


@pytest.mark.parametrize(("text", "version"), [
    ("ii  10.3.0.30-1+cuda12.5\n", "10.3.0.30"),
    ("ii  8.5.2-1+cuda11.4\nii  10.16.2.10-1+cuda13.2\n", "10.16.2.10"),
    ("un  \nrc  8.2.1-1\n", None), ("dpkg-query: no packages found\n", None)])
def test_tensorrt_as_dpkg_says_it(text, version, monkeypatch) -> None:
    monkeypatch.setattr(programs, "run", lambda words: Done(0, text))
    assert facts.tensorrt(Path("/")) == version


@pytest.mark.parametrize(("here", "fits"), [
    ("36.4.3", "6.2"), ("36.4.7", "6.2"), ("36.5.0", "6.2"), ("36.4.0", None), ("35.6.4", None),
    ("39.2.0", "7.2"), ("38.2.1", None)])
def test_which_jetpack_a_board_has(here: str, fits: str | None) -> None:
    rows = [{"version": "6.2", "l4t": "36.4.3"}, {"version": "7.2", "l4t": "39.2"}]
    found = preflight.jetpack_of(here, rows)
    assert (found and found["version"]) == fits


def test_the_power_mode_is_set_by_name(place: Place, told) -> None:
    board = {"power": {"mode": "25W", "jetson_clocks": True}}
    assert "25W" in power.lock(place.root, board).evidence
    assert ["nvpmodel", "-m", "1"] in told
    assert told[-1] == ["jetson_clocks"]
    told.clear()
    power.lock(place.root, board)
    assert ["nvpmodel", "-m", "1"] not in told  # it is set


@pytest.mark.parametrize(("mode", "words"), [
    ("30W", "no mode 30W in /etc/nvpmodel.conf, there are 15W, 25W, MAXN_SUPER, 7W"),
    ("MAXN_SUPER", "MAXN_SUPER needs allow_maxn_super = true"),
    ("7W", "mode 7W takes a reboot")])
def test_a_mode_that_cannot_be_set(mode, words, place, told) -> None:
    with pytest.raises(Stop, match=words):
        power.lock(place.root, {"power": {"mode": mode, "jetson_clocks": False}})


def test_can_comes_up_with_its_full_timing(place: Place, told) -> None:
    assert canbus.up(place.root, BOARD, "can0").state == "ok"
    assert [" ".join(words) for words in told] == [
        "ip link set can0 down",
        "ip link set can0 type can bitrate 500000 sample-point 0.800 sjw 1 dbitrate 2000000 "
        "dsample-point 0.750 dsjw 1 fd on berr-reporting on",
        "ip link set can0 txqueuelen 100", "ip link set can0 up"]
    with pytest.raises(Stop, match="can7 is not in the board file, there are can0"):
        canbus.up(place.root, BOARD, "can7")


def test_a_classic_bus_has_no_data_timing() -> None:
    words = canbus.words("can0", {**BOARD["can"]["can0"], "fd": False})[1]
    assert words[-4:] == ["fd", "off", "berr-reporting", "on"]
    assert "dbitrate" not in words


def test_pins_are_written_as_32_bit_registers(place: Place) -> None:
    memory = place.root / "dev/mem"
    memory.parent.mkdir()
    address = 3 * mmap.PAGESIZE + 0x18
    memory.write_bytes(bytes(4 * mmap.PAGESIZE))
    canbus.set_pins(memory, [[address, 0xC458], [address - 8, 0xC400]])
    raw = memory.read_bytes()
    assert struct.unpack_from("<I", raw, address) == (0xC458,)
    assert struct.unpack_from("<I", raw, address - 8) == (0xC400,)
    assert sum(raw) == 0xC4 + 0x58 + 0xC4
    with pytest.raises(Stop, match="the pins stay as they are"):
        canbus.set_pins(place.root / "none", [[0, 0]])


def test_a_program_is_never_waited_for_without_end() -> None:
    assert programs.run(["no-such-program"]).code == programs.MISSING
    done = programs.run(["sh", "-c", "echo begun; sleep 60"], 0.2)
    assert done.code == programs.TOO_LONG
    assert "not done within 0.2 s" in done.last


def test_it_goes_on_after_a_hangup_and_ends_in_order_on_a_stop(place, monkeypatch, capsys) -> None:
    def work(place: Place, number: int) -> int:
        os.kill(os.getpid(), number)
        return 0

    kept = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM)}
    try:
        for number, code in ((signal.SIGHUP, 0), (signal.SIGTERM, 1)):
            monkeypatch.setitem(onboard.VERBS, "status", (
                lambda place, args, number=number: work(place, number), False))
            assert onboard.main(["--root", str(place.root), "status"]) == code
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
    assert "stopped by SIGTERM" in capsys.readouterr().out


def test_it_goes_on_where_nobody_reads(place: Place) -> None:
    code = ("import sys\nfrom spikewire.onboard.say import Line, say\n"
            "[say(Line('a', 'ok', 'b' * 9999)) for _ in range(99)]\nopen(sys.argv[1], 'w')")
    done = place.root / "done"
    with subprocess.Popen([sys.executable, "-c", code, done], stdout=subprocess.PIPE) as process:
        process.stdout.close()
    assert done.exists()
    assert process.returncode == 0
