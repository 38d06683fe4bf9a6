"""mu-decompose: EMG -> spike trains."""

from __future__ import annotations

import argparse
import json
import time

from spikewire.commands import check_out, check_seed, guarded, progress
from spikewire.signals import InputError


def parser() -> argparse.ArgumentParser:
    """Options of mu-decompose."""
    from spikewire.decompose import Settings

    p = argparse.ArgumentParser(
        prog="mu-decompose", description="Decompose a recording into motor-unit spike trains.",
        epilog="example: mu-decompose vastus.mat --out vastus_trains.npz",
    )
    p.add_argument("recording", help=".npz or OTBiolab+ .mat")
    p.add_argument("--out", required=True, help="spike trains, .npz")
    p.add_argument("--seed", type=int, default=Settings.seed, help="of the searches' starts")
    p.add_argument("--rounds", type=int, default=Settings.rounds,
                   help=f"rounds of searches (default {Settings.rounds})")
    p.add_argument("--min-sil", type=float, default=Settings.min_sil,
                   help=f"smallest silhouette (default {Settings.min_sil:g}); the CoV of ISI may "
                        f"reach {Settings.max_cov_isi:g}")
    p.add_argument("--any-rms", action="store_true", help="accept an implausible amplitude")
    p.add_argument("--json", action="store_true", help="print the result as JSON")
    return p


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    return guarded("mu-decompose", lambda: run(parser().parse_args(argv)))


def run(args: argparse.Namespace) -> int:
    """Decompose and report."""
    from spikewire.decompose import Settings, decompose
    from spikewire.io import read_recording
    from spikewire.io.npz import write_trains

    if not 1 <= args.rounds <= 100 or not 0 <= args.min_sil < 1:
        raise InputError(f"--rounds is {args.rounds} (allowed 1 to 100), --min-sil is "
                         f"{args.min_sil:g} (allowed 0 to 1)")
    check_seed(args.seed)
    out = check_out(args.out, ".npz", args.recording)
    recording = read_recording(args.recording, args.any_rms)
    started = time.monotonic()
    settings = Settings(rounds=args.rounds, min_sil=args.min_sil, seed=args.seed)
    with progress("decompose") as report:
        report(0.0, recording.summary())
        trains = decompose(recording, settings, report)
    write_trains(out, trains)
    assert trains.sil is not None
    assert trains.pnr_db is not None
    assert trains.cov_isi is not None
    units = [
        {"unit": k, "discharges": len(t), "sil": float(trains.sil[k]),
         "pnr_db": float(trains.pnr_db[k]), "cov_isi": float(trains.cov_isi[k]),
         "rate_hz": (len(t) - 1) / ((t[-1] - t[0]) / trains.fs_hz)}
        for k, t in enumerate(trains.times)
    ]
    if args.json:
        print(json.dumps({"units": units, "seconds": round(time.monotonic() - started, 1),
                          "out": str(out)}))
        return 0
    print(f"{len(units)} motor units in {time.monotonic() - started:.0f} s -> {out}")
    print("unit  discharges  rate/s   SIL  PNR dB  CoV ISI")
    for u in units:
        print(f"{u['unit']:4d}  {u['discharges']:10d}  {u['rate_hz']:6.1f}  {u['sil']:.2f}  "
              f"{u['pnr_db']:6.1f}  {u['cov_isi']:7.2f}")
    return 0


if __name__ == "__main__":
    import sys

    sys.exit(main())
