"""The recording of a study: simulated as in section 3.1 of Wen et al. 2021, or one's own.

Recording, labels and, if simulated, the truth lie in `data-KEY` beside the jobs, made once; the
key stands for how they were made, so other settings never meet in one table.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

import spikewire
from spikewire import dataset, decompose
from spikewire.durable import write_durably
from spikewire.io import read_recording, read_trains, split
from spikewire.io.npz import write_recording, write_trains
from spikewire.score import agreement, best_lag, match
from spikewire.separate import Settings
from spikewire.signals import InputError, Recording, Span, SpikeTrains
from spikewire.simulate.discharge import Contraction
from spikewire.simulate.emg import Scene, simulate
from spikewire.simulate.muap import Anatomy
from spikewire.study.jobs import Progress
from spikewire.study.windows import moved

LEVEL, SECONDS_PER_LEVEL, SNR_DB = 25.0, 0.4, 20.0  # section 3.1: 25 %, ramp of 2.5 %/s, 20 dB
FOLDS = 3
GUARD = 160  # samples between training and test: the longest window and bin, with room
VALIDATION_SHARE = 0.15


@dataclass(frozen=True)
class Wanted:
    """How the data of a study are made.

    Attributes
    ----------
    recording, labels : files, or "" for a simulated muscle and our own decomposition
    seed : of the muscle
    contractions, plateau_s : of the simulated recording
    min_discharges : that a motor unit needs in every fold
    units : at most so many are kept, those of the best silhouette; 0 keeps all
    rounds : of the decomposition's search
    """

    recording: str = ""
    labels: str = ""
    seed: int = 1
    contractions: int = 1
    plateau_s: float = 60.0
    min_discharges: int = 150
    units: int = 0
    rounds: int = 4


@dataclass(frozen=True)
class Data:
    """A recording with labels, cut into folds.

    Attributes
    ----------
    labels : spike trains to train on, from the decomposition
    truth : the same units' simulated discharges, each train moved by one constant onto the labels
        (section 3.4.1); None for a real recording
    folds : spans of samples, each one the test part of a fold
    facts : where it all came from, for the report
    """

    recording: Recording
    labels: SpikeTrains
    truth: SpikeTrains | None
    folds: list[Span]
    facts: dict[str, Any]

    def spans(self, fold: int) -> tuple[list[Span], Span]:
        """Training spans of a fold, and the validation part inside them.

        The validation part is the middle of the longest span: its end is often a ramp, of which
        few motor units say anything.
        """
        start, stop = self.folds[fold]
        whole = dataset.spans_without(len(self.recording.emg), [(start, stop)], GUARD)
        left = [(max(a, c), min(b, d)) for a, b in whole
                for k, (c, d) in enumerate(self.folds) if k != fold and min(b, d) > max(a, c)]
        longest = max(left, key=lambda s: s[1] - s[0])
        length = round(VALIDATION_SHARE * sum(b - a for a, b in left))
        middle = sum(longest) // 2 - length // 2
        rest = [s for s in left if s != longest]
        around = [(longest[0], middle - GUARD), (middle + length + GUARD, longest[1])]
        if around[0][1] - longest[0] < dataset.STRETCH:
            raise InputError("the recording is too short for three folds and a validation part; "
                             "record 15 s or more")
        return sorted(rest + around), (middle, middle + length)


def key_of(wanted: Wanted) -> str:
    """Stands for the settings, this version, and the bytes of one's own files."""
    settings = asdict(replace(wanted, recording="", labels=""))
    text = json.dumps([settings, spikewire.__version__], sort_keys=True)
    for name in filter(None, (wanted.recording, wanted.labels)):
        where, grid = split(name)
        if not where.is_file():
            raise InputError(f"{where}: no such file")
        text += grid + sha256(where.read_bytes()).hexdigest()
    return sha256(text.encode()).hexdigest()[:12]


def folds_of(recording: Recording, plateau_s: float | None) -> tuple[list[Span], str]:
    """Contractions if there are three or more, else thirds of the plateau or the active range."""
    segments = [(int(a), int(b)) for a, b in recording.segments] \
        if recording.segments is not None else []
    if len(segments) >= FOLDS:
        return segments[:FOLDS], "by contraction, as in the paper"
    if not segments:
        band = Settings().band_hz
        segments = [decompose.active_range(decompose.band_pass(recording, band),
                                           recording.fs_hz)]
    start, stop = max(segments, key=lambda s: s[1] - s[0])
    words = "contiguous thirds of one contraction"
    if plateau_s is not None:  # the ramps are as long as each other
        margin = (stop - start - round(plateau_s * recording.fs_hz)) // 2
        start, stop, words = start + margin, stop - margin, "contiguous thirds of the plateau"
    edges = np.linspace(start, stop, FOLDS + 1).astype(int).tolist()
    return list(itertools.pairwise(edges)), words


def choose_units(labels: SpikeTrains, folds: list[Span], wanted: Wanted) -> list[int]:
    """Units with enough discharges in every fold; of too many the best by silhouette."""
    least = np.min([[len(t) for t in labels.between(a, b).times] for a, b in folds], axis=0)
    kept = np.flatnonzero(least >= wanted.min_discharges).tolist()
    if not kept:
        raise InputError(
            f"no motor unit has {wanted.min_discharges} discharges in every fold (the best has "
            f"{int(max(least, default=0))}); use a longer recording, or a smaller --min-discharges"
        )
    if wanted.units and len(kept) > wanted.units:
        sil = labels.sil if labels.sil is not None else -np.arange(len(labels))
        kept = sorted(sorted(kept, key=lambda k: -sil[k])[: wanted.units])
    return kept


def true_units(
    labels: SpikeTrains, truth: SpikeTrains
) -> tuple[SpikeTrains, list[dict[str, float]]]:
    """The simulated unit behind each label, realigned to it, and how well the two agree."""
    pairs = match(truth.times, labels.times)
    same = SpikeTrains([truth.times[k] for k, _ in pairs], truth.fs_hz, method="simulated")
    lags = [best_lag(t, found) for t, found in zip(same.times, labels.times, strict=True)]
    facts = [{"unit": k, "agreement": agreement(t, found, lag), "lag_samples": lag}
             for (k, _), t, found, lag in zip(pairs, same.times, labels.times, lags, strict=True)]
    return moved(same, lags), facts


def make(wanted: Wanted, cache: Path | None, progress: Progress) -> Data:
    """Simulate or read, decompose, choose the units."""
    truth: SpikeTrains | None = None
    if wanted.recording:
        recording, plateau_s = read_recording(wanted.recording), None
    else:
        contraction = Contraction(LEVEL, wanted.plateau_s, SECONDS_PER_LEVEL)
        scene = Scene(Anatomy(wanted.seed), contraction, wanted.contractions, snr_db=SNR_DB)
        recording, truth = simulate(
            scene, cache, lambda s, w: progress(0.3 * s, f"simulating: {w}"))
        plateau_s = wanted.plateau_s if wanted.contractions == 1 else None
    if wanted.labels:
        labels = read_trains(wanted.labels)
    else:
        settings = Settings(rounds=wanted.rounds)
        labels = decompose.decompose(
            recording, settings, lambda s, w: progress(0.3 + 0.7 * s, f"labels: {w}"))
    if labels.fs_hz != recording.fs_hz:
        raise InputError(f"labels count at {labels.fs_hz:g} Hz, the recording at "
                         f"{recording.fs_hz:g} Hz: decompose this very recording")
    if any(len(t) and t[-1] >= len(recording.emg) for t in labels.times):
        raise InputError(f"{wanted.labels}: has discharges after the end of the recording")
    folds, words = folds_of(recording, plateau_s)
    units = choose_units(labels, folds, wanted)
    facts: dict[str, Any] = {
        "wanted": asdict(wanted), "recording": recording.summary(), "fs_hz": recording.fs_hz,
        "channels": recording.emg.shape[1], "folds": folds, "folded": words,
        "found": len(labels), "used": len(units),
        "discharges": [len(labels.times[k]) for k in units],
    }
    labels = labels.only(units)
    for name, values in (("sil", labels.sil), ("pnr_db", labels.pnr_db)):
        facts[name] = None if values is None else [float(v) for v in values]
    if truth is not None:
        truth, facts["truth"] = true_units(labels, truth)
    return Data(replace(recording, force=None, segments=None), labels, truth, folds, facts)


def prepare(
    folder: Path, wanted: Wanted, cache: Path | None = None,
    progress: Progress = lambda share, words: None,
) -> str:
    """Make the data of a study, or find them made; returns their key."""
    key = key_of(wanted)
    home = folder / f"data-{key}"
    if (home / "facts.json").is_file():
        return key
    data = make(wanted, cache, progress)
    home.mkdir(parents=True, exist_ok=True)
    write_recording(home / "recording.npz", data.recording)
    write_trains(home / "labels.npz", data.labels)
    if data.truth is not None:
        write_trains(home / "truth.npz", data.truth)
    # The facts come last: a folder with them is complete.
    text = json.dumps(data.facts, indent=1).encode()
    write_durably(home / "facts.json", lambda file: file.write(text))
    return key


def load(folder: Path, key: str) -> Data:
    """Read what `prepare` left."""
    home = folder / f"data-{key}"
    facts = json.loads((home / "facts.json").read_text())
    truth = read_trains(home / "truth.npz") if (home / "truth.npz").is_file() else None
    folds = [(int(a), int(b)) for a, b in facts["folds"]]
    return Data(read_recording(home / "recording.npz", any_rms=True),
                read_trains(home / "labels.npz"), truth, folds, facts)
