"""`mu-link` from both ends of a pseudo-terminal.

Truth: what the sending end of the same test put on the line, counted there.
"""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikewire.link.codec import Arm, Step, decode_frame, id16
from spikewire.link.ends import SerialEnd
from spikewire.link.framing import Deframer
from spikewire.link.loopback import LoopbackLink
from spikewire.link.profile import Info
from spikewire.link.table import STATES
from spikewire.link.transport import ArmReader, LinkError, open_link
from spikewire.link.uart import PtyPort

command = pytest.importorskip("spikewire.commands.link", reason="needs rich and pyserial")
ROOT = Path(command.__file__).parents[2]


def wait_until(test: Callable[[], bool]) -> None:
    """Wait for something that happens in another thread."""
    limit = time.monotonic() + 5.0
    while not test():
        assert time.monotonic() < limit
        time.sleep(0.002)


@contextmanager
def decoder(
    place: Path, n: int, received: list[Arm], model_id: int = 0, **change: Any
) -> Iterator[None]:
    """Play a decoder: send `n` frames as soon as the line is there, then keep silent."""

    def run() -> None:
        wait_until(place.exists)
        link = open_link(f"serial:{place}?arm=1", Info(model_id, (3,)))
        drive = (50.0, math.nan, math.nan, math.nan)
        counts = np.array([1, 0, 2], np.uint8)
        values = {"state": 3, "drive": drive, "n_mu": 3, "counts": counts,
                  "model_id16": id16(model_id), **change}
        with suppress(LinkError):  # the watch may end first
            for number in range(n):
                link.send([Step(step=number, age_ms=10.0 + number, **values)])
                received.extend(link.poll())
                time.sleep(0.005)
        wait_until(lambda: not place.exists())
        link.close()

    thread = threading.Thread(target=run)
    thread.start()
    yield
    thread.join(5.0)
    assert not thread.is_alive()


def result(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Return the one JSON object on stdout."""
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def test_watch_counts_what_was_sent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place, arms = tmp_path / "exo", []
    with decoder(place, 80, arms):
        code = command.main(["watch", f"pty:{place}", "--idle", "0.3", "--json"])
    found = result(capsys)
    assert code == 0
    assert arms == []
    assert not place.exists()
    assert (found["frames_accepted"], found["frames_rejected"], found["gaps"]) == (80, {}, 0)
    assert found["states"] == {"ACTIVE": 80}
    # ages 10, 11 ... 89: 80 or less in 71 frames, of which two came before it was trusted
    assert (found["usable"], found["stale_marked_valid"]) == (69, 9)
    assert found["age_ms"]["p50"] == pytest.approx(49.0, abs=0.11)
    assert found["age_ms"]["max"] == pytest.approx(89.0)
    assert (found["first_step"]["step"], found["last_step"]["step"]) == (0, 79)
    assert (found["spikes"], found["spikes_total"]) == ([80, 0, 160], 240)
    assert found["last_step"]["drive"] == [50.0, None, None, None]


def test_watch_arms_and_disarms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place, arms = tmp_path / "exo", []
    with decoder(place, 60, arms, 0xDEADBEEF):
        code = command.main(["watch", f"pty:{place}", "--arm", "deadbeef", "--idle", "0.2"])
    assert code == 0
    assert {(arm.request, arm.model_id) for arm in arms} == {(1, 0xDEADBEEF)}
    assert len(arms) >= 3  # in 0.3 s at 10 Hz at least
    # what was asked before the decoder opened its port is gone
    assert [arm.counter - arms[0].counter for arm in arms] == list(range(len(arms)))
    text = capsys.readouterr().out
    assert "60 accepted, 58 usable" in text
    assert "rejected     none" in text


def test_watch_asks_often_enough_and_disarms_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Contract: at least 10 requests a second."""
    heard: list[tuple[float, bytes]] = []

    class Wire:
        def read(self) -> bytes:
            return b""

        def queued(self) -> int:
            return 0

        def write(self, data: bytes) -> int:
            heard.append((time.monotonic(), data))
            return len(data)

        def close(self) -> None:
            pass

    monkeypatch.setattr(command, "open_end", lambda uri: SerialEnd(Wire()))
    command.main(["watch", "serial:/dev/x", "--arm", "1f", "--duration", "0.5"])
    arms = [arm for _, data in heard for arm in ArmReader().feed(data)]
    assert [arm.request for arm in arms] == [1] * (len(arms) - 1) + [0]
    assert {arm.model_id for arm in arms} == {0x1F}
    assert len(arms) > 5
    assert max(np.diff([at for at, _ in heard])) < 0.1


def test_watch_of_another_model_accepts_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, arms = tmp_path / "exo", []
    with decoder(place, 20, arms, 5):
        code = command.main(["watch", f"pty:{place}", "--arm", "6", "--duration", "0.5", "--json"])
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert code == 1
    assert (found["frames_accepted"], found["frames_rejected"]) == (0, {"model": 21})
    assert found["first_step"] is None
    assert "frames came, all of another bundle than" in captured.err


@pytest.mark.parametrize(("expect", "code"), [("3", 0), ("0.15", 1)])
def test_expect_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], expect: str, code: int
) -> None:
    place = tmp_path / "exo"
    argv = ["watch", f"pty:{place}", "--expect-end", expect, "--idle", "0.1", "--json"]
    with decoder(place, 60, []):
        assert command.main(argv) == code
    captured = capsys.readouterr()
    assert (json.loads(captured.out)["frames_accepted"] == 60) is (code == 0)
    assert ("frames still come after 0.15 s" in captured.err) is (code == 1)


def test_ctrl_c_still_prints_the_summary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    naps = iter(range(3))

    def sleep(_: float) -> None:
        if next(naps, None) is None:
            raise KeyboardInterrupt

    monkeypatch.setattr(command.time, "sleep", sleep)
    assert command.main(["watch", f"pty:{tmp_path}/exo", "--json"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["frames_accepted"] == 0
    assert "stopped by Ctrl-C" in captured.err
    assert not (tmp_path / "exo").is_symlink()


def test_a_lost_line_prints_what_was_heard(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Lost:
        def read(self) -> bytes:
            raise LinkError("port /dev/x went away (gone); plug it in and start again")

        def close(self) -> None:
            pass

    monkeypatch.setattr(command, "open_end", lambda uri: SerialEnd(Lost()))
    assert command.main(["watch", "serial:/dev/x", "--json"]) == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out)["frames_accepted"] == 0
    assert captured.err == "mu-link: port /dev/x went away (gone); plug it in and start again\n"


def test_send_and_watch_talk_to_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two processes, as in the help text: READY until the watch arms, then ACTIVE."""
    place = tmp_path / "exo"
    argv = [sys.executable, "-W", "error", "-m", "spikewire.commands.link", "watch"]
    argv += [f"pty:{place}", "--arm", "1f", "--idle", "0.5", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    watch = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment)
    wait_until(place.exists)
    uri = f"serial:{place}?arm=1"
    assert command.main(["send", uri, "--model", "1f", "--duration", "1", "--json"]) == 0
    out, _ = watch.communicate(timeout=10)
    assert watch.returncode == 0
    sent = result(capsys)
    found = json.loads(out)
    assert (sent["sent"], sent["dropped"]) == (103, 0)
    assert found["frames_accepted"] == found["spikes_total"] == 103
    assert found["states"]["ACTIVE"] >= found["usable"] >= 20
    assert found["states"].get("READY", 0) + found["states"]["ACTIVE"] == 103
    assert found["rate_hz"] == pytest.approx(102.4, rel=0.1)


def free_port() -> int:
    """A UDP port that nobody uses."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def two_adapters(folder: Path) -> Iterator[tuple[str, str]]:
    """Two slcan adapters on one bus: what is written to one is read from the other."""
    ports = [PtyPort(str(folder / name)) for name in ("near", "far")]
    stop = threading.Event()

    def carry() -> None:
        while not stop.wait(0.001):
            for one, other in (ports, ports[::-1]):
                other.write(one.read())

    thread = threading.Thread(target=carry)
    thread.start()
    yield f"slcan:{ports[0].path}?arm=1", f"slcan:{ports[1].path}"
    stop.set()
    thread.join()
    for port in ports:
        port.close()


@pytest.mark.parametrize("kind", ["udp", "slcan"])
def test_send_and_watch_without_a_serial_line(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ExitStack() as opened:
        if kind == "udp":
            near = far = f"udp:127.0.0.1:{free_port()}"
            near += "?arm=1&lab=1"
        else:
            near, far = opened.enter_context(two_adapters(tmp_path))
        sender = threading.Thread(target=command.main, args=(
            ["send", near, "--model", "1f", "--duration", "1.2"],))
        threading.Timer(0.3, sender.start).start()
        code = command.main(["watch", far, "--arm", "1f", "--idle", "0.4", "--json"])
        sender.join(10.0)
    *_, text = sorted(capsys.readouterr().out.splitlines(), key=len)
    found = json.loads(text)
    assert code == 0
    assert found["frames_accepted"] == found["states"]["ACTIVE"] + found["states"]["READY"]
    assert found["frames_accepted"] >= 120
    assert found["states"]["ACTIVE"] >= 60
    assert (found["frames_rejected"], found["gaps"]) == ({}, 0)


def test_send_never_claims_to_be_active_unasked(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["send", "null:", "--duration", "0.1"]) == 0
    assert capsys.readouterr().out == "sent 11, dropped 0\n"
    step = command.pattern(0, command.READY, 0x1234ABCD, 0.0)
    assert (STATES[step.state], step.model_id16) == ("READY", 0xABCD)
    assert command.pattern(70, command.READY, 0, 0.0).counts.nonzero()[0].tolist() == [6]


@pytest.mark.parametrize(
    ("may_arm", "arm", "active"),
    [
        (True, Arm(1, 0x1F), True),
        (False, Arm(1, 0x1F), False),
        (True, Arm(1, 0x20), False),
        (True, Arm(0, 0x1F), False),
    ],
)
def test_send_obeys_only_who_may_arm_this_model(
    monkeypatch: pytest.MonkeyPatch, may_arm: bool, arm: Arm, active: bool
) -> None:
    link = LoopbackLink("loopback:", may_arm=may_arm)
    link.answer(arm)
    monkeypatch.setattr(command, "open_link", lambda uri, info: link)
    assert command.main(["send", "loopback:", "--model", "1f", "--duration", "0.05"]) == 0
    heard = [decode_frame(*found) for found in Deframer().feed(link.received())]
    steps = [found for found in heard if isinstance(found, Step)]
    assert {STATES[step.state] for step in steps} == {"ACTIVE" if active else "READY"}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["send", "serial:/dev/no-such-port"], "not there; list the ports"),
        (["send", "radio:"], "unknown scheme 'radio'; allowed: can:, loopback:, lsl:, null:"),
        (["send", "udp:127.0.0.1:9?arm=1"], "arm=1 over UDP is for the laboratory only"),
        (["send", "can:no-such0"], "CAN"),
        (["watch", "can:no-such0"], "CAN"),
        (["watch", "null:"], "is no port; allowed: serial:PORT, pty:PATH"),
        (["watch", "serial:/dev/x?bood=1"], "unknown option 'bood'; allowed: arm, profile, baud"),
    ],
)
def test_errors_are_one_line_and_code_2(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("mu-link: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    "argv",
    [
        ["watch", "pty:x", "--arm", "123456789"],
        ["watch", "pty:x", "--arm", "xyz"],
        ["watch", "pty:x", "--duration", "-1"],
        ["watch", "pty:x", "--duration", "inf"],
        ["watch", "pty:x", "--slot", "4"],
        [],
    ],
)
def test_bad_arguments_end_with_code_2(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(argv)
    assert caught.value.code == 2


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(["--help"])
    assert caught.value.code == 0
    assert "example: mu-link watch pty:/tmp/exo" in capsys.readouterr().out


def test_generate_writes_database_header_and_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["generate", "--out", str(tmp_path / "link"), "--base", "0x100"]) == 0
    written = [Path(line) for line in capsys.readouterr().out.split()]
    assert {path.name for path in written} == {"spikewire.dbc", "spikewire_link.h", "link.md",
                                               "guard.md"}
    assert "BO_ 256 MU_DRIVE0" in (tmp_path / "link/spikewire.dbc").read_text()


def test_generate_refuses_identifiers_that_do_not_fit(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        command.main(["generate", "--out", "x", "--base", "0x7f0"])
    assert stopped.value.code == 2
    assert "0x7f0 came, 0 to 0x7df is allowed; type for instance 0x680" in capsys.readouterr().err
