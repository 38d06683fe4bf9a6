"""Spans, targets and stretches against plain loops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikewire import dataset
from spikewire.dataset import STRETCH, WINDOWS, Piece
from spikewire.signals import STEP, InputError, Labels, SpikeTrains


@given(st.integers(2000, 60000), st.lists(st.tuples(st.integers(0, 60000), st.integers(1, 9000)),
                                          max_size=4), st.integers(0, 400))
def test_no_training_sample_is_near_a_held_out_one(
    samples: int, hold_out: list[tuple[int, int]], guard: int
) -> None:
    spans = [(a, min(a + n, samples)) for a, n in hold_out if a < samples]
    try:
        left = dataset.spans_without(samples, spans, guard)
    except InputError:
        return
    allowed = np.ones(samples, bool)
    for a, b in spans:
        allowed[max(0, a - guard) : b + guard] = False
    for a, b in left:
        assert 0 <= a < b <= samples
        assert b - a >= STRETCH
        assert allowed[a:b].all()


def test_the_validation_part_keeps_its_distance() -> None:
    fit, validation = dataset.split_validation([(0, 20000), (30000, 40000)], 0.2, 143)
    assert validation == (14000, 20000)
    assert fit == [(0, 14000 - 143), (30000, 40000)]
    with pytest.raises(InputError, match="too short"):
        dataset.split_validation([(0, 900)], 0.2, 143)


@given(st.sets(st.integers(0, STRETCH - 1), max_size=30), st.integers(20, 60))
def test_targets_equal_a_plain_loop(hits: set[int], look_ahead: int) -> None:
    """Window k of a stretch ends at 120 + 20 k; its bin is [end - L - 10, end - L + 10)."""
    hit = np.zeros((STRETCH, 1), bool)
    hit[list(hits), 0] = True
    presence, position = dataset.targets(hit, Labels(look_ahead), WINDOWS)
    for k in range(WINDOWS):
        start = 120 + STEP * k - look_ahead - 10
        inside = [t - start for t in sorted(hits) if start <= t < start + STEP]
        assert presence[k, 0] == bool(inside)
        if inside:
            assert position[k, 0] == inside[0]


def test_batches_are_cut_from_the_pieces_and_scaled() -> None:
    x = np.arange(2 * 3000, dtype=np.float32).reshape(3000, 2) + 1
    piece = Piece(x, np.zeros((3000, 1), bool))
    stream = dataset.batches([piece], Labels(20), 4, 0.1, np.random.default_rng(0))
    gains, starts = set(), set()
    for made, presence, _ in itertools.islice(stream, 20):
        assert made.shape == (4, STRETCH, 2)
        assert presence.shape == (4, WINDOWS, 1)
        for s in made:
            gain = (s[-1, 0] - s[0, 0]) / (2 * (STRETCH - 1))
            gains.add(round(float(gain), 4))
            starts.add(round((s[0, 0] / gain - 1) / 2) % STEP)
    assert 0.9 <= min(gains) < max(gains) <= 1.1
    assert len(starts) > 10  # jitter: stretches do not keep to the grid of steps


def test_pieces_carry_the_labels_of_their_span() -> None:
    trains = SpikeTrains([np.array([5, 105, 250]), np.array([150])], 2048.0)
    (made,) = dataset.pieces([np.zeros((100, 2), np.float32)], [(100, 200)], trains)
    assert np.argwhere(made.hit).tolist() == [[5, 0], [50, 1]]
