"""`mu-link`: listen to a decoder as a controller would, send a test pattern, or write the table."""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.table import Table

from spikewire.commands import check_out, guarded, progress
from spikewire.durable import write_durably
from spikewire.link.codec import Arm, Step, id16
from spikewire.link.ends import End, open_end
from spikewire.link.generate import FILES, LARGEST_BASE, generate
from spikewire.link.profile import Info
from spikewire.link.receiver import ACTIVE, Receiver
from spikewire.link.table import BASE, N_DRIVES, REQUESTS, STATES, STEP
from spikewire.link.transport import EXAMPLE, Link, open_link

GUARD_PAGE = "guard.md"
NAP_S = 0.004  # a full frame at 921600 baud takes 0.8 ms, a step 9.8 ms
ARM_EVERY_S = 0.05  # the decoder wants at least 10 Hz
ARM_HOLDS_S = 0.2  # the test pattern stays ACTIVE so long after a request
STEP_S = 20 / 2048  # 102.4 Hz
END_IDLE_S = 1.0  # silence that --expect-end takes for the end
WANT = {name: request for request, name in REQUESTS.items()}
READY = next(key for key, name in STATES.items() if name == "READY")
PERCENTILES = (50, 90, 99)
FOURS = ("drive", "activation")  # one value per slot
ARRAYS = ("counts", "muted")


class Watch:
    """The controller's end of one line: what has come so far, and the arm requests."""

    def __init__(self, end: End, slot: int, model_id: int | None) -> None:
        self.end = end
        self.model_id = model_id
        self.receiver = Receiver(model_id, slot, base=end.base)
        self.first_s: float | None = None  # of accepted frames
        self.last_s = -math.inf
        self.heard_s = -math.inf  # of any frame, also of another bundle
        self._arms = 0
        self._armed_s = -math.inf

    def turn(self, now: float) -> None:
        """Take what has come, and ask again if it is time."""
        for step in self.end.hear(self.receiver, now):
            self.heard_s = now
            if step is not None:
                self.first_s = now if self.first_s is None else self.first_s
                self.last_s = now
        if self.model_id is not None and now - self._armed_s >= ARM_EVERY_S:
            self._armed_s = now
            self.ask(WANT["arm"])

    def ask(self, request: int) -> None:
        """Send one arm request."""
        self._arms += self.end.ask(Arm(request, self.model_id or 0, self._arms))

    def rejected(self) -> Counter[str]:
        """Return frames thrown away by reason, those of the line itself included."""
        return self.receiver.stats.rejected + self.end.rejected()


def _known(value: float) -> float | None:
    """NaN is not JSON: None instead."""
    return None if math.isnan(value) else round(value, 3)


def _plain(step: Step | None) -> dict[str, Any] | None:
    """Return one step as plain values, without its counts."""
    if step is None:
        return None
    four = {name: [_known(value) for value in getattr(step, name)] for name in FOURS}
    rest = {name: value for name, value in vars(step).items() if name not in FOURS + ARRAYS}
    return {**rest, "state": STATES[step.state], "age_ms": _known(step.age_ms), **four}


def summary(watch: Watch) -> dict[str, Any]:
    """Return everything `mu-link watch` found as plain values; ages are as the frames say."""
    stats = watch.receiver.stats
    span_s = watch.last_s - watch.first_s if watch.first_s is not None else 0.0
    ages = {f"p{q}": _known(stats.ages.percentile(q)) for q in PERCENTILES}
    n_mu = stats.last.n_mu if stats.last else 0
    return {
        "frames_accepted": stats.accepted,
        "frames_rejected": dict(watch.rejected()),
        "gaps": stats.gaps,
        "span_s": round(span_s, 3),
        "rate_hz": round((stats.accepted - 1) / span_s, 2) if span_s > 0 else None,
        "age_ms": {**ages, "max": _known(stats.ages.max_ms)},
        "states": dict(stats.states),
        "usable": stats.usable,
        "stale_marked_valid": stats.stale_marked_valid,
        "late": stats.late,
        "first_step": _plain(stats.first),
        "last_step": _plain(stats.last),
        "spikes": [int(value) for value in stats.spikes[:n_mu]],
        "spikes_total": int(stats.spikes.sum()),
    }


def _lines(found: dict[str, Any]) -> dict[str, str]:
    """Return a summary for people: what, and how it stands."""
    ages = ", ".join(f"{name} {value}" for name, value in found["age_ms"].items())
    counts = {
        name: ", ".join(f"{key} {n}" for key, n in found[name].items()) or "none"
        for name in ("frames_rejected", "states")
    }
    last = found["last_step"] or dict.fromkeys(("step", "state", "age_ms", "drive"))
    return {
        "frames": f"{found['frames_accepted']} accepted, {found['usable']} usable, "
        f"{found['rate_hz']} Hz over {found['span_s']} s",
        "rejected": counts["frames_rejected"],
        "counter gaps": str(found["gaps"]),
        "states": f"{counts['states']}; ACTIVE although stale: {found['stale_marked_valid']}, "
        f"too old on arrival: {found['late']}",
        "age": f"now {last['age_ms']}, {ages} ms",
        "last": f"step {last['step']}, {last['state']}, drive {last['drive']} pulse/s",
        "spikes": f"{found['spikes_total']}",
    }


def _table(watch: Watch) -> Table:
    """Return the live view."""
    table = Table(title="mu-link watch (Ctrl-C ends)", show_header=False)
    for name, text in _lines(summary(watch)).items():
        table.add_row(name, text)
    return table


def _over(watch: Watch, args: argparse.Namespace, began: float, now: float) -> bool:
    """Tell whether the watch has come to its end."""
    if args.duration is not None and now - began >= args.duration:
        return True
    quiet = args.idle is not None and now - watch.heard_s >= args.idle
    if watch.first_s is None:
        return quiet and watch.heard_s > -math.inf
    return quiet or (args.expect_end is not None and now - watch.first_s >= args.expect_end)


def _listen(watch: Watch, args: argparse.Namespace) -> None:
    """Listen until the end; Ctrl-C is one."""
    console = Console(stderr=True)
    began = shown = time.monotonic()
    with Live(_table(watch), console=console, auto_refresh=False, transient=True) as live:
        try:
            while not _over(watch, args, began, now := time.monotonic()):
                watch.turn(now)
                if console.is_terminal and now - shown >= 0.25:
                    shown = now
                    live.update(_table(watch), refresh=True)
                time.sleep(NAP_S)
        except KeyboardInterrupt:
            print("mu-link: stopped by Ctrl-C", file=sys.stderr)
        if watch.model_id is not None:
            watch.ask(WANT["disarm"])  # else the decoder would only notice by a time-out


def _watch(args: argparse.Namespace) -> int:
    """Run `mu-link watch`."""
    if args.expect_end is not None and args.idle is None:
        args.idle = END_IDLE_S
    end = open_end(args.uri)
    watch = Watch(end, args.slot, args.arm)
    try:
        _listen(watch, args)
    finally:  # what was heard before the line went away counts, too
        end.close()
        found = summary(watch)
        lines = "\n".join(f"{name:13}{text}" for name, text in _lines(found).items())
        print(json.dumps(found) if args.json else lines)
    if not watch.receiver.stats.accepted:
        others = watch.rejected()["model"]
        reason = f"{others} frames came, all of another bundle than {args.arm or 0:08x}; mu-run " \
            "and mu-export print the arm id" if others else \
            "no frame came; check profile, and baud or bit rate"
        print(f"mu-link: {args.uri}: {reason}", file=sys.stderr)
        return 1
    if args.expect_end is not None and time.monotonic() - watch.last_s < args.idle:
        print(f"mu-link: frames still come after {args.expect_end} s", file=sys.stderr)
        return 1
    return 0


def pattern(number: int, state: int, model_id: int, age_ms: float) -> Step:
    """Return a step: drives are triangles 0..100 pulse/s of 2, 4, 6, 8 s, one unit discharges."""
    phases = [(number * STEP_S / (2.0 * (k + 1))) % 1.0 for k in range(N_DRIVES)]
    drive = [100.0 * (1.0 - abs(2.0 * phase - 1.0)) for phase in phases]
    n_mu = STEP.field("counts").count
    return Step(
        state=state,
        step=number,
        sample_time_us=time.monotonic_ns() // 1000,
        age_ms=age_ms,
        drive=drive,
        activation=drive,
        n_mu=n_mu,
        good_channels=n_mu,
        model_id16=id16(model_id),
        counts=(np.arange(n_mu) == number % n_mu).astype(np.uint8),
    )


def _transmit(link: Link, args: argparse.Namespace) -> None:
    """Send a step whenever one is due, READY or, while a controller asks for it, ACTIVE."""
    began, number, armed_until = time.monotonic(), 0, -math.inf
    while args.duration is None or number * STEP_S < args.duration:
        due = began + number * STEP_S
        time.sleep(max(0.0, due - time.monotonic()))
        now = time.monotonic()
        for arm in link.poll():
            if link.may_arm and arm.model_id == args.model:
                armed_until = now + ARM_HOLDS_S if arm.request == WANT["arm"] else -math.inf
        state = ACTIVE if now < armed_until else READY
        link.send([pattern(number, state, args.model, (now - due) * 1e3)])
        number += 1


def _send(args: argparse.Namespace) -> int:
    """Run `mu-link send`."""
    link = open_link(args.uri, Info(args.model, (STEP.field("counts").count,)))
    try:
        _transmit(link, args)
    except KeyboardInterrupt:
        print("mu-link: stopped by Ctrl-C", file=sys.stderr)
    finally:
        link.close()
    found = {"sent": link.sent, "dropped": link.dropped}
    print(json.dumps(found) if args.json else f"sent {link.sent}, dropped {link.dropped}")
    return 0


def _soak(args: argparse.Namespace) -> int:
    """Run `mu-link soak`."""
    from spikewire.link import soak
    from spikewire.runtime.guard import Guard, Health
    from spikewire.signals import InputError

    names = soak.ON_CAN if args.profile == "classic" else tuple(soak.FAULTS)
    chosen = [name for name in names if args.only in name]
    if not chosen:
        raise InputError(f"--only {args.only!r}: no fault of profile {args.profile} has this in "
                         f"its name; there are {', '.join(names)}")
    out = check_out(args.out, ".json") if args.out else None
    rows = []
    with progress("mu-link soak") as report:
        for k, name in enumerate(chosen):
            report(k / len(chosen), name)
            rows.append(soak.soak(name, args.trials, args.seed, args.profile, Guard, Health))
    if out:
        content = json.dumps({"seed": args.seed, "rows": rows}, indent=1) + "\n"
        write_durably(out, lambda file: file.write(content.encode()))
    wrong = sum(soak.broken(row) for row in rows)
    if args.json:
        print(json.dumps(rows))
    else:
        Console(width=None if sys.stdout.isatty() else 160).print(soak_table(rows))
        print(f"promises broken: {wrong}")
    return 1 if wrong else 0


def soak_table(rows: Sequence[dict[str, Any]]) -> Table:
    """What each kind of fault did."""
    table = Table(title="faults on a simulated clock")
    heads = [head for head in rows[0] if head != "profile"]
    for head in heads:
        table.add_column(head.replace("_", " "), justify="left" if head == "fault" else "right")
    for row in rows:
        table.add_row(*(f"{row[h]:.2g}" if isinstance(row[h], float) else str(row[h])
                        for h in heads))
    return table


def _generate(args: argparse.Namespace) -> int:
    """Run `mu-link generate`."""
    from spikewire.runtime.guard import page

    made = generate(args.out, args.base)
    made.append(args.out / GUARD_PAGE)
    write_durably(made[-1], lambda file: file.write(page().encode()))
    for path in made:
        print(path)
    return 0


def _base(text: str) -> int:
    """Parse the first CAN identifier, such as 0x680."""
    value = int(text, 0)
    if not 0 <= value <= LARGEST_BASE:
        raise argparse.ArgumentTypeError(
            f"{text} came, 0 to 0x{LARGEST_BASE:x} is allowed; type for instance 0x{BASE:x}")
    return value


def _seconds(text: str) -> float:
    """Parse a time that is positive."""
    value = float(text)
    if not 0.0 < value < math.inf:
        raise ValueError
    return value


def _model_id(text: str) -> int:
    """Parse a 32-bit id in hexadecimal."""
    value = int(text, 16)
    if not 0 <= value < 1 << 32:
        raise ValueError
    return value


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    top = argparse.ArgumentParser(
        prog="mu-link",
        description="The wire between decoder and exoskeleton controller.",
        epilog="example: mu-link watch pty:/tmp/exo --arm 0 --duration 5, and in another shell: "
        "mu-link send 'serial:/tmp/exo?arm=1' --duration 4",
    )
    commands = top.add_subparsers(dest="command", required=True)
    watch = commands.add_parser("watch", help="listen as a controller would")
    watch.add_argument(
        "uri", metavar="URI", help="serial:PORT?baud=N, pty:PATH (made here), can:can0, "
        "slcan:PORT?bitrate=N, or udp:HOST:PORT of this machine",
    )
    watch.add_argument("--arm", type=_model_id, metavar="HEX", help="ask this model to act")
    watch.add_argument("--slot", type=int, default=0, choices=range(N_DRIVES), help="bundle")
    watch.add_argument("--idle", type=_seconds, metavar="S", help="end after S of silence")
    watch.add_argument(
        "--expect-end", type=_seconds, metavar="S", help="exit 1 if frames still come after S"
    )
    send = commands.add_parser("send", help="send a test pattern at 102.4 Hz")
    send.add_argument("uri", metavar="URI", help=f"such as '{EXAMPLE}', can:can0, udp:HOST:PORT")
    send.add_argument("--model", type=_model_id, default=0, metavar="HEX", help="id in frames")
    soak = commands.add_parser("soak", help="inject faults on a simulated clock, with a report")
    soak.add_argument("--trials", type=int, default=100, metavar="N", help="of every kind (100)")
    soak.add_argument("--seed", type=int, default=1)
    soak.add_argument("--profile", choices=["full", "short", "classic"], default="full")
    soak.add_argument("--only", default="", metavar="WORD", help="kinds with this in their name")
    soak.add_argument("--out", metavar="FILE", help="report to write, .json")
    soak.add_argument("--json", action="store_true", help="print the rows as JSON")
    soak.set_defaults(run=_soak)


    names = ", ".join((*FILES, GUARD_PAGE))
    made = commands.add_parser("generate", help=f"write {names} from the tables of link and guard")
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help="made if not there")
    made.add_argument("--base", type=_base, default=BASE, metavar="ID", help="first CAN identifier")
    made.set_defaults(run=_generate)
    for command, run in ((watch, _watch), (send, _send)):
        command.add_argument("--duration", type=_seconds, metavar="S", help="end after S seconds")
        command.add_argument("--json", action="store_true", help="result as one JSON object")
        command.set_defaults(run=run)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run `mu-link`.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process by default.

    Returns
    -------
    int
        0; 1 if no frame came or the stream did not end as expected; 2 for an unusable port.
    """
    args = parser().parse_args(argv)
    if threading.current_thread() is threading.main_thread():
        # What ends politely on Ctrl-C ends so on SIGTERM: disarm, close, take the name away.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    return guarded("mu-link", lambda: args.run(args))


if __name__ == "__main__":
    sys.exit(main())
