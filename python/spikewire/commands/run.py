"""mu-run: source -> decoder -> link, in real time."""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from spikewire.commands import check_out, guarded, parsed


def parser() -> argparse.ArgumentParser:
    """Options of mu-run."""
    p = argparse.ArgumentParser(
        prog="mu-run", description="Decode a live source and send spikes to a controller.",
        epilog="example: mu-run vastus.mub --source 'replay:vastus.mat?span=17.8:24' "
               "--link 'serial:/dev/ttyTHS1?baud=921600&arm=1' --record run.mcap",
    )
    p.add_argument("bundle", nargs="+",
                   help=".mub made by mu-export; several, each on its part of the channels: "
                        "a.mub@0-63 b.mub@64-127")
    p.add_argument("--source", required=True, metavar="URI",
                   help="replay:FILE?span=A:B&loop=1 (FILE is a recording, a log, or a bundle, "
                        "whose golden excerpt is played), simulate:SEED, quattrocento:HOST, "
                        "sessantaquattro:, muovi:, muovi+:, intan:HOST, lsl:NAME; see "
                        "docs/amplifiers.md")
    p.add_argument("--link", action="append", default=[], metavar="URI",
                   help="serial:PORT?baud=921600&profile=full|short, "
                        "can:can0?profile=classic|counts|fd, slcan:PORT?bitrate=500000, "
                        "udp:HOST:PORT, null:, loopback:; arm=1 lets it arm")
    p.add_argument("--lab", action="store_true",
                   help="a udp: link with lab=1 may arm: nobody else is on that network")
    p.add_argument("--engine", default="auto",
                   help="auto, native, ort, ort-cuda, tensorrt, null (an idle control)")
    p.add_argument("--precision", choices=["fp32", "fp16", "int8", "int8-all"], default="fp32",
                   help="int8: weights; int8-all: inputs too, engine native only")
    p.add_argument("--pace", choices=["real", "max"], default="real",
                   help="max: as fast as the machine allows, on a clock of its own")
    p.add_argument("--realtime", nargs="?", const="any", metavar="CPU",
                   help="SCHED_FIFO, memory locked, and on one core if it is named; what is "
                        "refused is said")
    p.add_argument("--duration", type=float, metavar="S", help="stop after S seconds of signal")
    p.add_argument("--record", metavar="LOG.mcap", help="log samples, spikes, states and frames")
    p.add_argument("--no-upkeep", action="store_true",
                   help="leave filters and scales as the bundle has them")
    p.add_argument("--trains", metavar="OUT.npz", help="write the decoded spike trains")
    p.add_argument("--report", metavar="PAGE.html", help="write a page once the run has ended: "
                   "latency by stage, states, links, drive; with --record all of it over time")
    p.add_argument("--status", metavar="FILE", help="replace FILE twice a second: state, steps, "
                   "age; best in memory: /run/spikewire/status.json")
    p.add_argument("--monitor", action="append", default=[], metavar="WAY",
                   help="publish every step for mu-monitor: unix:PATH or udp:127.0.0.1:PORT")
    p.add_argument("--live", action="store_true", help="show the run in the terminal meanwhile")
    p.add_argument("--json", action="store_true", help="print the summary as JSON")
    return p


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    # Before numpy is loaded: its matrix products must not spin up threads on a shared board.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    args = parsed(parser(), argv)
    return guarded("mu-run", lambda: run(args))


def run(args: argparse.Namespace) -> int:
    """Open everything, then run the loop until the source ends or a signal comes."""
    from spikewire.commands.run_ended import Ended
    from spikewire.runtime.status import Status

    replayed = args.source.partition(":")[2].partition("?")[0]
    trains_out = check_out(args.trains, ".npz", replayed) if args.trains else None
    status = check_out(args.status, ".json", replayed, *args.bundle) if args.status else None
    page = check_out(args.report, ".html", replayed, *args.bundle) if args.report else None
    stop = Stop()
    with Ended(args, page) as ended:  # its page comes when all is closed, and told
        with ExitStack() as opened:
            loop = assemble(args, opened)
            stop.clock, stop.until = loop.clock, args.duration and loop.clock.now() + args.duration
            names = ", ".join(dict.fromkeys(d.engine.name for d in loop.decoders))
            print(f"mu-run: {names}, {args.source}, arm id {loop.guard.arm_id:08x}",
                  file=sys.stderr, flush=True)
            opened.callback(Status(loop, status).close)
            granted = settle(args)
            started = time.perf_counter()
            say(loop)
            try:
                loop.run(stop)
            finally:  # what was decoded before a link went away counts, too
                seconds = round(time.perf_counter() - started, 3)
                ended.keep(loop, trains_out, {"realtime": granted, "loop_s": seconds})
        show(ended.summary, args.json)
    return 0


def say(loop: Any) -> None:
    """What somebody should know of a run that begins."""
    if loop.notifier.listens and not loop.links:
        print("mu-run: warning: no --link, so no frame can tell the service manager that this "
              "run is ready; add --link null: at least", file=sys.stderr)
    if loop.source.note:
        print(f"mu-run: note: {loop.source.note}", file=sys.stderr)


def settle(args: argparse.Namespace) -> dict[str, Any] | None:
    """The last thing before the loop: nothing that is there now is looked at or moved again."""
    from spikewire.runtime import realtime

    gc.freeze()  # collections stay short
    if not args.realtime:
        return None
    granted, missing = realtime.enter(None if args.realtime == "any" else int(args.realtime))
    for words in missing:
        print(f"mu-run: warning: {words}", file=sys.stderr)
    return granted


class Stop:
    """True once a signal came or the duration is over."""

    def __init__(self) -> None:
        self.signalled, self.until, self.clock = False, None, None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._signal)

    def _signal(self, *_: Any) -> None:
        self.signalled = True

    def __call__(self) -> bool:
        return self.signalled or (self.until is not None and self.clock.now() >= self.until)


INT16_RAIL = 32767  # counts; most amplifiers send 16 bits


def assemble(args: argparse.Namespace, opened: ExitStack) -> Any:
    """Bundle, source, engine, links and log, in an order that fails before anything is written."""
    from spikewire.bundle import arm_id
    from spikewire.io.runlog import RunLog
    from spikewire.io.source import ANY_PACE, SOURCES, open_source
    from spikewire.link.profile import Info
    from spikewire.link.table import N_DRIVES
    from spikewire.link.transport import open_link
    from spikewire.runtime.clock import MonotonicClock, VirtualClock
    from spikewire.runtime.decoder import Decoder, check_channels
    from spikewire.runtime.engine import open_engine
    from spikewire.runtime.loop import Loop
    from spikewire.runtime.notify import VARIABLE, Notifier
    from spikewire.runtime.spool import Spool
    from spikewire.runtime.thermal import Thermometer
    from spikewire.runtime.upkeep import Upkeep
    from spikewire.signals import InputError

    if args.duration is not None and not args.duration > 0:
        raise InputError(f"--duration is {args.duration:g}, allowed is more than 0 seconds")
    if args.realtime and args.pace == "max":
        raise InputError("--realtime and --pace max: a loop that never waits would keep every "
                         "other program off its core; leave one out")
    if args.realtime not in (None, "any") and not args.realtime.isdecimal():
        raise InputError(f"--realtime {args.realtime}: a core's number, or nothing, is allowed")
    bundles = [read_bundle_on(word) for word in args.bundle]
    if len(bundles) > N_DRIVES:
        raise InputError(f"{len(bundles)} bundles came, allowed are 1 to {N_DRIVES}: each owns one "
                         "of the frame's drives; run the others in another mu-run")
    engines = [open_engine(bundle, args.engine, args.precision) for bundle, _ in bundles]
    info = Info(arm_id([b for b, _ in bundles], [c for _, c in bundles]),
                tuple(b.manifest.n_mu for b, _ in bundles))
    links = []
    for uri in args.link:
        links.append(open_link(uri, info))
        opened.callback(links[-1].close)
        if links[-1].may_arm and args.pace == "max":
            raise InputError(f"link {uri!r} may arm, but --pace max is no real time: nothing that "
                             "moves may follow it; leave arm=1 or --pace max out")
        if links[-1].may_arm and uri.startswith("udp:") and not args.lab:
            raise InputError(f"link {uri!r} may arm, which over UDP is for the laboratory only; "
                             "leave arm=1 out, or add --lab")
    if sum(link.may_arm for link in links) > 1:
        raise InputError(f"{sum(k.may_arm for k in links)} links may arm, allowed is one: two "
                         "controllers would act on one leg; leave arm=1 at one --link")
    clock = MonotonicClock() if args.pace == "real" else VirtualClock()
    scheme = args.source.partition(":")[0]
    if args.pace == "max" and scheme in SOURCES.keys() - ANY_PACE:
        raise InputError(f"source {args.source}: has a pace of its own; leave --pace max out")
    source = open_source(args.source, clock)
    opened.callback(source.close)
    for bundle, channels in bundles:
        if source.fs_hz != bundle.manifest.fs_hz:
            raise InputError(f"source {args.source}: rate {source.fs_hz:g}, the bundle was trained "
                             f"on {bundle.manifest.fs_hz:g}; use a bundle made for this source")
        check_channels(bundle, channels, args.source, source.channels)
        montage = getattr(source, "montage", bundle.manifest.montage)
        if montage != bundle.manifest.montage:
            raise InputError(f"source {args.source}: montage {montage}, the bundle was trained on "
                             f"{bundle.manifest.montage}; use a bundle made for this source")
    decoders = []
    for (bundle, channels), engine in zip(bundles, engines, strict=True):
        upkeep = None
        if not args.no_upkeep and engine.for_control and bundle.moments():
            upkeep = Upkeep(bundle, engine, inline=args.pace == "max")
            opened.callback(upkeep.close)
        rail_uv = getattr(source, "rail_uv", INT16_RAIL * source.lsb_uv)
        decoders.append(Decoder(bundle, engine, source.fs_hz, channels, upkeep, source.lsb_uv,
                                rail_uv))
    loop = Loop(source, decoders, links, clock, notifier=Notifier(os.environ.get(VARIABLE, "")))
    opened.callback(loop.notifier.close)
    loop.publisher = publisher(args, opened)
    if args.pace == "real":
        loop.thermometer = Thermometer()
        opened.callback(loop.thermometer.close)
    if args.trains:
        loop.spool = Spool()
        opened.callback(loop.spool.close)
    if args.record:
        loop.log = RunLog(args.record, source, {
            "bundle": " ".join(args.bundle), "engine": ", ".join(e.name for e in engines),
            "bundle_sha256": " ".join(bundle.sha256 for bundle, _ in bundles),
            "n_mu": " ".join(str(bundle.manifest.n_mu) for bundle, _ in bundles)})
        opened.callback(loop.log.close)
    return loop


def publisher(args: argparse.Namespace, opened: ExitStack) -> Any:
    """What tells monitors of the run; None if nobody wants to know."""
    from spikewire.runtime.audience import Unix, open_way
    from spikewire.runtime.publish import Publisher
    from spikewire.signals import InputError

    if not args.monitor and not args.live:
        return None
    if args.pace == "max":
        raise InputError("--pace max is faster than anybody can look; leave --monitor and --live "
                         "out, or --pace max")
    made = Publisher([])
    opened.callback(made.close)
    for uri in args.monitor:
        made.ways.append(open_way(uri))
    if args.live:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        made.ways.append(Unix(first=ours))
        viewer = subprocess.Popen([sys.executable, "-m", "spikewire.monitor.terminal",
                                   str(theirs.fileno())], pass_fds=[theirs.fileno()],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        theirs.close()
        opened.callback(ended, viewer, made)
    return made


def ended(viewer: subprocess.Popen[bytes], told: Any) -> None:
    """Let the viewer show the last state, then go on, whatever it does."""
    told.close()
    try:
        viewer.wait(2.0)
    except subprocess.TimeoutExpired:
        viewer.kill()
        viewer.wait()


def read_bundle_on(word: str) -> tuple[Any, tuple[int, int] | None]:
    """A bundle, and the channels [first, stop) that `X.mub@FIRST-LAST` names."""
    from spikewire.bundle import read_bundle
    from spikewire.signals import InputError

    path, at, span = word.rpartition("@")
    if not at or not path or Path(word).is_file():
        return read_bundle(word), None
    first, dash, last = span.partition("-")
    if not (dash and first.isdecimal() and last.isdecimal() and int(first) <= int(last) < 4096):
        raise InputError(f"{word}: {span!r} is no part of the channels; type FIRST-LAST below "
                         f"4096, as in {path}@0-63")
    return read_bundle(path), (int(first), int(last) + 1)


def show(summary: dict[str, Any], as_json: bool) -> None:
    """Print the summary."""
    from spikewire.commands.run_ended import upkeep_lines

    if as_json:
        print(json.dumps(summary))
        return
    s = summary
    print(f"{s['steps']} steps, {s['decoded']} decoded, {s['missed']} missed, {s['gaps']} gaps, "
          f"{s['spikes']} spikes of {s['n_mu']} units ({s['decoder']}, {s['engine']})")
    for name in ("age_ms", "decode_delay_ms", "compute_ms"):
        v = s[name]
        if v is None:
            print(f"{name[:-3]:13s} not measured at --pace max")
            continue
        print(f"{name[:-3]:13s} p50 {v['p50']:6.2f}  p99 {v['p99']:6.2f}  max {v['max']:6.2f} ms")
    print(f"drive delay   {s['drive_delay_ms']:.0f} ms; states {s['states']}")
    for line in upkeep_lines(s):
        print(line)
    troubles = ", ".join(f"{k} {v}" for k, v in s["troubles"].items() if v)
    if troubles:
        print(f"source        {troubles}")
    for link in s["links"]:
        print(f"{link['uri']}: {link['sent']} frames sent, {link['dropped']} dropped")


if __name__ == "__main__":
    import sys

    sys.exit(main())
