"""What the loop tells its monitors, and that none of them can hold it up.

Truth: the scripted loop's own frames, and the system calls that it makes.
"""

from __future__ import annotations

import gc
import json
import os
import socket
import stat
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from test_runtime_loop import FS, PERIOD, Bench, Script

from spikewire.bundle import read_bundle
from spikewire.io.source import Block
from spikewire.monitor.layout import read
from spikewire.runtime import audience
from spikewire.runtime.audience import HELLO, Udp, Unix, open_way
from spikewire.runtime.decoder import Decoder
from spikewire.runtime.loop import Loop
from spikewire.runtime.publish import Publisher
from spikewire.signals import InputError

OPENED: list[socket.socket | Unix | Udp] = []


@pytest.fixture(autouse=True)
def _closed():
    yield
    while OPENED:
        OPENED.pop().close()


def attached(path: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    OPENED.append(made)
    made.connect(path)
    made.setblocking(False)
    return made


def heard(monitor: socket.socket) -> list[dict[str, dict]]:
    """Every datagram that waits, as name -> fields."""
    out = []
    try:
        while data := monitor.recv(1 << 16):
            out.append(dict(read(data)))
    except BlockingIOError:
        pass
    return out


def published(bench: Bench, way: Unix | Udp) -> Bench:
    bench.loop.publisher = Publisher([way])
    OPENED.append(way)
    return bench


def test_every_frame_is_told_once_and_says_the_same(bundle_path: Path, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    bench = published(Bench(bundle_path, steps=120), Unix(path))
    monitor = attached(path)
    frames = bench.run()
    told = heard(monitor)
    steps = [t["STEP"] for t in told]
    assert len(steps) == len(frames) == 123
    assert [s["sequence"] for s in steps] == list(range(1, 124))
    for frame, s in zip(frames, steps, strict=True):
        assert (s["step"], s["state"], s["faults"]) == (frame.step, frame.state, frame.faults)
        assert s["age_ms"] == pytest.approx(frame.age_ms, abs=0.006)
        fired = np.unpackbits(np.frombuffer(s["fired"], np.uint8), bitorder="little")
        known = len(frame.counts) and frame.counts[0] != 15
        assert s["decoded"] == known
        assert fired[:4].tolist() == ((frame.counts[:4] > 0).tolist() if known else [0] * 4)
        assert not fired[4:].any()
    assert steps[-1]["spikes"] == bench.loop.tally.spikes == sum(
        int.from_bytes(s["fired"], "little").bit_count() for s in steps)
    assert steps[50]["compute_ms"] == pytest.approx(1.0)
    assert np.isnan(steps[-1]["compute_ms"])
    assert [s["end"] for s in steps[:120]] == [20.0 * (k + 1) for k in range(120)]
    assert steps[60]["drive"][0] > 0  # nobody has armed: the frame says "not available"
    assert np.isnan(frames[60].drive[0])
    about = json.loads(told[0]["ABOUT"]["json"])
    assert (about["pid"], about["fs_hz"], about["channels"]) == (os.getpid(), FS, 16)
    assert about["bundles"] == [{"name": "synthetic", "n_mu": 4, "channels": [0, 16]}]
    slow = [t for t in told if "RUN" in t]
    assert len(slow) == 2
    assert slow[0]["LINKS"]["counts"] == [50, 0, 0]
    assert slow[0]["RUN"]["monitors"] == 1
    assert slow[0]["RUN"]["age_ms"][0] == pytest.approx(1.0, abs=0.06)
    assert len(slow[0]["UNITS"]["confidence"]) == 4
    assert [sum("EMG" in t for t in told), told[9].keys() >= {"EMG"}] == [12, True]


class Loud(Script):
    """Every channel is a square wave of its own height around an offset: its RMS is its height."""

    def read(self, timeout_s: float) -> list[Block]:
        out = []
        for b in super().read(timeout_s):
            sign = np.where((b.first + np.arange(len(b.counts))) // 5 % 2, 1, -1)[:, None]
            wave = 3000 + sign * 100 * np.arange(self.channels)
            out.append(Block(b.first, wave.astype(np.int16), b.arrival_s))
        return out


def test_loudness_is_that_of_the_wave_without_its_offset(bundle_path: Path, tmp_path) -> None:
    bench = published(Bench(bundle_path), Unix(str(tmp_path / "s")))
    bench.source.__class__, bench.engine.mask = Loud, lambda good: None
    monitor = attached(str(tmp_path / "s"))
    bench.run()
    rms = [t["EMG"]["rms_uv"] for t in heard(monitor) if "EMG" in t]
    assert len(rms) == 6
    assert np.allclose(rms[1:], 0.1 * 100 * np.arange(16), rtol=1e-4, atol=0.05)


def test_a_monitor_that_stalls_loses_and_holds_up_nobody(bundle_path: Path, tmp_path) -> None:
    path = str(tmp_path / "s")
    way = Unix(path)
    bench = published(Bench(bundle_path, steps=3000), way)
    stalled, awake, got = attached(path), attached(path), []
    stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    hear = bench.hear
    bench.hear = lambda: (hear(), got.extend(heard(awake)))
    bench.run()
    got += heard(awake)
    lost = 3003 - len(heard(stalled))
    assert len(got) == 3003
    assert lost == way.dropped > 1000


def test_a_monitor_that_goes_is_forgotten_and_another_may_come(bundle_path: Path, tmp_path) -> None:
    path = str(tmp_path / "s")
    way = Unix(path)
    bench = published(Bench(bundle_path, steps=100), way)
    monitors, hear = [attached(path)], bench.hear

    def come_and_go() -> None:
        hear()
        if len(bench.frames) == 40:
            monitors.pop().close()
        if len(bench.frames) == 60:
            assert len(way) == 0
            monitors.append(attached(path))

    bench.hear = come_and_go
    bench.run()
    told = heard(monitors[0])
    assert 60 <= told[0]["STEP"]["sequence"] <= 86
    assert told[-1]["STEP"]["sequence"] == 103
    assert way.dropped == 0


def test_more_monitors_than_there_is_room_for_are_let_go(bundle_path: Path, tmp_path) -> None:
    path = str(tmp_path / "s")
    way = Unix(path)
    bench = published(Bench(bundle_path, steps=100), way)
    many = []
    hear = bench.hear

    def crowd() -> None:
        hear()
        if len(many) < 12 and bench.loop.tally.steps % 3 == 0:  # 8 may wait at the door
            many.append(attached(path))

    bench.hear = crowd
    bench.run()
    assert len(way) == audience.MOST_MONITORS
    assert [bool(heard(m)) for m in many] == [True] * 8 + [False] * 4


def test_udp_monitors_say_hello_and_are_forgotten(bundle_path: Path) -> None:
    way = Udp("127.0.0.1", 0)
    port = way._socket.getsockname()
    bench = published(Bench(bundle_path, steps=600), way)
    good, liar = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    OPENED.extend([good, liar])
    for monitor in (good, liar):
        monitor.setblocking(False)
        monitor.connect(port)
    good.send(HELLO)
    for words in (b"", HELLO[:-1], HELLO + b"x", b"\0" * 60000):
        liar.send(words)
    told, hear = [], bench.hear
    bench.hear = lambda: (hear(), told.extend(heard(good)))
    bench.run()
    # 3 s after its only hello it is forgotten; `listen` looks every 25th step
    assert len(told) == pytest.approx(audience.FORGET_S / PERIOD, abs=26)
    assert heard(liar) == []


def test_nobody_listening_costs_next_to_nothing(bundle_path: Path, tmp_path, monkeypatch) -> None:
    bench = published(Bench(bundle_path, steps=200), Unix(str(tmp_path / "s")))
    monkeypatch.setattr(Publisher, "_step", lambda *_: pytest.fail("nobody listens"))
    bench.run()
    assert bench.loop.publisher.published == 203


def test_no_call_of_a_socket_may_wait(bundle_path: Path, tmp_path: Path) -> None:
    """Every socket that the loop touches is non-blocking, whoever listens."""
    ways = [Unix(str(tmp_path / "s")), Udp("127.0.0.1", 0)]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ways.append(Unix(first=ours))
    monitor = attached(str(tmp_path / "s"))
    bench = Bench(bundle_path)
    bench.loop.publisher = Publisher(ways)
    OPENED.extend(ways)
    bench.run()
    sockets = [ways[0]._socket, *ways[0]._monitors, ways[1]._socket, *ways[2]._monitors]
    assert len(sockets) == 4
    assert all(s.gettimeout() == 0 for s in sockets)
    assert len(heard(monitor)) == 63
    theirs.setblocking(False)
    assert len(heard(theirs)) == 63
    bench.loop.publisher.close()
    assert theirs.recv(10) == b""
    theirs.close()


def test_whatever_fails_in_telling_ends_no_run(bundle_path: Path, tmp_path, monkeypatch) -> None:
    bench = published(Bench(bundle_path), Unix(str(tmp_path / "s")))
    monitor, step, said = attached(str(tmp_path / "s")), Publisher._step, []

    def fails(self, loop, now, into) -> int:
        said.append(loop.tally.steps)
        if loop.tally.steps == 30:
            raise ZeroDivisionError("made up")
        return step(self, loop, now, into)

    monkeypatch.setattr(Publisher, "_step", fails)
    frames = bench.run()
    assert len(frames) == 63
    assert said == list(range(1, 31))
    assert bench.loop.publisher.failed == "ZeroDivisionError: made up"
    assert len(heard(monitor)) == 29
    assert not (tmp_path / "s").exists()


def test_a_run_without_links_is_told_too(bundle_path: Path, tmp_path: Path) -> None:
    bench = published(Bench(bundle_path), Unix(str(tmp_path / "s")))
    monitor = attached(str(tmp_path / "s"))
    bench.loop.links.clear()
    bench.run()
    told = heard(monitor)
    assert bench.loop.publisher.failed == ""
    assert [t["LINKS"]["counts"] for t in told if "LINKS" in t] == [[]]


def test_memory_does_not_grow(bundle_path: Path, tmp_path: Path) -> None:
    bench = published(Bench(bundle_path, steps=3000), Unix(str(tmp_path / "s")))
    monitor, sizes = attached(str(tmp_path / "s")), []

    def stop() -> bool:
        bench.link.received()
        for kept in (bench.engine.decoded, bench.engine.prepared):
            kept.clear()
        try:
            while monitor.recv(1 << 16):
                pass
        except BlockingIOError:
            pass
        if bench.loop.tally.steps in (1000, 2990):
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
        return False

    tracemalloc.start()
    bench.loop.run(stop)
    tracemalloc.stop()
    assert sizes[-1] - sizes[0] < 16_000


@pytest.mark.parametrize(("uri", "words"), [
    ("tcp:127.0.0.1:9", "allowed are unix:/path/of/socket and udp:127.0.0.1:8766"),
    ("unix:", "allowed are unix:"),
    ("unix:/no/such/folder/s", "No such file or directory; the path must"),
    ("unix:/" + "x" * 200, "107 characters at most"),
    ("udp:127.0.0.1", "stays on its machine"), ("udp:0.0.0.0:8766", "stays on its machine"),
    ("udp:192.168.0.2:8766", "stays on its machine"), ("udp:exo.local:1", "stays on its machine"),
    ("udp:127.0.0.1:70000", "allowed are"), ("udp:127.0.0.1:0", "allowed are"),
    ("udp:127.0.0.1:٣", "allowed are"),
])
def test_ways_that_are_none_are_one_line(uri: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        open_way(uri)


def test_a_path_is_taken_over_from_the_dead_only(tmp_path: Path) -> None:
    path = tmp_path / "s"
    (tmp_path / "file").write_text("not ours")
    with pytest.raises(InputError, match="must not exist"):
        Unix(str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "not ours"
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    dead.bind(str(path))
    dead.close()
    way = Unix(str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    with pytest.raises(InputError, match="another run publishes there"):
        Unix(str(path))
    way.close()
    assert not path.exists()


def test_channels_are_the_sources_and_what_nobody_reads_is_not_known(bundle_path: Path,
                                                                     tmp_path) -> None:
    """A bundle on channels 4 to 19 of 24; its channel 3, the source's 7, is flat."""
    bench = Bench(bundle_path)
    bench.source.__class__, bench.source.channels = Loud, 24
    bench.engine.mask = lambda good: None
    decoder = Decoder(read_bundle(bundle_path), bench.engine, FS, (4, 20), lsb_uv=0.1)
    bench.loop = Loop(bench.source, [decoder], [bench.link], bench.clock)
    published(bench, Unix(str(tmp_path / "s")))
    read_ = bench.source.read

    def one_flat(timeout_s: float) -> list[Block]:
        blocks = read_(timeout_s)
        for b in blocks:
            b.counts[:, 7] = 500
        return blocks

    bench.source.read = one_flat
    monitor = attached(str(tmp_path / "s"))
    bench.run()
    told = heard(monitor)
    rms = np.array([t["EMG"]["rms_uv"] for t in told if "EMG" in t][-1])
    assert np.isnan(rms[[0, 1, 2, 3, 20, 21, 22, 23]]).all()
    known = np.r_[4:7, 8:20]
    assert np.allclose(rms[known], 10.0 * known, rtol=1e-4)
    bad = next(t["CHANNELS"]["bad"] for t in told if "CHANNELS" in t)
    assert np.flatnonzero(np.unpackbits(np.array(bad, np.uint8), bitorder="little")).tolist() == [7]
