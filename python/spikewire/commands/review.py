"""mu-review: a page in which a person edits a decomposition, and a check of what came out."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikewire.commands import check_out, guarded
from spikewire.signals import InputError

if TYPE_CHECKING:
    from spikewire.signals import Recording, SpikeTrains


def parser() -> argparse.ArgumentParser:
    """Options of mu-review."""
    p = argparse.ArgumentParser(
        prog="mu-review",
        description="Edit a decomposition by hand, in a page that needs no network and no server.",
        epilog="example: mu-review vastus.mat trains.npz --out review.html, then open the page; "
               "its export is read by every command. mu-review vastus.mat trains.npz --check "
               "trains_edited.npz says what was edited.",
    )
    p.add_argument("recording", help="what was decomposed, any format of docs/formats.md")
    p.add_argument("trains", help="spike trains of any format, also ones that were edited before")
    way = p.add_mutually_exclusive_group(required=True)
    way.add_argument("--out", help="the page, .html")
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
    if out:
        return write(out, recording, trains, where, read_rounds(where), args.json)
    return check(recording, trains, Path(args.check), len(read_rounds(where)), args.json)


def write(
    out: Path, recording: Recording, trains: SpikeTrains, source: Path,
    rounds: list[dict[str, Any]], as_json: bool,
) -> int:
    """Write the page."""
    from spikewire.report import page, review

    name = source.name.removesuffix("_events.tsv").partition(".")[0]
    head = (f'<meta http-equiv="Content-Security-Policy" content="{review.policy()}">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            "<style>body { max-width: none; margin: 0; padding: 12px; background: var(--ground); "
            "color: var(--ink); } h1, h2 { font-size: 1rem; margin: 0; }</style>")
    section = review.section(recording, trains, name.removesuffix("_edited") or "trains", rounds)
    page.write_page(out, f"{recording.name}: {source.name}", [section], head)
    size = out.stat().st_size
    if as_json:
        print(json.dumps({"out": str(out), "units": len(trains), "bytes": size}))
        return 0
    print(f"{len(trains)} units -> {out} ({size / 1e6:.1f} MB); open it in a browser, its Export "
          f"writes {name.removesuffix('_edited')}_edited.npz")
    return 0


def check(
    recording: Recording, trains: SpikeTrains, path: Path, before: int, as_json: bool
) -> int:
    """Follow the record from the spike trains to the edited ones."""
    from spikewire.edits import follow, read_rounds, standing
    from spikewire.io import read_trains

    edited, rounds = read_trains(path), read_rounds(path)[before:]
    if not rounds:
        raise InputError(f"{path}: holds no edits of {len(trains)} units made after these spike "
                         "trains; give what mu-review's page has exported")
    times, numbers = follow(recording, trains.times, rounds)
    same = len(times) == len(edited) and all(
        a.tolist() == b.tolist() for a, b in zip(times, edited.times, strict=True))
    made = [len(one["record"]) for one in rounds]
    units = []
    for k, number in enumerate(numbers):
        old, new = set(trains.times[number].tolist()), set(times[k].tolist())
        units.append({"unit": number, "now": k, "added": len(new - old),
                      "deleted": len(old - new), "discharges": len(new)})
    dropped = sorted(set(range(len(trains))) - set(numbers))
    if as_json:
        print(json.dumps({"same": same, "edits": made, "units": units, "dropped": dropped,
                          "standing": [len(standing(one["record"])) for one in rounds]}))
        return int(not same)
    print(f"{path}: {' + '.join(map(str, made))} edits"
          + (f", units {', '.join(map(str, dropped))} dropped" if dropped else ""))
    print("unit  now  added  deleted  discharges")
    for u in units:
        print(f"{u['unit']:4d}  {u['now']:3d}  {u['added']:5d}  {u['deleted']:7d}  "
              f"{u['discharges']:10d}")
    print("the record leads to exactly these spike trains" if same else
          "the file holds other spike trains than its record leads to")
    return int(not same)


if __name__ == "__main__":
    import sys

    sys.exit(main())
