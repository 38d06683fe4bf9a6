"""mu-review: a page in which a person edits a decomposition, and a check of what came out."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikewire.commands import check_out, guarded, progress
from spikewire.signals import InputError

if TYPE_CHECKING:
    from spikewire.signals import Recording, SpikeTrains, Times


def parser() -> argparse.ArgumentParser:
    """Options of mu-review."""
    p = argparse.ArgumentParser(
        prog="mu-review",
        description="Edit a decomposition by hand, in a page that needs no network and no server.",
        epilog="example: mu-review vastus.mat trains.npz --out vastus.html",
    )
    p.add_argument("recording", help="what was decomposed, any format of docs/formats.md")
    p.add_argument("trains", help="spike trains of any format, also ones that were edited before")
    way = p.add_mutually_exclusive_group(required=True)
    way.add_argument("--out", help="the page, .html; what it exports is read by every command")
    way.add_argument("--check", metavar="EDITED",
                     help="does the record in EDITED lead from TRAINS to it? exit code 1 if not")
    p.add_argument("--any-rms", action="store_true", help="accept an implausible amplitude")
    p.add_argument("--json", action="store_true", help="print the result as JSON")
    return p


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    return guarded("mu-review", lambda: run(parser().parse_args(argv)))


def run(args: argparse.Namespace) -> int:
    """Write the page, or check."""
    from spikewire.edits import belonging, read_rounds
    from spikewire.io import read_recording, read_trains, split

    out = check_out(args.out, ".html", args.recording, args.trains) if args.out else None
    recording = read_recording(args.recording, args.any_rms)
    trains = belonging(recording, read_trains(args.trains), args.trains)
    where = split(args.trains)[0]
    rounds = read_rounds(where)
    with progress("review") as report:
        report(0.1, f"{recording.summary()}; sources of {len(trains)} motor units")
        if out:
            write(out, recording, trains, where, rounds)
        else:
            found = check(recording, trains, Path(args.check), len(rounds))
    if not out:
        return tell(found, args.check, args.json)
    size = out.stat().st_size
    print(json.dumps({"out": str(out), "units": len(trains), "bytes": size}) if args.json else
          f"{len(trains)} units -> {out} ({size / 1e6:.1f} MB); open it in a browser")
    return 0


def write(
    out: Path, recording: Recording, trains: SpikeTrains, source: Path,
    rounds: list[dict[str, Any]],
) -> None:
    """Write the page."""
    from spikewire.report import page, review

    name = Path(source.name.removesuffix("_events.tsv")).stem
    # Alone on its page, it has the whole screen.
    wide = ("<style>body { max-width: none; padding: 10px 12px; } header { margin: 0; } "
            "h1 { font-size: 16px; } section { border: 0; padding: 0; background: none; } "
            "h2 { display: none; }</style>")
    section = review.section(recording, trains, name.removesuffix("_edited") or "trains", rounds)
    page.write_page(out, f"{recording.name}: {source.name}", [section],
                    review.head() + wide)


def check(
    recording: Recording, trains: SpikeTrains, path: Path, before: int
) -> dict[str, Any]:
    """Follow the record from the spike trains to the edited ones, and judge both."""
    from spikewire.edits import follow, read_rounds
    from spikewire.io import read_trains

    edited, rounds = read_trains(path), read_rounds(path)[before:]
    if not rounds:
        raise InputError(f"{path}: holds no edits made after these spike trains; give what the "
                         "page of mu-review has exported")
    times, numbers = follow(recording, trains.times, rounds)
    same = len(times) == len(edited) and all(
        a.tolist() == b.tolist() for a, b in zip(times, edited.times, strict=True))
    return {"same": same, "edits": [len(one["record"]) for one in rounds],
            "units": judged(recording, trains, times, numbers),
            "dropped": sorted(set(range(len(trains))) - set(numbers))}


def tell(found: dict[str, Any], path: str, as_json: bool) -> int:
    """Print what a check has found; the exit code."""
    if as_json:
        print(json.dumps(found))
        return int(not found["same"])
    dropped = ", ".join(map(str, found["dropped"]))
    print(f"{path}: {' + '.join(map(str, found['edits']))} edits"
          + (f", units {dropped} dropped" if dropped else ""))
    print("unit  now  added  deleted  discharges  SIL             CoV ISI")
    for u in found["units"]:
        print(f"{u['unit']:4d}  {u['now']:3d}  {u['added']:5d}  {u['deleted']:7d}  "
              f"{u['discharges']:10d}  {shown(u['sil'])}  {shown(u['cov_isi'])}")
    print("the record leads to exactly these spike trains" if found["same"] else
          "the file holds other spike trains than its record leads to")
    return int(not found["same"])


def shown(pair: list[float | None]) -> str:
    """Before and after."""
    return " -> ".join("    -" if v is None else f"{v:.3f}" for v in pair)


def judged(
    recording: Recording, trains: SpikeTrains, times: list[Times], numbers: list[int]
) -> list[dict[str, Any]]:
    """What was edited of each kept unit, and its figures on one source, before and after."""
    import numpy as np

    from spikewire.decompose import sources
    from spikewire.edits import figures
    from spikewire.separate import peaks_of

    made, start, _ = sources(recording, trains.times)
    units = []
    for now, (number, after) in enumerate(zip(numbers, times, strict=True)):
        before, source = trains.times[number], np.ascontiguousarray(made[:, number])
        both = [figures(source, peaks_of(source, trains.fs_hz), t - start, trains.fs_hz)
                for t in (before, after)]
        units.append({
            "unit": number, "now": now, "discharges": len(after),
            "added": len(np.setdiff1d(after, before)),
            "deleted": len(np.setdiff1d(before, after)),
            **{name: [f[name] if np.isfinite(f[name]) else None for f in both]
               for name in ("sil", "pnr_db", "cov_isi")}})
    return units


if __name__ == "__main__":
    import sys

    sys.exit(main())
