"""From one feed to every page that looks on: what a page is too slow for is dropped and counted."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque

from spikewire.monitor.feed import Feed
from spikewire.monitor.layout import HEAD, NOTE, LayoutError, put, read

QUEUE = 128  # datagrams; more than a second
NOTE_BYTES = HEAD.size + NOTE.fixed.size
POLL_S, GATHER_S = 0.2, 0.02


class Page:
    """One page's share: at most `QUEUE` datagrams wait, the oldest goes first.

    Attributes
    ----------
    skipped : int
    """

    def __init__(self) -> None:
        self.skipped = 0
        self._waiting: deque[bytes] = deque()

    def give(self, data: bytes) -> None:
        """One more datagram."""
        if len(self._waiting) >= QUEUE:
            self._waiting.popleft()
            self.skipped += 1
        self._waiting.append(data)

    def take(self) -> bytes:
        """Everything that waits, as one frame."""
        data = b"".join(self._waiting)
        self._waiting.clear()
        return data


class Hub:
    """Hands on what a feed says.

    Attributes
    ----------
    pages : set of Page
    about : bytes, the newest record that says what runs, for a page that comes later
    step, now_s : int and float, the newest
    lost, damaged : int, datagrams that never came, and that were no records
    """

    def __init__(self) -> None:
        self.pages: set[Page] = set()
        self.about = b""
        self.step, self.now_s = 0, 0.0
        self.lost = self.damaged = 0
        self.live = False
        self._sequence = 0

    def take(self, datagrams: list[bytes], live: bool) -> None:
        """Hand on what came; called in the event loop."""
        self.live = live
        for data in datagrams:
            try:
                self._look(data)
            except LayoutError:
                self.damaged += 1
                continue
            for page in self.pages:
                page.give(data)

    def _look(self, data: bytes) -> None:
        """Note what the monitor itself must know."""
        at = 0
        for name, fields in read(data):
            size = HEAD.unpack_from(data, at)[2] + HEAD.size
            if name == "STEP":
                sequence = fields["sequence"]
                if sequence > self._sequence and self._sequence:
                    self.lost += sequence - self._sequence - 1
                self._sequence = sequence
                self.step, self.now_s = fields["step"], fields["now_s"]
            elif name == "ABOUT":
                self.about = data[at : at + size]
            at += size

    def note(self, page: Page) -> bytes:
        """What this page is told of the monitor."""
        into = bytearray(NOTE_BYTES)
        most = 0xFFFFFFFF
        put(NOTE, into, 0, self.live, min(self.lost, most), min(page.skipped, most),
            len(self.pages))
        return bytes(into)


def listen(feed: Feed, hub: Hub, loop: asyncio.AbstractEventLoop, stop: threading.Event) -> None:
    """Wait for the feed in a thread, gather what comes within a fiftieth of a second."""
    while not stop.is_set():
        datagrams = feed.poll(POLL_S)
        try:
            loop.call_soon_threadsafe(hub.take, datagrams, feed.live)
        except RuntimeError:  # the event loop has ended
            return
        if datagrams:
            time.sleep(GATHER_S)
