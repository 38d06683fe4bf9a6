"""mu-emulate: a simulated amplifier that speaks the bytes of the real one over TCP."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from typing import Any

from spikewire.commands import guarded
from spikewire.emulate import AMPLIFIERS
from spikewire.emulate.script import FAULTS

# What the other side types: a listening box is called, a calling one is waited for.
SOURCE = {True: "{name}::{port}", False: "{name}:{host}:{port}"}


def parser() -> argparse.ArgumentParser:
    """Options of mu-emulate."""
    faults = "\n".join(f"  {name:11s} {unit:8s} {words}"
                       for name, (unit, _, _, words) in FAULTS.items())
    p = argparse.ArgumentParser(
        prog="mu-emulate", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Be an amplifier: obey its commands, send its bytes at its pace, fail by "
                    "script.",
        epilog=f"faults, as 'SECONDS NAME [AMOUNT]; ...':\n{faults}\n\n"
               "example: mu-emulate quattrocento --recording vastus.npz --faults '5 drop 50'\n"
               "    and: mu-run vastus.mub --source quattrocento:127.0.0.1 --link null:",
    )
    p.add_argument("amplifier", choices=AMPLIFIERS)
    p.add_argument("--recording", metavar="REC", help="what it measures, over and over; without "
                                                      "it noise of 100 uV")
    p.add_argument("--host", default="127.0.0.1",
                   help="where a box listens, or whom a probe calls (default 127.0.0.1)")
    p.add_argument("--port", type=int, help="instead of the amplifier's own")
    p.add_argument("--seconds", type=float, metavar="S", help="end after so long")
    p.add_argument("--faults", default="", metavar="SCRIPT", help="a file, or the words themselves")
    p.add_argument("--json", action="store_true", help="print what happened as JSON")
    return p


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    return guarded("mu-emulate", lambda: run(parser().parse_args(argv)))


def run(args: argparse.Namespace) -> int:
    """Serve until the time is over or a signal comes."""
    from spikewire.emulate.box import Box
    from spikewire.emulate.played import recording_signal, test_signal
    from spikewire.emulate.script import read_script
    from spikewire.io import read_recording
    from spikewire.runtime.clock import MonotonicClock
    from spikewire.signals import InputError

    for name, value in (("--port", args.port), ("--seconds", args.seconds)):
        if value is not None and not 0 < value < 1 << 16:
            raise InputError(f"{name} is {value:g}, allowed is more than 0, below 65536")
    wire, script = AMPLIFIERS[args.amplifier](), read_script(args.faults)
    played = recording_signal(wire, read_recording(args.recording)) if args.recording \
        else test_signal(wire)
    clock = MonotonicClock()
    box = Box(wire, played, script, clock, args.host, args.port)
    until = clock.now() + (args.seconds or float("inf"))
    stopped: list[Any] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.append(1))
    verb = "calls" if wire.calls else "listens at"
    source = SOURCE[wire.calls].format(name=args.amplifier, host=args.host, port=box.port)
    print(f"mu-emulate: {wire.name} {verb} {args.host}:{box.port}; type: mu-run X.mub --source "
          f"{source}", file=sys.stderr, flush=True)
    box.run(lambda: bool(stopped) or clock.now() >= until)
    for words in box.refused:
        print(f"mu-emulate: refused: {words}", file=sys.stderr)
    happened = [dict(zip(("name", "amount", "sample"), h, strict=True)) for h in box.happened]
    facts = {"amplifier": wire.name, "sent": box.sent, "refused": box.refused,
             "happened": happened, "started_s": box.started_s}
    print(json.dumps(facts) if args.json else f"{box.sent} samples sent" + "".join(
        f"\n{at:9d} {name} {amount:g}" for name, amount, at in box.happened))
    return 0


if __name__ == "__main__":
    sys.exit(main())
