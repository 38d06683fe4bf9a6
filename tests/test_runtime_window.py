"""Cutting a stream into steps. Truth: slices of the whole stream, whatever blocks it came in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikewire.io.source import Block
from spikewire.runtime.window import Cut, Window

STREAM = np.random.default_rng(0).integers(-32768, 32767, (400, 3)).astype(np.int16)


def push(window: Window, first: int, counts: np.ndarray) -> list[Cut]:
    return list(window.push(Block(first, counts, 0.0)))


@settings(max_examples=100, deadline=None)
@given(sizes=st.lists(st.integers(0, 70), max_size=30), start=st.integers(-(2**40), 2**40))
def test_any_partition_gives_the_same_cuts(sizes: list[int], start: int) -> None:
    window, cuts, at = Window(3, 0.25), [], 0
    for size in [*sizes, len(STREAM)]:
        cuts += push(window, start + at, STREAM[at : at + size])
        at = min(at + size, len(STREAM))
    assert [c.end for c in cuts] == [start + 20 * (k + 1) for k in range(20)]
    assert all(c.gap == 0 and c.emg.dtype == np.float32 for c in cuts)
    # A quarter and 16-bit counts are exact in float32.
    assert np.array_equal(np.concatenate([c.emg for c in cuts]), STREAM * 0.25)


@pytest.mark.parametrize("jump", [1, 7, 20, 5000, -513, -100_000])
@pytest.mark.parametrize("before", [20, 33])
def test_a_jump_restarts_and_reports_its_length(jump: int, before: int) -> None:
    window = Window(3, 1.0)
    push(window, 0, STREAM[:before])
    cuts = push(window, before + jump, STREAM[100:150])
    assert [(c.end, c.gap) for c in cuts] == [(before + jump + 20, jump), (before + jump + 40, 0)]
    # Nothing from before the hole is in a step after it.
    assert np.array_equal(cuts[0].emg, STREAM[100:120])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 60)), max_size=25))
def test_samples_that_come_again_are_thrown_away(blocks: list[tuple[int, int]]) -> None:
    """Packets that are repeated, or overlap: the steps are those of the stream, gap-free."""
    window, cuts, have, again = Window(3, 1.0), [], 0, 0
    for new, back in blocks:
        start = max(0, have - back)
        stop = min(max(have, start + new), len(STREAM))
        cuts += push(window, start, STREAM[start:stop])
        again += have - start
        have = max(have, stop)
    assert [c.end for c in cuts] == [20 * (k + 1) for k in range(have // 20)]
    assert all(c.gap == 0 for c in cuts)
    assert np.array_equal(np.concatenate([c.emg for c in cuts] or [STREAM[:0]]),
                          STREAM[: 20 * (have // 20)])
    assert window.duplicates == again


def test_two_jumps_before_a_step_report_the_larger() -> None:
    """Else a loss of 1000 samples hides behind a later one of 5, and both behind their sum."""
    for jumps in [(1000, 5), (5, 1000), (600, -1000)]:
        window, at = Window(3, 1.0), 0
        push(window, at, STREAM[:10])
        at += 10
        for jump in jumps:
            at += jump
            cuts = push(window, at, STREAM[:10])
            at += 10
        cuts = push(window, at, STREAM[10:20])
        assert [abs(c.gap) for c in cuts] == [1000]


def test_a_cut_is_not_overwritten_by_the_next() -> None:
    window = Window(3, 1.0)
    first = push(window, 0, STREAM[:20])[0]
    push(window, 20, STREAM[20:40])
    assert np.array_equal(first.emg, STREAM[:20])


def test_wide_counts_are_scaled() -> None:
    wide = np.full((20, 3), 1 << 24, np.int32)
    assert np.allclose(push(Window(3, 0.5), 0, wide)[0].emg, 2.0**23)


def test_keeps_less_than_one_step() -> None:
    window = Window(3, 1.0)
    for k in range(500):
        push(window, 7 * k, STREAM[:7])
    assert window._rest.shape == (20, 3)
    assert window._filled < 20
