"""mu-calibrate: from electrodes to a bundle in one go, with a verdict in plain words."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from spikewire.commands import call, check_out, guarded, parsed, write_report

STEPS = 800  # of training, as in mu-demo; the recipe's are --steps 3000
EXIT = {"good": 0, "usable": 0, "poor": 1}


def parser() -> argparse.ArgumentParser:
    """Options of mu-calibrate."""
    from spikewire.guide import Plan

    p = argparse.ArgumentParser(
        prog="mu-calibrate",
        description="Guide through a contraction, record it, find its motor units, train, test on "
                    "a part that was held out, export, and say whether the decoder is good enough. "
                    "The same command goes on where an interrupted one stopped. A bundle that is "
                    "there already is fitted to the electrodes as they are now (--afresh: made "
                    "anew).",
        epilog="example: mu-calibrate --source muovi: --grid GR08MM1305 --out monday.mub",
    )
    p.add_argument("--source", required=True, metavar="URI", help="as for mu-run")
    p.add_argument("--out", required=True, help="bundle, .mub; an older one is kept beside it")
    p.add_argument("--grid", metavar="NAME", help="of electrodes, such as GR08MM1305, or "
                                                  "ROWSxCOLUMNS@MM; lets the decoder be fitted to "
                                                  "a grid that was placed again")
    words = {"level": "effort to hold, %% of the maximum", "contractions": "how many",
             "hold_s": "seconds of each hold", "ramp_s": "seconds up, and down",
             "rest_s": "seconds of rest around", "maximum_s": "seconds at full strength before, "
             "which the bar on the screen is measured against; 0: none"}
    for field in fields(Plan):
        p.add_argument(f"--{field.name.removesuffix('_s')}", dest=field.name, metavar="N",
                       type=type(field.default), default=field.default,
                       help=f"{words[field.name]} (default {field.default:g})")
    p.add_argument("--seed", type=int, default=0, help="of decomposition and training")
    p.add_argument("--steps", type=int, default=STEPS, help=f"of training (default {STEPS})")
    p.add_argument("--afresh", action="store_true",
                   help="begin anew, whatever bundle or unfinished calibration is there")
    p.add_argument("--json", action="store_true", help="print the result as JSON")
    return p


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    args = parsed(parser(), argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up chatter
    return guarded("mu-calibrate", lambda: run(args))


def say(words: str) -> None:
    """Say what comes now."""
    print(f"\n{words}", file=sys.stderr, flush=True)


def free_name(path: Path) -> Path:
    """The first of NAME.1.SUFFIX, NAME.2.SUFFIX ... that is not there."""
    number = 1
    while (free := path.with_name(f"{path.stem}.{number}{path.suffix}")).exists():
        number += 1
    return free


def open_folder(out: Path, asked: dict[str, Any], afresh: bool) -> Path:
    """The folder of this calibration: a new one, or that of an interrupted one with the same words.

    Raises
    ------
    InputError
        An unfinished calibration of another call is there.
    """
    from spikewire.signals import InputError

    folder, plan = out.with_suffix(".calibration"), out.with_suffix(".calibration") / "plan.json"
    if folder.exists() and afresh:
        folder.rename(free_name(folder))
    if folder.exists():
        try:
            before = json.loads(plan.read_bytes())
        except (OSError, ValueError):
            before = {}
        if (folder / "report.json").exists():  # that one came to its end
            folder.rename(free_name(folder))
        elif before != asked:
            other = [k for k in asked if before.get(k) != asked[k]]
            raise InputError(f"{folder}: an unfinished calibration with another "
                             f"{', '.join(other)}; repeat that call to finish it, or type --afresh")
        else:
            say(f"going on with {folder}")
    folder.mkdir(exist_ok=True)
    write_report(plan, asked)
    return folder


def run(args: argparse.Namespace) -> int:
    """All stages; each leaves a file, and is passed over if its file is there."""
    from spikewire.calibrate import hold_out_s, verdict
    from spikewire.commands import check_seed
    from spikewire.guide import Plan
    from spikewire.io import read_recording

    out = check_out(args.out, ".mub")
    check_seed(args.seed)
    plan = Plan(**{f.name: getattr(args, f.name) for f in fields(Plan)})
    old = out if out.exists() and not args.afresh else None
    asked = {"source": args.source, "grid": args.grid, "seed": args.seed, "steps": args.steps,
             "old": old is not None} | asdict(plan)
    folder = open_folder(out, asked, args.afresh)
    path = folder / "recording.npz"
    if not path.exists():
        record(args, plan, folder)
    started = time.monotonic()
    recording = read_recording(path)
    say(recording.summary())
    labels = folder / "labels.npz"
    if not labels.exists():
        call("decompose", str(path), "--out", str(labels), "--seed", str(args.seed))
    span = "{:g}:{:g}".format(*hold_out_s(recording, plan))
    made = refit(old, folder) if old else train(args, folder, span)
    word, sentence = verdict(made["f1"])
    if old and word == "poor":
        sentence += (f" {old} does not fit this muscle any more: the same with --afresh makes a "
                     "new one.")
    facts = made | {"verdict": word, "sentence": sentence, "hold_out_s": span,
                    "seconds_after_recording": round(time.monotonic() - started, 1),
                    "recording": str(path), "out": None}
    if word != "poor" and made["candidate"]:
        facts["out"], facts["before"] = str(out), install(Path(made["candidate"]), out)
    facts["report"] = str(folder / "report.html")
    write_report(folder / "report.json", facts)
    write_page(args, plan, folder, facts, recording)
    show(facts, args)
    return EXIT[word]


def write_page(args: argparse.Namespace, plan: Any, folder: Path, facts: dict[str, Any],
               recording: Any) -> None:
    """The verdict and what it stands on, as a page in the calibration's folder."""
    from spikewire.calibrate import examine
    from spikewire.io import read_trains
    from spikewire.report import calibration, ran

    held_out = None
    if facts["what"] == "new":
        held_out = read_trains(folder / "auto.npz"), read_trains(folder / "model" / "labels.npz")
    calibration.write(
        Path(facts["report"]),
        calibration.Calibrated(facts, plan, recording, read_trains(folder / "labels.npz"),
                               [(f.what, f.remedy) for f in examine(recording, plan)], held_out),
        args.source, ran.section(args.typed, [
            ("plan", f"{plan.contractions} x {plan.hold_s:g} s at {plan.level:g} %, ramps of "
                     f"{plan.ramp_s:g} s"), ("grid", args.grid or "not named"),
            ("seed", args.seed), ("steps of training", args.steps)]))


def record(args: argparse.Namespace, plan: Any, folder: Path) -> None:
    """Guide and record; leave recording.npz if what came is fit for a decoder.

    Raises
    ------
    InputError
        The source sends nothing or ends too early, or the electrodes or the effort will not do.
    """
    from spikewire.calibrate import cut, examine
    from spikewire.commands.record import Stop
    from spikewire.io import read_recording
    from spikewire.io.npz import write_recording
    from spikewire.signals import InputError

    log = folder / "recording.mcap"
    if log.exists():
        log.rename(free_name(log))  # of a call that was interrupted: kept, but not used
    stop = Stop()
    guided(args, plan, log, stop)
    if stop.signalled:
        raise KeyboardInterrupt
    recording = cut(read_recording(log), plan)
    found = examine(recording, plan)
    for finding in found:
        say(f"{finding.what}: {finding.remedy}")
    if found and found[0].fatal:
        raise InputError(f"{log}: {found[0].what}; {found[0].remedy}, then type the same again")
    write_recording(folder / "recording.npz", recording)


def guided(args: argparse.Namespace, plan: Any, path: Path, stop: Any) -> None:
    """Record to a log while the screen says what to do.

    The amplifier's own samples are the clock: when it falters, the plan waits.
    """
    from spikewire.capture import capture
    from spikewire.io.grids import grid_of
    from spikewire.io.runlog import RunLog
    from spikewire.io.source import open_source
    from spikewire.report.screen import watching
    from spikewire.runtime.clock import MonotonicClock

    clock, most = MonotonicClock(), 0.0
    source = open_source(args.source, clock)

    def effort(electrodes: Any) -> float | None:
        nonlocal most
        now = electrodes.envelope_uv
        if plan.at(electrodes.samples / source.fs_hz).kind == "maximum":
            most = max(most, now)
        return 100 * now / most if most else None

    try:
        grid = grid_of(args.grid, source.channels) if args.grid else None
        log = RunLog(path, source, {"plan": json.dumps(asdict(plan))}
                     | ({"grid": args.grid} if args.grid else {}))
        try:
            with watching("mu-calibrate", source.fs_hz, grid, plan, effort) as look:
                capture(source, log, clock, lambda e: stop.signalled
                        or e.samples >= plan.seconds * source.fs_hz, look)
        finally:
            log.close()
    finally:
        source.close()


def decode(bundle: Path, folder: Path, name: str) -> Path:
    """Spike trains of the recording, decoded as fast as possible."""
    trains = folder / f"{name}.npz"
    call("run", str(bundle), "--source", f"replay:{folder / 'recording.npz'}", "--pace", "max",
         "--trains", str(trains))
    return trains


def train(args: argparse.Namespace, folder: Path, span: str) -> dict[str, Any]:
    """A new decoder, scored on the seconds that were held out, the linear one beside it."""
    from spikewire.calibrate import per_unit

    model, recording = folder / "model", str(folder / "recording.npz")
    facts = folder / "training.json"
    if not facts.exists():
        shutil.rmtree(model, ignore_errors=True)
        write_report(facts, call(
            "train", recording, "--labels", str(folder / "labels.npz"), "--hold-out", span,
            "--steps", str(args.steps), "--seed", str(args.seed), "--out", str(model)))
    scores = {}
    for decoder in ("auto", "linear"):
        bundle = folder / f"{decoder}.mub"
        call("export", str(model), "--out", str(bundle), "--decoder", decoder, "--trt", "fp16")
        scores[decoder] = call("score", str(decode(bundle, folder, decoder)),
                               str(model / "labels.npz"), "--span", span)
    trained = json.loads(facts.read_bytes())
    return {"what": "new", "candidate": str(folder / "auto.mub"), "f1": per_unit(scores["auto"]),
            "f1_linear": per_unit(scores["linear"]), "decoder": trained["decoder"],
            "left_out": trained["left_out"]}


def refit(old: Path, folder: Path) -> dict[str, Any]:
    """The old decoder, fitted to the electrodes as they are now if that is better.

    It is judged against units that were found in the new recording without it; nothing of it was
    trained on them.
    """
    from spikewire.calibrate import per_unit

    fitted, labels = folder / "fitted.mub", str(folder / "labels.npz")
    adapted = call("adapt", str(old), str(folder / "recording.npz"), "--out", str(fitted))
    scores = {"before": call("score", str(decode(old, folder, "before")), labels, "--match")}
    if adapted["better"]:
        scores["after"] = call("score", str(decode(fitted, folder, "after")), labels, "--match")
    f1 = {name: per_unit(score) for name, score in scores.items()}
    better = "after" in f1 and sum(f1["after"]) > sum(f1["before"])
    return {"what": "fitted" if better else "kept", "candidate": str(fitted) if better else None,
            "f1": f1["after" if better else "before"], "f1_before": f1["before"],
            "found": {k: adapted[k] for k in ("along_mm", "around_mm", "velocity", "bad_channels")}}


def install(candidate: Path, out: Path) -> str | None:
    """Put a bundle in its place; the one that was there is kept. Return the kept one's name."""
    from spikewire.durable import write_durably

    kept = free_name(out) if out.exists() else None
    if kept:
        os.link(out, kept)
    write_durably(out, lambda file: file.write(candidate.read_bytes()))
    return str(kept) if kept else None


def show(facts: dict[str, Any], args: argparse.Namespace) -> None:
    """Print what came out."""
    if args.json:
        print(json.dumps(facts))
        return
    beside = "f1_linear" if facts["what"] == "new" else "f1_before"
    title = {"new": "linear", "fitted": "as it was", "kept": "as it was"}[facts["what"]]
    print(f"unit   F1    {title}")
    for k, (f1, other) in enumerate(zip(facts["f1"], facts[beside], strict=False)):
        print(f"{k:4d}  {f1:.3f}  {other:.3f}")
    if facts["what"] == "new" and facts["left_out"]:
        print(f"{len(facts['left_out'])} weak units were left out")
    if facts["what"] != "new":
        found = facts["found"]
        print(f"the grid lies {found['along_mm']:+g} mm along the fibres and "
              f"{found['around_mm']:+g} mm around the limb from where it was; conduction velocity "
              f"x {found['velocity']:g}")
    print(facts["sentence"])
    if facts["out"]:
        print(f"{facts['out']} is ready ({facts['seconds_after_recording']:.0f} s after the "
              f"recording); next: mu-run {facts['out']} --source {args.source} --link null:")
        if facts["before"]:
            print(f"the older bundle is {facts['before']}")
    elif facts["what"] == "kept":
        print(f"{args.out} stays as it is")
    else:
        print(f"not installed; what was made is in {Path(facts['recording']).parent}")
    print(f"page: {facts['report']}")


if __name__ == "__main__":
    sys.exit(main())
