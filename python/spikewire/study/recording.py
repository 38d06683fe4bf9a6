"""A real recording, block by block: each is held out, decoders train on the rest and decode it.

There is no truth: the reference is the decomposition of the whole recording, and another one if
there is any. Training labels are re-estimated without the block, so that nothing learns from it;
which units there are was found with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from spikewire import score
from spikewire.crossfit import followed
from spikewire.dataset import spans_without
from spikewire.decompose import re_estimate
from spikewire.recipe import Recipe
from spikewire.signals import InputError, Recording, Span, SpikeTrains
from spikewire.study.decoders import (
    LINEAR_DELAYS,
    decode,
    read_note,
    train_linear,
    train_network,
    write_note,
)
from spikewire.train import guard_samples

Progress = Callable[[float, str], None]
SAME_UNIT = 0.85  # agreement of two decompositions beyond which they mean the same unit
FIGURES = ("f1", "f1_near", "f1_worst", "agreement", "on_time")


def in_common(labels: SpikeTrains, other: SpikeTrains) -> list[tuple[int, int]]:
    """Pairs (our unit, the other decomposition's unit) that are one motor unit."""
    return [(ours, theirs) for theirs, (ours, rate)
            in enumerate(score.match(labels.times, other.times)) if rate >= SAME_UNIT]


def figures(
    found: SpikeTrains, labels: SpikeTrains, other: SpikeTrains | None, block: Span
) -> dict[str, Any]:
    """Scores of one decoder in one block."""
    made = score.table(score.score(found, labels, *block))
    row: dict[str, Any] = {k: made[k] for k in FIGURES}
    pairs = in_common(labels, other) if other else []
    if other and pairs:
        ours = SpikeTrains([found.times[a] for a, _ in pairs], found.fs_hz)
        theirs = SpikeTrains([other.times[b] for _, b in pairs], other.fs_hz)
        row["other_f1_near"] = score.table(score.score(ours, theirs, *block))["f1_near"]
    return row


def check_kept(folder: Path, how: dict[str, Any]) -> None:
    """Note how the folder's bundles are made; refuse one that was made otherwise."""
    note = folder / "options.json"
    if read_note(note) not in (None, how):
        raise InputError(f"{folder}: was made with other options; choose another --keep")
    write_note(note, how)


def blocks_in_turn(
    recording: Recording, path: Path, labels: SpikeTrains, other: SpikeTrains | None,
    blocks: Sequence[Span], seeds: Sequence[int], recipe: Recipe, folder: Path,
    report: Progress = lambda share, words: None,
) -> Iterator[dict[str, Any]]:
    """The table so far, again after every block and seed.

    Parameters
    ----------
    path : Path of the recording, which `mu-run` replays
    labels : of the whole recording
    other : another decomposition of it, for a second opinion
    folder : keeps the bundles; those that are there are used again

    Yields
    ------
    dict
        `rows` of block, seed, decoder and scores; `means` over all blocks by decoder; `pairs` of
        units that both decompositions have.
    """
    rows: list[dict[str, Any]] = []
    done, total = 0, len(blocks) * len(seeds)
    fs = recording.fs_hz
    for block in blocks:
        spans = spans_without(len(recording.emg), [block], guard_samples(recipe))
        here = folder / f"{block[0]}-{block[1]}"
        here.mkdir(parents=True, exist_ok=True)
        report(done / total, f"block {block[0] / fs:g}-{block[1] / fs:g} s: labels without it")
        known = re_estimate(recording, labels, spans)
        units, _ = followed(recording.emg, known, spans, recipe)
        known, goal = known.only(units), labels.only(units)

        def add(decoder: str, seed: int | None, bundle: Path, block: Span = block,
                goal: SpikeTrains = goal) -> None:
            found = decode(bundle, path, folder / "out.npz")
            rows.append({"block_s": [block[0] / fs, block[1] / fs], "decoder": decoder,
                         "seed": seed, "units": len(goal)} | figures(found, goal, other, block))

        if not (here / "linear32.mub").is_file():
            train_linear(recording, known, recipe, spans, here)
        for delays in LINEAR_DELAYS:
            add(f"linear{delays}", None, here / f"linear{delays}.mub")
        for seed in seeds:
            of_seed = here / f"seed{seed}"
            of_seed.mkdir(exist_ok=True)
            if not (of_seed / "network.mub").is_file():
                train_network(recording, known, recipe, spans, of_seed, seed,
                              partial(part, report, done, total))
            add("network", seed, of_seed / "network.mub")
            done += 1
            yield {"recording": recording.name, "units": len(labels), "rows": rows,
                   "means": means(rows), "pairs": in_common(labels, other) if other else []}


def part(report: Progress, done: int, total: int, share: float, words: str) -> None:
    """Report a share of one of several trainings."""
    report((done + share) / total, words)


def means(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Over blocks and seeds, by decoder; of the worst unit the lowest."""
    out: dict[str, dict[str, float]] = {}
    for decoder in dict.fromkeys(r["decoder"] for r in rows):
        of = [r for r in rows if r["decoder"] == decoder]
        out[decoder] = {k: float((np.min if k == "f1_worst" else np.mean)([r[k] for r in of]))
                        for k in (*FIGURES, "other_f1_near") if all(k in r for r in of)}
    return out
