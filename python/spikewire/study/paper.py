"""Wen et al. 2021 again: which trainings the study consists of, and how it is run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import spikewire
from spikewire.io import split
from spikewire.signals import InputError
from spikewire.study import data as study_data
from spikewire.study import jobs
from spikewire.study import published as paper
from spikewire.study.jobs import Job, Outcome, Progress

Cell = tuple[int, int]  # step, window
NODES, LAYERS = paper.NODES[paper.PUBLISHED_NODES], paper.LAYERS[paper.PUBLISHED_LAYERS]


@dataclass(frozen=True)
class Profile:
    """How much of the paper is repeated.

    Attributes
    ----------
    name : str
    cells : (step, window) of the MO-DCNN
    so_steps, so_units : steps of the SO-DCNN at window 120, and for how many units (0: all)
    variants : whether the other layers and nodes of section 2.2 are trained
    folds : of the three
    epochs : at most
    wanted : the data
    reduced : topic -> what a reader must know
    """

    name: str
    cells: tuple[Cell, ...]
    so_steps: tuple[int, ...]
    so_units: int
    variants: bool
    folds: tuple[int, ...]
    epochs: int
    wanted: study_data.Wanted
    reduced: dict[str, str] = field(default_factory=dict)


FULL = Profile(
    "full", tuple((s, w) for s in paper.STEPS for w in paper.WINDOWS), paper.STEPS, 0, True,
    (0, 1, 2), paper.EPOCHS,
    study_data.Wanted(contractions=3, plateau_s=20.0, min_discharges=paper.MIN_DISCHARGES),
)
QUICK = Profile(
    "quick", ((5, 20), (5, 120), (20, 80), (20, 120), (40, 20), (40, 120)), (20,), 2, True, (2,),
    20,
    # 50 discharges in each third of 10 s, so 150 in all.
    study_data.Wanted(plateau_s=30.0, min_discharges=50, units=4, rounds=2),
    {
        "record": "one contraction of 30 s of plateau instead of 60 s: 20 s to train on, 10 s to "
                  "test on",
        "folds": "one of the three folds",
        "units": "the four motor units of the best silhouette instead of all; the SO-DCNN for two "
                 "of them",
        "epochs": "20 epochs instead of 100",
        "grid": "six cells of the grid (its corners, step 20 with windows 80 and 120) instead of "
                "sixteen; the SO-DCNN at step 20 only",
        "labels": "two rounds of the decomposition's search instead of four",
    },
)
PROFILES = {p.name: p for p in (QUICK, FULL)}


def name_of(job: Job) -> str:
    """Readable and different for every job of a study."""
    words = [job["decoder"], f"s{job['step']}", f"w{job['window']}"]
    if job["decoder"] != "linear":
        words += [f"c{job['convolutions']}", f"n{job['nodes'][0]}"]
    if job["decoder"] == "so":
        words.append(f"mu{job['units'][0]}")
    return "-".join([*words, f"f{job['fold']}"])


def network_jobs(profile: Profile, units: int, data: str, seed: int) -> list[Job]:
    """Every network of the profile on every fold."""
    def job(decoder: str, cell: Cell, members: Sequence[int], convolutions: int = LAYERS,
            nodes: Sequence[int] = NODES) -> Job:
        return {"decoder": decoder, "step": cell[0], "window": cell[1], "units": list(members),
                "convolutions": convolutions, "nodes": list(nodes), "epochs": profile.epochs,
                "seed": seed, "data": data}

    everyone = range(units)
    out = [job("mo", cell, everyone) for cell in profile.cells]
    if profile.variants:
        out += [job("mo", paper.BEST, everyone, convolutions=c)
                for c in paper.LAYERS.values() if c != LAYERS]
        out += [job("mo", paper.BEST, everyone, nodes=n)
                for n in paper.NODES.values() if n != NODES]
    singles = range(min(profile.so_units or units, units))
    out += [job("so", (step, paper.BEST[1]), [k]) for step in profile.so_steps for k in singles]
    return out


def jobs_of(profile: Profile, units: int, data: str, seed: int) -> list[Job]:
    """All jobs of a profile, those that take longest first.

    Parameters
    ----------
    units : motor units in the data
    data : key of the data
    """
    step, window = paper.BEST
    one_fold = network_jobs(profile, units, data, seed)
    one_fold.append({"decoder": "linear", "step": step, "window": window,
                     "units": list(range(units)), "data": data})
    out = [job | {"fold": fold, "version": spikewire.__version__}
           for job in one_fold for fold in profile.folds]
    for job in out:
        job["name"] = name_of(job)
    return sorted(out, key=lambda j: -effort(j))


def effort(job: Job) -> float:
    """About proportional to the time that a job takes."""
    if job["decoder"] == "linear":
        return 0.0
    return job["window"] / job["step"] * len(job["units"]) * (job["nodes"][0] / 128) ** 2


def with_choices(
    profile: Profile, recording: str, labels: str, seed: int, contractions: int | None,
    plateau_s: float | None, min_discharges: int | None, epochs: int | None,
) -> Profile:
    """A profile with what the user chose otherwise; the reductions say so.

    Raises
    ------
    InputError
        Choices that do not go together.
    """
    if labels and not recording:
        raise InputError("--labels belong to a recording; add --recording REC")
    if recording and (contractions or plateau_s):
        raise InputError("--contractions and --plateau are of the simulated recording; leave "
                         "them out beside --recording")
    if recording and not split(recording)[0].is_file():
        raise InputError(f"{recording}: no such file")
    wanted = replace(profile.wanted, recording=recording, labels=labels, seed=seed)
    said = dict(profile.reduced)
    if contractions or plateau_s:
        contractions = contractions or profile.wanted.contractions
        plateau_s = plateau_s or (20.0 if contractions > 1 else 60.0)
        wanted = replace(wanted, contractions=contractions, plateau_s=plateau_s)
    if recording or contractions:
        said.pop("record", None)
    if labels:
        said.pop("labels", None)
    if min_discharges:
        wanted = replace(wanted, min_discharges=min_discharges)
    if epochs:
        said.pop("epochs", None)
        if epochs < paper.EPOCHS:
            said["epochs"] = f"{epochs} epochs instead of {paper.EPOCHS}"
    return replace(profile, wanted=wanted, epochs=epochs or profile.epochs, reduced=said)


def run(
    profile: Profile, out: Path, workers: int, scheduler: str, cache: Path | None,
    progress: Progress,
) -> tuple[Outcome, study_data.Data]:
    """Make the data, run the jobs that have no result yet.

    Raises
    ------
    InputError
        See `data.make` and `jobs.run`.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: exists and is no folder; choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    key = study_data.prepare(out, profile.wanted, cache, lambda s, w: progress(0.1 * s, w))
    data = study_data.load(out, key)
    todo = jobs_of(profile, len(data.labels), key, profile.wanted.seed)
    # The networks' module loads TensorFlow: only workers need it.
    outcome = jobs.run(todo, do, out, workers, scheduler,
                       lambda s, w: progress(0.1 + 0.9 * s, w))
    return outcome, data


def do(job: Job, folder: str) -> dict[str, Any]:
    """`cell.work`, imported where it runs."""
    from spikewire.study import cell

    return cell.work(job, folder)
