"""`mu-adapter` as a process of its own, between a decoder on a pseudo-terminal and a machine.

Truth: a simulated machine on python-can's virtual bus, which lives in the adapter's own process,
and what the decoder's end of the line hears. Signals and the terminal are the real ones.
"""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("can", reason="needs python-can")
command = pytest.importorskip("spikewire.commands.adapter", reason="needs pyserial")
ROOT = Path(command.__file__).parents[2]
LIMITS = Path(__file__).parent.parent / "docs" / "adapters" / "h3_ankle.toml"
# Runs the command beside a decoder that is ACTIVE while it is asked to be, and a simulated machine
# that goes on for as long as the process lives; prints what the machine did last.
CHILD = """
import math, sys, threading, time
from pathlib import Path
from spikewire.adapters.bus import CanBus
from spikewire.adapters.peers import PEERS
from spikewire.commands.adapter import main
from spikewire.link.codec import Step
from spikewire.link.profile import Info
from spikewire.link.transport import LinkError, open_link

machine, place, limits = sys.argv[1:4]
peer = PEERS[machine](CanBus("virtual:leg"))
ended = threading.Event()

def turn():
    said = ""
    while not ended.is_set():
        peer.turn(time.monotonic())
        if str(peer) != said:
            said = str(peer)
            print("machine:", said, flush=True)
        time.sleep(0.001)

def decode():
    while not Path(place).exists():
        time.sleep(0.01)
    link = open_link(f"serial:{place}?arm=1", Info(0x1F, (3,)))
    armed, number, due = -math.inf, 0, time.monotonic()
    try:
        while not ended.is_set():
            for arm in link.poll():
                armed = time.monotonic() if arm.request == 1 else -math.inf
            state = 3 if time.monotonic() - armed < 0.3 else 2
            link.send([Step(state=state, step=number, age_ms=5.0, drive=(100.0,) * 4,
                            model_id16=0x1F)])
            number += 1
            due = max(due + 20 / 2048, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))
    except LinkError:
        pass

threads = [threading.Thread(target=turn), threading.Thread(target=decode)]
for thread in threads:
    thread.start()
try:
    code = main([machine, f"pty:{place}", "--bus", "virtual:leg", "--limits", limits,
                 "--model", "1f", "--json", *sys.argv[4:]])
finally:
    time.sleep(0.05)
    print("machine at the end:", peer, flush=True)
    ended.set()
sys.exit(code)
"""


class Child:
    """The process, its output line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []

    def until(self, words: str) -> str:
        """Read up to a line with these words."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if words in line:
                return line
        raise AssertionError(f"no {words!r} in {self.lines}")

    def armed(self, arm: Callable[[], object], words: str) -> None:
        """Arm, and read up to a line; again where a busy computer made it stop meanwhile."""
        arm()
        while words not in (line := self.until("")):
            if "stopped: " in line or "not armed: " in line:
                arm()

    def result(self) -> dict[str, Any]:
        """Read to the end; return the JSON object, once the machine is off."""
        found: dict[str, Any] = json.loads(self.until('{"armed"'))
        assert self.until("machine at the end").endswith(": off\n")
        assert self.process.wait(10) == 0
        return found


@contextmanager
def started(folder: Path, machine: str, limits: Path, *more: str, stdin: int) -> Iterator[Child]:
    """Start the command beside its decoder and machine; 30 s are the most it may take."""
    words = [sys.executable, "-c", CHILD, machine, str(folder / "exo"), str(limits), *more]
    with subprocess.Popen(words, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}) as process:
        watchdog = threading.Timer(30.0, process.kill)
        watchdog.start()
        try:
            yield Child(process)
        finally:
            process.kill()
            watchdog.cancel()


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)
    os.close(theirs)


@pytest.fixture
def mit_limits(tmp_path: Path) -> Path:
    path = tmp_path / "motor.toml"
    path.write_text("sign = -1\ngain_nm_per_pps = 0.05\nthreshold_pps = 20\nmax_nm = 2\n")
    return path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGTSTP])
def test_a_signal_arms_and_a_signal_ends(tmp_path: Path, number: int) -> None:
    """As a service: no terminal. A pressed Ctrl-Z must not leave the machine where it is."""
    with started(tmp_path, "h3", LIMITS, stdin=subprocess.DEVNULL) as child:
        child.until("type arm and Enter to arm, or: kill -USR1")
        child.armed(lambda: child.process.send_signal(signal.SIGUSR1),
                    "machine: right_ankle 4 N.m")  # 0.05 (100 - 20), at 10 N.m/s
        child.process.send_signal(number)
        found = child.result()
    assert found["armed"] >= 1
    assert found["largest_nm"] == 4.0


def test_an_operator_at_a_terminal(
    tmp_path: Path, terminal: tuple[int, int], mit_limits: Path
) -> None:
    ours, theirs = terminal
    with started(tmp_path, "mit", mit_limits, stdin=theirs) as child:
        child.until("motor 1, at most 2 N.m; type arm")
        child.armed(lambda: os.write(ours, b"arm\n"), "machine: -2.00 N.m")
        os.write(ours, b"\n")  # any other line stops
        child.until("stopped: the operator typed 'Enter'; to arm, type arm and Enter")
        child.armed(lambda: os.write(ours, b"arm\n"), "machine: -2.00 N.m")
        os.write(ours, b"quit\n")
        found = child.result()
    assert found["armed"] >= 2
    assert found["stops"]["the operator typed 'Enter'"] == 1


def test_a_pipe_is_no_operator(tmp_path: Path) -> None:
    with started(tmp_path, "h3", LIMITS, "--duration", "1", stdin=subprocess.PIPE) as child:
        assert child.process.stdin is not None
        child.process.stdin.write("arm\n" * 100)
        child.process.stdin.flush()
        assert child.result()["armed"] == 0


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = command.main(list(words))
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return code, said


def test_what_cannot_be_used_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text("sign = 2\ngain_nm_per_pps = 0.1\nthreshold_pps = 20\n")
    line, place = f"pty:{tmp_path}/exo", str(LIMITS)
    end = ("--model", "1f", "--duration", "1")
    for words, expected in (
        (("h3", line, "--bus", "can:none9", "--limits", str(bad)), "sign is 2, allowed is 1 or"),
        (("h3", line, "--bus", "can:none9", "--limits", place), "bus 'can:none9' cannot be opened"),
        (("h3", line, "--bus", "none9", "--limits", place), "has no scheme"),
        (("h3", "null:", "--bus", "can:none9", "--limits", place), "'null:' is no port"),
        (("mit", line, "--bus", "can:none9", "--limits", place), "key 'joint' is unknown"),
    ):
        code, said = run(capsys, *words, *end)
        assert code == 2
        assert said.startswith("mu-adapter: ")
        assert expected in said
    assert not (tmp_path / "exo").exists()


@pytest.mark.parametrize("missing", ["--bus", "--limits", "--model"])
def test_nothing_that_matters_has_a_default(
    missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"--bus": "can:can0", "--limits": str(LIMITS), "--model": "1f"}
    words = [w for key, value in given.items() if key != missing for w in (key, value)]
    with pytest.raises(SystemExit) as caught:
        command.main(["h3", "serial:/dev/x", *words])
    assert caught.value.code == 2
    assert f"required: {missing}" in capsys.readouterr().err


def test_a_peer_for_the_desk(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["peer", "h3", "--bus", "virtual:desk", "--duration", "0.05"]) == 0
    assert capsys.readouterr().out.endswith(" s  off\n")


def test_help_fits_the_screen(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--help"], ["h3", "--help"], ["mit", "--help"], ["peer", "--help"]):
        with pytest.raises(SystemExit) as caught:
            command.main(words)
        assert caught.value.code == 0
    assert "emergency stop" in capsys.readouterr().out
