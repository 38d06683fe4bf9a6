"""From a recording and spike trains to training stretches: pieces, hold-out, labels, jitter."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikewire.signals import STEP, WINDOW, Floats, InputError, Labels, Span, SpikeTrains

WINDOWS = 16  # successive windows of one stretch, computed together
STRETCH = WINDOW + STEP * (WINDOWS - 1)
POOL, REPLACE_EVERY = 8, 4  # augmented pieces at hand; batches between two new ones


@dataclass(frozen=True)
class Piece:
    """A contiguous part of a recording with its labels.

    Attributes
    ----------
    x : float32 (samples, inputs)
        EMG or filter outputs.
    hit : bool (samples, n_mu)
        Where a label sits.
    """

    x: Floats
    hit: NDArray[np.bool_]


def spans_without(samples: int, hold_out: Sequence[Span], guard: int) -> list[Span]:
    """What is left of [0, samples) outside the held-out spans and a guard on both their sides."""
    left, at = [], 0
    for start, stop in sorted(hold_out):
        if start - guard - at >= STRETCH:
            left.append((at, start - guard))
        at = max(at, stop + guard)
    if samples - at >= STRETCH:
        left.append((at, samples))
    if not left:
        raise InputError(f"nothing is left to train on outside the held-out {list(hold_out)}")
    return left


def split_validation(spans: Sequence[Span], share: float, guard: int) -> tuple[list[Span], Span]:
    """Take the end of the longest span, `share` of all samples, as validation part."""
    longest = max(spans, key=lambda s: s[1] - s[0])
    length = round(share * sum(b - a for a, b in spans))
    start = longest[1] - length
    if start - guard - longest[0] < STRETCH or length < STRETCH:
        raise InputError("the training part is too short to keep a validation part from it")
    fit = [s for s in spans if s != longest] + [(longest[0], start - guard)]
    return sorted(fit), (start, longest[1])


def pieces(inputs: Sequence[Floats], spans: Sequence[Span], trains: SpikeTrains) -> list[Piece]:
    """Attach labels to the inputs of each span."""
    made = []
    for x, (start, stop) in zip(inputs, spans, strict=True):
        hit = np.zeros((stop - start, len(trains)), bool)
        for unit, times in enumerate(trains.between(start, stop).times):
            hit[times - start, unit] = True
        made.append(Piece(x, hit))
    return made


def targets(
    hit: NDArray[np.bool_], labels: Labels, windows: int
) -> tuple[Floats, NDArray[np.int64]]:
    """Presence float32 (windows, n_mu) and position int64 (windows, n_mu) of a stretch's bins."""
    first = labels.bin_start
    bins = hit[first : first + STEP * windows].reshape(windows, STEP, -1)
    position: NDArray[np.int64] = bins.argmax(axis=1)
    return np.asarray(bins.any(axis=1), np.float32), position


def batches(
    parts: Sequence[Piece], labels: Labels, stretches: int, gain_jitter: float,
    rng: np.random.Generator, changed: Iterator[Piece] | None = None, share: float = 0.0,
) -> Iterator[tuple[Floats, Floats, NDArray[np.int64]]]:
    """Random stretches without end, each starting at an arbitrary sample and scaled a little.

    A `share` of them comes from a pool of `changed` pieces, one of which is replaced at a time.

    Sample jitter gives 20 times more distinct windows than the stream has steps.

    Yields
    ------
    x : float32 (stretches, 420, inputs)
    presence : float32 (stretches, 16, n_mu)
    position : int64 (stretches, 16, n_mu)
    """
    room = np.array([len(p.x) - STRETCH + 1 for p in parts], np.float64)
    pool = list(itertools.islice(changed, POOL)) if changed else []
    for number in itertools.count():
        if changed and number % REPLACE_EVERY == 0:
            pool[number // REPLACE_EVERY % POOL] = next(changed)
        x, presence, position = [], [], []
        for part in rng.choice(len(parts), stretches, p=room / room.sum()):
            piece = parts[part]
            if pool and rng.random() < share:
                piece = pool[int(rng.integers(POOL))]
            start = int(rng.integers(len(piece.x) - STRETCH + 1))
            gain = np.float32(1 + gain_jitter * rng.uniform(-1, 1))
            x.append(gain * piece.x[start : start + STRETCH])
            y, where = targets(piece.hit[start : start + STRETCH], labels, WINDOWS)
            presence.append(y)
            position.append(where)
        yield np.stack(x), np.stack(presence), np.stack(position)
