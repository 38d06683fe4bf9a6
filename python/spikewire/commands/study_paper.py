"""mu-study paper: the tables of Wen et al. 2021 again, ours beside theirs."""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

from spikewire.commands import check_parent, check_seed, progress

WORKERS = 64
# option -> (least, most, help)
NUMBERS = {
    "contractions": (1, 20, "simulate so many contractions (3 or more: folds are contractions)"),
    "plateau": (10, 600, "seconds of each simulated plateau"),
    "min-discharges": (1, 100000, "that a motor unit needs in every fold"),
    "epochs": (1, 10000, "at most"),
}


def add(kinds: Any) -> None:
    """Options of mu-study paper."""
    p = kinds.add_parser(
        "paper", help="repeat Wen et al. 2021",
        description="Train the networks of Wen et al. 2021 over steps, windows, layers and nodes, "
                    "and print the paper's figures beside ours. A study that was stopped goes on "
                    "with the same command.",
        epilog="example: mu-study paper --profile quick --out out/paper   On a cluster, whose "
               "workers see the folder under the same path: mu-study paper --profile full "
               "--scheduler tcp://HOST:8786 --out /cluster/paper")
    p.add_argument("--out", required=True, help="folder of the study")
    p.add_argument("--profile", choices=("quick", "full"), default="quick",
                   help="quick: a reduced grid, 15 minutes on 2 cores; full: everything, 100 "
                        "epochs, about 270 trainings for 17 motor units")
    p.add_argument("--recording", default="", metavar="REC",
                   help="your own (default: simulated as in the paper)")
    p.add_argument("--labels", default="", metavar="TRAINS",
                   help="spike trains of REC (default: decomposed here)")
    p.add_argument("--seed", type=int, default=1, help="of the simulated muscle and the weights")
    for name, (least, most, words) in NUMBERS.items():
        p.add_argument(f"--{name}", type=int, metavar="N", help=f"{words}; {least} to {most}")
    p.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), metavar="N",
                   help="local processes; 0 runs one training after the other without Dask")
    p.add_argument("--scheduler", default="", metavar="ADDRESS",
                   help="of a Dask cluster instead, tcp://HOST:PORT")
    p.add_argument("--cache", default="~/.cache/spikewire", help="folder of computed muscles")
    p.add_argument("--json", action="store_true", help="print the figures as JSON")
    p.set_defaults(run=run)


def check(args: argparse.Namespace) -> None:
    """Refuse numbers out of range."""
    from spikewire.signals import InputError

    check_seed(args.seed)
    for name, (least, most, _) in NUMBERS.items():
        value = getattr(args, name.replace("-", "_"))
        if value is not None and not least <= value <= most:
            raise InputError(f"--{name} is {value}, allowed is {least} to {most}")
    if not 0 <= args.workers <= WORKERS:
        raise InputError(f"--workers is {args.workers}, allowed is 0 to {WORKERS}")
    check_parent(Path(args.out))


def run(args: argparse.Namespace) -> int:
    """Run what is missing, then report on everything."""
    check(args)
    from spikewire.study import jobs, paper

    profile = paper.with_choices(
        paper.PROFILES[args.profile], args.recording, args.labels, args.seed, args.contractions,
        args.plateau, args.min_discharges, args.epochs)
    out, started = Path(args.out), time.monotonic()
    if args.workers or args.scheduler:
        jobs.require_dask()
    with progress("study") as report:
        outcome, data = paper.run(profile, out, args.workers, args.scheduler,
                                  Path(args.cache).expanduser(), report)
    return show(args, profile, outcome, data, time.monotonic() - started)


def show(args: argparse.Namespace, profile: Any, outcome: Any, data: Any, seconds: float) -> int:
    """study.json, the page, and the tables on the terminal."""
    import spikewire
    from spikewire.durable import write_durably
    from spikewire.study import paper_page
    from spikewire.study.tables import Report

    out, made = Path(args.out), Report(outcome.done, data)
    versions = outcome.done[0][1]["versions"] if outcome.done else {}
    facts = {
        "profile": profile.name, "reduced": profile.reduced, "epochs": profile.epochs,
        "seconds": round(seconds, 1), "workers": args.scheduler or args.workers,
        "jobs": len(outcome.done), "run_now": outcome.fresh, "failed": outcome.failed,
        "data": data.facts, "decoders": made.as_json(), "labels": made.labels,
        "versions": {"spikewire": spikewire.__version__} | versions,
    }
    text = json.dumps(facts, indent=1).encode()
    write_durably(out / "study.json", lambda file: file.write(text))
    paper_page.write(out / "study.html", profile, made, outcome, facts)
    if args.json:
        print(json.dumps(facts))
    else:
        terminal(profile, made)
    for name, why in outcome.failed.items():
        print(f"mu-study: {name} failed: {why}")
    if not args.json:
        print(f"{outcome.fresh} of {len(outcome.done) + len(outcome.failed)} jobs run now, "
              f"{seconds:.0f} s -> {out}/study.html, {out}/study.json")
    return 1 if outcome.failed else 0


def terminal(profile: Any, made: Any) -> None:
    """The main table, narrow enough for 80 columns."""
    for words in profile.reduced.values():
        print(f"reduced: {words}")
    widths = (17, 5, 7, 10, 7, 7, 6, 0)
    table = made.main()
    print(f"\n{table.title}")
    for row in [table.head, *table.rows]:
        print(" ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)).rstrip())
