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

Doubles = NDArray[np.float64]

TOLERANCE_SAMPLES = 1  # rate of agreement: a pair is common within +-1 sample
MAX_LAG_SAMPLES = 40  # lags of -18..+30 samples were seen between decompositions of one unit
REACH_SAMPLES = 10  # pairs that may belong together when the lag is refined
MIN_PAIR = 0.3  # rate of agreement of two trains that are one unit
MILLISECOND_S = 1e-3  # tolerance of the MUniverse benchmark's rate of agreement
CST_WINDOW_S, CST_SEGMENT_S = 0.4, 1.0  # Wen et al. 2021, section 3.4.3
CST_MAX_LAG_S = 0.1
CST_RATE_HZ = 256.0  # the smoothed CST has nothing above 5 Hz


@dataclass(frozen=True)
class UnitScore:
    """One motor unit, prediction against reference.

    `f1`, `sensitivity`, `precision` count 20-sample bins (Wen et al. 2021, eq. 2);
    `f1_near` lets a spike match the neighbouring bin, one to one;
    `agreement` is common / (A + B - common) within one sample, `agreement_1ms` within 1 ms.
    Of the pairs within 10 samples, `on_time` is the share within one sample, `time_error_ms` the
    mean absolute distance, `isi_error_ms` the same of intervals between neighbouring pairs.
    `rate_error_hz` is the predicted mean rate minus the reference's.
    """

    f1: float
    sensitivity: float
    precision: float
    f1_near: float
    agreement: float
    agreement_1ms: float
    on_time: float
    time_error_ms: float
    isi_error_ms: float
    rate_error_hz: float
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
    return int(np.round(np.median(close))) if len(close) else 0


def pairs(reference: Times, predicted: Times, tolerance: int) -> tuple[Times, Times]:
    """Indices of what lies within `tolerance` samples of each other, one to one, both sorted."""
    i = j = 0
    left, right = [], []
    while i < len(reference) and j < len(predicted):
        distance = predicted[j] - reference[i]
        if abs(distance) <= tolerance:
            left.append(i)
            right.append(j)
            i, j = i + 1, j + 1
        elif distance < 0:
            j += 1
        else:
            i += 1
    return np.array(left, np.int64), np.array(right, np.int64)


def common(reference: Times, predicted: Times, tolerance: int) -> int:
    """Number of pairs within `tolerance` samples, one to one."""
    return len(pairs(reference, predicted, tolerance)[0])


def agreement(
    reference: Times, predicted: Times, lag: int | None = None, tolerance: int = TOLERANCE_SAMPLES
) -> float:
    """Rate of agreement, by default within one sample, after one constant lag (found if None)."""
    lag = best_lag(reference, predicted) if lag is None else lag
    both = common(reference, predicted - lag, tolerance)
    return both / max(len(reference) + len(predicted) - both, 1)


def timing(reference: Times, predicted: Times, fs_hz: float) -> tuple[float, float, float]:
    """`on_time`, `time_error_ms` and `isi_error_ms` of trains without lag; NaN without pairs."""
    i, j = pairs(reference, predicted, REACH_SAMPLES)
    if not len(i):
        return float("nan"), float("nan"), float("nan")
    late = predicted[j] - reference[i]
    # An interval counts if neither train has a spike of its own inside it.
    whole = (np.diff(i) == 1) & (np.diff(j) == 1)
    intervals = np.abs(np.diff(late))[whole]
    isi = 1e3 * float(intervals.mean()) / fs_hz if len(intervals) else float("nan")
    return (float(np.mean(np.abs(late) <= TOLERANCE_SAMPLES)),
            1e3 * float(np.abs(late).mean()) / fs_hz, isi)


def unit_score(
    reference: Times, predicted: Times, start: int, stop: int, fs_hz: float = 2048.0
) -> UnitScore:
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
    on_time, time_error_ms, isi_error_ms = timing(reference, aligned, fs_hz)
    return UnitScore(
        f1=2 * hits / total if total else 1.0,
        sensitivity=hits / truth.sum() if truth.any() else float("nan"),
        precision=hits / found.sum() if found.any() else float("nan"),
        f1_near=2 * near / total if total else 1.0,
        agreement=agreement(reference, aligned, 0),
        agreement_1ms=agreement(reference, aligned, 0, int(MILLISECOND_S * fs_hz)),
        on_time=on_time,
        time_error_ms=time_error_ms,
        isi_error_ms=isi_error_ms,
        rate_error_hz=(len(aligned) - len(reference)) * fs_hz / (stop - start),
        lag_samples=lag,
        reference=len(reference),
        predicted=len(aligned),
    )


def score(predicted: SpikeTrains, reference: SpikeTrains, start: int, stop: int) -> list[UnitScore]:
    """Score unit k of `predicted` against unit k of `reference` over [start, stop)."""
    return [
        unit_score(r, p, start, stop, reference.fs_hz)
        for r, p in zip(reference.times, predicted.times, strict=True)
    ]


def smoothed_cst(trains: Sequence[Times], start: int, stop: int, fs_hz: float) -> Doubles:
    """Cumulative spike train in pulses/s, smoothed by a Hann window of 400 ms, at 256 Hz."""
    bins = int((stop - start) / fs_hz * CST_RATE_HZ)
    half = round(CST_WINDOW_S * CST_RATE_HZ / 2)
    # What lies beyond the span's ends is counted too: a fall to zero there would be common to all.
    edges = start + np.arange(-half, bins + half + 1) * (fs_hz / CST_RATE_HZ)
    sum_of_all = np.histogram(np.concatenate([*trains, np.zeros(0)]), edges)[0]
    window = np.hanning(2 * half + 3)[1:-1]
    return np.convolve(sum_of_all, window / window.sum() * CST_RATE_HZ, mode="valid")


def correlation(a: Doubles, b: Doubles) -> float:
    """Pearson's r; NaN where one of them does not vary."""
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size > 0 else float("nan")


def cst_correlation(
    predicted: SpikeTrains, reference: SpikeTrains, start: int, stop: int
) -> dict[str, float | None]:
    """Correlation of two cumulative spike trains (Wen et al. 2021, section 3.4.3), mean removed.

    Every predicted unit is first moved by its own lag, as for all scores. On a contraction of
    constant drive the smoothed CST is nearly flat and r compares noise: the paper's 0.95 cannot be
    compared without knowing how much its drive varied.

    Returns
    -------
    dict
        `lag0`: mean r of 1 s segments; `best_lag`: mean of each segment's largest r within 100 ms;
        `whole`: r over the whole span.
    """
    moved = [p - best_lag(r, p) for r, p in zip(reference.times, predicted.times, strict=True)]
    a, b = (smoothed_cst(t, start, stop, reference.fs_hz) for t in (reference.times, moved))
    size, reach = round(CST_SEGMENT_S * CST_RATE_HZ), round(CST_MAX_LAG_S * CST_RATE_HZ)
    lag0, best = [], []
    for at in range(0, len(a) - size + 1, size):
        lag0.append(correlation(a[at : at + size], b[at : at + size]))
        shifts = range(max(-reach, -at), min(reach, len(a) - size - at) + 1)
        tried = [correlation(a[at : at + size], b[at + s : at + s + size]) for s in shifts]
        here = lag0[-1]
        best.append(max([r for r in tried if r == r], default=here) if here == here else here)
    whole = correlation(a, b) if len(a) else float("nan")
    return {"lag0": mean_known(lag0), "best_lag": mean_known(best), "whole": mean_known([whole])}


def confusion(
    predicted: Sequence[Times], reference: Sequence[Times], fs_hz: float
) -> NDArray[np.int64]:
    """Which unit was taken for which: discharges in common within 1 ms, every unit with every unit.

    Each pair has its own lag, so that units that changed places, or became one, are seen; two
    trains that have nothing to do with each other still share a few percent by chance.

    Returns
    -------
    int64 (reference units, predicted units)
    """
    tolerance = int(MILLISECOND_S * fs_hz)
    out = np.zeros((len(reference), len(predicted)), np.int64)
    for i, r in enumerate(reference):
        for j, p in enumerate(predicted):
            out[i, j] = common(r, p - best_lag(r, p), tolerance)
    return out


def match(predicted: Sequence[Times], reference: Sequence[Times]) -> list[tuple[int, float]]:
    """For each reference unit, the predicted unit that agrees best and the rate of agreement."""
    out = []
    for r in reference:
        rates = [agreement(r, p) for p in predicted] or [0.0]
        out.append((int(np.argmax(rates)), max(rates)))
    return out


def one_to_one(predicted: Sequence[Times], reference: Sequence[Times]) -> list[tuple[int, int]]:
    """Pairs (predicted unit, reference unit) by falling agreement; each unit is in one at most.

    Below MIN_PAIR (that of the MUniverse benchmark) two trains have nothing to do with each other.
    """
    rates = np.array([[agreement(r, p) for r in reference] for p in predicted])
    pairs = []
    while rates.size and rates.max() >= MIN_PAIR:
        p, r = (int(k) for k in np.unravel_index(rates.argmax(), rates.shape))
        pairs.append((p, r))
        rates[p], rates[:, r] = -1, -1
    return sorted(pairs)


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
        **{name: mean_known([getattr(s, name) for s in scores])
           for name in ("agreement_1ms", "on_time", "time_error_ms", "isi_error_ms",
                        "rate_error_hz")},
        "units_above_0.7": int(np.sum(np.array(f1) > 0.7)),
        "per_unit": [
            {k: None if v != v else v for k, v in asdict(s).items()} for s in scores
        ],
    }
