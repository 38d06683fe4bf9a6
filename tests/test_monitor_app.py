"""The monitor's server as a process, and clients that mean it ill.

Each test comes from an address of its own (127.0.0.x), since the rate limit is per address. What is
believed of the server is what raw sockets see.
"""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import os
import socket
import struct
import time
from pathlib import Path

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("starlette")
pytest.importorskip("websockets")


from monitor_world import Made, Server

from spikewire.monitor.app import FILES, FOLDER, HEADERS
from spikewire.monitor.layout import read

ADDRESS = itertools.count(10)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("monitor")


@pytest.fixture(scope="module")
def run(folder: Path):
    made = Made(str(folder / "s"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def server(folder: Path, run: Made):
    made = Server(f"unix:{folder}/s", cwd=folder)
    yield made
    assert made.close() == ""


@pytest.fixture(scope="module")
def guarded(folder: Path, run: Made):
    made = Server(f"unix:{folder}/s", "--host", "0.0.0.0", "--token", "auto", cwd=folder)
    yield made
    assert made.close() == ""


@pytest.fixture
def here() -> str:
    return f"127.0.0.{next(ADDRESS)}"


def ask(server: Server, here: str, path: str, method: str = "GET", **headers: str
        ) -> tuple[int, dict[str, str], bytes]:
    """One request; the path goes out as it is."""
    c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20, source_address=(here, 0))
    c.putrequest(method, path, skip_accept_encoding=True, skip_host="Host" in headers)
    for name, value in headers.items():
        c.putheader(name.replace("_", "-"), value)
    c.endheaders()
    answer = c.getresponse()
    found = answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    c.close()
    return found


def raw(server: Server, here: str, data: bytes) -> bytes:
    """What comes back for raw bytes, until the server closes or falls silent.

    It is one loop: when it has answered a request made later, it has dealt with these.
    """
    with socket.create_connection(("127.0.0.1", server.port), 20, (here, 0)) as s:
        came = b""
        try:
            s.sendall(data)
            ask(server, here, "/")
            s.settimeout(0.3)
            while more := s.recv(65536):
                came += more
        except OSError:
            pass
        return came


def upgrade(server: Server, here: str, *lines: str, path: str = "/stream") -> socket.socket:
    """A WebSocket's beginning by hand; the answer's head is read."""
    s = socket.create_connection(("127.0.0.1", server.port), 20, (here, 0))
    key = base64.b64encode(os.urandom(16)).decode()
    head = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{server.port}", "Upgrade: websocket",
            "Connection: Upgrade", f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", *lines]
    s.sendall(("\r\n".join(head) + "\r\n\r\n").encode("latin-1"))
    return s


def status(s: socket.socket) -> int:
    """Status of the answer to an upgrade."""
    s.settimeout(20)
    head = b""
    while b"\r\n\r\n" not in head:
        more = s.recv(1)
        if not more:
            break
        head += more
    return int(head.split()[1])


def sent(opcode: int, payload: bytes, fin: int = 1, masked: bool = True, size: int | None = None
         ) -> bytes:
    """A client's frame."""
    n = len(payload) if size is None else size
    head = bytes([fin << 7 | opcode])
    flag = 0x80 if masked else 0
    if n < 126:
        head += bytes([flag | n])
    elif n < 1 << 16:
        head += bytes([flag | 126]) + struct.pack(">H", n)
    else:
        head += bytes([flag | 127]) + struct.pack(">Q", n)
    return head + (b"\0\0\0\0" if masked else b"") + payload


def frames(s: socket.socket, seconds: float = 20.0):
    """Opcode and payload of what the server sends, until it closes."""
    until, data = time.monotonic() + seconds, b""
    s.settimeout(0.5)
    while time.monotonic() < until:
        try:
            more = s.recv(65536)
        except TimeoutError:
            continue
        except OSError:
            return
        if not more:
            return
        data += more
        while len(data) >= 2:
            n, at = data[1] & 127, 2
            if n == 126:
                n, at = struct.unpack_from(">H", data, 2)[0] if len(data) >= 4 else 1 << 30, 4
            elif n == 127:
                n, at = struct.unpack_from(">Q", data, 2)[0] if len(data) >= 10 else 1 << 30, 10
            if len(data) < at + n:
                break
            yield data[0] & 15, data[at : at + n]
            data = data[at + n :]


def ended(s: socket.socket) -> bool:
    """Whether the server says that it closes, or does, within seconds."""
    began = time.monotonic()
    for opcode, _ in frames(s, 15.0):
        if opcode == 8:
            return True
    return time.monotonic() - began < 14.0


def alive(server: Server, here: str) -> None:
    """The page is there and the stream runs."""
    assert ask(server, here, "/")[0] == 200
    with upgrade(server, here) as s:
        assert status(s) == 101
        assert any(op == 2 and any(n == "STEP" for n, _ in read(data))
                   for op, data in frames(s))


def test_every_file_of_the_table_and_nothing_else(server: Server, here: str) -> None:
    for path, (name, kind) in FILES.items():
        code, headers, body = ask(server, here, path)
        assert (code, body) == (200, (FOLDER / name).read_bytes())
        assert headers["content-type"].startswith(kind)
        assert headers.items() >= HEADERS.items()
        assert not [h for h in headers if h.startswith("access-control") or h == "server"]
    assert ask(server, here, "/", "HEAD")[2] == b""


def test_the_page_may_load_nothing_from_elsewhere(server: Server, here: str) -> None:
    policy = ask(server, here, "/")[1]["content-security-policy"]
    rules = {r.split()[0]: r.split()[1:] for r in policy.split(";")}
    assert rules["default-src"] == ["'none'"]
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == ["'self'"]
    for page in ("index.html", "feedback.html"):
        text = (FOLDER / page).read_text()
        assert " style=" not in text
        assert "<script>" not in text
        assert "http" not in text.replace("http-equiv", "")


@pytest.mark.parametrize("path", [
    "/../pyproject.toml", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/style.css/../app.py",
    "/style.css%00.html", "/..%5c..%5cetc", "/page/index.html", "/app.py", "/%252e%252e/x",
    "/index.html", "/STYLE.CSS", "/style.css/", "/./style.css", "/%c0%ae%c0%ae/", "/stream/../",
    "/etc/passwd", "/marks.jsonl", "/.git/config", "http://evil.example/style.css", "*",
])
def test_paths_that_lead_elsewhere(server: Server, here: str, path: str) -> None:
    code, headers, body = ask(server, here, path)
    if path.endswith("/") or path == "http://evil.example/style.css":
        assert code in (307, 400, 404, 421)
    else:
        assert code in (400, 404)
    assert b"root:" not in body
    assert b"import" not in body
    assert "location" not in headers or "evil" not in headers["location"]


def test_methods_hosts_and_origins(server: Server, here: str) -> None:
    assert ask(server, here, "/", "POST")[0] == 405
    assert ask(server, here, "/", "OPTIONS", Origin="http://evil.example")[0] == 405
    assert ask(server, here, "/", Host="evil.example")[0] == 421
    assert ask(server, here, "/", Origin="http://evil.example")[0] == 403
    for line in ("Origin: http://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site"):
        with upgrade(server, here, line) as s:
            assert status(s) == 403
    with upgrade(server, here, f"Origin: http://127.0.0.1:{server.port}") as s:
        assert status(s) == 101
    with upgrade(server, here, path="/other") as s:
        assert status(s) in (403, 404)


@pytest.mark.parametrize("data", [
    b"\r\n\r\n", b"\0" * 4000, b"GET / HTTP/9.9\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\x02\0",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 20_000 + b"\r\n",
    b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
])
def test_malformed_requests_are_refused(server: Server, here: str, data: bytes) -> None:
    came = raw(server, here, data)
    assert not came or came.split()[1][:1] == b"4"
    alive(server, here)


MARK = b'{"mark": "x"}'


@pytest.mark.parametrize("data", [
    sent(1, MARK, masked=False), sent(3, b""), sent(1, b"\xff\xfe"), sent(2, b"\0\1\2"),
    sent(1, b"{"), sent(1, b"[" * 500), sent(1, b"x" * 2000), sent(1, b"", size=1 << 40),
    sent(0, b"x"), sent(1, b"x", fin=0) + sent(1, b"x"), sent(9, b"x" * 126), sent(8, b"\0"),
    sent(1, b"x", fin=0) * 2000, b"\xf1" + sent(1, MARK)[1:], b"GET / HTTP/1.1\r\n\r\n" * 9,
])
def test_malformed_frames_end_their_stream_only(server: Server, here: str, data: bytes) -> None:
    with upgrade(server, here) as s:
        assert status(s) == 101
        s.sendall(data)
        assert ended(s)
    alive(server, here)


def test_a_mark_is_answered_and_written(server: Server, here: str, folder: Path) -> None:
    with upgrade(server, here, "Sec-WebSocket-Protocol: spikewire") as s:
        assert status(s) == 101
        stream = frames(s)
        welcome = json.loads(next(data for op, data in stream if op == 1))
        assert welcome["events"] == str(folder / "marks.jsonl")
        s.sendall(sent(1, b'{"mark": "knee", "step": 5, "now_s": 1.5}'))
        said = json.loads(next(data for op, data in stream if op == 1))
    line = json.loads((folder / "marks.jsonl").read_text().splitlines()[-1])
    assert said["marked"] == line
    assert (line["label"], line["step"], line["now_s"]) == ("knee", 5, 1.5)


def test_a_thousand_requests_at_once_are_held_back(server: Server, here: str, run: Made) -> None:
    before = run.sequence
    with socket.create_connection(("127.0.0.1", server.port), 20, (here, 0)) as s:
        came = b""
        for k in range(1, 11):
            s.sendall(b"GET /icon.svg HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100)
            while came.count(b"HTTP/1.1 ") < 100 * k and (more := s.recv(1 << 16)):
                came += more
    codes = [part[:3] for part in came.split(b"HTTP/1.1 ")[1:]]
    assert len(codes) == 1000
    assert codes.count(b"429") > 200
    assert set(codes) <= {b"200", b"429"}
    assert run.sequence > before
    alive(server, f"127.0.0.{next(ADDRESS)}")


def test_many_connections_are_held_back_and_let_go_again(server: Server, here: str) -> None:
    many = [socket.create_connection(("127.0.0.1", server.port), 20, (here, 0))
            for _ in range(150)]
    for s in many:
        s.close()
    until = time.monotonic() + 20
    while ask(server, f"127.0.0.{next(ADDRESS) % 200 + 20}", "/")[0] != 200:
        assert time.monotonic() < until
    alive(server, f"127.0.0.{next(ADDRESS) % 200 + 20}")


def test_only_the_token_opens_the_stream(guarded: Server, here: str) -> None:
    for lines in ([], ["Sec-WebSocket-Protocol: spikewire"],
                  ["Sec-WebSocket-Protocol: spikewire, " + "x" * 32],
                  [f"Authorization: Bearer {guarded.token[:-1]}"],
                  [f"Cookie: token={guarded.token}"]):
        with upgrade(guarded, here, *lines) as s:
            assert status(s) == 403
    with upgrade(guarded, here, path=f"/stream?token={guarded.token}") as s:
        assert status(s) == 403
    for line in (f"Sec-WebSocket-Protocol: spikewire, {guarded.token}",
                 f"Authorization: Bearer {guarded.token}"):
        with upgrade(guarded, here, line) as s:
            assert status(s) == 101
    assert ask(guarded, here, "/", Host="evil.example")[0] == 421


def test_a_plan_is_checked(server: Server, here: str) -> None:
    code, _, body = ask(server, here, "/plan?level=20&hold=15")
    assert (code, json.loads(body)["level"]) == (200, 20)
    code, headers, body = ask(server, here, "/plan?level=900")
    assert (code, body) == (400, b"level is 900, allowed is 1 to 100\n")
    assert headers["content-type"].startswith("text/plain")
