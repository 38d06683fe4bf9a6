"""Where datagrams come from: a run that is there, gone, and there again; a log; lies."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from monitor_world import datagram

from spikewire.io.replay import Replay
from spikewire.io.runlog import RunLog
from spikewire.io.source import Block
from spikewire.monitor import feed as feeds
from spikewire.monitor.feed import open_feed
from spikewire.monitor.layout import read
from spikewire.monitor.played import Log
from spikewire.runtime.audience import Udp, Unix
from spikewire.runtime.clock import VirtualClock
from spikewire.signals import InputError


def gathered(feed, way, count: int) -> list[bytes]:
    """Everything heard while a run publishes, until there is enough."""
    came, sequence, until = [], 0, time.monotonic() + 20
    while len(came) < count:
        assert time.monotonic() < until
        way.listen(time.monotonic())
        sequence += 1
        way.send(memoryview(datagram(sequence, np.ones(3, np.uint8), sequence)))
        came += feed.poll(0.01)
    return came


@pytest.mark.parametrize("scheme", ["unix", "udp"])
def test_a_run_that_comes_goes_and_comes_again(scheme: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(feeds, "AGAIN_S", 0.05)
    monkeypatch.setattr(feeds, "HELLO_S", 0.05)
    monkeypatch.setattr(feeds, "SILENT_S", 0.2)
    path = tmp_path / "s"
    probe = Udp("127.0.0.1", 0)
    port = probe._socket.getsockname()[1]
    probe.close()
    uri = f"unix:{path}" if scheme == "unix" else f"udp:127.0.0.1:{port}"
    feed = open_feed(uri)
    assert feed.poll(0.01) == []
    for _ in range(2):
        way = Unix(str(path)) if scheme == "unix" else Udp("127.0.0.1", port)
        came = gathered(feed, way, 5)
        assert feed.live
        assert all(next(read(c))[0] == "STEP" for c in came)
        way.close()
        until = time.monotonic() + 20
        while feed.poll(0.01) or feed.live:
            assert time.monotonic() < until
    feed.close()


@pytest.mark.parametrize("word", ["", "unix:", "udp:10.0.0.1:9", "udp:x", "http://x", "run.log",
                                  "no/such.mcap"])
def test_a_source_that_is_none_is_one_line(word: str) -> None:
    with pytest.raises(InputError):
        open_feed(word)


def log(path: Path, steps: list[object], channels: int = 4, **about: str) -> Path:
    """A log of two seconds with made-up steps, one per 20 samples."""
    counts = (100 * np.sin(np.arange(4096)[:, None] / 3) * np.arange(channels)).astype(np.int16)
    made = RunLog(path, Replay("x", counts, 0.5, 2048.0, 0, VirtualClock()), about)
    for k in range(204):
        made.block(Block(20 * k, counts[20 * k : 20 * k + 20], 5 + (20 * k + 20) / 2048))
        if k < len(steps):
            made.step(5 + (20 * k + 21) / 2048, steps[k])
    made.close()
    return path


def told(feed: Log) -> list[dict[str, dict]]:
    """Everything that a log tells, at once."""
    out = []
    while feed._next:
        out.append(dict(read(feed._next[1])))
        feed._next = next(feed._told, None)
    return out


def facts(k: int, **changes: object) -> dict[str, object]:
    return {"step": k + 1, "end": 20 * k + 20, "now": 5 + (20 * k + 21) / 2048, "state": "READY",
            "faults": 0, "age_ms": 1.5, "drive": 20.0, "drives": [20.0, None],
            "units": [k % 7] if k % 3 == 0 else []} | changes


def test_a_log_tells_what_the_run_did(tmp_path: Path) -> None:
    path = log(tmp_path / "run.mcap", [facts(k) for k in range(200)], bundle="models/a.mub b.mub",
               n_mu="4 3")
    found = told(Log(str(path)))
    assert [f["STEP"]["step"] for f in found] == list(range(1, 201))
    assert {f["STEP"]["state"] for f in found} == {2}
    assert found[-1]["STEP"]["spikes"] == 67
    assert found[0]["STEP"]["drive"][0] == 20
    assert np.isnan(found[0]["STEP"]["drive"][1:]).all()
    assert np.isnan(found[0]["STEP"]["compute_ms"])
    about = json.loads(found[0]["ABOUT"]["json"])
    assert [(b["name"], b["n_mu"]) for b in about["bundles"]] == [("a", 4), ("b", 3)]
    rms = found[100]["EMG"]["rms_uv"]
    assert np.allclose(rms, 50 / np.sqrt(2) * np.arange(4), rtol=0.05)


def test_a_log_plays_at_the_pace_of_the_run(tmp_path: Path) -> None:
    path = log(tmp_path / "run.mcap", [facts(k) for k in range(40)])
    feed, came, began = Log(str(path)), [], time.monotonic()
    while not feed.ended:
        came += feed.poll(0.05)
    assert time.monotonic() - began >= 39 * 20 / 2048 - 0.01
    assert len(came) == 40


def test_a_log_without_steps_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no steps"):
        Log(str(log(tmp_path / "run.mcap", [])))


@settings(max_examples=25)
@example([{"drives": [math.nextafter(float(np.finfo(np.float32).max), math.inf)]}])
@given(st.lists(st.dictionaries(
    st.sampled_from(["step", "end", "now", "state", "faults", "age_ms", "drives", "units"]),
    st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                 lambda x: st.lists(x, max_size=5), max_leaves=6)), max_size=6))
def test_any_step_of_a_log_is_told_or_left_out(tmp_path_factory, steps: list[dict]) -> None:
    path = tmp_path_factory.mktemp("log") / "run.mcap"
    log(path, [facts(0) | s for s in steps] + [facts(9)], n_mu="x 9999 3", bundle="\n<b>")
    for f in told(Log(str(path))):
        assert f["STEP"]["sequence"] >= 1
