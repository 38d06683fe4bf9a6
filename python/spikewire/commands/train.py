"""mu-train: recording and spike trains -> a model folder."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from spikewire.commands import check_parent, check_seed, guarded, parsed, progress, quiet

LABELS = "labels.npz"  # of the units that the decoder carries, in its order
REPORT = "report.html"
PARTS = {"logs", "model.json", "front.npz", "golden.npz", "network.weights.h5", LABELS, REPORT}


@contextmanager
def unmade(folder: Path | None) -> Iterator[None]:
    """Take a folder away again if the work in it did not come to its end."""
    try:
        yield
    except BaseException:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def parser() -> argparse.ArgumentParser:
    """Options of mu-train."""
    p = argparse.ArgumentParser(
        prog="mu-train", description="Train a decoder; the linear MU filter is trained beside it.",
        epilog="example: mu-train vastus.mat --labels vastus_trains.npz --hold-out 18:24 "
               "--out vastus_model",
    )
    p.add_argument("recording", help="any format of docs/formats.md")
    p.add_argument("--labels", required=True, help="spike trains of this recording, .npz")
    p.add_argument("--recipe", help="a .toml of models/ (default: the recommended decoder)")
    p.add_argument("--out", required=True,
                   help="model folder to make; its labels.npz holds the units decoded, for "
                        "mu-score, its report.html says how it learned")
    p.add_argument("--hold-out", default="", metavar="A:B,...",
                   help="seconds that nothing may learn from, labels included")
    p.add_argument("--units", default="", metavar="K,...", help="train on these units only")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--steps", type=int, metavar="N", help="other than the recipe's")
    p.add_argument("--any-rms", action="store_true", help="accept an implausible amplitude")
    p.add_argument("--json", action="store_true", help="print the result as JSON")
    return p


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    args = parsed(parser(), argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up chatter
    return guarded("mu-train", lambda: run(args))


def check_folder(path: str) -> Path:
    """Refuse to write a model into a folder that holds anything else."""
    from spikewire.signals import InputError

    out = Path(path)
    if out.exists() and (not out.is_dir() or {p.name for p in out.iterdir()} - PARTS):
        raise InputError(f"{out}: exists and is no model folder; choose another name")
    check_parent(out)
    return out


def read_labels(path: str | Path, recording: Any, wanted: str = "") -> Any:
    """The spike trains of a recording, or those of them that --units names."""
    from spikewire.io import read_trains
    from spikewire.signals import InputError

    trains = read_trains(path)
    if wanted:
        try:
            trains = trains.only([range(len(trains)).index(int(k)) for k in wanted.split(",")])
        except ValueError:
            raise InputError(f"--units {wanted}: allowed are 0 to {len(trains) - 1}, with "
                             "commas between them") from None
    if trains.fs_hz != recording.fs_hz:
        raise InputError(f"{path}: labels count at {trains.fs_hz:g} Hz, the recording at "
                         f"{recording.fs_hz:g} Hz; decompose this very recording")
    if any(len(t) and t[-1] >= len(recording.emg) for t in trains.times):
        raise InputError(f"{path}: has discharges after the end of {recording.name}")
    return trains


def run(args: argparse.Namespace) -> int:
    """Train and report."""
    from spikewire import dataset
    from spikewire.crossfit import followed
    from spikewire.decompose import re_estimate
    from spikewire.io import read_recording
    from spikewire.io.npz import write_trains
    from spikewire.recipe import Recipe, read_recipe
    from spikewire.signals import InputError, parse_spans

    recipe = read_recipe(args.recipe) if args.recipe else Recipe()
    if args.steps is not None:
        if not 1 <= args.steps <= 1_000_000:
            raise InputError(f"--steps is {args.steps}, allowed is 1 to 1000000")
        recipe = replace(recipe, steps=args.steps, check_every=max(1, args.steps // 10))
    out = check_folder(args.out)
    check_seed(args.seed)
    made_here = not out.exists()
    recording = read_recording(args.recording, args.any_rms)
    trains = read_labels(args.labels, recording, args.units)
    hold_out = parse_spans(args.hold_out, recording.fs_hz, len(recording.emg))
    started = time.monotonic()
    with progress("train") as report, unmade(out if made_here else None):
        report(0.0, f"{recording.summary()}; {len(trains)} units; loading TensorFlow")
        with quiet():
            from spikewire import model as folder
            from spikewire import train

        spans = dataset.spans_without(len(recording.emg), hold_out, train.guard_samples(recipe))
        known = re_estimate(recording, trains, spans) if hold_out else trains
        report(0.0, "which units filters can follow")
        units, f1 = followed(recording.emg, known, spans, recipe)
        model = train.fit(recording, known.only(units), recipe, spans, out, args.seed, report)
        number = [int(k) for k in args.units.split(",")] if args.units else range(len(f1))
        model.facts |= {"units": [number[k] for k in units], "left_out": {
            str(number[k]): round(float(f1[k]), 3) for k in range(len(f1)) if k not in units}}
        folder.save(out, model)
        write_trains(out / LABELS, trains.only(units))
    facts = model.facts
    from spikewire.report import training

    training.write(out / REPORT, facts, model.front.thresholds, args.typed)
    if args.json:
        shown = ("validation", "decoder", "n_mu", "weights", "loading", "seed", "units", "left_out")
        print(json.dumps({k: facts[k] for k in shown}
                         | {"seconds": round(time.monotonic() - started, 1),
                            "report": str(out / REPORT)}, default=float))
        return 0
    rows = {k: facts["validation"][k] for k in ("network", "linear")}
    print(f"{facts['n_mu']} units, {facts['weights']} weights, "
          f"{time.monotonic() - started:.0f} s -> {out}")
    if facts["left_out"]:
        print(f"left out, since no filter follows them to F1 {recipe.min_f1:g}: "
              + ", ".join(f"unit {k} ({v:.2f})" for k, v in facts["left_out"].items()))
    print("on the validation part   F1     worst unit")
    for name, row in rows.items():
        print(f"{name:22s}  {row['f1']:.3f}  {row['f1_worst']:.3f}")
    print(f"chosen: {facts['decoder']}")
    print(f"page: {out / REPORT}")
    return 0


if __name__ == "__main__":
    import sys

    sys.exit(main())
