"""Words to samples. Truth: the array that was packed, by numpy and by the emulators' own packers.

No silent de-interleave is the property: whatever is cut out of a stream or put into it, every
sample that is handed on is the one that its counter names.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikewire.emulate.muovi import Muovi
from spikewire.emulate.quattrocento import Quattrocento
from spikewire.emulate.sessantaquattro import Sessantaquattro
from spikewire.io import muovi, quattrocento, sessantaquattro
from spikewire.io.words import Layout, Words, ramps, width_of

BASE = 20000
PLUS = Layout(70, slice(0, 64), counter=69)
SMALL = Layout(38, slice(0, 32), counter=37)
# emulated wire -> the source's decoder
PAIRS = {
    "quattrocento": (Quattrocento, lambda: Words((quattrocento.LAYOUT,), big=False)),
    "sessantaquattro": (Sessantaquattro, lambda: Words(sessantaquattro.LAYOUTS, big=True)),
    "muovi": (lambda: Muovi(32), lambda: Words((SMALL,), big=True)),
    "muovi+": (lambda: Muovi(64), lambda: Words((PLUS,), big=True)),
}


def emg_of(seed: int, samples: int, channels: int) -> np.ndarray:
    """EMG of any kind: silence, noise, the whole range of the converter, ramps."""
    rng = np.random.default_rng(seed)
    kinds = (np.zeros((samples, channels)), rng.normal(0, 300, (samples, channels)),
             rng.integers(-32768, 32768, (samples, channels)),
             np.repeat(rng.integers(-99, 99, (1, channels)), samples, 0),
             np.cumsum(rng.integers(-1, 2, (samples, channels)), axis=0))
    return kinds[seed % len(kinds)].astype(np.int16)


def chopped(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(p % (len(data) + 1) for p in places)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@pytest.mark.parametrize("name", PAIRS)
@settings(max_examples=40)
@given(seed=st.integers(0, 999), base=st.integers(0, 65535),
       places=st.lists(st.integers(0, 1 << 20), max_size=30))
def test_every_sample_comes_back_however_the_stream_is_chopped(name, seed, base, places) -> None:
    make, decoder = PAIRS[name]
    wire, words = make(), decoder()
    emg = emg_of(seed, 60, wire.channels)
    raw = (base + np.arange(60)) % 65536
    got = [words.feed(part) for part in chopped(wire.pack(raw, emg, 5000), places)]
    assert np.array_equal(np.concatenate([g.raw for g in got]), raw)
    assert np.array_equal(np.concatenate([g.counts for g in got]), emg)
    assert words.framing == 0
    free = [g.free_bytes for g in got if g.free_bytes is not None]
    assert set(free) == ({5000} if name == "quattrocento" else set())


@pytest.mark.parametrize("name", PAIRS)
@settings(max_examples=40)
@given(seed=st.integers(0, 999), at=st.integers(0, 1 << 20), size=st.integers(1, 400),
       junk=st.binary(max_size=300), places=st.lists(st.integers(0, 1 << 20), max_size=10))
def test_what_is_handed_on_is_what_its_counter_names(name, seed, at, size, junk, places) -> None:
    make, decoder = PAIRS[name]
    wire, words = make(), decoder()
    if (size - len(junk)) % (2 * wire.words) == 0:
        size += 1  # whole samples' worth of bytes: another test
    # A word in the counter's place that is by chance its next value passes for it, once: here no
    # word is, since EMG stays below the counter.
    emg = emg_of(seed, 300, wire.channels) // 4
    data = wire.pack(BASE + np.arange(300), emg, 0)
    at %= 2 * len(data) // 3  # so that enough is left to find it again
    spoilt = data[:at] + junk + data[at + size :]
    got = [words.feed(part) for part in [*chopped(spoilt, places), b"", b""]]
    raw = np.concatenate([g.raw for g in got])
    assert np.array_equal(np.concatenate([g.counts for g in got]), emg[raw - BASE])
    assert (np.diff(raw) > 0).all()
    assert raw[-1] == BASE + 299  # found again
    lost = 300 - len(raw)
    hit = size // (2 * wire.words) + 2
    assert lost <= hit + 60  # the samples hit, and what it takes to be sure


@pytest.mark.parametrize("lost", [1, 7, 50, 1000])
@pytest.mark.parametrize("name", PAIRS)
def test_a_gap_and_a_repetition_pass_with_their_counters(name: str, lost: int) -> None:
    make, decoder = PAIRS[name]
    wire, words = make(), decoder()
    raw = np.r_[0:60, 60 + lost : 160 + lost, 155 + lost : 200 + lost]
    emg = emg_of(1, len(raw), wire.channels)
    got = words.feed(wire.pack(raw, emg, 0))
    assert np.array_equal(got.raw, raw)
    assert words.framing == 0


@pytest.mark.parametrize("more", [4, 6, 8])
def test_the_width_is_told_by_the_ramp(more: int) -> None:
    """A Sessantaquattro has 4, 6 or 8 words behind its 64 channels; all are filled here."""
    emg = emg_of(2, 100, 64 + more)
    emg[:, -1] = np.arange(100)
    words = Words(sessantaquattro.LAYOUTS, big=True)
    got = words.feed(emg.astype(">i2").tobytes())
    assert words.layout is not None
    assert words.layout.words == 64 + more
    assert np.array_equal(got.counts, emg[:, :64])


@pytest.mark.parametrize("width", [37, 40, 66, 69, 71, 76, 120])
def test_a_width_that_nobody_expected_gives_nothing_and_is_named(width: int) -> None:
    emg = emg_of(1, 300, width)
    emg[:, -1] = np.arange(300)
    for big, layouts in ((True, sessantaquattro.LAYOUTS), (False, (quattrocento.LAYOUT,))):
        words = Words(layouts, big=big)
        data = emg.astype(">i2" if big else "<i2").tobytes()
        assert sum(len(words.feed(data[k : k + 999]).raw) for k in range(0, len(data), 999)) == 0 \
            or (width, big) == (120, False)
        assert width_of(data, big) == width
        assert f"samples of {width} words came" in words.strangeness()


def test_a_changed_width_stops_the_stream() -> None:
    plus, small = Muovi(64), Muovi(32)
    words = Words((PLUS,), big=True)
    before = words.feed(plus.pack(np.arange(100), emg_of(1, 100, 64), 0))
    after = words.feed(small.pack(100 + np.arange(400), emg_of(1, 400, 32), 0))
    assert len(before.raw) == 100
    assert len(after.raw) == 0
    assert words.framing == 1


def test_ramps_in_all_channels_are_taken_apart_from_the_connections_beginning() -> None:
    """The self-test of a Muovi: every word is the same ramp."""
    ramp = np.repeat(np.arange(100)[:, None], 70, 1).astype(">i2").tobytes()
    words = Words((PLUS,), big=True)
    assert len(words.feed(ramp).raw) == 100
    assert len(ramps(ramp, 140, True, 138)) > 1  # every place is as good as another


@given(st.lists(st.binary(max_size=2000), max_size=20))
def test_any_bytes_are_survived(parts: list[bytes]) -> None:
    words = Words(sessantaquattro.LAYOUTS, big=True)
    for part in parts:
        assert len(words.feed(part).raw) == 0
    assert isinstance(words.strangeness(), str)


def test_what_is_kept_of_a_stream_without_samples_is_bounded() -> None:
    words, rng = Words(sessantaquattro.LAYOUTS, big=True), np.random.default_rng(3)
    for _ in range(200):
        words.feed(rng.bytes(5000))
    assert len(words._data) < 20000
    assert len(words._beginning) < 50000


def test_the_muovi_layouts_are_the_sources(monkeypatch) -> None:
    """Channels and 6 words: 4 of the quaternion, buffer and trigger, counter."""
    assert muovi.MODELS == {"muovi": (32, 18), "muovi+": (64, 10)}
    assert [c + muovi.MORE for c, _ in muovi.MODELS.values()] == [38, 70]
