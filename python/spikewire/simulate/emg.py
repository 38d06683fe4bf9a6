"""Recordings of a simulated muscle: action potentials at the discharge times, noise, faults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spikewire.signals import Recording, SpikeTrains
from spikewire.simulate.discharge import Contraction, discharge_times, fluctuation
from spikewire.simulate.faults import FAULTS, Draw
from spikewire.simulate.muap import LENGTH, OVERSAMPLING, Anatomy, cached

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]

MONTAGES = ("sd", "mono")
NOISES = ("channel", "lead", "spatial")
NOISE_REACH_MM = 15.0  # over which spatial noise falls to 1/e


@dataclass(frozen=True)
class Scene:
    """A recording to be made; everything random follows from `anatomy.seed` and `contraction`.

    Attributes
    ----------
    contractions, first : how many, and the index of the first: other indices, other spikes
    montage : "sd" differences along the columns (60 channels) or "mono" (64: corner missing)
    snr_db : of the whole grid while the muscle is active; noise "channel" is white and equal on
        every channel, "lead" white on the monopolar leads, "spatial" correlated over the skin
    velocity_drift : share by which conduction has slowed at the end (0.1: 10 % slower)
    faults : (name, amount) from `faults.FAULTS`, in order
    """

    anatomy: Anatomy = field(default_factory=Anatomy)
    contraction: Contraction = field(default_factory=Contraction)
    contractions: int = 1
    first: int = 0
    montage: str = "sd"
    snr_db: float = 20.0
    noise: str = "channel"
    velocity_drift: float = 0.0
    faults: tuple[tuple[str, float], ...] = ()


def place(
    out: Floats, times: Doubles, shapes: Floats, slower: Doubles | None = None
) -> None:
    """Add one unit's action potentials to the leads, each between samples where it belongs.

    Parameters
    ----------
    out : float32 (samples, leads), changed
    times : discharges, samples and fractions
    shapes : float32 (4 * 132, leads)
    slower : per discharge, how many times longer its action potential is
    """
    # Two neighbouring phases are mixed, so any fraction of a sample has its own shape.
    padded = np.concatenate([shapes, np.zeros((OVERSAMPLING, shapes.shape[1]), np.float32)])
    for number, time in enumerate(times):
        here = padded if slower is None else stretched(padded, slower[number])
        start = int(np.ceil(time))
        early = (start - time) * OVERSAMPLING  # phases that have passed at the first sample
        phase, share = int(early), np.float32(early - int(early))
        piece = here[phase :: OVERSAMPLING][:LENGTH] * (1 - share)
        piece += here[phase + 1 :: OVERSAMPLING][:LENGTH] * share
        stop = min(start + LENGTH, len(out))
        out[start:stop] += piece[: max(stop - start, 0)]


def stretched(shapes: Floats, factor: float) -> Floats:
    """The same shape, `factor` times as long."""
    at = np.arange(len(shapes)) / factor
    low = at.astype(int)
    share = (at - low).astype(np.float32)[:, None]
    high = np.minimum(low + 1, len(shapes) - 1)
    return shapes[low] * (1 - share) + shapes[high] * share


def montage_of(
    leads: Floats, rows: int, columns: int, montage: str
) -> tuple[Floats, NDArray[np.int64]]:
    """Channels of a montage from monopolar leads (column by column), and their (row, column)."""
    places = np.stack([a.ravel() for a in np.meshgrid(np.arange(rows), np.arange(columns))])
    if montage == "mono":
        first = 1 if (rows, columns) == (13, 5) else 0  # a 64-channel grid has no corner
        return np.ascontiguousarray(leads[:, first:]), places[:, first:]
    both = places[0, :-1] + 1 == places[0, 1:]
    return np.diff(leads, axis=1)[:, both], places[:, :-1][:, both]


def noise_of(scene: Scene, samples: int, channels: int, rng: np.random.Generator) -> Floats:
    """Noise of unit scale in the channels of the scene."""
    grid = scene.anatomy.grid
    if scene.noise == "channel":
        return rng.standard_normal((samples, channels), np.float32)
    white = rng.standard_normal((samples, grid.rows * grid.columns), np.float32)
    if scene.noise == "spatial":
        along, around = grid.places()
        apart = np.hypot(np.subtract.outer(along, along), np.subtract.outer(around, around))
        white = white @ np.linalg.cholesky(np.exp(-apart / NOISE_REACH_MM)).T.astype(np.float32)
    return montage_of(white, grid.rows, grid.columns, scene.montage)[0]


def simulate(
    scene: Scene, cache: Path | None = None,
    progress: Callable[[float, str], None] = lambda share, words: None,
) -> tuple[Recording, SpikeTrains]:
    """Make a recording and its true discharge times.

    Returns
    -------
    Recording
        float32 (samples, channels), microvolt; `force` is the intended excitation in %.
    SpikeTrains
        All units of the muscle in order of recruitment; those never recruited are empty.
    """
    anatomy, fs_hz = scene.anatomy, scene.anatomy.fs_hz
    shapes = cached(anatomy, cache, lambda share: progress(0.8 * share, "action potentials"))
    pool, grid = anatomy.pool(), anatomy.grid
    profile = scene.contraction.profile(fs_hz)
    samples = len(profile)
    leads = np.zeros((samples * scene.contractions, grid.rows * grid.columns), np.float32)
    trains: list[list[Doubles]] = [[] for _ in range(len(pool))]
    for number in range(scene.contractions):
        progress(0.8 + 0.1 * number / scene.contractions, f"contraction {number + 1}")
        rng = np.random.default_rng([anatomy.seed, 2, scene.first + number])
        wobble = 1 + scene.contraction.common_drive * fluctuation(samples, fs_hz, rng)
        times = discharge_times(pool, (profile * wobble).clip(0, 100), fs_hz, rng)
        for unit, t in enumerate(times):
            at = t + number * samples
            slower = 1 / (1 - scene.velocity_drift * at / len(leads))
            place(leads, at, shapes[unit], slower if scene.velocity_drift else None)
            trains[unit].append(at)
    emg, (row, column) = montage_of(leads, grid.rows, grid.columns, scene.montage)
    rng = np.random.default_rng([anatomy.seed, 3, scene.first])
    active = np.tile(profile > 0, scene.contractions)
    power = float(np.mean(np.square(emg[active], dtype=np.float64)))
    progress(0.9, "noise and faults")
    noise = noise_of(scene, len(emg), emg.shape[1], rng)
    level = np.sqrt(power / 10 ** (scene.snr_db / 10) / np.mean(np.square(noise, dtype=np.float64)))
    emg += np.float32(level) * noise
    draw = Draw(emg.shape[1], np.random.default_rng([anatomy.seed, 4, scene.first]))
    for name, amount in scene.faults:
        FAULTS[name](emg, amount, fs_hz, draw)
    edges = samples * np.arange(scene.contractions + 1)
    rest = round(scene.contraction.rest_s * fs_hz)
    recording = Recording(
        emg, fs_hz, f"simulated muscle {anatomy.seed}, contraction {scene.first}",
        np.asarray(row, np.int64), np.asarray(column, np.int64), grid.ied_mm,
        np.tile(profile, scene.contractions).astype(np.float32), "% excitation",
        np.stack([edges[:-1] + rest, edges[1:] - rest], 1))
    rounded = [np.rint(np.concatenate(t)).astype(np.int64) for t in trains]
    inside = [np.unique(t[t < len(emg)]) for t in rounded]
    return recording, SpikeTrains(inside, fs_hz, method="simulated")
