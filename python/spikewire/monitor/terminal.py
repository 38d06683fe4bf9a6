"""A run as one block of text that stays in place, for ssh and serial consoles.

It runs in a process of its own, which only listens: drawing takes milliseconds, and a thread of the
loop's process would hold the interpreter's lock meanwhile.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections import deque
from typing import Any

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from spikewire.link.table import STATES
from spikewire.monitor.feed import Attached, Feed
from spikewire.monitor.layout import LayoutError, read
from spikewire.monitor.words import STATE_WORDS, faults_of

EVERY_S, LINE_S, POLL_S = 0.25, 10.0, 0.1
KEPT = 1024  # steps, ten seconds
BARS = " ▁▂▃▄▅▆▇█"
STYLE = {"ACTIVE": "black on green", "READY": "white on blue", "DEGRADED": "black on yellow",
         "SAFE": "black on dark_orange", "FAULT": "white on red"}


class Seen:
    """The newest record of every kind, and ten seconds of steps."""

    def __init__(self) -> None:
        self.newest: dict[str, dict[str, Any]] = {}
        self.steps: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self.lost, self._sequence = 0, 0

    def take(self, datagrams: list[bytes]) -> None:
        """Keep what came; bytes that are no records are left out."""
        for data in datagrams:
            try:
                for name, fields in read(data):
                    self.newest[name] = fields
                    if name == "STEP":
                        self._step(fields)
            except LayoutError:
                continue

    def _step(self, fields: dict[str, Any]) -> None:
        sequence = fields["sequence"]
        if self._sequence and sequence > self._sequence:
            self.lost += sequence - self._sequence - 1
        elif sequence <= self._sequence:
            self.steps.clear()  # another run
        self._sequence = sequence
        self.steps.append(fields)


def figures(values: list[float]) -> str:
    """p50, p99 and maximum of milliseconds."""
    v = np.array(values)
    v = v[np.isfinite(v)]
    if not len(v):
        return "not known"
    p50, p99 = np.percentile(v, (50, 99))
    return f"p50 {p50:.2f}   p99 {p99:.2f}   max {v.max():.2f} ms"


def rates(seen: Seen, n_mu: int) -> Text:
    """How fast each unit fired, as a row of bars up to 30 pulse/s."""
    steps = list(seen.steps)[-256:]
    maps = np.frombuffer(b"".join(s["fired"] for s in steps), np.uint8).reshape(len(steps), -1)
    fired = np.unpackbits(maps, axis=1, bitorder="little").sum(axis=0)[:n_mu]
    span_s = steps[-1]["now_s"] - steps[0]["now_s"] if len(steps) > 1 else 0.0
    each = fired / span_s if span_s > 0 else 0.0 * fired
    text = Text("".join(BARS[min(int(np.ceil(r / 30 * 8)), 8)] for r in each), "cyan")
    return text.append(f"  {int(fired.sum())} spikes in {span_s:.1f} s", "default")


def rows(seen: Seen, live: bool) -> list[tuple[str, Any]]:
    """Everything worth a line."""
    step, about = seen.newest["STEP"], seen.newest.get("ABOUT")
    n_mu, names = _known(about)
    total = min(sum(n_mu), 256) or 64
    state = STATES.get(step["state"], "NA")
    said = [STATE_WORDS[state], *faults_of(step["faults"])]
    drives = ["-" if d != d else f"{d:.0f}" for d in step["drive"][: len(n_mu) or 1]]
    out: list[tuple[str, Any]] = [
        ("state", Text.assemble((f" {state} ", STYLE.get(state, "reverse")), "  ",
                                "; ".join(said) if live else "the run is not heard any more")),
        ("drive", ", ".join(drives) + " pulse/s"),
        ("units", rates(seen, total)),
        ("age, 10 s", figures([s["age_ms"] for s in seen.steps])),
        ("compute", figures([s["compute_ms"] for s in seen.steps])),
        ("steps", f"{step['step']}, {step['missed']} missed, {step['gaps']} gaps, "
                  f"{step['silent']} silent; {seen.lost} not seen here"),
    ]
    if "UNITS" in seen.newest:
        out.append(("confidence", confidence(seen.newest["UNITS"])))
    if "CHANNELS" in seen.newest:
        bad = np.flatnonzero(np.unpackbits(
            np.array(seen.newest["CHANNELS"]["bad"], np.uint8), bitorder="little"))
        out.append(("electrodes", f"bad: {', '.join(map(str, bad[:24])) or 'none'}"))
    if "EMG" in seen.newest and seen.newest["EMG"]["rms_uv"]:
        rms = np.array(seen.newest["EMG"]["rms_uv"])
        rms = rms[np.isfinite(rms)] if np.isfinite(rms).any() else np.zeros(1)
        out.append(("EMG", f"median {np.median(rms):.1f} uV, {rms.min():.1f} to {rms.max():.1f}"))
    links = seen.newest.get("LINKS", {}).get("counts", [])
    out += [("link", f"{name}: {sent} sent, {dropped} dropped, {recovered} recovered")
            for name, sent, dropped, recovered in zip(
                names, links[::3], links[1::3], links[2::3], strict=False)]
    return out


def confidence(units: dict[str, Any]) -> str:
    """How far the units can be believed: silhouettes, and which are muted."""
    known = [(c, k) for k, c in enumerate(units["confidence"]) if c == c]
    muted = np.flatnonzero(np.unpackbits(np.frombuffer(units["muted"], np.uint8),
                                         bitorder="little"))
    said = f"lowest {min(known)[0]:.2f} (unit {min(known)[1]})" if known else "not known yet"
    return said + (f"; muted: {', '.join(map(str, muted))}" if len(muted) else "")


def _known(about: dict[str, Any] | None) -> tuple[list[int], list[str]]:
    """Units of each bundle, and names of the links; none of what cannot be read."""
    try:
        said = json.loads(about["json"]) if about else {"bundles": [], "links": []}
        n_mu = [int(b["n_mu"]) for b in said["bundles"]][:4]
        return [n for n in n_mu if 0 < n <= 64], [str(uri)[:60] for uri in said["links"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return [], []


def block(seen: Seen, name: str, live: bool) -> Any:
    """The block as rich shows it."""
    if "STEP" not in seen.newest:
        return Text(f"{name}: waiting for a run; start it with mu-run --monitor {name}")
    table = Table(show_header=False, box=None, padding=(0, 1))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for words, value in rows(seen, live):
        table.add_row(words, value)
    return Group(Text(name, "dim"), table)


def line(seen: Seen) -> str:
    """The same in one line, where there is no terminal."""
    if "STEP" not in seen.newest:
        return "waiting for a run"
    step = seen.newest["STEP"]
    state = STATES.get(step["state"], "NA")
    words = [f"{state}", f"{step['step']} steps", f"{step['missed']} missed",
             f"age {figures([s['age_ms'] for s in seen.steps])}", *faults_of(step["faults"])]
    return ", ".join(words)


def show(feed: Feed, name: str, stop: Any) -> None:
    """Show a feed on stderr until it ends or `stop()` says so."""
    console, seen = Console(stderr=True), Seen()
    due = time.monotonic() + (EVERY_S if console.is_terminal else LINE_S / 4)

    def turn() -> bool:
        """Listen; whether it is time to say something."""
        nonlocal due
        seen.take(feed.poll(POLL_S))
        if time.monotonic() < due:
            return False
        due = time.monotonic() + (EVERY_S if console.is_terminal else LINE_S)
        return True

    if not console.is_terminal:
        while not stop() and not feed.ended:
            if turn():
                console.print(f"{name}: {line(seen)}", soft_wrap=True, highlight=False,
                              markup=False)
        return
    with Live(console=console, auto_refresh=False) as display:
        while not stop() and not feed.ended:
            if turn():
                display.update(block(seen, feed.name, feed.live), refresh=True)
        if seen.steps:
            display.update(block(seen, feed.name, True), refresh=True)


def attend(fd: int) -> int:
    """What `mu-run --live` starts: show what comes through a socket, until the run is over."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the run ends first, and with it this
    os.nice(10)
    feed = Attached("mu-run --live", socket.socket(fileno=fd))
    show(feed, "mu-run", lambda: False)
    return 0


if __name__ == "__main__":
    import sys

    sys.exit(attend(int(sys.argv[1])))
