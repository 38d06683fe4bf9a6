"""mu-decompose: EMG -> spike trains."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from spikewire.commands import check_out, check_seed, guarded, parsed, progress
from spikewire.signals import InputError


def parser() -> argparse.ArgumentParser:
    """Options of mu-decompose."""
    from spikewire.separate import Settings

    p = argparse.ArgumentParser(
        prog="mu-decompose", description="Decompose a recording into motor-unit spike trains.",
        epilog="example: mu-decompose vastus.mat --out vastus_trains.npz",
    )
    p.add_argument("recording", nargs="+",
                   help="any format of docs/formats.md; several under the same electrodes give "
                        "the same units in the same order")
    p.add_argument("--out", required=True, action="append",
                   help="spike trains, .npz; once for each recording")
    p.add_argument("--seed", type=int, default=Settings.seed, help="of the searches' starts")
    p.add_argument("--rounds", type=int, default=Settings.rounds,
                   help=f"rounds of searches (default {Settings.rounds})")
    p.add_argument("--min-sil", type=float, default=Settings.min_sil,
                   help=f"smallest silhouette (default {Settings.min_sil:g}); the CoV of ISI may "
                        f"reach {Settings.max_cov_isi:g}")
    p.add_argument("--report", metavar="PAGE.html",
                   help="write a page: units, discharges and rates, action potentials, drive")
    p.add_argument("--any-rms", action="store_true", help="accept an implausible amplitude")
    p.add_argument("--json", action="store_true", help="print the result as JSON")
    return p


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    return guarded("mu-decompose", lambda: run(parsed(parser(), argv)))


def run(args: argparse.Namespace) -> int:
    """Decompose and report."""
    from spikewire.decompose import decompose_together
    from spikewire.io import read_recording
    from spikewire.io.npz import write_trains
    from spikewire.separate import Settings

    if not 1 <= args.rounds <= 100 or not 0 <= args.min_sil < 1:
        raise InputError(f"--rounds is {args.rounds} (allowed 1 to 100), --min-sil is "
                         f"{args.min_sil:g} (allowed 0 to 1)")
    check_seed(args.seed)
    if len(args.out) != len(args.recording):
        raise InputError(f"{len(args.recording)} recordings and {len(args.out)} --out: give one "
                         "--out for each recording, in their order")
    outs = [check_out(out, ".npz", *args.recording) for out in args.out]
    if len(set(outs)) != len(outs):
        raise InputError("two --out are the same file; give one for each recording")
    page = check_out(args.report, ".html", *args.recording) if args.report else None
    recordings = [read_recording(r, args.any_rms) for r in args.recording]
    started = time.monotonic()
    settings = Settings(rounds=args.rounds, min_sil=args.min_sil, seed=args.seed)
    with progress("decompose") as report:
        report(0.0, "; ".join(r.summary() for r in recordings))
        made = decompose_together(recordings, settings, report)
    for out, trains in zip(outs, made, strict=True):
        write_trains(out, trains)
    first = made[0]
    assert first.sil is not None
    assert first.pnr_db is not None
    assert first.cov_isi is not None
    fs = first.fs_hz
    units = []
    for k in range(len(first)):
        times = [t.times[k] for t in made]
        active = sum((t[-1] - t[0]) / fs for t in times if len(t) > 1)
        units.append({
            "unit": k, "discharges": sum(map(len, times)), "sil": float(first.sil[k]),
            "pnr_db": float(first.pnr_db[k]), "cov_isi": float(first.cov_isi[k]),
            "rate_hz": sum(max(len(t) - 1, 0) for t in times) / max(active, 1 / fs),
        })
    seconds = round(time.monotonic() - started, 1)
    if page:
        write_page(args, page, list(zip(recordings, made, strict=True)), seconds)
    if args.json:
        print(json.dumps({"units": units, "seconds": seconds, "out": [str(out) for out in outs]}
                         | ({"report": str(page)} if page else {})))
        return 0
    print(f"{len(units)} motor units in {seconds:.0f} s -> {', '.join(map(str, outs))}")
    print("unit  discharges  rate/s   SIL  PNR dB  CoV ISI")
    for u in units:
        print(f"{u['unit']:4d}  {u['discharges']:10d}  {u['rate_hz']:6.1f}  {u['sil']:.2f}  "
              f"{u['pnr_db']:6.1f}  {u['cov_isi']:7.2f}")
    if page:
        print(f"page: {page}")
    return 0


def write_page(args: argparse.Namespace, page: Path, pairs: list[Any], seconds: float) -> None:
    """Write the page of --report; the discharges of a single recording can be edited in it."""
    from spikewire.report import decomposition, ran, review
    from spikewire.report.page import NO_SCRIPT

    (recording, first), *more = pairs
    edit = [] if more else [review.section(
        recording, first, Path(args.out[0]).stem, most_bytes=review.SHARED_BYTES)]
    decomposition.write(page, pairs, ran.section(args.typed, [
        ("method", first.method), ("rounds", args.rounds), ("least SIL", f"{args.min_sil:g}"),
        ("seconds", seconds)]), edit, review.head() if edit else NO_SCRIPT)


if __name__ == "__main__":
    import sys

    sys.exit(main())
