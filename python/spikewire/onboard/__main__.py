"""The program on the board: one verb, JSON lines, exit code 0 (done), 1 (failed), 2 (bad call)."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spikewire.onboard import boot, canbus, change, disk, power, preflight, report, services
from spikewire.onboard.place import Place
from spikewire.onboard.releases import NAME, ReleaseError, read_list
from spikewire.onboard.say import FAIL, WARN, Line, Stop, say

WATCH_S = 10.0
BUSY = "another change is running on this board"


def _preflight(place: Place, args: argparse.Namespace) -> int:
    folder = place.staging / args.name
    release, board = read_list(folder, args.name), services.read_board(folder)
    lines = list(preflight.ask(preflight.Case(place, release, board, args.bytes)))
    for line in lines:
        say(line)
    return int(any(line.state == FAIL for line in lines))


def _install(place: Place, args: argparse.Namespace) -> int:
    change.install(place, args.name, args.watch, args.signer)
    return 0


def _rollback(place: Place, args: argparse.Namespace) -> int:
    change.rollback(place, not args.by_hand)
    return 0


def _boot_check(place: Place, args: argparse.Namespace) -> int:
    boot.check(place)
    return 0


def _confirm(place: Place, args: argparse.Namespace) -> int:
    boot.confirm(place, args.watch)
    return 0


def _power(place: Place, args: argparse.Namespace) -> int:
    say(power.lock(place.root, services.read_board(place.current)))
    return 0


def _can_up(place: Place, args: argparse.Namespace) -> int:
    say(canbus.up(place.root, services.read_board(place.current), args.interface))
    return 0


def _status(place: Place, args: argparse.Namespace) -> int:
    return report.status(place)


# verb -> what it does, whether it changes anything
VERBS: dict[str, tuple[Callable[[Place, Any], int], bool]] = {
    "preflight": (_preflight, False), "install": (_install, True), "status": (_status, False),
    "rollback": (_rollback, True), "boot-check": (_boot_check, True), "confirm": (_confirm, True),
    "power": (_power, False), "can-up": (_can_up, False),
}


def parser() -> argparse.ArgumentParser:
    """Options of the program on the board."""
    p = argparse.ArgumentParser(prog="onboard.pyz", description="What mu-flash and the units of a "
                                "board call on it; prints JSON, a line per step.")
    p.add_argument("--root", type=Path, default=Path("/"), help=argparse.SUPPRESS)  # for tests
    verbs = p.add_subparsers(dest="verb", metavar="VERB", required=True)
    made = {verb: verbs.add_parser(verb) for verb in VERBS}
    for verb in ("preflight", "install"):
        made[verb].add_argument("name", type=_name)
    made["preflight"].add_argument("--bytes", type=int, default=0, help="still to be copied")
    made["install"].add_argument("--signer", help="allowed_signers line, kept if first")
    for verb in ("install", "confirm"):
        made[verb].add_argument("--watch", type=float, default=WATCH_S, help="seconds it must live")
    made["rollback"].add_argument("--by-hand", action="store_true", help="a person chose it; else "
                                  "the current release has failed and counts as proven no more")
    made["can-up"].add_argument("interface")
    return p


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    args = parser().parse_args(argv)
    # A change goes on when the connection that started it dies; a stop is a reason to go back.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stopped)
    place, (work, changes) = Place(args.root), VERBS[args.verb]
    try:
        if not changes:
            return work(place, args)
        with disk.locked(place.lock) as held:
            if held:
                return work(place, args)
        # Whoever holds the lock decides; a unit that fires meanwhile has nothing to add.
        alone = args.verb in ("boot-check", "confirm") or not getattr(args, "by_hand", True)
        say(Line("lock", WARN if alone else FAIL, BUSY, "" if alone else "wait, then try again"))
        return int(not alone)
    except Stop as error:
        say(error.line)
    except ReleaseError as error:
        say(Line(args.verb, FAIL, str(error), "copy or build the release again"))
    except OSError as error:
        say(Line(args.verb, FAIL, f"{error.filename or 'disk'}: {os.strerror(error.errno or 0)}",
                 "free some space on the board" if error.errno == 28 else ""))
    return 1


def _name(word: str) -> str:
    """Return a release's name; argparse says what is wrong with any other word."""
    if not NAME.fullmatch(word):
        raise argparse.ArgumentTypeError(f"{word!r} is no release's name")
    return word


def _stopped(number: int, frame: object) -> None:
    """End the step that runs; what was good comes back."""
    raise Stop("signal", f"stopped by {signal.Signals(number).name}", "deploy again")


if __name__ == "__main__":
    sys.exit(main())
