"""mu-convert: a recording or spike trains from any format to another, and a report of the scale."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from spikewire.commands import check_out, guarded, printable


def parser() -> argparse.ArgumentParser:
    """Options of mu-convert."""
    p = argparse.ArgumentParser(
        prog="mu-convert",
        description="Convert a recording (or spike trains) to .npz, BIDS-EMG (.bdf, .edf) or .csv; "
                    "without OUT, only say what the file holds: unit, LSB, RMS, what is ignored.",
        epilog="example: mu-convert monday.otb4#1 monday.npz --resample 2048 --bad auto; formats: "
               "docs/formats.md",
    )
    p.add_argument("input", metavar="IN", help="FILE, or FILE#2 for the second of several grids")
    p.add_argument("out", metavar="OUT", nargs="?",
                   help="NAME.npz, sub-01_task-hold_emg.bdf, NAME.csv; of trains NAME.npz, "
                        "sub-01_task-hold_events.tsv")
    p.add_argument("--trains", action="store_true", help="convert the spike trains in the file")
    p.add_argument("--resample", type=float, metavar="HZ", help="to another rate, e.g. 2048")
    p.add_argument("--bad", metavar="K,...", help="mark channels of IN as bad, or: auto")
    p.add_argument("--channels", metavar="A-B,K", help="keep only these channels of IN")
    p.add_argument("--unit", default="", help="uV, mV or V, of a file that does not say it")
    p.add_argument("--fs", type=float, metavar="HZ", help="rate, of a file that does not say it")
    p.add_argument("--log", action="store_true",
                   help="beside _events.tsv also _log.json, as MUnitQuest asks for")
    p.add_argument("--any-rms", action="store_true", help="accept an implausible amplitude")
    p.add_argument("--json", action="store_true", help="print the report as JSON")
    return p


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    args = parser().parse_args(argv)
    return guarded("mu-convert", lambda: run(args))


def numbers(option: str, text: str, count: int) -> list[int]:
    """Channels that an option names, such as "0-31,40", in its order."""
    from spikewire.signals import InputError

    out: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        ends = (first, last if dash else first)
        if not all(e.strip().isdecimal() and len(e) < 6 for e in ends):
            raise InputError(f"{option} {text}: {part!r} is no channel; e.g. {option} 0-31,40")
        out += range(int(ends[0]), int(ends[1]) + 1)
    if not out or max(out) >= count or len(set(out)) < len(out):
        raise InputError(f"{option} {text}: allowed are 0 to {count - 1}, each once")
    return out


def checked(args: argparse.Namespace) -> tuple[Path | None, Any]:
    """Output and its writer, refused before anything long is done."""
    from spikewire.io import writer
    from spikewire.signals import InputError

    if args.trains and (args.bad or args.channels or args.unit):
        raise InputError("--bad, --channels and --unit are for recordings; leave out --trains")
    if args.log and not (args.out or "").endswith("_events.tsv"):
        raise InputError("--log is written beside NAME_events.tsv only")
    if args.out is None:
        return None, None
    out = check_out(args.out, Path(args.out).suffix, args.input, args.input.rpartition("#")[0])
    return out, writer(out, args.trains)


def run(args: argparse.Namespace) -> int:
    """Convert and report."""
    out, module = checked(args)
    return trains(args, out, module) if args.trains else recording(args, out, module)


def trains(args: argparse.Namespace, out: Path | None, module: Any) -> int:
    """Convert spike trains."""
    from spikewire.io import read_trains

    found = read_trains(args.input, args.fs)
    if args.resample:
        from spikewire.io.resample import rescaled

        found = rescaled(found, args.resample)
    if out:
        module.write_trains(out, found, **({"log": True} if args.log else {}))
    counts = [len(t) for t in found.times]
    if args.json:
        print(json.dumps({"units": len(counts), "discharges": counts, "fs_hz": found.fs_hz,
                          "method": found.method, "out": str(out) if out else None}))
        return 0
    print(f"{args.input}: {len(counts)} motor units, {sum(counts)} discharges, at "
          f"{found.fs_hz:g} Hz{f' -> {out}' if out else ''}")
    return 0


def recording(args: argparse.Namespace, out: Path | None, module: Any) -> int:
    """Convert a recording: read, mark, take out, resample, write, report."""
    import numpy as np

    from spikewire.io import read_recording, scale
    from spikewire.io.resample import resampled
    from spikewire.runtime.electrodes import bad_channels

    made = read_recording(args.input, args.any_rms, args.unit, args.fs, keep_bad=True)
    channels = made.emg.shape[1]
    found: dict[int, str] = {}
    if args.bad == "auto":
        found = bad_channels(made)
    elif args.bad:
        found = dict.fromkeys(numbers("--bad", args.bad, channels), "said")
    made = replace(made, bad=tuple(sorted({*made.bad, *found})))
    report = scale.facts(made), scale.report(made)
    if args.channels:
        keep = numbers("--channels", args.channels, channels)
        made = replace(
            made, emg=np.ascontiguousarray(made.emg[:, keep]),
            grid_row=None if made.grid_row is None else made.grid_row[keep],
            grid_col=None if made.grid_col is None else made.grid_col[keep],
            bad=tuple(j for j, k in enumerate(keep) if k in made.bad))
        made.check(args.input, args.any_rms)
    if args.resample:
        made = resampled(made, args.resample)
    if out:
        module.write_recording(out, made)
    if args.json:
        print(json.dumps(report[0] | {"out": str(out) if out else None, "found_bad": found}))
        return 0
    print(printable(f"{args.input}\n{report[1]}"))
    for channel, reason in found.items():
        if args.bad == "auto":
            print(f"bad           channel {channel}: {reason}")
    if out:
        print(f"-> {out}: {made.summary()}")
    return 0


if __name__ == "__main__":
    import sys

    sys.exit(main())
