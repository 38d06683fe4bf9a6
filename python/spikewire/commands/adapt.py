"""mu-adapt: a bundle for electrodes that were placed again."""

from __future__ import annotations

import argparse
import json
import time

from spikewire.commands import check_out, guarded, progress


def parser() -> argparse.ArgumentParser:
    """Options of mu-adapt."""
    p = argparse.ArgumentParser(
        prog="mu-adapt",
        description="Find shift of the grid, conduction velocity, gains and lost channels from 10 "
                    "s without labels, and solve the bundle's MU filters for them. The network "
                    "and the old bundle stay as they are.",
        epilog="example: mu-adapt monday.mub tuesday.npz --out tuesday.mub",
    )
    p.add_argument("bundle", help=".mub made by mu-export")
    p.add_argument("recording", help="with the electrodes as they are now; no labels are needed")
    p.add_argument("--out", required=True, help="new bundle, .mub")
    p.add_argument("--training", help="the training record, if the bundle lacks its moments")
    p.add_argument("--labels", help="the spike trains of --training")
    p.add_argument("--any-rms", action="store_true", help="accept an implausible amplitude")
    p.add_argument("--json", action="store_true", help="print the result as JSON")
    return p


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    return guarded("mu-adapt", lambda: run(parser().parse_args(argv)))


def run(args: argparse.Namespace) -> int:
    """Search, write if it is better, and report."""
    from spikewire.adapt import adapt, training_moments, write_adapted
    from spikewire.bundle import read_bundle
    from spikewire.io import read_recording, read_trains
    from spikewire.moments import places_of
    from spikewire.signals import InputError

    if bool(args.training) != bool(args.labels):
        raise InputError("--training and --labels belong together: give both or none")
    out = check_out(args.out, ".mub", args.bundle)
    bundle = read_bundle(args.bundle)
    recording = read_recording(args.recording, args.any_rms)
    moments = places = None
    if args.training:
        first = read_recording(args.training, args.any_rms)
        moments = training_moments(bundle, first, read_trains(args.labels))
        places = places_of(first)
    started = time.monotonic()
    with progress("adapt") as report:
        report(0.0, recording.summary())
        made = adapt(bundle, recording, moments, places, report)
    found, s = made.found, made.found.setting
    facts = {"better": found.better, "quality_before": round(found.before, 4),
             "quality_after": round(found.after, 4), "along_mm": s.along_mm,
             "around_mm": s.around_mm, "velocity": s.velocity, "gains": found.trust.gains,
             "bad_channels": [k for k, good in enumerate(found.good) if not good],
             "seconds": round(time.monotonic() - started, 1), "out": None}
    if found.better:
        write_adapted(bundle, made, out)
        facts["out"] = str(out)
    if args.json:
        print(json.dumps(facts))
        return 0
    gains = "followed" if found.trust.gains else "kept"
    print(f"along the fibres {s.along_mm:+g} mm, around the limb {s.around_mm:+g} mm, conduction "
          f"velocity x {s.velocity:g}; channel gains {gains}, "
          f"bad channels {facts['bad_channels'] or 'none'}")
    print(f"quality of the sources {found.before:.3f} -> {found.after:.3f}: " + (
        f"wrote {out}" if found.better else
        f"no improvement, nothing written; keep {args.bundle}"))
    return 0


if __name__ == "__main__":
    import sys

    sys.exit(main())
