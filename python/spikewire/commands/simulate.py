"""mu-simulate: a recording of a simulated muscle, and its true discharge times."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

from spikewire.commands import check_out, check_seed, guarded, progress
from spikewire.signals import InputError

# option -> (default, what is allowed, test, help); faults are named as in simulate.faults.FAULTS
NUMBERS: dict[str, tuple[float, str, Callable[[float], bool], str]] = {
    "duration": (60.0, "1 to 600 s", lambda v: 1 <= v <= 600, "plateau, seconds"),
    "level": (25.0, "1 to 100 %%", lambda v: 1 <= v <= 100, "excitation on the plateau, %%"),
    "ramp": (10.0, "0 to 120 s", lambda v: 0 <= v <= 120, "each ramp, seconds"),
    "rest": (1.0, "0 to 60 s", lambda v: 0 <= v <= 60, "silence before and after, seconds"),
    "sine-hz": (0.5, "0.01 to 5 Hz", lambda v: 0.01 <= v <= 5, "of --shape sine"),
    "sine-depth": (0.4, "0 to 1", lambda v: 0 <= v <= 1, "of --shape sine, share of the level"),
    "common-drive": (0.0, "0 to 0.5", lambda v: 0 <= v <= 0.5,
                     "sd of the common fluctuation of the drive, share"),
    "snr": (20.0, "-10 to 80 dB", lambda v: -10 <= v <= 80, "signal-to-noise ratio, dB"),
    "velocity": (1.0, "0.85 to 1.3", lambda v: 0.85 <= v <= 1.3, "factor on conduction velocities"),
    "velocity-drift": (0.0, "0 to 0.15", lambda v: 0 <= v <= 0.15,
                       "share by which conduction has slowed at the end"),
    "along": (0.0, "-40 to 40 mm", lambda v: -40 <= v <= 40, "shift of the grid along the fibres"),
    "around": (0.0, "-20 to 20 mm", lambda v: -20 <= v <= 20, "shift of the grid around the limb"),
    "rotation": (0.0, "-45 to 45 deg", lambda v: -45 <= v <= 45, "turn of the grid"),
}
COUNT = ("a whole number, 0 to 64", lambda v: 0 <= v <= 64 and v == int(v))
FAULTS: dict[str, tuple[str, Callable[[float], bool], str]] = {
    "gain": ("0.001 to 1000", lambda v: 1e-3 <= v <= 1e3, "factor on all channels"),
    "gain-sd": ("0 to 1", lambda v: 0 <= v <= 1, "sd of a constant factor per channel"),
    "gain-drift": ("0.1 to 10", lambda v: 0.1 <= v <= 10, "gain at the end, 1 at the start"),
    "mains": ("0 to 10", lambda v: 0 <= v <= 10, "50 Hz on all channels, share of the RMS"),
    "dead": (*COUNT, "channels that are zero"),
    "noisy": (*COUNT, "channels with 5 x RMS of noise"),
    "saturated": (*COUNT, "channels at the rails"),
}


def parser() -> argparse.ArgumentParser:
    """Options of mu-simulate."""
    from spikewire.simulate.discharge import SHAPES
    from spikewire.simulate.emg import MONTAGES, NOISES

    p = argparse.ArgumentParser(
        prog="mu-simulate",
        description="Simulate high-density EMG of 150 motor units whose discharges are known.",
        epilog="example: mu-simulate muscle.npz --truth muscle_truth.npz --seed 7 --duration 40",
    )
    p.add_argument("out", help="recording, .npz")
    p.add_argument("--truth", required=True, help="true spike trains, .npz (all units, by size)")
    p.add_argument("--seed", type=int, default=0, help="of the muscle")
    p.add_argument("--contraction", type=int, default=0, metavar="K",
                   help="index of the (first) contraction: others have other spikes and noise")
    p.add_argument("--contractions", type=int, default=1, help="how many, one after the other")
    p.add_argument("--shape", choices=SHAPES, default=SHAPES[0])
    p.add_argument("--montage", choices=MONTAGES, default=MONTAGES[0],
                   help="60 differences along the columns, or 64 monopolar channels")
    p.add_argument("--noise", choices=NOISES, default=NOISES[0],
                   help="white per channel, white per lead, or correlated over the skin")
    for name, (default, allowed, _, words) in NUMBERS.items():
        p.add_argument(f"--{name}", type=float, default=default, metavar="X",
                       help=f"{words}; {allowed} (default {default:g})")
    for name, (allowed, _, words) in FAULTS.items():
        p.add_argument(f"--{name}", type=float, metavar="X", help=f"{words}; {allowed}")
    p.add_argument("--cache", default="~/.cache/spikewire", help="folder of computed muscles")
    p.add_argument("--no-cache", action="store_true", help="compute, and keep nothing")
    p.add_argument("--json", action="store_true", help="print the result as JSON")
    return p


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    return guarded("mu-simulate", lambda: run(parser().parse_args(argv)))


def check(name: str, value: float, allowed: str, holds: Callable[[float], bool]) -> None:
    """Refuse a number out of its range; NaN is in none."""
    if not holds(value):
        raise InputError(f"--{name} is {value:g}, allowed is {allowed.replace('%%', '%')}")


def run(args: argparse.Namespace) -> int:
    """Simulate, write and report."""
    from spikewire.io.npz import write_recording, write_trains
    from spikewire.simulate.discharge import Contraction
    from spikewire.simulate.emg import Scene, simulate
    from spikewire.simulate.muap import Anatomy, Grid

    given = vars(args)
    for name, (_, allowed, holds, _) in NUMBERS.items():
        check(name, given[name.replace("-", "_")], allowed, holds)
    faults = []
    for name, (allowed, holds, _) in FAULTS.items():
        key = name.replace("-", "_")
        if given[key] is not None:
            check(name, given[key], allowed, holds)
            faults.append((key, given[key]))
    check_seed(args.seed)
    check("contractions", args.contractions, "1 to 20", lambda v: 1 <= v <= 20)
    check("contraction", args.contraction, "0 to 1000000", lambda v: 0 <= v <= 1e6)
    if Path(args.out).resolve() == Path(args.truth).resolve():
        raise InputError(f"--truth {args.truth} is the recording itself; choose another name")
    out, truth = check_out(args.out, ".npz"), check_out(args.truth, ".npz")
    scene = Scene(
        Anatomy(args.seed, velocity_scale=args.velocity,
                grid=Grid(along_mm=args.along, around_mm=args.around, rotation_deg=args.rotation)),
        Contraction(args.level, args.duration, args.ramp / args.level, args.rest, args.shape,
                    args.sine_hz, args.sine_depth, args.common_drive),
        args.contractions, args.contraction, args.montage, args.snr, args.noise,
        args.velocity_drift, tuple(faults))
    started = time.monotonic()
    with progress("simulate") as report:
        recording, trains = simulate(
            scene, None if args.no_cache else Path(args.cache).expanduser(), report)
        report(0.95, f"writing {out}")
        write_recording(out, recording)
        write_trains(truth, trains)
    facts = {"seconds": round(time.monotonic() - started, 1), "out": str(out), "truth": str(truth),
             "samples": len(recording.emg), "channels": recording.emg.shape[1],
             "rms_uv": round(recording.rms_uv, 1),
             "active_units": sum(len(t) > 0 for t in trains.times),
             "discharges": sum(len(t) for t in trains.times)}
    print(json.dumps(facts) if args.json else
          f"{recording.summary()}\n{facts['active_units']} of {len(trains)} motor units active, "
          f"{facts['discharges']} discharges, {facts['seconds']:g} s -> {out}, {truth}")
    return 0


if __name__ == "__main__":
    import sys

    sys.exit(main())
