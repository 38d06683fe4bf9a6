"""mu-monitor: look at a run, in a browser or in the terminal."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spikewire.commands import guarded

DEFAULT = "udp:127.0.0.1:8766"
NICE = 10  # whoever looks on takes no time from the run


def parser() -> argparse.ArgumentParser:
    """Options of mu-monitor."""
    p = argparse.ArgumentParser(
        prog="mu-monitor", description="Show a run: what mu-run --monitor publishes, or its log.",
        epilog="example: mu-run X.mub --source ... --monitor unix:/tmp/spikewire, and in another "
               "shell: mu-monitor unix:/tmp/spikewire",
    )
    p.add_argument("source", nargs="?", default=DEFAULT, metavar="SOURCE",
                   help=f"unix:PATH, udp:HOST:PORT as given to mu-run, or LOG.mcap; {DEFAULT} if "
                        "left out")
    p.add_argument("--port", type=int, default=8765, help="of the page; 0: any free one")
    p.add_argument("--host", default="127.0.0.1", metavar="ADDRESS",
                   help="another address than 127.0.0.1 needs --token")
    p.add_argument("--token", metavar="auto|TOKEN",
                   help="let in only who knows it; auto makes one and prints it")
    p.add_argument("--grid", metavar="NAME",
                   help="where the electrodes lie: GR08MM1305, GR04MM1305, GR10MM0808, or "
                        "ROWSxCOLUMNS@MM")
    p.add_argument("--events", default="marks.jsonl", metavar="FILE.jsonl",
                   help="where marked events are appended")
    p.add_argument("--terminal", action="store_true", help="no page: a block in this terminal")
    return p


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    args = parser().parse_args(argv)
    return guarded("mu-monitor", lambda: run(args))


def run(args: argparse.Namespace) -> int:
    """Show until Ctrl-C."""
    from spikewire.monitor.feed import open_feed

    feed = open_feed(args.source)
    try:
        return terminal(feed) if args.terminal else web(args, feed)
    finally:
        feed.close()


def terminal(feed: Any) -> int:
    """A block of text that stays in place."""
    from spikewire.monitor.terminal import show

    os.nice(NICE)
    with until_signal() as stop:
        show(feed, "mu-monitor", lambda: bool(stop))
    return 0


@contextlib.contextmanager
def until_signal() -> Iterator[list[int]]:
    """A list that a signal fills."""
    came: list[int] = []
    kept = {number: signal.signal(number, lambda n, _: came.append(n))
            for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def web(args: argparse.Namespace, feed: Any) -> int:
    """A page."""
    from spikewire.monitor.access import Access, check_token
    from spikewire.monitor.app import Monitor, server
    from spikewire.monitor.marks import Marks
    from spikewire.signals import InputError

    if not 0 <= args.port < 65536:
        raise InputError(f"--port is {args.port}, allowed is 0 to 65535")
    token = check_token(args.token, args.host)
    marks = Marks(Path(args.events).absolute(), args.source)
    monitor = Monitor(feed, Access(args.host, token), marks, grid(args.grid))
    with listening(args.host, args.port) as bound:
        port = bound.getsockname()[1]
        shown = socket.gethostname() if args.host in ("0.0.0.0", "::") else args.host
        shown = f"[{shown}]" if ":" in shown else shown
        print(f"mu-monitor: {args.source} is shown at http://{shown}:{port}/"
              + f"#token={token}" * bool(token), file=sys.stderr)
        print(f"mu-monitor: marked events go to {marks.path}; Ctrl-C ends this, not the run",
              file=sys.stderr, flush=True)
        os.nice(NICE)
        made = server(monitor)
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(monitor.serve(made, [bound]))
    return 0


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens; InputError where that cannot be."""
    from spikewire.signals import InputError

    try:
        kind = socket.AF_INET6 if ":" in host else socket.AF_INET
        made = socket.create_server((host, port), family=kind, backlog=64)
        # Handed down to every connection; asyncio does so only to sockets that it made itself.
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made
    except (OSError, UnicodeError) as error:
        words = getattr(error, "strerror", None) or error
        raise InputError(f"--host {host} --port {port}: {words}; is another mu-monitor there? "
                         "type another --port") from None


def grid(name: str | None) -> dict[str, Any] | None:
    """Where the electrodes of a grid lie, ready for JSON."""
    from spikewire.io.grids import ANY, GRIDS, grid_of

    if name is None:
        return None
    plain, channels = ANY.fullmatch(name), 0
    if plain:
        channels = int(plain[1]) * int(plain[2])
    elif name in GRIDS:
        rows, columns, _ = GRIDS[name]
        channels = rows * columns - (rows == 13)
    found = grid_of(name, channels)
    return {"name": name, "row": found.row.tolist(), "col": found.col.tolist()}


if __name__ == "__main__":
    sys.exit(main())
