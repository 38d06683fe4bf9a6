"""Motor-unit sources of whitened EMG: fixed-point search from many starts at once, refinement.

Skewed directions first (Negro et al. 2016), then spike-triggered means of what they show (Holobar
& Zazula 2007). All sources of a round go through the data together: one read of it serves them all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import signal

from spikewire.peaks import silhouette, two_clusters
from spikewire.peel import untangled
from spikewire.score import agreement
from spikewire.signals import Floats, Times

CLIP_SD = np.float32(8.0)  # discharges of a good source stand 8 to 15 standard deviations high
SAME_DIRECTION = 0.9  # correlation of two sources beyond which one of them is enough
SAME_UNIT = 0.5  # agreement that a refined train must keep with the one before
FEWEST, REFINEMENTS, SETTLING = 20, 10, 6


@dataclass(frozen=True)
class Settings:
    """What may be chosen; the defaults suit 64 channels at 2048 Hz."""

    delays: int = 20
    starts: int = 128  # sources searched at once in a round
    rounds: int = 4
    peels: int = 2  # rounds on what is left without the units found so far
    iterations: int = 12
    band_hz: tuple[float, float] = (20.0, 500.0)
    min_sil: float = 0.85
    max_cov_isi: float = 0.3
    min_pnr_db: float = 14.0
    min_discharges: int = 50
    duplicate_agreement: float = 0.3
    seed: int = 0


@dataclass(frozen=True)
class Source:
    """One unit: its discharges and their quality."""

    times: Times
    sil: float
    pnr_db: float
    cov_isi: float

    def accepted(self, settings: Settings) -> bool:
        """Whether its quality is enough for a unit."""
        return (self.sil >= settings.min_sil and self.cov_isi <= settings.max_cov_isi
                and self.pnr_db >= settings.min_pnr_db
                and len(self.times) >= settings.min_discharges)


def cov_isi(times: Times, fs_hz: float) -> float:
    """Coefficient of variation of the inter-spike intervals between 20 and 250 ms."""
    intervals = np.diff(times) / fs_hz
    intervals = intervals[(intervals > 0.02) & (intervals < 0.25)]
    return float(intervals.std() / intervals.mean()) if len(intervals) > 10 else float("inf")


def peaks_of(source: Floats, fs_hz: float) -> Times:
    """Samples of the peaks that may be discharges: the highest within 15 ms to either side."""
    peaks: Times = signal.find_peaks(source, height=0.0, distance=int(0.015 * fs_hz))[0]
    return peaks


def discharges(source: Floats, fs_hz: float) -> tuple[Times, float]:
    """Peaks of the high cluster of a source signal, and the silhouette."""
    peaks = peaks_of(source, fs_hz)
    if len(peaks) < 3:
        return np.zeros(0, np.int64), 0.0
    heights = np.square(source[peaks] / source[peaks].max())
    threshold = two_clusters(heights)
    return peaks[heights >= threshold], silhouette(heights, threshold)


def pulse_to_noise_db(source: Floats, times: Times) -> float:
    """Mean squared source at the discharges over elsewhere, in dB (Holobar et al. 2014)."""
    power = np.square(source, dtype=np.float64)
    at = power[times].sum()
    return float(10 * np.log10(at / len(times) * (len(power) - len(times)) / (power.sum() - at)))


def judged(source: Floats, fs_hz: float) -> Source | None:
    """What a source signal shows; None if that is next to nothing."""
    times, sil = discharges(source, fs_hz)
    if len(times) < FEWEST:
        return None
    return Source(times, sil, pulse_to_noise_db(source, times), cov_isi(times, fs_hz))


def fixed_points(z: Floats, starts: Times, iterations: int) -> Floats:
    """Skewed directions from many starts at once, without deflation; no two of them alike.

    The contrast is the one-sided cube, its slope held constant beyond `CLIP_SD`: unclipped, a
    filter of several hundred weights settles on the one sample that it started from.

    Parameters
    ----------
    z : float32 (samples, rank), whitened
    starts : int64 (n,), samples whose vectors are the first guesses

    Returns
    -------
    float32 (rank, at most n), of length 1: z @ them are sources of unit variance
    """
    w = z[starts].T.copy()
    w /= np.linalg.norm(w, axis=0)
    for _ in range(iterations):
        s = z @ w
        slope = 2 * np.mean(s * ((s > 0) & (s < CLIP_SD)), axis=0)
        np.clip(s, 0, CLIP_SD, out=s)
        np.square(s, out=s)
        w = z.T @ s / np.float32(len(z)) - slope * w
        w /= np.linalg.norm(w, axis=0)
    alike = np.abs(w.T @ w) > SAME_DIRECTION
    first = ~np.tril(alike, -1).any(axis=1)
    return np.ascontiguousarray(w[:, first])


def refine(z: Floats, w: Floats, fs_hz: float) -> list[Source]:
    """Spike-triggered means while the interval variation falls, never walking to another unit.

    Parameters
    ----------
    z : float32 (samples, rank), whitened
    w : float32 (rank, n), directions

    Returns
    -------
    list of Source
        The best of each direction that shows anything like a unit.
    """
    best: dict[int, Source] = {}
    going = list(range(w.shape[1]))
    for _ in range(REFINEMENTS):
        means = []
        still = []
        for k, source in zip(going, w.T @ z.T, strict=True):
            if abs(source.min()) > source.max():
                source = -source
            now = judged(source, fs_hz)
            if now is None:
                continue
            # A step that leaves half of the discharges behind has walked to a stronger unit.
            if k in best and (now.cov_isi >= best[k].cov_isi
                              or agreement(best[k].times, now.times) < SAME_UNIT):
                continue
            best[k] = now
            still.append(k)
            means.append(z[now.times].mean(axis=0))
        if not still:
            break
        going = still
        w = np.stack(means, axis=1)
        w /= np.linalg.norm(w, axis=0)
    return list(best.values())


def without_duplicates(sources: list[Source], limit: float) -> list[Source]:
    """The best silhouette of every group that agrees by more than `limit`."""
    kept: list[Source] = []
    for source in sorted(sources, key=lambda s: -s.sil):
        if all(agreement(k.times, source.times) < limit for k in kept):
            kept.append(source)
    return kept


def pick_starts(activity: Floats, count: int, fs_hz: float, rng: np.random.Generator) -> Times:
    """Random choice among the upper half of the peaks of the activity index."""
    peaks = signal.find_peaks(activity, distance=int(0.01 * fs_hz))[0]
    if not len(peaks):
        return peaks
    strong = peaks[activity[peaks] >= np.median(activity[peaks])]
    return np.sort(rng.choice(strong, min(count, len(strong)), replace=False))


def search(
    z: Floats, where: Floats, found: list[Source], fs_hz: float, settings: Settings,
    rng: np.random.Generator,
) -> list[Source]:
    """One round of starts; moments explained by a known unit start no further search.

    Parameters
    ----------
    z : float32 (samples, rank), whitened recording, on which every unit is judged
    where : z itself, or what is left of the recording without the known units, whitened
        On a remainder silhouettes are too good (what was subtracted left no noise behind).

    Returns
    -------
    list of Source
        Known and new ones.
    """
    activity = np.einsum("ij,ij->i", where, where)
    activity[: settings.delays] = activity[-settings.delays :] = 0
    for source in found:
        around = source.times[:, None] + np.arange(-10, 11)
        activity[around.clip(0, len(activity) - 1)] = 0
    starts = pick_starts(activity, settings.starts, fs_hz, rng)
    if not len(starts):
        return found
    seen = refine(where, fixed_points(where, starts, settings.iterations), fs_hz)
    if where is not z:
        seen = without_duplicates(seen, settings.duplicate_agreement)
        seen = refine(z, np.stack([z[s.times].mean(axis=0) for s in seen], axis=1), fs_hz) \
            if seen else []
    good = [s for s in seen if s.accepted(settings)]
    # Also at the end, since two units that differed before their last refinement may agree now.
    return without_duplicates(found + good, settings.duplicate_agreement)


def settle(z: Floats, found: list[Source], fs_hz: float) -> list[Source]:
    """Discharges again, from sources without the other units' crosstalk, while intervals calm.

    What was subtracted left no noise behind, so only the interval variation judges: a source that
    lost discharges to another unit, or took some, has a larger one.

    Returns
    -------
    list of Source
        The same units in the same order.
    """
    for _ in range(SETTLING if found else 0):
        directions = np.stack([z[s.times].mean(axis=0) for s in found], axis=1)
        sources = z @ (directions / np.linalg.norm(directions, axis=0))
        clean = untangled(sources, [s.times for s in found], fs_hz)
        calmer = []
        for before, source in zip(found, clean.T, strict=True):
            now = judged(np.ascontiguousarray(source), fs_hz)
            better = (now is not None and now.cov_isi < before.cov_isi
                      and agreement(before.times, now.times) >= SAME_UNIT)
            calmer.append(now if better and now else before)
        if all(a is b for a, b in zip(found, calmer, strict=True)):
            break
        found = calmer
    return found
