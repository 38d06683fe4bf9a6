"""Convolutive blind source separation of the CKC family: EMG -> spike trains.

Band-pass, extension, regularised whitening, then rounds of searches (`separate`), on the recording
and on what is left of it without the units found so far (Chen & Zhou 2016). The marked sample is
the peak of the unit's source signal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from scipy import signal

from spikewire import filters
from spikewire.peel import peeled, untangled
from spikewire.score import agreement
from spikewire.separate import (
    SAME_UNIT,
    Settings,
    Source,
    cov_isi,
    discharges,
    search,
    settle,
    without_duplicates,
)
from spikewire.signals import Floats, InputError, Recording, SpikeTrains, Times

Progress = Callable[[float, str], None]
MIN_CHANNELS = 8


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


def whitening(pieces: Sequence[Floats], delays: int) -> Floats:
    """What decorrelates the delayed copies of all channels: float32 (delays * channels, rank).

    Eigenvalues below the mean of the lower half are noise and dropped.
    """
    values, vectors = np.linalg.eigh(filters.extended_covariance(pieces, delays))
    # Dead or doubled channels leave eigenvalues that are rounding only, of either sign.
    keep = values > max(values[: len(values) // 2].mean(), -values[0])
    return (vectors[:, keep] / np.sqrt(values[keep])).astype(np.float32)


def whiten(pieces: Sequence[Floats], delays: int) -> Floats:
    """Delayed copies of all channels, decorrelated: float32 (samples of all pieces, rank)."""
    transform = whitening(pieces, delays)
    return np.concatenate([filters.apply(x, transform) for x in pieces])


def sources(
    recording: Recording, times: Sequence[Times], settings: Settings = Settings()
) -> tuple[Floats, int, list[bool]]:
    """Source signals of known units, as the decomposition has them when it finds discharges.

    Each is the mean whitened vector at a unit's discharges, applied: the whitening and the means
    make one filter per unit, so that no whitened copy of the recording is needed. Then, with the
    other units' crosstalk taken out, if that source shows the unit's discharges better.

    Returns
    -------
    float32 (samples, units), the highest discharge of each unit at 1; zeros without discharges
    int
        Sample of the recording at which they start: the muscle is active from there on, and no
        discharge is left out.
    list of bool
        Whose crosstalk was taken out.
    """
    x = band_pass(recording, settings.band_hz)
    start, stop = active_range(x, recording.fs_hz)
    known = [t for t in times if len(t)]
    start = min([start, *(int(t[0]) for t in known)])
    stop = max([stop, *(int(t[-1]) + 1 for t in known)])
    x, times = x[start:stop], [t - start for t in times]
    transform = whitening([x], settings.delays).astype(np.float64)
    sums = [filters.triggered_mean(x, t, settings.delays) for t in times]
    means = np.stack([mean / max(count, 1) for mean, count in sums], axis=1)
    out = filters.apply(x, (transform @ (transform.T @ means)).astype(np.float32))
    clean = untangled(out, times, recording.fs_hz)
    chosen = [_shows(one, t, recording.fs_hz) < _shows(other, t, recording.fs_hz)
              for one, other, t in zip(out.T, clean.T, times, strict=True)]
    out[:, chosen] = clean[:, chosen]
    for column, t in zip(out.T, times, strict=True):
        top = column[t].max() if len(t) else 0
        column /= top if top > 0 else 1
    return out, start, chosen


def _shows(source: Floats, times: Times, fs_hz: float) -> float:
    """How well the discharges that a source shows by itself agree with given ones."""
    return agreement(times, discharges(np.ascontiguousarray(source), fs_hz)[0], 0, 0)


def check(recordings: Sequence[Recording]) -> None:
    """Refuse what cannot be decomposed, or not together."""
    first = recordings[0]
    for recording in recordings:
        channels = recording.emg.shape[1]
        if channels < MIN_CHANNELS:
            raise InputError(
                f"{recording.name}: {channels} channels cannot be separated, allowed are "
                f"{MIN_CHANNELS} or more; use a high-density grid"
            )
        if recording.seconds < 5:
            raise InputError(
                f"{recording.name}: {recording.seconds:.1f} s are too short to decompose, "
                "record at least 5 s (20 s or more find more units)"
            )
        if (channels, recording.fs_hz) != (first.emg.shape[1], first.fs_hz):
            raise InputError(
                f"{recording.name}: {channels} channels at {recording.fs_hz:g} Hz, {first.name} "
                f"has {first.emg.shape[1]} at {first.fs_hz:g} Hz; decompose them one by one"
            )


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
    return decompose_together([recording], settings, progress)[0]


def decompose_together(
    recordings: Sequence[Recording], settings: Settings = Settings(),
    progress: Progress | None = None,
) -> list[SpikeTrains]:
    """Find the same motor units in several contractions under electrodes that stayed in place.

    Returns
    -------
    list of SpikeTrains
        One for each recording, the same units in the same order; a unit may be silent in some.
        See `decompose` for the rest.
    """
    report = progress or (lambda share, words: None)
    check(recordings)
    fs_hz = recordings[0].fs_hz
    report(0.0, "band-pass and whitening")
    pieces, starts = [], []
    for recording in recordings:
        x = band_pass(recording, settings.band_hz)
        start, stop = active_range(x, fs_hz)
        pieces.append(x[start:stop])
        starts.append(start)
    joints = np.cumsum([len(x) for x in pieces])
    z = where = whiten(pieces, settings.delays)
    rng = np.random.default_rng(settings.seed)
    found: list[Source] = []
    for number in range(settings.rounds + settings.peels):
        if number >= settings.rounds:
            left = peeled(np.concatenate(pieces), [s.times for s in found], fs_hz)
            where = whiten(np.split(left, joints[:-1]), settings.delays)
        report(0.05 + 0.9 * number / (settings.rounds + settings.peels),
               f"round {number + 1} of {settings.rounds} + {settings.peels}: {settings.starts} "
               f"starts, {len(found)} motor units so far")
        found = search(z, where, found, fs_hz, settings, rng)
    report(0.95, f"crosstalk between {len(found)} motor units")
    found = without_duplicates(settle(z, found, fs_hz), settings.duplicate_agreement)
    found = [s for s in found if s.accepted(settings)]
    if not found:
        raise InputError(
            f"{' + '.join(r.name for r in recordings)}: no motor unit with SIL >= "
            f"{settings.min_sil:g}, CoV <= {settings.max_cov_isi:g}, PNR >= "
            f"{settings.min_pnr_db:g} dB and {settings.min_discharges} discharges; check the "
            "signal quality, or lower --min-sil"
        )
    found.sort(key=lambda s: -len(s.times))
    report(1.0, f"{len(found)} motor units")
    made = []
    for start, joint, x in zip(starts, joints, pieces, strict=True):
        first = joint - len(x)
        inside = [s.times[(s.times >= first) & (s.times < joint)] - first for s in found]
        # What is before the filters' first whole window belongs to no real moment.
        made.append(SpikeTrains(
            [t[t >= settings.delays - 1] + start for t in inside], fs_hz,
            np.array([s.sil for s in found]), np.array([s.pnr_db for s in found]),
            np.array([s.cov_isi for s in found]),
            f"convolutive blind source separation, seed {settings.seed}",
        ))
    return made


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
    z = whiten(parts, settings.delays)
    fs_hz = recording.fs_hz
    known: list[Times] = []
    for times in trains.times:
        now = np.concatenate([times[(times >= a + settings.delays) & (times < b)] - a + shift
                              for (a, b), shift in zip(spans, shifts, strict=False)])
        for _ in range(4):
            if len(now) < 3:
                break
            new, _ = discharges(z @ z[now].mean(axis=0), fs_hz)
            if agreement(now, new) < SAME_UNIT:
                break
            now = new
        known.append(now)
    active = [k for k, times in enumerate(known) if len(times) >= 3]
    calm = settle(z, [Source(known[k], 0, 0, cov_isi(known[k], fs_hz)) for k in active], fs_hz)
    for k, source in zip(active, calm, strict=True):
        known[k] = source.times
    # Extended vectors across a joint belong to no real moment.
    out = [np.concatenate([t[(t >= shift + settings.delays) & (t < shift + b - a)] - shift + a
                           for (a, b), shift in zip(spans, shifts, strict=False)])
           for t in known]
    return SpikeTrains([t.astype(np.int64) for t in out], trains.fs_hz, trains.sil, trains.pnr_db,
                       trains.cov_isi, f"{trains.method}, re-estimated on the training spans")
