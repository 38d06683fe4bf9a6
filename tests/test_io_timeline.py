"""Counter to index. Truth: the index that the counter was made from, and the host's clock."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikewire.io.timeline import Timeline
from spikewire.io.words import Samples

FS = 2000.0
NOISE = np.random.default_rng(0).integers(-999, 999, (1 << 16, 3)).astype(np.int16)


def samples(index: np.ndarray, raw: np.ndarray | None = None) -> Samples:
    """Samples whose content is known by their index."""
    raw = index if raw is None else raw
    return Samples(np.asarray(raw) % 65536, NOISE[np.asarray(index) % 65536])


def feed(line: Timeline, index: np.ndarray, raw=None, late_s: float = 0.0) -> list[int]:
    """Place samples that arrive when the last of them is due; every index that came out."""
    found = samples(np.asarray(index), raw)
    runs = line.place(found, 5.0 + (int(np.max(index)) + 1) / FS + late_s)
    return [first + k for first, part in runs for k in range(part.stop - part.start)]


def test_an_unbroken_counter_wraps_and_the_index_goes_on() -> None:
    line = Timeline(FS)
    out = []
    for first in range(65000, 65000 + 3 * 65536, 100):
        out += feed(line, np.arange(first, first + 100))
    assert out == list(range(65000, 65000 + len(out)))
    assert not any(line.troubles.values())


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 4000)), min_size=1, max_size=40))
def test_gaps_have_their_length(pieces: list[tuple[int, int]]) -> None:
    line, at, out, true, gaps = Timeline(FS), 0, [], [], []
    for length, lost in pieces:
        true += range(at, at + length)
        if length:
            out += feed(line, np.arange(at, at + length))
        at += length + lost
    gaps = [b - a - 1 for a, b in itertools.pairwise(true) if b != a + 1]
    assert out == [k - true[0] + out[0] for k in true] if true else out == []
    assert (line.troubles["gaps"], line.troubles["lost_samples"]) == (len(gaps), sum(gaps))
    assert line.troubles["resets"] == 0


def test_a_loss_of_more_than_a_turn_of_the_counter_is_told_by_the_clock() -> None:
    line = Timeline(FS)
    feed(line, np.arange(100))
    assert feed(line, np.arange(200_000, 200_010))[0] == 200_000
    assert line.troubles["lost_samples"] == 199_900


def test_a_gap_in_a_backlog_is_one() -> None:
    """The box stood still for half a second, kept its oldest samples and lost the rest."""
    line = Timeline(FS)
    feed(line, np.arange(1000))
    found = samples(np.r_[1000:1400, 1900:2000])
    runs = line.place(found, 5.0 + 2000 / FS)
    assert [first for first, _ in runs] == [1000, 1900]
    assert line.troubles["resets"] == 0


@pytest.mark.parametrize("again", [1, 3, 18, 100])
def test_what_comes_again_is_dropped_and_counted(again: int) -> None:
    line = Timeline(FS)
    feed(line, np.arange(300))
    index = np.arange(300 - again, 350)
    assert feed(line, index) == list(range(300, 350))
    assert line.troubles["duplicates"] == again
    assert line.troubles["gaps"] == 0


def test_a_counter_that_goes_back_a_little_over_new_samples_is_no_repetition() -> None:
    """An amplifier restarted after 40 samples: 10 to 29 are not the ones that had come."""
    line = Timeline(FS)
    feed(line, np.arange(40))
    out = feed(line, np.arange(40, 60), raw=np.arange(10, 30))
    assert len(out) == 20
    assert out[0] > 40  # a gap, so that nothing is joined to what was before
    assert line.troubles["resets"] == 1
    assert line.troubles["duplicates"] == 0


@given(st.integers(2000, 60000), st.integers(0, 65535), st.integers(0, 4000))
def test_a_restarted_counter_never_takes_the_index_back(seen: int, base: int, away: int) -> None:
    line = Timeline(FS)
    feed(line, np.arange(seen))
    index = np.arange(seen + away, seen + away + 50)
    out = feed(line, index, raw=base + np.arange(50))
    if out:
        assert out == list(range(out[0], out[0] + 50))
        assert out[0] > seen or (base % 65536 == seen % 65536 and out[0] == seen)
        assert out[-1] <= index[-1] + 0.1 * FS + 2  # not ahead of the clock
    else:
        assert line.troubles["duplicates"]


def test_after_a_lost_connection_the_clock_tells_how_much_is_missing() -> None:
    line = Timeline(FS)
    feed(line, np.arange(1000))
    line.lost_touch()
    out = feed(line, np.arange(5000, 5018), raw=np.arange(18))
    assert out == list(range(5000, 5018))
    assert line.troubles["lost_samples"] == 4000


@pytest.mark.parametrize(("error", "wrong"), [(0.0, False), (0.0001, False), (-0.004, False),
                                              (0.006, True), (-0.006, True), (0.2, True)])
def test_a_wrong_rate_is_noticed_within_seconds(error: float, wrong: bool) -> None:
    line = Timeline(FS)
    rng = np.random.default_rng(1)
    for first in range(0, 16000, 20):
        arrival = 3.0 + (first + 20) / FS / (1 + error) + rng.exponential(0.001)
        line.place(samples(np.arange(first, first + 20)), arrival)
    assert (line.rate_error != 0) is wrong
    assert not wrong or line.rate_error == pytest.approx(error, rel=0.3)


def test_a_stall_that_is_caught_up_and_one_that_is_not_are_no_wrong_rate() -> None:
    for stays in (False, True):
        line = Timeline(FS)
        for first in range(0, 16000, 20):
            due = (first + 20) / FS
            arrival = due + 0.1 if stays and due > 4 else max(due, 4.3) if 4 < due < 4.3 else due
            line.place(samples(np.arange(first, first + 20)), arrival)
        assert line.rate_error == 0
        assert (line.troubles["late_s"] >= 3) is stays
