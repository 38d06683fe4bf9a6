"""mu-demo: the whole path on one real recording, from decomposition to frames on a serial line."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from spikewire.commands import call, guarded, parsed, tool

STEPS = 800  # of training; the recipe's 3000 would double the demo's time
LEAD_S, TAIL_S = 0.15, 0.05  # signal around the block, so that its first and last bin are decoded
PORT = "exoskeleton"


def parser() -> argparse.ArgumentParser:
    """Options of mu-demo."""
    p = argparse.ArgumentParser(
        prog="mu-demo",
        description="Decompose, train, export, then decode a block that was held out, at real "
                    "speed, into a serial line with a receiver at its other end.",
        epilog="example: mu-demo --recording vastus.npz --out out/demo",
    )
    p.add_argument("--recording", help="default: a public 64-channel recording, fetched once")
    p.add_argument("--hold-out", metavar="A:B", help="seconds to decode (default: inside the hold)")
    p.add_argument("--out", default="out/demo", help="folder for everything that is made")
    p.add_argument("--cache", default=".cache", help="folder for the fetched recording")
    return p


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    args = parsed(parser(), argv)
    return guarded("mu-demo", lambda: run(args))


def stage(number: int, words: str) -> None:
    """Say what comes now."""
    print(f"\n[{number}/5] {words}", file=sys.stderr, flush=True)


def choose_block(recording: Any) -> tuple[float, float]:
    """A fifth of the contraction, late in it but before its end: seconds."""
    from spikewire.decompose import active_range, band_pass

    start, stop = active_range(band_pass(recording, (20.0, 500.0)), recording.fs_hz)
    first = (start + 0.6 * (stop - start)) / recording.fs_hz
    return round(first, 1), round(first + 0.2 * (stop - start) / recording.fs_hz, 1)


def run(args: argparse.Namespace) -> int:
    """All stages, with their results in one table and one page."""
    from spikewire.io import example, read_recording
    from spikewire.signals import InputError, parse_spans

    started = time.monotonic()
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    path = Path(args.recording) if args.recording else example.fetch(Path(args.cache))
    recording = read_recording(path)
    print(f"spikewire demo: {recording.summary()}", file=sys.stderr)
    block = example.HOLD_OUT_S if not args.recording else choose_block(recording)
    if args.hold_out:
        spans = parse_spans(args.hold_out, recording.fs_hz, len(recording.emg))
        if len(spans) != 1:
            raise InputError(f"--hold-out {args.hold_out}: one span is decoded, e.g. 18:24")
        block = spans[0][0] / recording.fs_hz, spans[0][1] / recording.fs_hz
    span = f"{block[0]:g}:{block[1]:g}"
    names = {n: str(out / n) for n in ("trains.npz", "model", "model/labels.npz", "decoder.mub",
                                       "linear.mub", "network.mub")}
    stage(1, f"Finding the motor units of {path.name} (labels in the file are not used)")
    decomposition = call("decompose", str(path), "--out", names["trains.npz"])
    stage(2, f"Training on everything but {span} s: linear MU filters first, then the network")
    training = call("train", str(path), "--labels", names["trains.npz"], "--hold-out", span,
                    "--steps", str(STEPS), "--out", names["model"])
    stage(3, "Exporting: the better decoder, and each of the two for comparison")
    bundles = {d: call("export", names["model"], "--out", names[f], "--decoder", d, "--trt",
                       "fp16")
               for d, f in (("auto", "decoder.mub"), ("linear", "linear.mub"),
                            ("network", "network.mub"))}
    stage(4, f"Replaying {span} s at real speed into a serial line, a receiver at its other end, "
             "an idle loop beside it")
    live = run_live(out, path, block)
    stage(5, "Decoding the same block as fast as possible, and scoring")
    scores = {}
    for name in ("network", "linear", "decoder"):
        fast, trains = decode_fast(out, path, block, name)
        scores[name] = call("score", str(trains), names["model/labels.npz"], "--span", span)
        live[f"{name}_fast"] = fast
    live["identical"] = same_spikes(out / "live_trains.npz", out / "decoder_trains.npz")
    live["live_score"] = call("score", str(out / "live_trains.npz"), names["model/labels.npz"],
                              "--span", span)
    facts = {"decomposition": decomposition, "training": training, "bundle": bundles["auto"],
             "live": live, "scores": scores, "block_s": block,
             "fs_hz": recording.fs_hz, "recording": recording.name,
             "seconds": round(time.monotonic() - started, 1)}
    (out / "demo.json").write_text(json.dumps(facts, indent=1))
    from spikewire.report import demo as demo_report

    rows = demo_report.rows(facts)
    demo_report.show(rows, scores)
    page = demo_report.write(out, facts, rows, args.typed)
    print(f"\npage: {page}   everything else: {out}/   {facts['seconds']:.0f} s in all")
    return demo_report.verdict(facts)


def source_uri(path: Path, block: tuple[float, float]) -> str:
    """The held-out block with what its first and last bin need around it."""
    return f"replay:{path}?span={block[0] - LEAD_S:g}:{block[1] + TAIL_S:g}"


def decode_fast(out: Path, path: Path, block: tuple[float, float], name: str) -> tuple[Any, Path]:
    """The block through mu-run as fast as the machine allows; summary and spike trains."""
    trains = out / f"{name}_trains.npz"
    summary = call("run", str(out / f"{name}.mub"), "--source", source_uri(path, block),
                   "--pace", "max", "--trains", str(trains))
    return summary, trains


def same_spikes(one: Path, other: Path) -> bool:
    """Whether two files hold the same spike trains."""
    from spikewire.io import read_trains

    pairs = zip(read_trains(one).times, read_trains(other).times, strict=True)
    return all(len(a) == len(b) and bool((a == b).all()) for a, b in pairs)


def run_live(out: Path, path: Path, block: tuple[float, float]) -> dict[str, Any]:
    """The block at real speed: decoder, receiver, and an idle control, each its own process."""
    from spikewire.bundle import arm_id, read_bundle

    port, log = out / PORT, out / "live.mcap"
    log.unlink(missing_ok=True)
    identity = f"{arm_id([read_bundle(out / 'decoder.mub')]):08x}"
    source = source_uri(path, block)
    words = {
        "link": ("watch", f"pty:{port}", "--arm", identity, "--idle", "2", "--json"),
        "run": (str(out / "decoder.mub"), "--source", source, "--json", "--record", str(log),
                "--link", f"serial:{port}?baud=921600&arm=1", "--trains",
                str(out / "live_trains.npz")),
        "control": (str(out / "decoder.mub"), "--source", source, "--json", "--engine", "null"),
    }
    running = {"link": subprocess.Popen(tool("link", *words["link"]), stdout=subprocess.PIPE,
                                        text=True)}
    deadline = time.monotonic() + 10
    while not port.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    for name in ("run", "control"):
        running[name] = subprocess.Popen(tool("run", *words[name]), stdout=subprocess.PIPE,
                                         text=True)
    return heard(running)


def heard(running: dict[str, subprocess.Popen[str]]) -> dict[str, Any]:
    """What the processes printed, the decoder first: without it the receiver waits for ever."""
    texts = {}
    try:
        for name in ("run", "control", "link"):
            texts[name] = running[name].communicate(timeout=300)[0]
            if running[name].returncode:
                raise SystemExit(running[name].returncode)
    finally:
        for process in running.values():
            if process.poll() is None:
                process.terminate()  # mu-link takes its port away, mu-run sends SAFE
            if process.stdout and not process.stdout.closed:
                process.communicate(timeout=20)
    return {name: json.loads(text) for name, text in texts.items()}


if __name__ == "__main__":
    sys.exit(main())
