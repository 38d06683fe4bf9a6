"""mu-study search: hyperparameters of a recipe, searched by several processes at once."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from spikewire.commands import check_out, check_seed, progress, quiet

MOST_TRIALS = 100_000


def add(kinds: Any) -> None:
    """Options of mu-study search."""
    p = kinds.add_parser(
        "search", help="search a better recipe",
        description="Train many variants of a recipe, judged by mean F1 on a validation part "
                    "inside the training spans. Type the same command in several shells, or on "
                    "several machines: they share the study.",
        epilog="example: mu-study search vastus.mat --labels trains.npz --hold-out 18:24 "
               "--storage sqlite:///search.db --study vastus --trials 60 --out best.toml")
    p.add_argument("recording", help="any format of docs/formats.md")
    p.add_argument("--labels", required=True, help="spike trains of this recording, .npz")
    p.add_argument("--recipe", help="a .toml to start from (default: the recommended decoder)")
    p.add_argument("--storage", required=True, metavar="URL",
                   help="sqlite:///FILE.db, another database's URL, or a file NAME.journal")
    p.add_argument("--study", required=True, help="name of the study in the storage")
    p.add_argument("--trials", type=int, default=50, metavar="N",
                   help="that are begun in the study, of all processes together")
    p.add_argument("--sampler", choices=("tpe", "random"), default="tpe")
    p.add_argument("--sampler-seed", type=int, metavar="N",
                   help="repeatable draws; another in every process")
    p.add_argument("--hold-out", default="", metavar="A:B,...",
                   help="seconds that nothing may learn from, labels included")
    p.add_argument("--seed", type=int, default=0, help="of the trainings")
    p.add_argument("--out", metavar="BEST.toml", help="write the best recipe")
    p.add_argument("--json", action="store_true", help="print the result as JSON")
    p.set_defaults(run=run)


def check(args: argparse.Namespace) -> None:
    """Refuse what would fail after long work."""
    from spikewire.signals import InputError

    check_seed(args.seed)
    check_seed(args.sampler_seed or 0)
    if not 1 <= args.trials <= MOST_TRIALS:
        raise InputError(f"--trials is {args.trials}, allowed is 1 to {MOST_TRIALS}")
    if args.out:
        check_out(args.out, ".toml", args.recipe or "")


def run(args: argparse.Namespace) -> int:
    """Search and report."""
    check(args)
    from spikewire import dataset
    from spikewire.crossfit import followed
    from spikewire.decompose import re_estimate
    from spikewire.io import read_recording, read_trains
    from spikewire.recipe import Recipe, read_recipe
    from spikewire.signals import InputError, parse_spans
    from spikewire.study import search

    start = read_recipe(args.recipe) if args.recipe else Recipe()
    recording, trains = read_recording(args.recording), read_trains(args.labels)
    if any(len(t) and t[-1] >= len(recording.emg) for t in trains.times):
        raise InputError(f"{args.labels}: has discharges after the end of {args.recording}")
    hold_out = parse_spans(args.hold_out, recording.fs_hz, len(recording.emg))
    search.open_storage(args.storage)
    with progress("search") as report:
        report(0.0, f"{recording.summary()}; {len(trains)} units; loading TensorFlow")
        with quiet():
            from spikewire import train

        spans = dataset.spans_without(len(recording.emg), hold_out, train.guard_samples(start))
        if hold_out:
            trains = re_estimate(recording, trains, spans)
        trains = trains.only(followed(recording.emg, trains, spans, start)[0])
        value = search.objective(recording, trains, spans, start, args.seed)
        study = search.search(value, args.storage, args.study, args.trials, args.sampler,
                              args.sampler_seed, report)
    return show(args, study, start)


def show(args: argparse.Namespace, study: Any, start: Any) -> int:
    """The best trial, and its recipe as a file; 1 if no trial succeeded."""
    from spikewire.study import search

    ended, best = search.finished(study), search.best_of(study)
    if best is None:
        print(f"mu-study: none of {len(ended)} trials could be trained")
        return 1
    if args.out:
        search.write_recipe(Path(args.out), search.recipe_of(best, start))
    facts = {"study": args.study, "trials": len(ended), "best": best.number, "f1": best.value,
             "linear_f1": best.user_attrs.get("linear_f1"),
             "weights": best.user_attrs.get("weights"), "parameters": best.params}
    if args.json:
        print(json.dumps(facts))
        return 0
    running = len(study.get_trials(deepcopy=False)) - len(ended)
    if running:
        print(f"{running} trials still run elsewhere, or were killed; the same command later "
              "counts them in")
    print(f"study {args.study}: {len(ended)} trials, best is number {best.number}: F1 "
          f"{best.value:.4f} on the validation part (linear filter "
          f"{facts['linear_f1']:.4f}), {facts['weights']} weights")
    for name, v in sorted(best.params.items()):
        print(f"  {name} = {v:.4g}" if isinstance(v, float) else f"  {name} = {v}")
    print(f"recipe -> {args.out}" if args.out else "add --out BEST.toml to write the recipe")
    return 0
