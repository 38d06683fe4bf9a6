"""mu-record: a source -> raw samples in a file, and a look at the electrodes meanwhile."""

from __future__ import annotations

import argparse
import json
import signal
from typing import Any

from spikewire.commands import check_out, guarded


def parser() -> argparse.ArgumentParser:
    """Options of mu-record."""
    p = argparse.ArgumentParser(
        prog="mu-record",
        description="Write what an amplifier sends into a file that a crash cannot spoil: raw "
                    "counts, the size of a count, the amplifier's counter, arrival times. Ends "
                    "with Ctrl-C, --duration or the source.",
        epilog="example: mu-record --source muovi: --grid GR08MM1305 --out monday.mcap",
    )
    p.add_argument("--source", required=True, metavar="URI", help="as for mu-run")
    p.add_argument("--out", required=True, help=".mcap; never overwritten. mu-decompose, mu-adapt "
                                                "and replay: read it")
    p.add_argument("--duration", type=float, metavar="S", help="seconds of signal")
    p.add_argument("--grid", metavar="NAME", help="of electrodes, such as GR08MM1305, or "
                                                  "ROWSxCOLUMNS@MM: column after column")
    p.add_argument("--json", action="store_true", help="print the result as JSON")
    return p


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    return guarded("mu-record", lambda: run(parser().parse_args(argv)))


class Stop:
    """True once a signal came."""

    def __init__(self) -> None:
        self.signalled = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._signal)

    def _signal(self, *_: Any) -> None:
        self.signalled = True


def run(args: argparse.Namespace) -> int:
    """Record and report."""
    from spikewire.capture import capture
    from spikewire.io.grids import grid_of
    from spikewire.io.runlog import RunLog
    from spikewire.io.source import open_source
    from spikewire.report.screen import faults, watching
    from spikewire.runtime.clock import MonotonicClock
    from spikewire.signals import InputError

    out = check_out(args.out, ".mcap")
    if args.duration is not None and not args.duration > 0:
        raise InputError(f"--duration is {args.duration:g}, allowed is more than 0 seconds")
    clock, stop = MonotonicClock(), Stop()
    source = open_source(args.source, clock)
    try:
        grid = grid_of(args.grid, source.channels) if args.grid else None
        wanted = None if args.duration is None else round(args.duration * source.fs_hz)
        log = RunLog(out, source, {"grid": args.grid} if args.grid else {})
        try:
            with watching("mu-record", source.fs_hz, grid, None, lambda _: None) as look:
                heard = capture(source, log, clock, lambda e: stop.signalled or (
                    wanted is not None and e.samples >= wanted), look)
        finally:
            log.close()
    finally:
        source.close()
    quality = heard.quality()
    facts = {"out": str(out), "seconds": round(heard.samples / source.fs_hz, 3),
             "samples": heard.samples, "lost": heard.lost, "gaps": heard.gaps,
             "twice": heard.twice, "fs_hz": source.fs_hz, "channels": source.channels,
             "bad_channels": quality.bad}
    if args.json:
        print(json.dumps(facts))
        return 0
    print(f"{out}: {facts['seconds']:.1f} s, {source.channels} channels at {source.fs_hz:g} Hz; "
          f"{heard.lost} samples lost in {heard.gaps} gaps; bad channels in the last second: "
          f"{faults(quality)}")
    return 0


if __name__ == "__main__":
    import sys

    sys.exit(main())
