"""From one feed to many pages. Truth: what was put in, counted by hand."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from monitor_world import datagram

from spikewire.monitor.hub import QUEUE, Hub, Page
from spikewire.monitor.layout import read

app = pytest.importorskip("spikewire.monitor.app", reason="starlette and uvicorn are not installed")

from spikewire.monitor.access import Access
from spikewire.monitor.marks import Marks


def steps(data: bytes) -> list[int]:
    return [f["sequence"] for name, f in read(data) if name == "STEP"]


def datagrams(first: int, last: int) -> list[bytes]:
    return [datagram(k, np.ones(3, np.uint8), 3 * k) for k in range(first, last + 1)]


def test_a_page_that_takes_nothing_keeps_the_newest_and_counts_the_rest() -> None:
    hub, slow, quick, got = Hub(), Page(), Page(), []
    hub.pages |= {slow, quick}
    for k in range(10):
        hub.take(datagrams(100 * k + 1, 100 * k + 100), True)
        got += steps(quick.take())
    assert got == list(range(1, 1001))
    assert steps(slow.take()) == list(range(1001 - QUEUE, 1001))
    assert (slow.skipped, quick.skipped) == (1000 - QUEUE, 0)
    assert slow.take() == b""
    note = dict(read(hub.note(slow)))["NOTE"]
    assert note == {"live": 1, "lost": 0, "skipped": 1000 - QUEUE, "pages": 2}


def test_what_never_came_is_counted_and_what_is_no_record_goes_nowhere() -> None:
    hub, page = Hub(), Page()
    hub.pages.add(page)
    hub.take([*datagrams(1, 3), b"\1\1\xff\xffrubbish", b"x", *datagrams(10, 12)], True)
    assert (hub.lost, hub.damaged, hub.step) == (6, 2, 12)
    assert steps(page.take()) == [1, 2, 3, 10, 11, 12]
    assert dict(read(hub.about)).keys() == {"ABOUT"}
    hub.take(datagrams(1, 2), True)  # another run: nothing is missing
    assert hub.lost == 6


class Socket:
    """A page's end that takes so many frames and then no more."""

    def __init__(self, room: int) -> None:
        self.room, self.frames, self.closed = room, [], None
        self.scope = {"headers": [], "subprotocols": []}

    async def accept(self, protocol) -> None:
        """Open."""

    async def send_text(self, words: str) -> None:
        await self.send_bytes(words.encode())

    async def send_bytes(self, data: bytes) -> None:
        if len(self.frames) >= self.room:
            await asyncio.sleep(1e6)
        self.frames.append(data)

    async def receive(self) -> dict[str, object]:
        await asyncio.sleep(1e6)
        return {}

    async def close(self, code: int, reason: str = "") -> None:
        self.closed = code


def monitor(tmp_path: Path):
    class Feed:
        name, live, ended = "unix:/s", True, False

    return app.Monitor(Feed(), Access("127.0.0.1", ""), Marks(tmp_path / "m.jsonl", "s"))


def test_a_stalled_page_is_let_go_and_another_misses_nothing(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(app, "PATIENCE_S", 0.3)
    made, stalled, quick = monitor(tmp_path), Socket(2), Socket(10**6)

    async def play() -> None:
        pages = [asyncio.ensure_future(made._stream(s)) for s in (stalled, quick)]
        for k in range(200):
            made.hub.take(datagrams(k + 1, k + 1), True)
            await asyncio.sleep(0.005)
        await asyncio.wait_for(pages[0], 10)
        assert len(made.hub.pages) == 1
        for page in pages:
            page.cancel()
        await asyncio.gather(*pages, return_exceptions=True)

    asyncio.run(play())
    assert stalled.closed == 1000
    assert len(stalled.frames) == 2
    got = [s for frame in quick.frames[1:] for s in steps(frame)]
    assert got == list(range(got[0], got[-1] + 1))
    assert len(got) > 150


def test_only_so_many_pages_look_on(tmp_path: Path) -> None:
    made, sockets = monitor(tmp_path), [Socket(10**6) for _ in range(app.MOST_PAGES + 3)]

    async def play() -> None:
        pages = [asyncio.ensure_future(made._stream(s)) for s in sockets]
        await asyncio.sleep(0.3)
        assert len(made.hub.pages) == app.MOST_PAGES
        for page in pages:
            page.cancel()
        await asyncio.gather(*pages, return_exceptions=True)

    asyncio.run(play())
    assert [s.closed for s in sockets][-3:] == [1013] * 3
    assert not made.hub.pages
