"""mu-monitor and mu-run --monitor as a person types them."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from spikewire.commands import monitor
from spikewire.monitor.feed import open_feed
from spikewire.monitor.layout import read

RUN = [sys.executable, "-m", "spikewire.commands.run"]


@pytest.mark.parametrize(("words", "expected"), [
    ("tcp:1", "allowed are unix:PATH, udp:HOST:PORT as in mu-run --monitor, or a log"),
    ("no.mcap", "no.mcap: no such log"),
    ("udp:10.0.0.1:8766", "stays on its machine"),
    ("unix:s --host 0.0.0.0", "others reach this address, so a token is needed; add --token auto"),
    ("unix:s --host 192.0.2.1 --token auto", "--host 192.0.2.1 --port 8765:"),
    ("unix:s --token secret", "--token: allowed are auto, or 22 to 128"),
    ("unix:s --port 70000", "--port is 70000, allowed is 0 to 65535"),
    ("unix:s --events marks.txt", "the name ends in .jsonl"),
    ("unix:s --events no/m.jsonl", "no such folder"),
    ("unix:s --grid GR99", "allowed are GR08MM1305"),
])
def test_bad_input_is_one_line(words: str, expected: str, tmp_path, monkeypatch, capsys) -> None:
    pytest.importorskip("uvicorn")
    pytest.importorskip("starlette")
    monkeypatch.chdir(tmp_path)
    assert monitor.main(words.split()) == 2
    said = capsys.readouterr().err
    assert said.startswith("mu-monitor: ")
    assert expected in said
    assert said.count("\n") == 1


def test_a_port_that_is_taken_is_one_line(tmp_path, monkeypatch, capsys) -> None:
    pytest.importorskip("uvicorn")
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert monitor.main(["unix:s", "--port", str(taken.getsockname()[1])]) == 2
    assert "is another mu-monitor there? type another --port" in capsys.readouterr().err


def test_small_frames_do_not_wait_for_each_other() -> None:
    """Without TCP_NODELAY an answer of two parts takes 40 ms, and so may a frame."""
    with monitor.listening("127.0.0.1", 0) as made, \
            socket.create_connection(made.getsockname()), made.accept()[0] as accepted:
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_without_the_extra_it_says_what_to_type(monkeypatch, capsys, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "spikewire.monitor.app", raising=False)
    assert monitor.main(["unix:s"]) == 2
    assert "pip install 'spikewire[web]', or add --terminal" in capsys.readouterr().err


def test_help_has_an_example(capsys) -> None:
    with pytest.raises(SystemExit):
        monitor.main(["--help"])
    assert "mu-monitor unix:/tmp/spikewire" in capsys.readouterr().out


def test_a_run_is_heard_and_its_spikes_are_the_summarys(bundle_path: Path, recording_path: Path,
                                                        tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = tmp_path / "s"
    run = subprocess.Popen(
        [*RUN, str(bundle_path), "--source", f"replay:{recording_path}?span=2:6", "--live",
         "--monitor", f"unix:{path}", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True)
    feed, steps, until = open_feed(f"unix:{path}"), [], time.monotonic() + 60
    while run.poll() is None or feed.live:
        assert time.monotonic() < until
        for data in feed.poll(0.1):
            steps += [f for name, f in read(data) if name == "STEP"]
    out, err = run.communicate()
    assert run.returncode == 0, err
    summary = json.loads(out)
    feed.close()
    assert not path.exists()
    assert steps[-1]["step"] == summary["steps"]
    assert steps[-1]["spikes"] == summary["spikes"]
    assert len({s["sequence"] for s in steps}) == steps[-1]["sequence"] - steps[0]["sequence"] + 1
    heard = sum(int.from_bytes(s["fired"], "little").bit_count() for s in steps[1:])
    assert heard == steps[-1]["spikes"] - steps[0]["spikes"] > 0
    assert err.count("mu-run: READY") <= 2  # --live without a terminal: a line now and then


def test_max_pace_has_no_monitor(bundle_path: Path, recording_path: Path, capsys) -> None:
    pytest.importorskip("onnxruntime")
    from spikewire.commands import run

    assert run.main([str(bundle_path), "--source", f"replay:{recording_path}", "--pace", "max",
                     "--monitor", "udp:127.0.0.1:8766"]) == 2
    assert "faster than anybody can look" in capsys.readouterr().err


def test_the_terminal_ends_by_a_signal(tmp_path: Path) -> None:
    made = subprocess.Popen([sys.executable, "-m", "spikewire.commands.monitor", "--terminal",
                             f"unix:{tmp_path}/s"], stderr=subprocess.PIPE, text=True)
    assert "waiting for a run" in made.stderr.readline()
    made.send_signal(signal.SIGINT)
    assert made.wait(20) == 0
    made.stderr.close()
