"""Sources against emulated amplifiers on loopback. Truth: what the emulator says that it sent.

Every block is compared with the signal that was played, sample by sample and by its index: nothing
lost, doubled, moved or taken apart wrongly gets through unnoticed.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest
from amplifier_bench import at_once, emulated, free_port, holes, read_until

from spikewire.emulate import AMPLIFIERS
from spikewire.emulate.box import Box
from spikewire.emulate.played import test_signal as signal_of
from spikewire.io import stream
from spikewire.io.source import open_source
from spikewire.io.stream import Pace
from spikewire.runtime.clock import MonotonicClock
from spikewire.signals import InputError

WORDS = ["quattrocento", "sessantaquattro", "muovi", "muovi+"]
ALL = [*WORDS, "intan"]


def assert_played(name: str, blocks, shifted: bool = False) -> None:
    """Every sample is the one that its index names; after a restart, one of the signal."""
    wire = AMPLIFIERS[name]()
    played = signal_of(wire)
    place = {played.between(k, k + 1).tobytes(): k for k in range(8191)}
    for block in blocks:
        where = np.array([place[row.tobytes()] for row in block.counts])
        assert (np.diff(where) % 8191 == 1).all()
        if not shifted:
            assert where[0] == block.first % 8191


def test_a_stream_comes_whole_and_a_stop_is_obeyed() -> None:
    def one(name: str) -> None:
        with emulated(name) as (box, uri):
            source = open_source(uri, MonotonicClock())
            seconds = 1.0
            blocks = read_until(source, lambda b: sum(len(k.counts) for k in b) > seconds
                                * source.fs_hz)
            assert not holes(blocks)
            assert max(len(b.counts) for b in blocks) <= source.block_samples <= 20
            assert not any(v for k, v in source.troubles.items() if k != "late_s")
            assert source.faults == frozenset()
            assert {b.counts.shape[1] for b in blocks} == {source.channels}
            wire = AMPLIFIERS[name]()
            assert source.lsb_uv == pytest.approx(wire.lsb_uv, rel=1e-5)
            if name != "intan":
                assert source.fs_hz == wire.fs_hz
                assert_played(name, blocks)
            source.close()
            clock = MonotonicClock()
            until = clock.now() + 2
            while box._running and clock.now() < until:
                clock.sleep_until(clock.now() + 0.01)
            assert not box._running
            assert not box.refused

    at_once(one, ALL)


SCRIPT = "0.9 drop 50; 1.0 duplicate 6; 1.1 drop 1; 1.2 partial; 1.3 stall 0.1; 1.5 drop 1000"


def test_every_fault_is_found_at_its_sample_with_its_length() -> None:
    """`partial` costs the sample that was cut, and 16 that only prove where the next ones are."""
    def one(name: str) -> None:
        with emulated(name, SCRIPT) as (box, uri):
            source = open_source(uri, MonotonicClock())
            blocks = read_until(source, lambda b: sum(n for _, n in holes(b)) > 1051)
            source.close()
            told = {what: at for what, _, at in box.happened if what != "drop"}
            drops = {at: int(amount) for what, amount, at in box.happened if what == "drop"}
            assert dict(holes(blocks)) == drops | {told["partial"]: 17}
            assert source.troubles["duplicates"] == 6
            assert source.troubles["gaps"] == len(drops) + 1
            assert source.troubles["lost_samples"] == sum(drops.values()) + 17
            assert source.troubles["framing"] == 1
            assert source.troubles["resets"] == 0
            assert_played(name, blocks)

    at_once(one, WORDS)


def test_intan_tells_gaps_of_its_own_rate_and_what_the_filter_costs() -> None:
    with emulated("intan", "0.9 drop 256; 1.1 duplicate 128; 1.3 partial") as (box, uri):
        source = open_source(uri, MonotonicClock())
        blocks = read_until(source, lambda b: len(holes(b)) == 2 and b[-1].first > 2.6 * 2000)
        source.close()
        assert source.troubles["duplicates"] == 128
        assert source.troubles["gaps"] == 2
        # a spoilt block is lost, and the frame before it, which nothing followed
        assert source.troubles["lost_samples"] == 256 + 128 + 1
        for (at, length), (_, _, sample) in zip(holes(blocks), box.happened[::2], strict=True):
            assert abs(at - sample / 10) <= 1
            assert length >= 128 / 10 + 8 - 1


def test_a_lost_box_is_found_again_and_the_time_away_is_a_gap() -> None:
    def one(name: str) -> None:
        with emulated(name, "0.9 disconnect 0.3") as (_box, uri):
            source = open_source(uri, MonotonicClock())
            blocks = read_until(source, holes)
            [(_, length)] = holes(blocks)
            assert source.troubles["disconnects"] == 1
            assert length > 0.3 * source.fs_hz
            blocks += read_until(source, lambda b: len(b) > 20)
            assert len(holes(blocks)) == 1
            if name in WORDS:
                assert_played(name, blocks, shifted=True)
            source.close()

    at_once(one, ALL)


SCENES: dict[str, Callable[[], None]] = {}  # they mostly wait, so they are played at once


def scene(play: Callable[[], None]) -> Callable[[], None]:
    SCENES[play.__name__] = play
    return play


@scene
def a_box_that_went_on_sending_after_a_crash_is_stopped_first() -> None:
    with emulated("quattrocento", "0.9 crash 0.1") as (_box, uri):
        source = open_source(uri, MonotonicClock())
        blocks = read_until(source, holes)
        blocks += read_until(source, lambda b: len(b) > 20)
        source.close()
        assert len(holes(blocks)) == 1
        assert_played("quattrocento", blocks, shifted=True)


@scene
def a_counter_that_begins_anew_is_a_gap() -> None:
    def one(name: str) -> None:
        with emulated(name, "0.9 reset") as (box, uri):
            source = open_source(uri, MonotonicClock())
            blocks = read_until(source, lambda b: bool(holes(b)) and len(b) > 30)
            source.close()
            [(at, length)] = holes(blocks)
            assert at == box.happened[0][2]
            assert length >= 1
            assert source.troubles["resets"] == 1
            assert_played(name, blocks, shifted=True)

    at_once(one, ["quattrocento", "muovi+"])


@scene
def a_sessantaquattro_that_changes_its_width_is_followed() -> None:
    with emulated("sessantaquattro", "0.9 width 70") as (_box, uri):
        source = open_source(uri, MonotonicClock())
        blocks = read_until(source, lambda b: bool(b) and b[-1].first > 1.8 * 2000)
        source.close()
        assert_played("sessantaquattro", blocks)
        assert source.troubles["framing"] == 1
        assert sum(n for _, n in holes(blocks)) <= 17


@scene
def a_nearly_full_buffer_is_told_while_it_lasts() -> None:
    with emulated("quattrocento", "0.9 full 0.2") as (_, uri):
        source = open_source(uri, MonotonicClock())
        read_until(source, lambda b: "buffer" in source.faults)
        assert source.troubles["near_full"] == 1
        read_until(source, lambda b: not source.faults)
        assert source.faults == frozenset()
        source.close()


@scene
def reading_never_waits_longer_than_it_was_asked_to() -> None:
    """With nobody at the other end, by a clock that counts: no timing of the machine."""
    waits = []

    class Clock(MonotonicClock):
        def sleep_until(self, moment: float) -> None:
            waits.append(moment - self.now())
            super().sleep_until(moment)

    with emulated("quattrocento", "0.7 disconnect 5") as (_, uri):
        source = open_source(uri, Clock())
        read_until(source, lambda b: source.troubles["disconnects"] == 1)
        for _ in range(100):
            assert source.read(0.005) == []
        source.close()
    assert waits
    assert max(waits) <= 0.1


@pytest.fixture(scope="module")
def played() -> Iterator[dict[str, Future[None]]]:
    with ThreadPoolExecutor(len(SCENES)) as pool:
        yield {name: pool.submit(play) for name, play in SCENES.items()}


@pytest.mark.parametrize("name", SCENES)
def test_of_one_box(name: str, played: dict[str, Future[None]]) -> None:
    played[name].result()


def test_a_silent_connection_is_given_up_and_made_anew(monkeypatch) -> None:
    monkeypatch.setattr(stream, "SILENCE_S", 0.3)
    with emulated("muovi+", "0.9 stall 0.8") as (_box, uri):
        source = open_source(uri, MonotonicClock())
        blocks = read_until(source, holes)
        assert source.troubles["silences"] >= 1
        assert not any(len(b.counts) == 0 for b in blocks)
        source.close()


def test_another_width_in_mid_stream_is_never_taken_apart(monkeypatch) -> None:
    monkeypatch.setattr(stream, "SILENCE_S", 0.3)
    widths = {"muovi+": 38, "quattrocento": 72, "muovi": 70}

    def one(name: str) -> None:
        with emulated(name, f"0.9 width {widths[name]}") as (box, uri):
            source = open_source(uri, MonotonicClock())
            clock = MonotonicClock()
            blocks, until = [], clock.now() + 2.1
            while clock.now() < until:
                blocks += source.read(0.02)
            source.close()
            assert_played(name, blocks)
            assert blocks[-1].first + len(blocks[-1].counts) <= box.happened[0][2]
            assert source.troubles["framing"] >= 1

    at_once(one, list(widths))


def test_another_model_is_refused_by_its_width(monkeypatch) -> None:
    monkeypatch.setattr(stream, "ENOUGH_S", 0.5)
    with emulated("muovi", port=free_port()) as (box, _), \
            pytest.raises(InputError, match="samples of 38 words came, allowed are 70") as caught:
        open_source(f"muovi+::{box.port}", MonotonicClock())
    assert "type muovi:" in str(caught.value)


def test_another_rate_is_refused_with_both(monkeypatch) -> None:
    monkeypatch.setattr(stream, "ENOUGH_S", 0.8)
    wire = AMPLIFIERS["muovi+"]
    monkeypatch.setitem(AMPLIFIERS, "muovi+", lambda: _at(wire(), 4000.0))
    with emulated("muovi+") as (_, uri), \
            pytest.raises(InputError, match=r"4\d\d\d samples a second came|3[89]\d\d samples"):
        open_source(uri, MonotonicClock())


def _at(wire, fs_hz: float):
    wire.fs_hz = fs_hz
    return wire


@pytest.mark.parametrize(("name", "words"), [
    ("quattrocento", "no answer from 127.0.0.1:"), ("intan", "no answer from 127.0.0.1:"),
    ("muovi", "nobody called 0.0.0.0:"), ("sessantaquattro", "nobody called 0.0.0.0:")])
def test_nobody_there_is_one_line_that_says_what_to_check(name: str, words: str, monkeypatch
                                                          ) -> None:
    monkeypatch.setattr(stream.Stream.open, "__defaults__", (0.2,))
    where = "127.0.0.1" if name in ("quattrocento", "intan") else ""
    with pytest.raises(InputError, match=words) as caught:
        open_source(f"{name}:{where}:{free_port()}", MonotonicClock())
    assert "is " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_taken_port_and_a_foreign_address_are_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen(1)
        with pytest.raises(InputError, match=r"cannot be listened on .*another mu-run"):
            open_source(f"muovi::{taken.getsockname()[1]}", MonotonicClock())
    with pytest.raises(InputError, match="cannot be listened on"):
        open_source("muovi:192.0.2.1", MonotonicClock())


def test_a_second_caller_is_turned_away() -> None:
    with emulated("muovi+") as (box, uri):
        source = open_source(uri, MonotonicClock())
        with socket.create_connection(("127.0.0.1", box.port)) as other:
            read_until(source, lambda b: source.troubles["refused_callers"] == 1)
            other.settimeout(5)
            assert other.recv(10) == b""
        blocks = read_until(source, lambda b: len(b) > 10)
        assert not holes(blocks)
        source.close()


def test_rubbish_at_the_port_is_survived(monkeypatch) -> None:
    """Whoever calls may send anything, and hang up at any time."""
    monkeypatch.setattr(stream, "SILENCE_S", 0.3)
    monkeypatch.setattr(stream, "ENOUGH_S", 0.6)
    port = free_port()

    def call() -> None:
        rng = np.random.default_rng(5)
        for _ in range(50):
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=1) as sock:
                    for _ in range(4):
                        sock.sendall(rng.bytes(int(rng.integers(1, 20000))))
            except OSError:
                continue

    caller = threading.Thread(target=call)
    monkeypatch.setattr(stream.Stream.open, "__defaults__", (1.0,))
    caller.start()
    with pytest.raises(InputError):
        open_source(f"sessantaquattro::{port}", MonotonicClock())
    caller.join()


def test_a_backlog_is_no_pace() -> None:
    """Twice as fast for half a second, then as it should be."""
    pace, at, settled = Pace(2000.0), 0.0, []
    for _ in range(100):
        at += 0.01
        settled.append(pace.take(40 if at < 0.5 else 20, at))
    assert settled.index(True) > 50
    assert pace.measured_hz == pytest.approx(2000, rel=0.05)


def test_a_box_that_was_stopped_sleeps(monkeypatch) -> None:
    """It went round at full speed, and took a core from the decoder that it is to test."""
    turns = 0
    turn = Box.turn

    def counted(self: Box) -> None:
        nonlocal turns
        turns += 1
        turn(self)

    monkeypatch.setattr(Box, "turn", counted)
    with emulated("quattrocento") as (box, uri):
        source = open_source(uri, MonotonicClock())
        read_until(source, lambda b: len(b) > 5)
        source.close()
        clock = MonotonicClock()
        until = clock.now() + 2
        while (box._running or box._lines) and clock.now() < until:
            clock.sleep_until(clock.now() + 0.01)
        before = turns
        clock.sleep_until(clock.now() + 0.5)
        assert turns - before < 40  # of 20 ms each: 25
