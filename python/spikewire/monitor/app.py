"""The page's server: a fixed table of files, a plan, and one WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from spikewire.monitor import layout, words
from spikewire.monitor.access import PROTOCOL, Access
from spikewire.monitor.exercise import describe
from spikewire.monitor.feed import Feed
from spikewire.monitor.hub import Hub, Page, listen
from spikewire.monitor.marks import LONGEST_MESSAGE, Marks
from spikewire.signals import InputError

FOLDER = Path(__file__).parent / "page"
HTML, CSS, JS, TEXT = ("text/html", "text/css", "text/javascript", "text/plain")
FILES = {  # everything that there is; read once, so that no request touches a disk
    "/": ("index.html", HTML), "/feedback": ("feedback.html", HTML),
    "/style.css": ("style.css", CSS), "/uPlot.min.css": ("uPlot.min.css", CSS),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
    "/uPlot.iife.min.js": ("uPlot.iife.min.js", JS), "/uPlot.LICENSE": ("uPlot.LICENSE", TEXT),
    **{f"/{name}.js": (f"{name}.js", JS)
       for name in ("decode", "stream", "history", "raster", "panels", "monitor", "feedback")},
}
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self' blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff", "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin", "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
MOST_PAGES, FRAME_S, NOTE_S, PATIENCE_S = 16, 1 / 30, 0.5, 10.0
# what a page does to its stream when it leaves, or takes nothing any more
GONE = (WebSocketDisconnect, RuntimeError, OSError, asyncio.TimeoutError)


class Gate:
    """Refuses before anything else looks at a request, and puts the headers on every answer."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        async def with_headers(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                message["headers"] = [*message.get("headers", []), *(
                    (k.encode(), v.encode()) for k, v in HEADERS.items())]
            await send(message)

        method = scope["method"] if scope["type"] == "http" else "WEBSOCKET"
        target = (scope.get("raw_path") or b"").decode("latin-1") + "?" + \
            scope.get("query_string", b"").decode("latin-1")
        who = (scope.get("client") or ("",))[0]
        refused = self._access.refuse(who, method, target, scope["headers"])
        if not refused:
            await self._app(scope, receive, with_headers)
        elif scope["type"] == "http":
            await PlainTextResponse(refused[1] + "\n", refused[0])(scope, receive, with_headers)
        else:
            await send({"type": "websocket.close", "code": 1008})  # before it is open: 403


class Monitor:
    """The application of one feed.

    Parameters
    ----------
    feed : Feed
    access : Access
    marks : Marks
    grid : dict or None
        `row` and `col` of every channel, and the grid's `name`.
    """

    def __init__(self, feed: Feed, access: Access, marks: Marks,
                 grid: dict[str, Any] | None = None) -> None:
        self.hub, self._access, self._marks = Hub(), access, marks
        self._feed = feed
        self._welcome = json.dumps({
            "layout": layout.table(), **words.table(), "feed": feed.name, "grid": grid,
            "events": str(marks.path)})
        routes: list[BaseRoute] = [Route(path, self._file(*file), methods=["GET"])
                                   for path, file in FILES.items()]
        routes += [Route("/plan", plan, methods=["GET"]), WebSocketRoute("/stream", self._stream)]
        self.app = Gate(Starlette(routes=routes), access)

    @staticmethod
    def _file(name: str, kind: str) -> Any:
        """An endpoint that answers with one file."""
        content = (FOLDER / name).read_bytes()

        async def answer(request: Request) -> Response:
            return Response(content, media_type=kind)

        return answer

    async def _stream(self, socket: WebSocket) -> None:
        """One page, for as long as it looks on."""
        if not self._access.lets_in(socket.scope["headers"]):
            await socket.close(1008)
            return
        offered = socket.scope.get("subprotocols", [])
        await socket.accept(PROTOCOL if PROTOCOL in offered else None)
        if len(self.hub.pages) >= MOST_PAGES:
            await socket.close(1013, "too many pages look on")
            return
        page = Page()
        self.hub.pages.add(page)
        tasks = [asyncio.ensure_future(work(socket, page))
                 for work in (self._speak, self._hear)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.hub.pages.discard(page)
            await ended(tasks)
            with contextlib.suppress(*GONE):
                await asyncio.wait_for(socket.close(1000), 1.0)

    async def _speak(self, socket: WebSocket, page: Page) -> None:
        """Send frames at the pace of a screen; who takes none for ten seconds is let go."""
        clock, noted = asyncio.get_running_loop().time, 0.0
        await asyncio.wait_for(socket.send_text(self._welcome), PATIENCE_S)
        data = self.hub.about
        while True:
            if clock() - noted >= NOTE_S:
                noted, data = clock(), data + self.hub.note(page)
            if data:
                await asyncio.wait_for(socket.send_bytes(data), PATIENCE_S)
            await asyncio.sleep(FRAME_S)
            data = page.take()

    async def _hear(self, socket: WebSocket, page: Page) -> None:
        """Take marks; whatever else a page says ends its stream."""
        while True:
            message = await socket.receive()
            if message["type"] != "websocket.receive":
                return
            text = message.get("text")
            if text is None or len(text) > LONGEST_MESSAGE:
                return
            try:
                answer = self._marks.take(text, self.hub.step, self.hub.now_s)
            except ValueError:
                return
            await asyncio.wait_for(socket.send_text(json.dumps(answer)), PATIENCE_S)

    async def serve(self, server: uvicorn.Server, sockets: list[Any]) -> None:
        """Serve until the server is told to end."""
        stop = threading.Event()
        thread = threading.Thread(target=listen, name="feed", daemon=True, args=(
            self._feed, self.hub, asyncio.get_running_loop(), stop))
        thread.start()
        try:
            await server.serve(sockets)
        finally:
            stop.set()
            await asyncio.to_thread(thread.join, 2.0)


async def ended(tasks: Sequence[asyncio.Future[None]]) -> None:
    """Cancel until they are done: `wait_for` of Python 3.10 and 3.11 may swallow one."""
    while waiting := [task for task in tasks if not task.done()]:
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting, timeout=0.5)
    for task in tasks:
        if not task.cancelled() and (error := task.exception()) and not isinstance(error, GONE):
            raise error


async def plan(request: Request) -> Response:
    """Corners of the target of a plan that the query describes, or why it describes none."""
    try:
        return JSONResponse(describe(request.url.query))
    except InputError as error:
        return PlainTextResponse(f"{error}\n", 400)


def server(monitor: Monitor) -> uvicorn.Server:
    """The server, with every limit that it has."""
    # critical: uvicorn logs what an ill client sends as errors, and that must fill nobody's disk
    return uvicorn.Server(uvicorn.Config(
        monitor.app, log_level="critical", access_log=False, server_header=False, lifespan="off",
        loop="asyncio", http="h11", ws="websockets-sansio", ws_max_size=2 * LONGEST_MESSAGE,
        ws_max_queue=4, ws_ping_interval=10.0, ws_ping_timeout=10.0, ws_per_message_deflate=False,
        proxy_headers=False, limit_concurrency=64, backlog=64, timeout_keep_alive=5,
        timeout_graceful_shutdown=1, h11_max_incomplete_event_size=8192))
