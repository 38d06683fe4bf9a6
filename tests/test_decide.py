"""The decision by hand-worked examples and, by hypothesis, against its definition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikewire.decide import Decide, decide_all
from spikewire.signals import InputError, Labels


def decider(units: int = 1, lag: int = 0, refractory: int = 30) -> Decide:
    return Decide(np.full(units, 0.5, np.float32), np.full(units, lag, np.int64), Labels(20),
                  refractory)


def test_time_of_a_spike() -> None:
    """Window [0, 120), look-ahead 20: the bin is [90, 110); sample 7 of it, label lag 3."""
    counts, times = decider(lag=3).step(120, np.array([0.9]), np.array([7]))
    assert counts.tolist() == [1]
    assert times.tolist() == [90 + 7 - 3]


def test_the_first_spike_is_kept_though_the_second_is_surer() -> None:
    d = decider()
    first, _ = d.step(120, np.array([0.51]), np.array([19]))
    second, _ = d.step(140, np.array([0.99]), np.array([0]))
    third, _ = d.step(160, np.array([0.99]), np.array([9]))
    assert [int(c[0]) for c in (first, second, third)] == [1, 0, 1]


def test_the_threshold_itself_does_not_fire_and_reset_forgets() -> None:
    d = decider()
    assert not d.step(120, np.array([0.5], np.float32), np.array([0]))[0].any()
    assert d.step(120, np.array([0.6]), np.array([0]))[0].all()
    assert not d.step(120, np.array([0.6]), np.array([0]))[0].any()
    d.reset()
    assert d.step(120, np.array([0.6]), np.array([0]))[0].all()


STREAM = st.lists(st.tuples(st.floats(0, 1, width=32), st.integers(0, 19)), max_size=40)


@given(STREAM, STREAM)
def test_what_comes_later_changes_nothing_and_spikes_keep_their_distance(
    stream: list[tuple[float, int]], more: list[tuple[float, int]]
) -> None:
    def run(steps: list[tuple[float, int]]) -> list[int]:
        p = np.array([[a] for a, _ in steps], np.float32).reshape(len(steps), 1)
        q = np.array([[b] for _, b in steps], np.int64).reshape(len(steps), 1)
        return decide_all(decider(), 120, p, q)[0].tolist()

    early = run(stream)
    assert run(stream + more)[: len(early)] == early
    assert all(b - a >= 30 for a, b in itertools.pairwise(early))


def test_units_do_not_mix() -> None:
    p = np.array([[0.9, 0.1], [0.1, 0.9]], np.float32)
    trains = decide_all(decider(2), 120, p, np.zeros((2, 2), np.int64))
    assert [t.tolist() for t in trains] == [[90], [110]]


def test_thresholds_and_lags_must_fit() -> None:
    with pytest.raises(InputError, match="2 thresholds for 1 label lags"):
        Decide(np.zeros(2, np.float32), np.zeros(1, np.int64), Labels(20))
