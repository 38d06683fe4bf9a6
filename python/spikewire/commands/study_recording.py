"""mu-study recording: decoder and linear filter on blocks of a real recording, held out in turn."""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spikewire.commands import check_out, check_seed, progress, quiet, write_report


def add(kinds: Any) -> None:
    """The subcommand's options."""
    p: argparse.ArgumentParser = kinds.add_parser(
        "recording", help="a real recording, blocks held out in turn",
        epilog="example: mu-study recording vastus.mat --labels vastus_trains.npz "
               "--blocks 8:13,13:18,18:24 --out vastus.json")
    p.add_argument("recording", help="any format of docs/formats.md")
    p.add_argument("--labels", required=True, help="spike trains of the whole recording")
    p.add_argument("--other", help="another decomposition of it, for a second opinion")
    p.add_argument("--blocks", required=True, metavar="A:B,...",
                   help="seconds, each held out alone")
    p.add_argument("--seeds", default="0,1,2", metavar="K,...", help="of the trainings")
    p.add_argument("--recipe", help="a .toml of models/ (default: the recommended decoder)")
    p.add_argument("--out", required=True, help="report, .json")
    p.add_argument("--keep", metavar="FOLDER", help="keep the bundles there and use what is there")
    p.add_argument("--any-rms", action="store_true", help="accept an implausible amplitude")
    p.add_argument("--json", action="store_true", help="print the result as JSON")
    p.set_defaults(run=run)


def read_seeds(words: str) -> list[int]:
    """Numbers with commas between them."""
    from spikewire.signals import InputError

    try:
        seeds = [int(w) for w in words.split(",")]
    except ValueError:
        raise InputError(f"--seeds {words}: whole numbers with commas between them, "
                         "as in 0,1,2") from None
    for seed in seeds:
        check_seed(seed)
    return seeds


def run(args: argparse.Namespace) -> int:
    """Run the table, write and print it."""
    from spikewire.io import read_recording, read_trains
    from spikewire.recipe import Recipe, read_recipe
    from spikewire.signals import InputError, parse_spans

    seeds = read_seeds(args.seeds)
    out = check_out(args.out, ".json", args.recording, args.labels)
    recipe = read_recipe(args.recipe) if args.recipe else Recipe()
    recording = read_recording(args.recording, args.any_rms)
    labels = read_trains(args.labels)
    other = read_trains(args.other) if args.other else None
    blocks = parse_spans(args.blocks, recording.fs_hz, len(recording.emg))
    for name, trains in (("labels", labels), ("other", other)):
        if trains and trains.fs_hz != recording.fs_hz:
            raise InputError(f"--{name}: counts at {trains.fs_hz:g} Hz, the recording at "
                             f"{recording.fs_hz:g} Hz; give a decomposition of this very recording")
    if not blocks:
        raise InputError("--blocks is empty; give seconds, as in 8:13,13:18")
    with quiet():
        from spikewire.study.recording import blocks_in_turn, check_kept

    made: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as passing, progress("recording") as report:
        folder = Path(args.keep or passing)
        folder.mkdir(parents=True, exist_ok=True)
        check_kept(folder, {"recording": recording.name, "labels": [len(t) for t in labels.times],
                            "recipe": json.loads(json.dumps(asdict(recipe)))})
        for made in blocks_in_turn(recording, Path(args.recording), labels, other, blocks, seeds,
                                   recipe, folder, report):
            write_report(out, made)
    print(json.dumps(made) if args.json else table(made))
    return 0


def table(made: dict[str, Any]) -> str:
    """A line per block, decoder and seed, and the means."""
    head = f"{'F1':>8s}{'+-1 bin':>9s}{'worst':>8s}{'RoA':>8s}{'on time':>9s}{'other':>8s}"
    names = ("f1", "f1_near", "f1_worst", "agreement", "on_time", "other_f1_near")

    def cells(row: dict[str, Any]) -> str:
        return "".join(f"{row[k]:{w}.3f}" if row.get(k) is not None else f"{'-':>{w}s}"
                       for k, w in zip(names, (8, 9, 8, 8, 9, 8), strict=True))

    lines = [f"{made['recording']}: {made['units']} units, {len(made['pairs'])} of them in the "
             "other decomposition, too", f"{'block':12s}{'decoder':18s}{head}"]
    for row in made["rows"]:
        seed = "" if row["seed"] is None else f", seed {row['seed']}"
        block = "{:g}-{:g} s".format(*row["block_s"])
        lines.append(f"{block:12s}{row['decoder'] + seed:18s}{cells(row)}")
    lines += [f"{'mean':12s}{name:18s}{cells(row)}" for name, row in made["means"].items()]
    return "\n".join(lines)
