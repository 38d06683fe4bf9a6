"""mu-export: model folder -> bundle."""

from __future__ import annotations

import argparse
import json
import os
from importlib import util
from pathlib import Path
from typing import Any

from spikewire.commands import check_out, guarded, progress, quiet


def parser() -> argparse.ArgumentParser:
    """Options of mu-export."""
    p = argparse.ArgumentParser(
        prog="mu-export", description="Export a trained decoder as a bundle for the board.",
        epilog="example: mu-export vastus_model --out vastus.mub --trt fp16",
    )
    p.add_argument("model", help="folder made by mu-train")
    p.add_argument("--out", required=True, help="bundle to write, .mub")
    p.add_argument("--trt", choices=["fp32", "fp16", "int8"], default="fp32",
                   help="precision in the graph; fp32 is always in the bundle too")
    p.add_argument("--calibration", metavar="REC",
                   help="a recording of the same electrodes: with --trt int8, activations become "
                        "int8 over its range, as TensorRT needs; else only weights do")
    p.add_argument("--labels", metavar="TRAINS",
                   help="spike trains of the calibration recording: scores every precision")
    p.add_argument("--units", default="", metavar="K,...", help="the labels that were trained on")
    p.add_argument("--decoder", choices=["auto", "network", "linear"], default="auto",
                   help="auto: the better one on the validation part")
    p.add_argument("--standalone", metavar="FILE",
                   help="also write the fp32 network with its filters in front as one ONNX graph, "
                        "EMG in microvolts in, for programs of others")
    p.add_argument("--json", action="store_true", help="print the result as JSON")
    return p


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    args = parser().parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up chatter
    return guarded("mu-export", lambda: run(args))


def run(args: argparse.Namespace) -> int:
    """Export and report."""
    from spikewire.signals import InputError

    out = check_out(args.out, ".mub")
    alone = check_out(args.standalone, ".onnx") if args.standalone else None
    if not (Path(args.model) / "model.json").is_file():
        raise InputError(f"{args.model}: no model folder (no model.json in it); see mu-train")
    if util.find_spec("onnxruntime") is None:
        raise InputError("mu-export checks every graph with ONNX Runtime, which is not installed; "
                         "type: pip install 'spikewire[ort]'")
    calibration, trains = read_calibration(args)
    with progress("export") as report:
        report(0.0, "loading TensorFlow")
        with quiet():
            from spikewire import export
            from spikewire.model import load

        model = load(Path(args.model))
        report(0.3, "Keras -> ONNX -> golden windows")
        facts = export.export(model, out, [args.trt], args.decoder, calibration, trains,
                              alone)
        report(1.0, "done")
    if args.json:
        print(json.dumps(facts))
        return 0
    print(f"{out}: {facts['decoder']} decoder, {facts['n_mu']} units, {facts['bytes']} bytes, "
          f"arm id {facts['arm_id']}")
    for precision, difference in facts["precisions"].items():
        scored = f", F1 {facts['f1'][precision]:.4f} on {args.calibration}" if facts["f1"] else ""
        print(f"{precision}: {facts['network_bytes'][precision]} bytes, largest difference from "
              f"Keras over 200 windows {difference:.1e} "
              f"(allowed {export.TOLERANCE[precision]:g}){scored}")
    return 0


def read_calibration(args: argparse.Namespace) -> tuple[Any, Any]:
    """The calibration recording and its labels, or None each."""
    from spikewire.commands.train import read_labels
    from spikewire.io import read_recording
    from spikewire.signals import InputError

    if args.calibration is None:
        if args.labels:
            raise InputError("--labels are those of the calibration recording; name it with "
                             "--calibration REC")
        return None, None
    recording = read_recording(args.calibration)
    return recording, (read_labels(args.labels, recording, args.units)
                       if args.labels else None)


if __name__ == "__main__":
    import sys

    sys.exit(main())
