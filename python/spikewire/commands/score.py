"""mu-score: compare spike trains."""

from __future__ import annotations

import argparse
import json

from spikewire.commands import check_out, guarded, parsed


def parser() -> argparse.ArgumentParser:
    """Options of mu-score."""
    p = argparse.ArgumentParser(
        prog="mu-score", description="Score predicted spike trains against a reference.",
        epilog="example: mu-score decoded.npz vastus_trains.npz --span 18:24",
    )
    p.add_argument("predicted", help="spike trains, .npz")
    p.add_argument("reference", help="spike trains, any format of docs/formats.md")
    p.add_argument("--span", default="", metavar="A:B", help="seconds to score (default: all)")
    p.add_argument("--match", action="store_true",
                   help="pair units by agreement, one to one; without a partner: counted only")
    p.add_argument("--report", metavar="PAGE.html", help="write a page: each unit, which was taken "
                   "for which, both trains and both drives")
    p.add_argument("--json", action="store_true", help="print the result as JSON")
    return p


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    args = parsed(parser(), argv)
    return guarded("mu-score", lambda: run(args))


def shown(value: float | None) -> str:
    """A correlation, or that there is none."""
    return "undefined" if value is None else f"{value:.2f}"


def run(args: argparse.Namespace) -> int:
    """Score and report."""
    from spikewire import score
    from spikewire.io import read_trains
    from spikewire.signals import InputError, SpikeTrains, parse_spans

    page = check_out(args.report, ".html", args.predicted, args.reference) if args.report else None
    predicted, reference = read_trains(args.predicted), read_trains(args.reference)
    if predicted.fs_hz != reference.fs_hz:
        raise InputError(f"{args.predicted} counts at {predicted.fs_hz:g} Hz, {args.reference} at "
                         f"{reference.fs_hz:g} Hz")
    whole = predicted, reference
    pairs = [(k, k) for k in range(len(reference))]
    if args.match:
        pairs = score.one_to_one(predicted.times, reference.times)
        if not pairs:
            raise InputError(f"no two units of {args.predicted} and {args.reference} agree to "
                             f"{score.MIN_PAIR:g}; are they of one recording?")
        predicted = SpikeTrains([predicted.times[p] for p, _ in pairs], predicted.fs_hz)
        reference = SpikeTrains([reference.times[r] for _, r in pairs], reference.fs_hz)
    elif len(predicted) != len(reference):
        raise InputError(f"{len(predicted)} predicted and {len(reference)} reference units cannot "
                         "be paired by their order; add --match")
    last = max((int(t[-1]) + 1 for t in [*predicted.times, *reference.times] if len(t)), default=0)
    (start, stop), *more = parse_spans(args.span, reference.fs_hz) or [(0, last)]
    if more:
        raise InputError("--span takes one span; score the others one by one")
    scores = score.score(predicted, reference, start, stop)
    cst = score.cst_correlation(predicted, reference, start, stop)
    unpaired = {"predicted": len(whole[0]) - len(predicted),
                "reference": len(whole[1]) - len(reference)}
    figures = score.table(scores) | {"cst": cst, "unpaired": unpaired}
    if page:
        from spikewire.report import ran, scoring

        scoring.write(page, scoring.Compared(*whole, pairs, start, stop), figures,
                      (args.predicted, args.reference),
                      ran.section(args.typed, [("found by", predicted.method or whole[0].method),
                                               ("reference", whole[1].method)]))
    if args.json:
        print(json.dumps(figures | ({"report": str(page)} if page else {})))
        return 0
    print("unit  reference  found   F1    near  sens  prec  agree  1 ms   on time  err ms  lag")
    for k, s in enumerate(scores):
        print(f"{k:4d}  {s.reference:9d}  {s.predicted:5d}  {s.f1:.3f} {s.f1_near:.3f}  "
              f"{s.sensitivity:.2f}  {s.precision:.2f}  {s.agreement:.3f}  {s.agreement_1ms:.3f}  "
              f"{s.on_time:7.3f}  {s.time_error_ms:6.2f}  {s.lag_samples:+d}")
    print(f"mean F1 {figures['f1']:.3f} (neighbour bin allowed {figures['f1_near']:.3f}), worst "
          f"{figures['f1_worst']:.3f}, rate of agreement {figures['agreement']:.3f}; "
          f"{figures['units_above_0.7']} of {figures['units']} units above F1 0.7")
    if any(unpaired.values()):
        print(f"without a partner: {unpaired['predicted']} predicted and {unpaired['reference']} "
              "reference units")
    if figures["on_time"] is not None:
        print(f"of the hits {figures['on_time']:.1%} within one sample; CST correlation, mean "
              f"removed: lag 0 {shown(cst['lag0'])}, best lag {shown(cst['best_lag'])}, "
              f"whole span {shown(cst['whole'])}")
    if page:
        print(f"page: {page}")
    return 0


if __name__ == "__main__":
    import sys

    sys.exit(main())
