"""mu-flash deploy, status, rollback, logs, bench, doctor: what is done with a board over ssh."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spikewire.deploy import Board, deploy, parse, plan, read_release
from spikewire.onboard.say import FAIL, OK, Line
from spikewire.remote import Connection, Host
from spikewire.signals import InputError
from spikewire.signing import default_key

WATCH_S = 10.0
# verb -> what it does
VERBS = {
    "deploy": "put a release on a board and switch to it; what does not live there is undone",
    "status": "which release runs, since when, and how it does",
    "rollback": "go back to the release before",
    "logs": "what the runtime and the other units have logged",
    "bench": "golden windows and ten seconds at the real pace, on the board",
    "doctor": "what is wrong with the board, line by line",
}


def add_parser(subparsers: Any) -> None:
    """Add the verbs to mu-flash."""
    for verb, words in VERBS.items():
        more = " releases/0.1.0-0123456789ab" if verb == "deploy" else ""
        p = subparsers.add_parser(verb, help=words, description=f"{words[0].upper()}{words[1:]}.",
                                  epilog=f"example: mu-flash {verb} root@board{more}")
        p.add_argument("host", metavar="HOST", help="HOST, USER@HOST or a name in ~/.ssh/config")
        if verb == "deploy":
            p.add_argument("release", metavar="RELEASE", type=Path, help="folder of mu-flash build")
            p.add_argument("--key", metavar="FILE", type=Path, default=default_key(),
                           help="who signed it; default: %(default)s")
            p.add_argument("--watch", metavar="S", type=float, default=WATCH_S,
                           help="seconds that it must live; default: %(default)g")
        if verb == "logs":
            p.add_argument("-n", metavar="LINES", type=int, default=100, help="default: 100")
            p.add_argument("-f", "--follow", action="store_true", help="go on until Ctrl-C")
        p.add_argument("-p", metavar="PORT", type=int, help="of ssh; default: as ssh is set up")
        p.add_argument("--ssh-option", metavar="KEY=VALUE", action="append", default=[],
                       help="for ssh -o; may be given more than once")
        p.add_argument("--dry-run", action="store_true", help="say what would be done; do nothing")
        p.add_argument("--json", action="store_true", help="one JSON object per line")
        p.add_argument("--root", default="/", help=argparse.SUPPRESS)  # a folder as board, in tests
        p.set_defaults(run=run, verb=verb)


def run(args: argparse.Namespace) -> int:
    """Do one verb."""
    host = Host(args.host, args.p, tuple(args.ssh_option))
    tell: Callable[[Line], None] = _tell_json if args.json else _tell
    connection = Connection(host)
    if args.verb == "deploy":
        return _deploy(args, connection, tell)
    board = Board(connection, tell, args.root)
    words = _words(args, board)
    if args.dry_run:
        tell(Line(args.verb, OK, shlex.join(connection.command(words))))
        return 0
    with connection:
        if not board.meet():
            raise InputError(f"{args.host}: has no spikewire yet; type: mu-flash deploy "
                             f"{args.host} RELEASE")
        if args.verb in ("status", "rollback"):
            code, data = board.do(*words[words.index(args.verb):])
            if args.verb == "rollback":
                tell(_verified(data))
            elif args.json:
                print(json.dumps(data))
            return code
        if args.verb != "logs":
            code, text = connection.run(["cat", f"{board.home}/current/board.json"])
            tell(_verified(_table(text) if code == 0 else {}))
        return _through(connection, words, tell if args.verb != "logs" else None)


def _deploy(args: argparse.Namespace, connection: Connection, tell: Callable[[Line], None]) -> int:
    """Deploy, or say how."""
    if not 0 < args.watch <= 600:
        raise InputError(f"--watch is {args.watch:g}, allowed is up to 600 s")
    release = read_release(args.release, args.key)
    tell(_verified(release.board))
    tell(Line("release", OK, f"{release.name}, whole, signature good"))
    if args.dry_run:
        for line in plan(connection, release, args.watch, args.root):
            tell(line)
        return 0
    with connection:
        return deploy(connection, release, tell, args.watch, args.root)


def _words(args: argparse.Namespace, board: Board) -> list[str]:
    """Return what is run on the board."""
    if args.verb == "status":
        return board.words("status")
    if args.verb == "rollback":
        return board.words("rollback", "--by-hand")
    if args.verb == "logs":
        if not 0 < args.n <= 1_000_000:
            raise InputError(f"-n is {args.n}, allowed is 1 to 1000000")
        return ["journalctl", "-u", "mu-*", "-n", str(args.n), "-o", "short-iso", "--no-pager",
                *(["-f"] if args.follow else [])]
    test = ["--self-test"] if args.verb == "bench" else []
    here = f"{board.home}/current"
    cache = f"XDG_CACHE_HOME={args.root.rstrip('/')}/var/cache"  # where the units keep their plans
    return ["env", cache, f"{here}/bin/mu-doctor", f"{here}/bundle.mub", *test, "--json"]


def _through(connection: Connection, words: list[str], tell: Callable[[Line], None] | None) -> int:
    """Run a program on the board and pass on what it prints."""
    ended: list[int] = []
    for text in connection.lines(words, ended):
        if tell is None:
            print("".join(c for c in text.rstrip() if c.isprintable() or c == "\t"), flush=True)
        elif line := parse(text)[0]:
            tell(line)
    return min(ended[0], 1)


def _verified(board: dict[str, Any]) -> Line:
    """Say whether anyone has seen this kind of board work."""
    if not board:
        return Line("board", FAIL, "no whole release is there to say what this board is")
    return Line("board", OK, f"{board.get('id', 'unknown')}, verified = "
                f"{board.get('verified', 'unknown')!r}")


def _table(text: str) -> dict[str, Any]:
    """Return a JSON object; empty where it is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _tell(line: Line) -> None:
    """Print a line for people; what to do next stands below it."""
    print(f"{line.state:<5}{line.step:<13}{line.evidence}", flush=True)
    if line.remedy and line.state != OK:
        print(f"{'':<18}-> {line.remedy}", flush=True)


def _tell_json(line: Line) -> None:
    """Print a line for programs."""
    json.dump(line._asdict(), sys.stdout)
    print(flush=True)
