"""`mu-adapter`: neural drive to the torque of one machine, as an opt-in process of its own."""

from __future__ import annotations

import argparse
import gc
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from spikewire.adapters.assist import Adapter, Machine
from spikewire.adapters.bus import EXAMPLE, CanBus
from spikewire.adapters.h3 import H3
from spikewire.adapters.h3 import ROWS as H3_ROWS
from spikewire.adapters.limits import Limits, Row, read_limits
from spikewire.adapters.loop import Decoder, run
from spikewire.adapters.mit import ROWS as MIT_ROWS
from spikewire.adapters.mit import Mit
from spikewire.adapters.peers import PEERS, Peer
from spikewire.commands import guarded
from spikewire.link.ends import open_end
from spikewire.link.receiver import Receiver
from spikewire.link.table import N_DRIVES

# name -> keys of its limits file, and the machine; a new machine is a file and a line here
MACHINES: dict[str, tuple[Mapping[str, Row], Callable[[Limits], Machine]]] = {
    "h3": (H3_ROWS, H3), "mit": (MIT_ROWS, Mit),
}  # fmt: skip
# A stopped process holds a machine at its last torque, so Ctrl-Z quits as well.
QUIT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP)
TERMINAL = (signal.SIGTTIN, signal.SIGTTOU)  # would stop the process when it is in the background
PEER_NAP_S = 0.001


class Operator:
    """What the operator wants: lines typed at a terminal, and signals.

    A pipe is no operator: it could arm again and again by itself. Where there is no terminal,
    SIGUSR1 arms.

    Parameters
    ----------
    duration_s : float or None
        Quit by itself after so long.
    """

    def __init__(self, duration_s: float | None) -> None:
        self._until = None if duration_s is None else time.monotonic() + duration_s
        self._quit = self._arm = False
        self._terminal = sys.stdin.fileno() if sys.stdin and sys.stdin.isatty() else None
        for number in QUIT:
            signal.signal(number, self._signal)
        signal.signal(signal.SIGUSR1, self._signal)
        for number in TERMINAL:
            signal.signal(number, signal.SIG_IGN)

    def _signal(self, number: int, frame: Any) -> None:
        """Note a signal; the loop is never interrupted."""
        if number == signal.SIGUSR1:
            self._arm = True
        else:
            self._quit = True

    def __call__(self) -> str:
        """Return "arm", "quit", another word that was typed, or nothing."""
        if self._quit or (self._until is not None and time.monotonic() >= self._until):
            return "quit"
        typed = self._typed()
        wants, self._arm = self._arm or bool(typed), False
        others = [word for word in typed if word != "arm"]
        return others[-1] if others else "arm" if wants else ""

    def _typed(self) -> list[str]:
        """Return the lines typed since the last call; an empty one is "Enter"."""
        if self._terminal is None or not select.select([self._terminal], [], [], 0)[0]:
            return []
        try:
            text = os.read(self._terminal, 4096).decode(errors="replace")
        except OSError:  # in the background, or the terminal is gone
            text = ""
        if not text:
            self._terminal = None
        return [line.strip() or "Enter" for line in text.splitlines()]


def _say(words: str) -> None:
    """Tell the operator."""
    print(f"mu-adapter: {words}", file=sys.stderr, flush=True)


def _adapt(args: argparse.Namespace) -> int:
    """Run `mu-adapter h3` or `mit`."""
    rows, make = MACHINES[args.command]
    limits = read_limits(args.limits, rows)
    end = open_end(args.line)
    receiver = Receiver(args.model, args.slot, base=end.base)
    adapter = Adapter(make(limits), receiver, limits)
    try:
        bus = CanBus(args.bus)
        operator = Operator(args.duration)
        _say(f"{adapter.machine.name}, at most {limits.max_nm:g} N.m; type arm and Enter to arm, "
             f"or: kill -USR1 {os.getpid()}")
        gc.freeze()  # collections stay short
        try:
            run(adapter, Decoder(end, receiver), bus, operator, _say)
        finally:
            bus.close()
    finally:
        end.close()
    _show(adapter, args.json)
    return 0


def _show(adapter: Adapter, as_json: bool) -> None:
    """Print what happened."""
    stats = adapter.receiver.stats
    found = {
        "armed": adapter.armed, "stops": dict(adapter.stops),
        "largest_nm": round(adapter.largest_nm, 3),
        "longest_tick_ms": round(1e3 * adapter.longest_s, 1),
        "frames": stats.accepted, "usable": stats.usable,
    }
    if as_json:
        print(json.dumps(found))
        return
    print(f"armed {adapter.armed} times, largest torque {adapter.largest_nm:.2f} N.m, longest tick "
          f"{found['longest_tick_ms']} ms, frames {stats.accepted}, usable {stats.usable}")
    for reason, n in adapter.stops.items():
        print(f"stopped {n} times: {reason}")


def _peer(args: argparse.Namespace) -> int:
    """Run `mu-adapter peer`: a simulated machine, until Ctrl-C."""
    bus = CanBus(args.bus)
    peer: Peer = PEERS[args.machine](bus)
    said = ""
    began = time.monotonic()
    try:
        while args.duration is None or time.monotonic() - began < args.duration:
            peer.turn(time.monotonic())
            if str(peer) != said:
                said = str(peer)
                print(f"{time.monotonic() - began:9.3f} s  {said}", flush=True)
            time.sleep(PEER_NAP_S)
    except KeyboardInterrupt:
        print("mu-adapter: stopped by Ctrl-C", file=sys.stderr)
    finally:
        bus.close()
    return 0


def _model_id(text: str) -> int:
    """Parse a 32-bit id in hexadecimal."""
    value = int(text, 16)
    if not 0 <= value < 1 << 32:
        raise ValueError
    return value


def _seconds(text: str) -> float:
    """Parse a time that is positive."""
    value = float(text)
    if not 0.0 < value < float("inf"):
        raise ValueError
    return value


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    top = argparse.ArgumentParser(
        prog="mu-adapter",
        description="Turn neural drive into torque of one machine. Research software: an "
        "independent emergency stop and torque limits in the drive stay mandatory.",
        epilog="example: mu-adapter h3 serial:/dev/ttyUSB0 --bus can:can0 --model 1f2e3d4c "
        "--limits docs/adapters/h3_ankle.toml, then type arm and Enter; any other line stops",
    )
    commands = top.add_subparsers(dest="command", required=True)
    for name, words in (("h3", "Technaid Exo-H3, one joint"), ("mit", "T-Motor AK, one motor")):
        command = commands.add_parser(name, help=words)
        command.add_argument("line", metavar="LINE",
                             help="of the decoder: serial:PORT?baud=N, or pty:PATH (made here)")
        command.add_argument("--limits", required=True, metavar="FILE", help="gain, sign, limits")
        command.add_argument("--model", required=True, type=_model_id, metavar="HEX",
                             help="arm id that mu-export or mu-run printed")
        command.add_argument("--slot", type=int, default=0, choices=range(N_DRIVES), help="bundle")
        command.add_argument("--json", action="store_true", help="result as one JSON object")
        command.set_defaults(run=_adapt)
    peer = commands.add_parser("peer", help="a simulated machine for the desk")
    peer.add_argument("machine", choices=sorted(PEERS))
    peer.set_defaults(run=_peer)
    for command in commands.choices.values():
        command.add_argument("--bus", required=True, metavar="URI",
                             help=f"CAN: {EXAMPLE}, slcan:PORT, pcan:CHANNEL")
        command.add_argument("--duration", type=_seconds, metavar="S", help="end after S seconds")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run `mu-adapter`.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process by default.

    Returns
    -------
    int
        0; 2 for limits, a line or a bus that cannot be used, or that went away.
    """
    args = parser().parse_args(argv)
    return guarded("mu-adapter", lambda: args.run(args))


if __name__ == "__main__":
    sys.exit(main())
