"""Convolutive blind source separation of the CKC family: EMG -> spike trains.

Band-pass, extension, regularised whitening, fixed-point search from many starts at once, then
spike-triggered refinement (Holobar & Zazula 2007; Negro et al. 2016; Chen & Zhou 2016). The marked
sample is the peak of the unit's source signal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import signal

from spikewire import filters
from spikewire.peaks import silhouette, two_clusters
from spikewire.score import agreement
from spikewire.signals import Floats, InputError, Recording, SpikeTrains, Times

Progress = Callable[[float, str], None]
MIN_CHANNELS = 8
CLIP_SD = np.float32(8.0)  # discharges of a good source stand 8 to 15 standard deviations high


@dataclass(frozen=True)
class Settings:
    """What may be chosen; the defaults suit 64 channels at 2048 Hz."""

    delays: int = 20
    starts: int = 128  # sources searched at once in a round
    rounds: int = 4
    iterations: int = 12
    band_hz: tuple[float, float] = (20.0, 500.0)
    min_sil: float = 0.85
    max_cov_isi: float = 0.35
    min_discharges: int = 50
    duplicate_agreement: float = 0.3
    seed: int = 0


@dataclass(frozen=True)
class Source:
    """One accepted unit: its discharges and their quality."""

    times: Times
    sil: float
    pnr_db: float
    cov_isi: float


def band_pass(recording: Recording, band_hz: tuple[float, float]) -> Floats:
    """Zero-phase second-order band-pass: labels may look ahead, the decoder may not."""
    sos = signal.butter(2, band_hz, "bandpass", fs=recording.fs_hz, output="sos")
    return signal.sosfiltfilt(sos, recording.emg, axis=0).astype(np.float32)


def active_range(x: Floats, fs_hz: float) -> tuple[int, int]:
    """Samples between the first and last rise of the envelope above rest."""
    envelope = np.sqrt(np.mean(np.square(x), axis=1))
    envelope = np.convolve(envelope, np.ones(int(fs_hz / 4)) / int(fs_hz / 4), mode="same")
    rest, plateau = np.percentile(envelope, [2, 90])
    if not plateau > 0:
        raise InputError("the EMG is constant: nothing to decompose")
    above = np.flatnonzero(envelope >= rest + 0.1 * (plateau - rest))
    return int(above[0]), int(above[-1]) + 1


def whiten(x: Floats, delays: int) -> Floats:
    """Delayed copies of all channels, decorrelated: float32 (samples, rank).

    Eigenvalues below the mean of the lower half are noise and dropped.
    """
    values, vectors = np.linalg.eigh(filters.extended_covariance([x], delays))
    # Dead or doubled channels leave eigenvalues that are rounding only, of either sign.
    keep = values > max(values[: len(values) // 2].mean(), -values[0])
    transform = (vectors[:, keep] / np.sqrt(values[keep])).astype(np.float32)
    return filters.apply(x, transform)


def cov_isi(times: Times, fs_hz: float) -> float:
    """Coefficient of variation of the inter-spike intervals between 20 and 250 ms."""
    intervals = np.diff(times) / fs_hz
    intervals = intervals[(intervals > 0.02) & (intervals < 0.25)]
    return float(intervals.std() / intervals.mean()) if len(intervals) > 10 else float("inf")


def discharges(source: Floats, fs_hz: float) -> tuple[Times, float]:
    """Peaks of the high cluster of a source signal, and the silhouette."""
    peaks = signal.find_peaks(source, height=0.0, distance=int(0.015 * fs_hz))[0]
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


def fixed_points(z: Floats, starts: Times, iterations: int) -> Floats:
    """Skewed sources from many starts at once, without deflation; duplicates are dropped later.

    The contrast is the one-sided cube, its slope held constant beyond `CLIP_SD`: unclipped, a
    filter of several hundred weights settles on the one sample that it started from.

    Parameters
    ----------
    z : float32 (samples, rank), whitened
    starts : int64 (n,), samples whose vectors are the first guesses

    Returns
    -------
    float32 (samples, n), unit variance
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
    return z @ w


def refine(z: Floats, source: Floats, fs_hz: float, rounds: int = 10) -> Source | None:
    """Spike-triggered means while the interval variation falls, never walking to another unit."""
    if abs(source.min()) > source.max():
        source = -source
    times, sil = discharges(source, fs_hz)
    best: Source | None = None
    for _ in range(rounds):
        if len(times) < 20:
            break
        now = Source(times, sil, pulse_to_noise_db(source, times), cov_isi(times, fs_hz))
        # A step that leaves half of the discharges behind has walked to a stronger unit.
        if best and (now.cov_isi >= best.cov_isi or agreement(best.times, times) < 0.5):
            break
        best = now
        w = z[times].mean(axis=0)
        source = z @ (w / np.linalg.norm(w))
        times, sil = discharges(source, fs_hz)
    return best


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
    z: Floats, fs_hz: float, settings: Settings, progress: Progress
) -> list[Source]:
    """Rounds of many starts; moments explained by a found unit start no further search."""
    activity = np.einsum("ij,ij->i", z, z)
    activity[: settings.delays] = activity[-settings.delays :] = 0
    rng = np.random.default_rng(settings.seed)
    found: list[Source] = []
    for number in range(settings.rounds):
        progress(number / settings.rounds, f"round {number + 1} of {settings.rounds}: "
                 f"{settings.starts} starts, {len(found)} motor units so far")
        starts = pick_starts(activity, settings.starts, fs_hz, rng)
        if not len(starts):
            break
        refined = [refine(z, s, fs_hz) for s in fixed_points(z, starts, settings.iterations).T]
        good = [
            s for s in refined
            if s and s.sil >= settings.min_sil and s.cov_isi <= settings.max_cov_isi
            and len(s.times) >= settings.min_discharges
        ]
        # Also at the end, since two units that differed before their last refinement may agree now.
        found = without_duplicates(found + good, settings.duplicate_agreement)
        explained = (s.times[:, None] + np.arange(-10, 11) for s in found)
        for around in explained:
            activity[around.clip(0, len(activity) - 1)] = 0
    return sorted(found, key=lambda s: -len(s.times))


def decompose(
    recording: Recording, settings: Settings = Settings(), progress: Progress | None = None
) -> SpikeTrains:
    """Find the motor units of a recording, without any prior knowledge of them.

    Parameters
    ----------
    recording : Recording
    settings : Settings
    progress : callable (share done, words), optional

    Returns
    -------
    SpikeTrains
        Most active unit first; times are the peaks of the units' sources. The same seed gives the
        same units.

    Raises
    ------
    InputError
        The recording is too short, flat, or holds no unit that passes the limits.
    """
    report = progress or (lambda share, words: None)
    fs_hz = recording.fs_hz
    if recording.emg.shape[1] < MIN_CHANNELS:
        raise InputError(
            f"{recording.name}: {recording.emg.shape[1]} channels cannot be separated, allowed are "
            f"{MIN_CHANNELS} or more; use a high-density grid"
        )
    if recording.seconds < 5:
        raise InputError(
            f"{recording.name}: {recording.seconds:.1f} s are too short to decompose, "
            "record at least 5 s (20 s or more find more units)"
        )
    report(0.0, "band-pass and whitening")
    x = band_pass(recording, settings.band_hz)
    start, stop = active_range(x, fs_hz)
    z = whiten(x[start:stop], settings.delays)
    found = search(z, fs_hz, settings, lambda s, words: report(0.05 + 0.95 * s, words))
    if not found:
        raise InputError(
            f"{recording.name}: no motor unit with SIL >= {settings.min_sil:g}, CoV <= "
            f"{settings.max_cov_isi:g} and {settings.min_discharges} discharges; check the signal "
            "quality, or lower --min-sil"
        )
    report(1.0, f"{len(found)} motor units")
    return SpikeTrains(
        [s.times + start for s in found], fs_hz, np.array([s.sil for s in found]),
        np.array([s.pnr_db for s in found]), np.array([s.cov_isi for s in found]),
        f"convolutive blind source separation, seed {settings.seed}",
    )


def re_estimate(
    recording: Recording, trains: SpikeTrains, spans: Sequence[tuple[int, int]],
    settings: Settings = Settings(),
) -> SpikeTrains:
    """Discharge times inside `spans`, from separation filters that saw nothing outside them.

    Labels for training must not know the block they are tested on; a decomposition of the whole
    recording does. Each unit starts at its known discharges inside the spans and iterates there.

    Returns
    -------
    SpikeTrains
        The same units in the same order, with discharges inside the spans only.
    """
    parts = [band_pass(replace(recording, emg=recording.emg[a:b]), settings.band_hz)
             for a, b in spans]
    shifts = np.cumsum([0] + [len(p) for p in parts])
    z = whiten(np.concatenate(parts), settings.delays)
    out = []
    for times in trains.times:
        inside = [times[(times >= a + settings.delays) & (times < b)] - a + shift
                  for (a, b), shift in zip(spans, shifts, strict=False)]
        now = np.concatenate(inside)
        for _ in range(4):
            if len(now) < 3:
                break
            new, _ = discharges(z @ z[now].mean(axis=0), recording.fs_hz)
            if agreement(now, new) < 0.5:
                break
            now = new
        # Extended vectors across a joint belong to no real moment.
        back = [now[(now >= shift + settings.delays) & (now < shift + b - a)] - shift + a
                for (a, b), shift in zip(spans, shifts, strict=False)]
        out.append(np.concatenate(back).astype(np.int64))
    return SpikeTrains(out, trains.fs_hz, trains.sil, trains.pnr_db, trains.cov_isi,
                       f"{trains.method}, re-estimated on the training spans")
