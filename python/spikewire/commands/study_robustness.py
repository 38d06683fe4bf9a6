"""mu-study robustness: decoder and linear filter under everything that changes after training."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from spikewire.commands import check_out, check_seed, progress, quiet, write_report
from spikewire.commands.simulate import NUMBERS, check


def add(kinds: Any) -> None:
    """The subcommand's options."""
    p: argparse.ArgumentParser = kinds.add_parser(
        "robustness", help="the decoder under noise, lost channels, fatigue, shifted electrodes",
        epilog="example: mu-study robustness --seed 1 --out robustness_1.json")
    p.add_argument("--out", required=True, help="report, .json")
    p.add_argument("--seed", type=int, default=1, help="of the muscle")
    p.add_argument("--training-seed", type=int, default=0)
    p.add_argument("--recipe", help="a .toml of models/ (default: the recommended decoder)")
    p.add_argument("--labels", choices=["truth", "decompose"], default="truth",
                   help="fixed points started from the truth, or our own decomposition")
    p.add_argument("--montage", choices=["sd", "mono"], default="sd")
    p.add_argument("--noise", choices=["channel", "lead", "spatial"], default="channel")
    p.add_argument("--snr", type=float, default=20.0, help="of training, dB")
    p.add_argument("--common-drive", type=float, default=0.0)
    p.add_argument("--only", default="", metavar="WORD,...",
                   help="conditions whose name holds one of these")
    p.add_argument("--keep", metavar="FOLDER",
                   help="keep record, labels and bundles there, and use what is there already")
    p.add_argument("--cache", default="~/.cache/spikewire", help="folder of computed muscles")
    p.add_argument("--json", action="store_true", help="print the result as JSON")
    p.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the table, write and print it."""
    check_seed(args.seed)
    check_seed(args.training_seed)
    for name, value in (("snr", args.snr), ("common-drive", args.common_drive)):
        _, allowed, holds, _ = NUMBERS[name]
        check(name, value, allowed, holds)
    out = check_out(args.out, ".json")
    with quiet():
        from spikewire.study.robustness import Setup, robustness

    setup = Setup(args.seed, args.montage, args.noise, args.snr, args.common_drive, args.labels,
                  Path(args.cache).expanduser())
    made: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as passing, progress("robustness") as report:
        folder = Path(args.keep or passing)
        folder.mkdir(parents=True, exist_ok=True)
        for made in robustness(setup, folder, args.recipe and Path(args.recipe), args.only,
                               args.training_seed, report):
            write_report(out, made)
    print(json.dumps(made) if args.json else table(made))
    return 0


def table(made: dict[str, Any]) -> str:
    """Strict-bin F1 / worst unit, a line per condition."""
    ways = list(dict.fromkeys(w for row in made["rows"] for w in row["results"]))
    ways.sort(key=lambda w: (w.split(", ")[1], w))
    lines = [f"muscle {made['seed']}, {len(made['units'])} units (left out: "
             f"{len(made.get('left_out', []))}), trained in {made['training_s']:.0f} s; "
             "F1 in the strict bin / worst unit",
             f"{'':42s}" + "".join(f"{w:>22s}" for w in ways)]
    for row in made["rows"]:
        cells = [f"{r['f1']:.3f} / {r['f1_worst']:.2f}" if (r := row["results"].get(w)) else "-"
                 for w in ways]
        lines.append(f"{row['condition']:42s}" + "".join(f"{c:>22s}" for c in cells))
    return "\n".join(lines)
