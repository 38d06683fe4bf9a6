"""The decoder and the linear MU filter under everything that changes after training.

One muscle is simulated; decoders are trained on one contraction and decode others of it with
`mu-run`. What a decoder says is scored against the true discharges, so labels and their errors are
part of what is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from spikewire import score
from spikewire.crossfit import followed
from spikewire.decompose import band_pass, decompose, whiten
from spikewire.io.npz import read_recording, read_trains, write_recording, write_trains
from spikewire.recipe import Recipe, read_recipe
from spikewire.separate import Settings, discharges
from spikewire.signals import InputError, Recording, SpikeTrains
from spikewire.simulate.discharge import Contraction
from spikewire.simulate.emg import Scene, simulate
from spikewire.simulate.faults import FAULTS, Draw
from spikewire.simulate.muap import Anatomy, Grid
from spikewire.study.decoders import (
    decode,
    read_note,
    registered,
    train_linear,
    train_network,
    write_note,
)

Progress = Callable[[float, str], None]

TRAIN_S, TEST_S = 40.0, 30.0
SCORED_FROM_S = 15.0  # by then upkeep has listened for 10 s and acted
MIN_AGREEMENT, MIN_SIL, MIN_DISCHARGES = 0.9, 0.85, 150  # of labels that are trained on


@dataclass(frozen=True)
class Condition:
    """One row of the table: how the tested contraction differs from the trained one."""

    name: str
    scene: dict[str, Any]
    faults: tuple[tuple[str, float], ...] = ()
    draws: int = 1
    moved: bool = False  # worth registering


def _moved(name: str, along: float, around: float, velocity: float = 1.0) -> Condition:
    """A grid at another place."""
    return Condition(name, {"grid": Grid(along_mm=along, around_mm=around),
                            "velocity_scale": velocity}, moved=True)


CONDITIONS = (
    Condition("nominal", {}, moved=True),
    Condition("SNR 10 dB", {"snr_db": 10.0}),
    Condition("channel gains sd 30 %", {}, (("gain_sd", 0.3),), 3),
    Condition("3 dead channels", {}, (("dead", 3),), 3),
    Condition("1 channel with 5 x RMS noise", {}, (("noisy", 1),), 3),
    Condition("amplitude x 0.5", {}, (("gain", 0.5),)),
    Condition("amplitude x 1.3", {}, (("gain", 1.3),)),
    Condition("mains 0.4 of RMS", {}, (("mains", 0.4),)),
    Condition("velocity -10 %", {"velocity_scale": 0.9}, moved=True),
    _moved("2 mm along", 2, 0), _moved("4 mm along", 4, 0), _moved("8 mm along", 8, 0),
    _moved("2 mm around", 0, 2), _moved("4 mm around", 0, 4),
    _moved("2.6 mm along, -1.3 around, velocity -7 %", 2.6, -1.3, 0.93),
)


@dataclass(frozen=True)
class Setup:
    """What is the same for a whole table."""

    seed: int
    montage: str = "sd"
    noise: str = "channel"
    snr_db: float = 20.0
    common_drive: float = 0.0
    labels: str = "truth"  # fixed points started from the truth, or "decompose"
    cache: Path | None = None

    def scene(self, first: int, seconds: float, **changes: Any) -> Scene:
        """A contraction at 25 %, plateau only."""
        inside = {k: changes.pop(k) for k in ("grid", "velocity_scale") if k in changes}
        shape = Contraction(25.0, seconds, 0.0, 0.0, common_drive=self.common_drive)
        base = Scene(Anatomy(self.seed, **inside), shape, first=first, montage=self.montage,
                     noise=self.noise, snr_db=self.snr_db)
        return replace(base, **changes)


def fixed_points(recording: Recording, truth: SpikeTrains) -> tuple[list[int], SpikeTrains]:
    """Trains that the separation of the recording itself converges to, started from the truth.

    No search luck is in them; units that cannot be separated are not in them either.
    """
    settings = Settings()
    z = whiten([band_pass(recording, settings.band_hz)], settings.delays)
    units: list[int] = []
    kept: list[tuple[float, Any]] = []
    for unit, times in enumerate(truth.times):
        if len(times) < MIN_DISCHARGES:
            continue
        starts = [times + lag for lag in range(4, 40, 3)]
        starts = [t[(t >= settings.delays) & (t < len(z))] for t in starts]
        now = max(starts, key=lambda t: float(np.square(z[t].mean(axis=0)).sum()))
        best = (0.0, now)
        for _ in range(8):
            new, sil = discharges(z @ z[now].mean(axis=0), recording.fs_hz)
            if len(new) < MIN_DISCHARGES or np.array_equal(new, now):
                break
            best, now = max(best, (sil, new), key=lambda b: b[0]), new
        sil, found = best
        if sil >= MIN_SIL and score.agreement(times, found) >= MIN_AGREEMENT and all(
                score.agreement(k, found) < settings.duplicate_agreement for _, k in kept):
            units.append(unit)
            kept.append((sil, found))
    return units, SpikeTrains([t for _, t in kept], recording.fs_hz,
                              np.array([s for s, _ in kept]), method="fixed points from the truth")


def blind(recording: Recording, truth: SpikeTrains, seed: int) -> tuple[list[int], SpikeTrains]:
    """Units of our own decomposition whose rate of agreement with the truth is high enough."""
    found = decompose(recording, Settings(seed=seed))
    pairs = score.match(truth.times, found.times)
    keep = [k for k, (_, rate) in enumerate(pairs)
            if rate >= MIN_AGREEMENT and len(found.times[k]) >= MIN_DISCHARGES]
    return [pairs[k][0] for k in keep], SpikeTrains([found.times[k] for k in keep], found.fs_hz)


def prepare(
    setup: Setup, recipe: Recipe, folder: Path, report: Progress
) -> tuple[list[int], list[int]]:
    """Training record and labels in `folder`; numbers of units used, and of those left out."""
    report(0.0, "training contraction and labels")
    recording, truth = simulate(setup.scene(0, TRAIN_S), setup.cache)
    units, labels = fixed_points(recording, truth) if setup.labels == "truth" else \
        blind(recording, truth, setup.seed)
    if not units:
        raise InputError(f"muscle {setup.seed}: no unit can be separated; try another --seed")
    use, _ = followed(recording.emg, labels, [(0, len(recording.emg))], recipe)
    write_recording(folder / "train.npz", recording)
    write_trains(folder / "labels.npz", labels.only(use))
    return [units[k] for k in use], [u for k, u in enumerate(units) if k not in use]


def train_all(folder: Path, recipe: Recipe, seed: int, report: Progress) -> float:
    """Bundles linear24, linear32 and network; return the seconds that the network took."""
    recording, labels = read_recording(folder / "train.npz"), read_trains(folder / "labels.npz")
    whole = [(0, len(recording.emg))]
    seconds = train_network(recording, labels, recipe, whole, folder, seed, report)
    train_linear(recording, labels, recipe, whole, folder)
    return seconds


def figures(found: SpikeTrains, truth: SpikeTrains) -> dict[str, Any]:
    """Scores from 15 s to the end."""
    start, stop = (int(s * truth.fs_hz) for s in (SCORED_FROM_S, TEST_S))
    made = score.table(score.score(found, truth, start, stop))
    made |= {"cst_lag0": score.cst_correlation(found, truth, start, stop)["lag0"]}
    return {k: v for k, v in made.items() if k != "per_unit"}


def row(setup: Setup, condition: Condition, units: list[int], folder: Path) -> dict[str, Any]:
    """All decoders under one condition, plain, with upkeep, and registered where it applies."""
    recording, truth = simulate(setup.scene(1, TEST_S, **condition.scene), setup.cache)
    truth = SpikeTrains([truth.times[u] for u in units], truth.fs_hz)
    results: dict[str, list[dict[str, Any]]] = {}
    facts: dict[str, Any] = {}
    test, out = folder / "test.npz", folder / "out.npz"
    for draw in range(condition.draws):
        emg = recording.emg.copy()
        hands = Draw(emg.shape[1], np.random.default_rng([setup.seed, 4, 1, draw]))
        for name, amount in condition.faults:
            FAULTS[name](emg, amount, recording.fs_hz, hands)
        write_recording(test, replace(recording, emg=emg))
        ways: list[tuple[str, Path, tuple[str, ...]]] = []
        for name in ("linear24", "linear32", "network"):
            ways.append((f"{name}, plain", folder / f"{name}.mub", ("--no-upkeep",)))
            if name != "linear32":
                ways.append((f"{name}, upkeep", folder / f"{name}.mub", ()))
            if condition.moved and name != "linear32":
                bundle, facts = registered(folder / f"{name}.mub", test,
                                           folder / f"adapted_{name}.mub")
                ways += [(f"{name}, registered", bundle, ("--no-upkeep",)),
                         (f"{name}, registered+upkeep", bundle, ())]
        for way, bundle, more in ways:
            results.setdefault(way, []).append(figures(decode(bundle, test, out, *more), truth))
    found = {way: {k: float(np.mean([d[k] for d in draws if d[k] is not None] or [np.nan]))
                   for k in draws[0]} for way, draws in results.items()}
    return {"condition": condition.name, "draws": condition.draws, "results": found,
            "registration": facts}


def robustness(
    setup: Setup, folder: Path, recipe: Path | None = None, only: str = "",
    training_seed: int = 0, report: Progress = lambda share, words: None,
) -> Iterator[dict[str, Any]]:
    """The table of one muscle, again after every row, so that a long run leaves what it has.

    Parameters
    ----------
    folder : Path
        Training record, labels, bundles and finished rows; kept ones are used again.

    Yields
    ------
    dict
        `units`, `left_out`, `training_s`, and `rows` of condition -> way -> scores.
    """
    wanted = [c for c in CONDITIONS if any(word in c.name for word in only.split(","))]
    if not wanted:
        raise InputError(f"--only {only!r}: no condition has this in its name; there are "
                         + ", ".join(c.name for c in CONDITIONS))
    facts = folder / "facts.json"
    how = {k: v for k, v in asdict(setup).items() if k != "cache"} | {
        "training_seed": training_seed, "recipe": str(recipe or "recommended")}
    made = read_note(facts)
    if made is None:
        decoder = read_recipe(recipe) if recipe else Recipe()
        units, left_out = prepare(setup, decoder, folder, report)
        seconds = train_all(folder, decoder, training_seed,
                            lambda share, words: report(0.05 + 0.35 * share, words))
        made = how | {"units": units, "left_out": left_out, "training_s": round(seconds, 1)}
        write_note(facts, made)
    made |= {"rows": []}
    if {k: made.get(k) for k in how} != how:
        raise InputError(f"{folder}: was made with other options; choose another --keep")
    rows = folder / "rows.json"
    kept = read_note(rows) or {}
    for number, condition in enumerate(wanted):
        report(0.4 + 0.6 * number / len(wanted), condition.name)
        if condition.name not in kept:
            kept[condition.name] = row(setup, condition, made["units"], folder)
            write_note(rows, kept)
        made["rows"].append(kept[condition.name])
        yield made
