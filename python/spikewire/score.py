"""Compare spike trains: the only place where a tolerance is written.

Two decompositions of one motor unit mark its discharges with a constant lag between them, so every
comparison first aligns one lag per unit, refined to the median error (half a sample of bias already
moves 2.5 % of the discharges into the neighbouring 20-sample bin).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from spikewire.signals import STEP, SpikeTrains, Times, counts

TOLERANCE_SAMPLES = 1  # rate of agreement: a pair is common within +-1 sample
MAX_LAG_SAMPLES = 40  # lags of -18..+30 samples were seen between decompositions of one unit
REACH_SAMPLES = 10  # pairs that may belong together when the lag is refined


@dataclass(frozen=True)
class UnitScore:
    """One motor unit, prediction against reference.

    `f1`, `sensitivity`, `precision` count 20-sample bins (Wen et al. 2021, eq. 2);
    `f1_near` lets a spike match the neighbouring bin, one to one;
    `agreement` is common / (A + B - common) within one sample.
    """

    f1: float
    sensitivity: float
    precision: float
    f1_near: float
    agreement: float
    lag_samples: float
    reference: int
    predicted: int


def nearest(reference: Times, times: Times) -> NDArray[np.int64]:
    """Signed distance from each of `times` to the closest of `reference` (sorted, not empty)."""
    right = np.searchsorted(reference, times).clip(1, len(reference) - 1) if len(reference) > 1 \
        else np.zeros(len(times), np.int64)
    left = np.maximum(right - 1, 0)
    to_right, to_left = times - reference[right], times - reference[left]
    return np.where(np.abs(to_right) < np.abs(to_left), to_right, to_left)


def best_lag(reference: Times, predicted: Times) -> int:
    """Samples that `predicted` comes after `reference`, one constant for the whole train."""
    if not len(reference) or not len(predicted):
        return 0
    span = MAX_LAG_SAMPLES + REACH_SAMPLES
    first = np.searchsorted(reference, predicted - span)
    last = np.searchsorted(reference, predicted + span, side="right")
    pairs = [p - reference[a:b] for p, a, b in zip(predicted, first, last, strict=True)]
    differences = np.concatenate(pairs)
    if not len(differences):
        return 0
    histogram = np.bincount(differences + span, minlength=2 * span + 1)
    smooth = np.convolve(histogram, np.ones(3), mode="same")
    lag = int(smooth[REACH_SAMPLES : -REACH_SAMPLES].argmax()) + REACH_SAMPLES - span
    close = differences[np.abs(differences - lag) <= REACH_SAMPLES]
    return int(np.round(np.median(close)))


def common(reference: Times, predicted: Times, tolerance: int) -> int:
    """Pairs within `tolerance` samples, one to one, both sorted."""
    i = j = pairs = 0
    while i < len(reference) and j < len(predicted):
        distance = predicted[j] - reference[i]
        if abs(distance) <= tolerance:
            pairs, i, j = pairs + 1, i + 1, j + 1
        elif distance < 0:
            j += 1
        else:
            i += 1
    return pairs


def agreement(reference: Times, predicted: Times, lag: int | None = None) -> float:
    """Rate of agreement within one sample after one constant lag (found if not given)."""
    lag = best_lag(reference, predicted) if lag is None else lag
    both = common(reference, predicted - lag, TOLERANCE_SAMPLES)
    return both / max(len(reference) + len(predicted) - both, 1)


def unit_score(reference: Times, predicted: Times, start: int, stop: int) -> UnitScore:
    """Score one unit over the samples [start, stop); bins count from `start`."""
    lag = best_lag(reference, predicted)
    aligned = predicted - lag
    reference = reference[(reference >= start) & (reference < stop)]
    aligned = aligned[(aligned >= start) & (aligned < stop)]
    bins = (stop - start) // STEP
    truth, found = (counts([t], start, bins)[:, 0] > 0 for t in (reference, aligned))
    hits = int(np.sum(truth & found))
    near = common(np.flatnonzero(truth), np.flatnonzero(found), 1)
    total = int(truth.sum() + found.sum())
    return UnitScore(
        f1=2 * hits / total if total else 1.0,
        sensitivity=hits / truth.sum() if truth.any() else float("nan"),
        precision=hits / found.sum() if found.any() else float("nan"),
        f1_near=2 * near / total if total else 1.0,
        agreement=agreement(reference, aligned, 0),
        lag_samples=lag,
        reference=len(reference),
        predicted=len(aligned),
    )


def score(predicted: SpikeTrains, reference: SpikeTrains, start: int, stop: int) -> list[UnitScore]:
    """Score unit k of `predicted` against unit k of `reference` over [start, stop)."""
    return [
        unit_score(r, p, start, stop)
        for r, p in zip(reference.times, predicted.times, strict=True)
    ]


def match(predicted: Sequence[Times], reference: Sequence[Times]) -> list[tuple[int, float]]:
    """For each reference unit, the predicted unit that agrees best and the rate of agreement."""
    out = []
    for r in reference:
        rates = [agreement(r, p) for p in predicted] or [0.0]
        out.append((int(np.argmax(rates)), max(rates)))
    return out


def mean_known(values: Sequence[float]) -> float | None:
    """Mean of what is defined; None if nothing is."""
    known = [v for v in values if v == v]
    return float(np.mean(known)) if known else None


def table(scores: Sequence[UnitScore]) -> dict[str, object]:
    """Means over the units, the worst unit, and every unit, ready for JSON.

    What is not defined (the precision of a unit that was never found) is None and enters no mean.
    """
    f1 = [s.f1 for s in scores]
    return {
        "units": len(scores),
        "f1": float(np.mean(f1)),
        "f1_worst": float(np.min(f1)),
        "f1_near": float(np.mean([s.f1_near for s in scores])),
        "sensitivity": mean_known([s.sensitivity for s in scores]),
        "precision": mean_known([s.precision for s in scores]),
        "agreement": float(np.mean([s.agreement for s in scores])),
        "units_above_0.7": int(np.sum(np.array(f1) > 0.7)),
        "per_unit": [
            {k: None if v != v else v for k, v in asdict(s).items()} for s in scores
        ],
    }
