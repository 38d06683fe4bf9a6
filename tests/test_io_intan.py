"""Intan RHX. Truth: a block written out with `struct`, and the analytic response of a filter."""

from __future__ import annotations

import itertools
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikewire.emulate.intan import Intan
from spikewire.io.intan import (
    FRAMES,
    LSB_UV,
    OUT_HZ,
    REACH,
    Blocks,
    Thin,
    complaint,
    low_pass,
    script,
)
from spikewire.io.source import open_source
from spikewire.runtime.clock import MonotonicClock
from spikewire.signals import InputError

SIZE = 4 + FRAMES * (4 + 2 * 64)


def blocks_of(first: int, emg: np.ndarray) -> bytes:
    """Blocks of 128 frames, value by value."""
    out = b""
    for k, row in enumerate(emg):
        if k % FRAMES == 0:
            out += struct.pack("<I", 0x2EF07A08)
        out += struct.pack("<i64H", first + k, *(int(v) + 32768 for v in row))
    return out


STREAM = blocks_of(0, np.random.default_rng(0).integers(-32768, 32768, (FRAMES * 9, 64)))


def noise(blocks: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-32768, 32768, (FRAMES * blocks, 64))


def test_a_block_of_64_channels_has_16900_bytes() -> None:
    assert len(blocks_of(0, noise(1))) == SIZE == 16900
    assert LSB_UV == 0.195


@settings(max_examples=20)
@given(st.integers(0, 1 << 30), st.lists(st.integers(0, 4 * SIZE), max_size=20))
def test_every_frame_comes_back_however_the_stream_is_chopped(first: int, places) -> None:
    emg = noise(4)
    data, decoder = blocks_of(first, emg), Blocks()
    edges = [0, *sorted(places), len(data)]
    got = [decoder.feed(data[a:b]) for a, b in itertools.pairwise(edges)]
    # the last frame waits for the next block
    assert np.array_equal(np.concatenate([g.raw for g in got]), first + np.arange(4 * FRAMES - 1))
    assert np.array_equal(np.concatenate([g.counts for g in got]), emg[:-1])
    assert decoder.framing == 0


@settings(max_examples=20)
@given(at=st.integers(0, 5 * SIZE), size=st.integers(0, 9000), junk=st.binary(max_size=300))
def test_what_is_handed_on_is_what_its_time_stamp_names(at: int, size: int, junk: bytes) -> None:
    emg, decoder = noise(9), Blocks()
    spoilt = STREAM[:at] + junk + STREAM[at + size :]
    got = [decoder.feed(spoilt[k : k + 5000]) for k in range(0, len(spoilt), 5000)]
    raw = np.concatenate([g.raw for g in got])
    assert np.array_equal(np.concatenate([g.counts for g in got]), emg[raw])
    assert raw[-1] == 9 * FRAMES - 2
    assert len(raw) >= 6 * FRAMES


def test_a_magic_number_within_the_samples_is_no_block() -> None:
    emg = noise(3)
    emg[:, 10], emg[:, 11] = 0x7A08 - 32768, 0x2EF0 - 32768
    data, decoder = blocks_of(7, emg), Blocks()
    got = decoder.feed(data[100:])  # begins in the middle of a block
    assert got.raw.tolist() == list(range(7 + FRAMES, 7 + 3 * FRAMES - 1))
    assert np.array_equal(got.counts, emg[FRAMES:-1])


@given(st.lists(st.binary(max_size=3000), max_size=10))
def test_any_bytes_are_survived(parts: list[bytes]) -> None:
    decoder = Blocks()
    for part in parts:
        assert len(decoder.feed(part).raw) == 0
    assert len(decoder._data) < SIZE + 4 or decoder._data.startswith(struct.pack("<I", 0x2EF07A08))


@pytest.mark.parametrize("factor", [5, 10, 15])
def test_thinning_passes_emg_and_stops_what_would_fold(factor: int) -> None:
    """Sines in, amplitude and delay out: up to 500 Hz pass, what folds below does not."""
    fs = OUT_HZ * factor
    n = np.arange(40 * factor * 10)
    for hz, low, high in ((20, 0.99, 1.01), (500, 0.95, 1.01), (1500, 0, 0.003), (1900, 0, 0.003)):
        wave = np.rint(20000 * np.sin(2 * np.pi * hz / fs * n)).astype(np.int16)[:, None]
        thin = Thin(factor)
        got = [thin.push(int(k), wave[k : k + 128]) for k in range(0, len(n), 128)]
        out = np.concatenate([c for _, c in got])[-300:, 0].astype(float)  # whole periods
        index = got[-1][0] + len(got[-1][1]) - len(out) + np.arange(len(out))
        shape = np.exp(-2j * np.pi * hz / OUT_HZ * index)
        amplitude = 2 * np.abs((out * shape).mean()) / 20000
        assert low <= amplitude <= high, hz
        if high > 0.5:  # the delay is that of the declared latency
            phase = np.angle((out * shape).mean() * 1j)
            assert phase == pytest.approx(-2 * np.pi * hz * REACH / OUT_HZ, abs=0.02) or hz > 250


@given(st.lists(st.integers(1, 300), min_size=1, max_size=12))
def test_thinning_does_not_depend_on_the_blocks(sizes: list[int]) -> None:
    x = np.random.default_rng(1).integers(-3000, 3000, (sum(sizes), 2)).astype(np.int16)
    whole, first = Thin(10), 1005
    index, expected = whole.push(first, x)
    thin, out, at = Thin(10), [], 0
    for size in sizes:
        found, counts = thin.push(first + at, x[at : at + size])
        out += [(found + k, tuple(c)) for k, c in enumerate(counts.tolist())]
        at += size
    assert out == [(index + k, tuple(c)) for k, c in enumerate(expected.tolist())]


def test_nothing_is_made_of_both_sides_of_a_gap() -> None:
    thin = Thin(10)
    thin.push(0, np.full((200, 1), 1000, np.int16))
    first, counts = thin.push(250, np.full((200, 1), -1000, np.int16))
    assert first == (250 + 80) // 10
    assert set(counts[:, 0].tolist()) == {-1000}


def test_the_low_pass_is_causal_and_of_gain_one() -> None:
    taps = low_pass(10)
    assert len(taps) == 2 * REACH * 10 + 1
    assert taps.sum() == pytest.approx(1)
    assert np.allclose(taps, taps[::-1])


def test_the_script_sets_one_block_while_stopped_and_then_runs() -> None:
    box = Intan()
    words = [w for w, _ in script("a")]
    answers, orders = zip(*(box.hear(w) for w in words), strict=True)
    assert [o for order in orders for o in order] == ["stop", "start"]
    assert b"".join(answers) == b"Return: SampleRateHertz 20000\n"
    assert box.blocks == 1
    assert words[-1] == b"set runmode run;"
    assert complaint(20000, b"".join(answers)) == ""


def test_the_emulator_refuses_settings_while_it_runs() -> None:
    box = Intan()
    assert b"Unrecognized" in box.hear(b"set a-064.tcpdataoutputenabled true;")[0]
    box.hear(b"set runmode run;")
    assert b"cannot be set" in box.hear(b"set tcpnumberdatablocksperwrite 1;")[0]
    assert b"Unrecognized" in box.hear(b"nonsense;")[0]


@pytest.mark.parametrize(("answer", "words"), [
    (b"Return: SampleRateHertz 30000\n", "samples at 30000 Hz, 20000 came"),
    (b"Unrecognized parameter\n", "RHX answers 'Unrecognized parameter'"),
    (b"Error: TCPNumberDataBlocksPerWrite cannot be set", "RHX answers 'Error: TCPNumber"),
    (b"\xff\xfe", ""),
])
def test_what_the_software_complains_about(answer: bytes, words: str) -> None:
    assert words in complaint(20000, answer)
    assert bool(words) is bool(complaint(20000, answer))


def test_what_it_cannot_be_asked_for() -> None:
    with pytest.raises(InputError, match="khz=2 came, allowed are 20, 10, 30"):
        open_source("intan:127.0.0.1?khz=2", MonotonicClock())
    with pytest.raises(InputError, match="port=z came"):
        open_source("intan:127.0.0.1?port=z", MonotonicClock())
