"""An emulated amplifier in a thread, for the tests of sources."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace

from spikewire.emulate import AMPLIFIERS
from spikewire.emulate.box import Box
from spikewire.emulate.played import Played, test_signal
from spikewire.emulate.script import parse_script
from spikewire.io.source import Block
from spikewire.runtime.clock import MonotonicClock

OPENS_S = 0.6  # what a source may take until it hands over the first samples, and some more


def free_port() -> int:
    """A pair of ports that nobody listens at."""
    while True:
        with socket.socket() as one, socket.socket() as next_one:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            with suppress(OSError, OverflowError):  # the next one is taken, or 65536
                next_one.bind(("127.0.0.1", port + 1))
                return port


@contextmanager
def emulated(name: str, script: str = "", played: Played | None = None,
             port: int | None = None) -> Iterator[tuple[Box, str]]:
    """A running amplifier, and the URI of its source; the script's time begins after 0.6 s."""
    wire = AMPLIFIERS[name]()
    events = [replace(event, at_s=event.at_s + OPENS_S) for event in parse_script(script)]
    box = Box(wire, played or test_signal(wire), events, MonotonicClock(),
              port=port or free_port())
    over = threading.Event()
    thread = threading.Thread(target=box.run, args=(over.is_set,))
    thread.start()
    host = "" if wire.calls else "127.0.0.1"
    try:
        yield box, f"{name}:{host}:{box.port}"
    finally:
        over.set()
        thread.join()


def at_once(one: Callable[[str], None], names: Sequence[str]) -> None:
    """Try something with every one of these amplifiers; they mostly wait."""
    with ThreadPoolExecutor(len(names)) as pool:
        for tried in [pool.submit(one, name) for name in names]:
            tried.result()


def read_until(source, enough) -> list[Block]:
    """Blocks until `enough(blocks)`; 20 s at most."""
    clock = MonotonicClock()
    blocks, until = [], clock.now() + 20
    while not enough(blocks) and clock.now() < until:
        blocks += source.read(0.02)
    return blocks


def holes(blocks: list[Block]) -> list[tuple[int, int]]:
    """(index, length) of every gap."""
    return [(a.first + len(a.counts), b.first - a.first - len(a.counts))
            for a, b in itertools.pairwise(blocks)
            if b.first != a.first + len(a.counts)]
