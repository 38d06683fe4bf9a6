"""mu-prune: model folder and its recording -> a model folder that computes less."""

from __future__ import annotations

import argparse
import json
import os
import time
from importlib import util
from pathlib import Path
from typing import Any

from spikewire.commands import check_seed, guarded, progress, quiet
from spikewire.commands.train import LABELS, check_folder, read_labels, unmade


def parser() -> argparse.ArgumentParser:
    """Options of mu-prune."""
    p = argparse.ArgumentParser(
        prog="mu-prune", description="Take channels out of a trained network, and train on.",
        epilog="example: mu-prune vastus_model vastus.mat --keep 0.5 --out vastus_half",
    )
    p.add_argument("model", help="folder made by mu-train")
    p.add_argument("recording", help="the one that the model was trained on")
    p.add_argument("--labels", help="other than the model folder's labels.npz")
    p.add_argument("--keep", type=float, default=0.5, metavar="SHARE",
                   help="of the multiply-accumulates of a window (default 0.5)")
    p.add_argument("--out", required=True, help="model folder to make")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--any-rms", action="store_true", help="accept an implausible amplitude")
    p.add_argument("--json", action="store_true", help="print the result as JSON")
    return p


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    args = parser().parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up chatter
    return guarded("mu-prune", lambda: run(args))


def run(args: argparse.Namespace) -> int:
    """Prune and report."""
    from spikewire.io import read_recording
    from spikewire.io.npz import write_trains
    from spikewire.signals import InputError

    if not (Path(args.model) / "model.json").is_file():
        raise InputError(f"{args.model}: no model folder (no model.json in it); see mu-train")
    out = check_folder(args.out)
    if out.exists() and out.samefile(args.model):
        raise InputError(f"{out}: is the input; choose another name for the output")
    check_seed(args.seed)
    made_here = not out.exists()
    recording = read_recording(args.recording, args.any_rms)
    trains = read_labels(args.labels or Path(args.model) / LABELS, recording)
    started = time.monotonic()
    with progress("prune") as report, unmade(out if made_here else None):
        report(0.0, f"{recording.summary()}; loading TensorFlow")
        with quiet():
            from spikewire import model as folder
            from spikewire import prune

        model = folder.load(Path(args.model))
        known = as_trained_on(model, recording, trains)
        made, rows = prune.prune(model, recording, known, args.keep, out, args.seed, report,
                                 timer())
        folder.save(out, made)
        write_trains(out / LABELS, trains)
    show(args, made, rows, time.monotonic() - started)
    return 0


def as_trained_on(model: Any, recording: Any, trains: Any) -> Any:
    """Labels that know nothing of what was held out, as mu-train made them."""
    from spikewire.decompose import re_estimate
    from spikewire.prune import training_spans

    spans = training_spans(model, recording)
    whole = spans == [(0, len(recording.emg))]
    return trains if whole else re_estimate(recording, trains, spans)


def timer() -> Any:
    """Milliseconds of one window of a model as exported, or None without ONNX Runtime."""
    if util.find_spec("onnxruntime") is None:
        return None
    from spikewire import export
    from spikewire.model import one_window
    from spikewire.rehearse import milliseconds

    def time_ms(model: Any) -> float:
        graph = export.canonical(export.to_onnx(one_window(model)))
        return milliseconds(graph.SerializeToString())

    return time_ms


def show(args: argparse.Namespace, made: Any, rows: list[dict[str, Any]], seconds: float) -> None:
    """Print the table."""
    if args.json:
        print(json.dumps({"out": args.out, "decoder": made.facts["decoder"], "keep": args.keep,
                          "rows": rows, "seed": args.seed, "seconds": round(seconds, 1)},
                         default=float))
        return
    print("step     C1 C2 C3 C4 F1            weights   operations       bytes  F1 (linear)"
          "    ms/window")
    for row in rows:
        widths = " ".join(map(str, (*row["trunk"], *row["heads"])))
        ms = "-" if row["ms"] is None else f"{row['ms']:.3f}"
        print(f"{row['step']:8s} {widths:20s} {row['weights']:9d} {row['operations']:12d} "
              f"{row['bytes']:11d}  {row['f1']:.3f} ({row['linear_f1']:.3f})  {ms}")
    print("F1 on the validation part, which the networks of this table have not seen; operations: "
          "multiply-accumulates of a window; ms: ONNX Runtime, one thread, this machine")
    print(f"chosen: {made.facts['decoder']}; {seconds:.0f} s -> {args.out}")


if __name__ == "__main__":
    import sys

    sys.exit(main())
