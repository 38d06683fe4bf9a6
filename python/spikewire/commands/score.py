"""mu-score: compare spike trains."""

from __future__ import annotations

import argparse
import json

from spikewire.commands import guarded


def parser() -> argparse.ArgumentParser:
    """Options of mu-score."""
    p = argparse.ArgumentParser(
        prog="mu-score", description="Score predicted spike trains against a reference.",
        epilog="example: mu-score decoded.npz vastus_trains.npz --span 18:24",
    )
    p.add_argument("predicted", help="spike trains, .npz")
    p.add_argument("reference", help="spike trains, .npz or OTBiolab+ .mat")
    p.add_argument("--span", default="", metavar="A:B", help="seconds to score (default: all)")
    p.add_argument("--match", action="store_true",
                   help="pair each reference unit with the predicted unit that agrees best")
    p.add_argument("--json", action="store_true", help="print the result as JSON")
    return p


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    args = parser().parse_args(argv)
    return guarded("mu-score", lambda: run(args))


def run(args: argparse.Namespace) -> int:
    """Score and report."""
    from spikewire import score
    from spikewire.io import read_trains
    from spikewire.signals import InputError, SpikeTrains, parse_spans

    predicted, reference = read_trains(args.predicted), read_trains(args.reference)
    if predicted.fs_hz != reference.fs_hz:
        raise InputError(f"{args.predicted} counts at {predicted.fs_hz:g} Hz, {args.reference} at "
                         f"{reference.fs_hz:g} Hz")
    if args.match:
        pairs = score.match(predicted.times, reference.times)
        predicted = SpikeTrains([predicted.times[k] for k, _ in pairs], predicted.fs_hz)
    elif len(predicted) != len(reference):
        raise InputError(f"{len(predicted)} predicted and {len(reference)} reference units cannot "
                         "be paired by their order; add --match")
    last = max((int(t[-1]) + 1 for t in [*predicted.times, *reference.times] if len(t)), default=0)
    (start, stop), *more = parse_spans(args.span, reference.fs_hz) or [(0, last)]
    if more:
        raise InputError("--span takes one span; score the others one by one")
    scores = score.score(predicted, reference, start, stop)
    figures = score.table(scores)
    if args.json:
        print(json.dumps(figures))
        return 0
    print("unit  reference  found   F1    sens  prec  agree  lag")
    for k, s in enumerate(scores):
        print(f"{k:4d}  {s.reference:9d}  {s.predicted:5d}  {s.f1:.3f}  {s.sensitivity:.2f}  "
              f"{s.precision:.2f}  {s.agreement:.3f}  {s.lag_samples:+d}")
    print(f"mean F1 {figures['f1']:.3f} (neighbour bin allowed {figures['f1_near']:.3f}), worst "
          f"{figures['f1_worst']:.3f}, rate of agreement {figures['agreement']:.3f}")
    return 0


if __name__ == "__main__":
    import sys

    sys.exit(main())
