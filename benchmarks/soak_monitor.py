"""The monitor in real time: beside the loop, under hostile clients, and in a browser.

    python benchmarks/soak_monitor.py --seconds 600 --out report.json

Loop: alternating runs with no publisher, and with one that nobody, one, five and one stalled
monitor listen to; a witness on each core says when the machine itself stood still. Hostile: a loop
with a page, while clients send 10^5 requests. Browser: Chromium shows 30 units.
"""

from __future__ import annotations

import argparse
import ctypes
import http.client
import json
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from monitor_world import CHROMIUM, Browser, Made, Server  # noqa: E402

from spikewire.commands import run as command  # noqa: E402
from spikewire.durable import write_durably  # noqa: E402
from spikewire.runtime.meter import Meter  # noqa: E402

REFERENCE = ROOT / "models" / "reference.mub"
SOURCE = f"replay:{REFERENCE}?loop=1"
CASES = {"none": 0, "nobody": 0, "one": 1, "five": 5, "stalled": 1}
ABOVE, TICK_S, STILL_S = 60, 0.002, 0.005  # priority of the witnesses, their pace, what they note
BACK_S = 0.05  # so long before a step is noted as missed its cause may lie


class Raw(Meter):
    """A meter that also keeps what it counts, to the microsecond."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[float] = []

    def add(self, seconds: float) -> None:
        super().add(seconds)
        self.values.append(1e3 * seconds)


def witness(cpu: int) -> None:
    """The child on one core: above the loop, does nothing but sleep, and tells when it overslept.

    Whatever holds this one up (the hypervisor, the kernel) is not the loop's to answer for.
    """
    os.sched_setaffinity(0, {cpu})
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(ABOVE))
    except PermissionError:
        sys.exit("no witness: SCHED_FIFO was refused, so no missed step is put down to the machine")
    ctypes.CDLL(None).mlockall(3)
    ended = threading.Event()
    pauses: list[tuple[float, float]] = []

    def until_told() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=until_told, daemon=True).start()
    while not ended.is_set():
        due = time.monotonic() + TICK_S
        time.sleep(TICK_S)
        now = time.monotonic()
        if now > due + STILL_S:
            pauses.append((due, now))
    print(json.dumps(pauses))


def stood_still(missed: list[tuple[float, int]], pauses: list[list[float]]) -> int:
    """How many steps were missed while a witness was held up: `missed` are times and counts."""
    return sum(count for at, count in missed
               if any(start < at and end > at - BACK_S for start, end in pauses))


def one_loop(path: str, seconds: float) -> None:
    """The child: one run, its figures on stdout."""
    # Without upkeep: its process would be one more that the cores are shared with.
    # In real time, as the units of a board start it.
    words = [str(REFERENCE), "--source", SOURCE, "--link", "null:", "--no-upkeep", "--realtime"]
    args = command.parser().parse_args(words + ["--monitor", f"unix:{path}"] * bool(path))
    with ExitStack() as opened:
        loop = command.assemble(args, opened)
        missed: list[tuple[float, int]] = []

        class Ages(Raw):
            """Also notes when steps were missed: a step's age is taken right after it."""

            def add(self, seconds: float) -> None:
                super().add(seconds)
                new = loop.tally.missed - sum(count for _, count in missed)
                if new:
                    missed.append((time.monotonic(), new))

        loop.tally.compute, loop.tally.age = Raw(), Ages()
        told = Raw()
        if loop.publisher:
            publish = loop.publisher.publish

            def timed(*words: Any) -> None:
                began = time.perf_counter()
                publish(*words)
                told.add(time.perf_counter() - began)

            loop.publisher.publish = timed
        command.settle(args)
        until = loop.clock.now() + seconds
        loop.run(lambda: loop.clock.now() >= until)
        t = loop.tally
        print(json.dumps({
            "steps": t.steps, "missed": t.missed, "missed_at": missed,
            "compute": t.compute.values, "age": t.age.values, "told": told.values,
            "dropped": sum(w.dropped for w in loop.publisher.ways) if loop.publisher else 0}))


def listener(path: str, stalled: bool) -> subprocess.Popen[bytes]:
    """A monitor as a process: takes everything, or connects and sleeps."""
    code = ("import os,socket,time\nos.nice(10)\n"
            "s=socket.socket(socket.AF_UNIX,socket.SOCK_SEQPACKET)\n"
            f"while s.connect_ex({path!r}): time.sleep(.05)\n")
    code += "time.sleep(1e6)" if stalled else "while s.recv(65536): pass"
    return subprocess.Popen([sys.executable, "-c", code])


def case(name: str, folder: str, seconds: float) -> dict[str, Any]:
    """One run of a case."""
    path = "" if name == "none" else f"{folder}/{name}"
    loop = subprocess.Popen([sys.executable, __file__, "--child", path, "--seconds", str(seconds)],
                            stdout=subprocess.PIPE)
    monitors = [listener(path, name == "stalled") for _ in range(CASES[name])]
    out = loop.communicate()[0]
    for monitor in monitors:
        monitor.kill()
        monitor.wait()
    made: dict[str, Any] = json.loads(out)
    return made


def loops(folder: str, seconds: float, rounds: int) -> dict[str, Any]:
    """All cases in turn, `rounds` times."""
    every: dict[str, list[dict[str, Any]]] = {name: [] for name in CASES}
    order = list(CASES)
    cores = sorted(os.sched_getaffinity(0))
    witnesses = [subprocess.Popen([sys.executable, __file__, "--witness", str(cpu)],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE) for cpu in cores]
    for k in range(rounds):
        for name in order[k % len(order) :] + order[: k % len(order)]:  # nobody is always first
            every[name].append(case(name, folder, seconds))
    pauses = [pause for w in witnesses for pause in json.loads(w.communicate()[0] or b"[]")]
    found: dict[str, Any] = {}
    for name, runs in every.items():
        whole = {key: np.concatenate([r[key] for r in runs]) for key in ("compute", "age", "told")}
        steps = sum(r["steps"] for r in runs)
        found[name] = {
            "runs": len(runs), "steps": steps, "missed": sum(r["missed"] for r in runs),
            "missed_each": [r["missed"] for r in runs],
            "missed_while_the_machine_stood_still": sum(
                stood_still(r["missed_at"], pauses) for r in runs),
            "compute_ms": percentiles(whole["compute"]), "age_ms": percentiles(whole["age"]),
            "compute_p50_each": [round(float(np.median(r["compute"])), 4) for r in runs],
            "told_ms": percentiles(whole["told"]), "dropped": sum(r["dropped"] for r in runs)}
        print(name, found[name], flush=True)
    for row in found.values():
        row["compute_p50_ratio"] = round(
            row["compute_ms"]["p50"] / found["none"]["compute_ms"]["p50"], 4)
        pairs = np.array(row["compute_p50_each"]) / found["none"]["compute_p50_each"]
        row["compute_p50_ratio_of_rounds"] = round(float(np.median(pairs)), 4)
    found["pauses_ms"] = [round(1e3 * (end - start), 1) for start, end in sorted(pauses)]
    print("the machine's own pauses, ms:", found["pauses_ms"])
    return found


def percentiles(values: Any) -> dict[str, float]:
    if not len(values):
        return {}
    p50, p99, top = np.percentile(values, (50, 99, 100))
    return {"p50": round(float(p50), 4), "p99": round(float(p99), 4), "max": round(float(top), 3)}


REQUESTS = [b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET /icon.svg HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
            b"GET /stream HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade"
            b"\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            b"Sec-WebSocket-Protocol: spikewire, wrong-token\r\n\r\n",
            b"\0\xff" * 500, b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n"]


def answer(s: socket.socket) -> str:
    """Status of one whole answer; "closed" if none came."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = s.recv(65536)
        if not more:
            return "closed"
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    size = re.search(rb"content-length: (\d+)", head.lower())
    while size and len(body) < int(size[1]):
        more = s.recv(65536)
        if not more:
            break
        body += more
    return head[9:12].decode("latin-1")


def attack(port: int, count: int, number: int, codes: dict[str, int]) -> None:
    """`count` requests, most of them ill, from ever other addresses.

    At low priority, which on Linux is the thread's own: they stand for other machines.
    """
    os.nice(10)
    done = 0
    while done < count:
        here = f"127.{number}.{done // 20 % 250}.1"
        try:
            with socket.create_connection(("127.0.0.1", port), 5, (here, 0)) as s:
                s.settimeout(0.5)
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for k in range(20):
                    if done >= count:
                        break
                    done += 1
                    # the well-formed ones first: an ill one ends its connection
                    which = 6 if k == 19 else 5 if done % 97 == 0 else 4 if k == 18 else k % 4
                    s.sendall(REQUESTS[which])
                    code = answer(s)
                    codes[code] = codes.get(code, 0) + 1
                    if code == "closed" or which > 3:
                        break
        except OSError:
            codes["refused"] = codes.get("refused", 0) + 1


def hostile(folder: str, count: int, seconds: float) -> dict[str, Any]:
    """A loop with a page that nobody attacks, then one that is attacked."""
    found: dict[str, Any] = {}
    for name in ("at peace", "attacked"):
        path = f"{folder}/hostile"
        loop = subprocess.Popen([sys.executable, __file__, "--child", path, "--seconds",
                                 str(seconds)], stdout=subprocess.PIPE)
        server = Server(f"unix:{path}", "--token", "auto", cwd=folder)
        codes: dict[str, int] = {}
        threads = [threading.Thread(target=attack, args=(
            server.port, count // 4, k + 2, codes), daemon=True)
                   for k in range(4)]
        before, began = server.rss_mb(), time.monotonic()
        if name == "attacked":
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        took = time.monotonic() - began
        out = loop.communicate()[0]
        after, made = server.rss_mb(), json.loads(out)
        c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20,
                                       source_address=("127.0.0.99", 0))
        c.request("GET", "/")
        alive = c.getresponse().status == 200
        c.close()
        found[name] = {"steps": made["steps"], "missed": made["missed"],
                       "compute_ms": percentiles(made["compute"]),
                       "age_ms": percentiles(made["age"]), "requests": sum(codes.values()),
                       "answers": codes, "seconds": round(took, 1), "server_alive": alive,
                       "server_rss_mb": [round(before, 1), round(after, 1)],
                       "server_said": server.close()}
        print(name, found[name], flush=True)
    return found


def browser(folder: str, seconds: float) -> dict[str, Any]:
    """30 units at 102.4 Hz, drawn."""
    if not CHROMIUM:
        return {"skipped": "Chromium is not installed"}
    run = Made(f"{folder}/made")
    server = Server(f"unix:{folder}/made", cwd=folder)
    page = Browser(server.url)
    try:
        page.until("globalThis.spikewire && spikewire.facts().drawn > 100")
        gaps: list[float] = []
        memory: list[list[float]] = []
        page.call("Performance.enable")
        page.call("HeapProfiler.enable")
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            time.sleep(min(4.0, seconds))
            gaps += page.ask("spikewire.facts().gaps_ms")[-110:]
            if not memory or time.monotonic() - began - memory[-1][0] > seconds / 10:
                page.call("HeapProfiler.collectGarbage")
                heap = {m["name"]: m["value"] for m in
                        page.call("Performance.getMetrics")["metrics"]}["JSHeapUsedSize"]
                memory.append([round(time.monotonic() - began, 1), round(heap / 1e6, 2),
                               round(server.rss_mb(), 1)])
        run.close()
        page.until("!spikewire.facts().live")
        page.until("spikewire.facts().drawn === spikewire.facts().spikes")
        facts = page.ask("spikewire.facts()")
        facts.pop("gaps_ms")
        return {"seconds": seconds, "fps_median": round(1e3 / float(np.median(gaps)), 1),
                "fps_p1": round(1e3 / float(np.percentile(gaps, 99)), 1),
                "sent": facts["sent"], "drawn": facts["drawn"], "lost": facts["lostSpikes"],
                "lost_steps": facts["lostSteps"], "frames": facts["frames"],
                "heap_and_server_mb": memory, "errors": page.errors}
    finally:
        page.close()
        run.close()
        server.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600.0, help="of the browser")
    parser.add_argument("--loop-seconds", type=float, default=30.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--only", choices=["loop", "hostile", "browser"])
    parser.add_argument("--out")
    parser.add_argument("--child")
    parser.add_argument("--witness", type=int)
    args = parser.parse_args()
    os.environ |= {"OPENBLAS_NUM_THREADS": "1"}
    if args.witness is not None:
        witness(args.witness)
        return 0
    if args.child is not None:
        one_loop(args.child, args.seconds)
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    found: dict[str, Any] = {"machine": f"{platform.machine()}, {os.cpu_count()} cores",
                             "python": platform.python_version()}
    with tempfile.TemporaryDirectory() as folder:
        parts: dict[str, Callable[[], dict[str, Any]]] = {
            "loop": lambda: loops(folder, args.loop_seconds, args.rounds),
            "hostile": lambda: hostile(folder, args.requests, max(60.0, args.requests / 1000)),
            "browser": lambda: browser(folder, args.seconds)}
        for name in [args.only] if args.only else parts:
            load = os.getloadavg()[0]
            found[name] = {"load_before": load} | parts[name]()
    print(found.get("browser", ""))
    if args.out:
        if args.only and Path(args.out).exists():  # the other parts stay
            found = json.loads(Path(args.out).read_text()) | found
        content = json.dumps(found, indent=1) + "\n"
        write_durably(args.out, lambda file: file.write(content.encode()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
