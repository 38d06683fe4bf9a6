"""mu-doctor: what may keep this machine from decoding in time."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

from spikewire.commands import guarded

COLOURS = {"ok": "green", "n/a": "dim", "warn": "yellow", "fail": "bold red"}
NARROWEST, WIDEST = 60, 110


def parser() -> argparse.ArgumentParser:
    """Options of mu-doctor."""
    p = argparse.ArgumentParser(
        prog="mu-doctor", description="Look at board, links, amplifier and decoder; say what is "
        "wrong and what to type. It changes nothing.",
        epilog="example: mu-doctor vastus.mub --self-test --link serial:/dev/ttyTHS1 "
               "--source quattrocento:169.254.1.10; exit code 0: all runs, 1: something fails, "
               "2: the question cannot be answered",
    )
    p.add_argument("bundle", nargs="?", help=".mub made by mu-export")
    p.add_argument("--self-test", action="store_true",
                   help="decode the golden windows, then run at real speed; TensorRT builds its "
                        "plan here, which takes minutes the first time")
    p.add_argument("--seconds", type=float, default=10.0, metavar="S",
                   help="of the run at real speed (10); 0 leaves it out")
    p.add_argument("--engine", default="auto", help="as of mu-run")
    p.add_argument("--precision", action="append", metavar="P",
                   choices=["fp32", "fp16", "int8", "int8-all"],
                   help="fp32 (as without it), fp16, int8, int8-all; several are tested one after "
                        "the other, the first one also for its time")
    p.add_argument("--link", action="append", default=[], metavar="URI",
                   help="as of mu-run: its port must then be fine")
    p.add_argument("--source", metavar="URI", help="quattrocento:HOST, intan:HOST, muovi:, "
                   "sessantaquattro:, lsl:, replay:FILE: it must then be reachable")
    p.add_argument("--json", action="store_true", help="print a line of JSON per check")
    return p


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    # Before numpy is loaded, as mu-run does: what is timed is what runs.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    args = parser().parse_args(argv)
    return guarded("mu-doctor", lambda: run(args))


def run(args: argparse.Namespace) -> int:
    """Examine, print as the findings come, and tell by the exit code whether anything fails."""
    from spikewire.doctor import examine
    from spikewire.doctor.finding import Asked
    from spikewire.runtime.engine import ENGINES
    from spikewire.signals import InputError

    if args.engine not in ("auto", *ENGINES):
        raise InputError(f"engine {args.engine!r} is unknown, allowed are auto, "
                         f"{', '.join(ENGINES)}")
    precisions = tuple(dict.fromkeys(args.precision or ["fp32"]))
    asked = Asked(args.bundle, args.self_test, args.seconds, tuple(args.link), args.source,
                  args.engine, precisions)
    states = [finding.state for finding in printed(examine(asked), args.json)]
    return int("fail" in states)


def printed(findings: Iterator[Any], as_json: bool) -> Iterator[Any]:
    """Print every finding, and pass it on."""
    if as_json:
        for finding in findings:
            print(json.dumps(finding.to_json()), flush=True)
            yield finding
        return
    try:
        from rich.console import Console
    except ImportError:  # even a board with nothing on it can be asked
        for finding in findings:
            print(f"{finding.state:4} {finding.step}: {finding.evidence}"
                  + (f"\n       -> {finding.remedy}" if finding.remedy else ""), flush=True)
            yield finding
        return
    width = min(max(Console().width, NARROWEST), WIDEST)
    console, kept = Console(highlight=False, width=width), []
    with console.status("looking") if sys.stdout.isatty() else nullcontext():
        for finding in findings:
            kept.append(finding)
            yield finding
    console.print(table(kept))
    count = {state: sum(f.state == state for f in kept) for state in ("fail", "warn", "ok")}
    console.print(", ".join(f"{n} {state}" for state, n in count.items()))


def table(findings: list[Any]) -> Any:
    """State, check, evidence; what to type below it."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), show_header=False)
    made.add_column(width=4, no_wrap=True)
    made.add_column(max_width=20, overflow="fold")
    made.add_column(overflow="fold", ratio=1)
    for finding in findings:
        colour = COLOURS[finding.state]
        nothing = finding.state == "n/a"
        words = Text(finding.evidence, style="dim" if nothing else "")
        if finding.remedy:
            words.append(f"\n-> {finding.remedy}", style="dim" if nothing else "cyan")
        made.add_row(Text(finding.state, style=colour), Text(finding.step), words)
    return made


if __name__ == "__main__":
    sys.exit(main())
