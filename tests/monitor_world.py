"""What the monitor's tests and its soak share: a run without decoder, a browser, a server.

The run publishes made-up steps at the pace of the clock through the loop's own socket; the browser
is Chromium, spoken to in the DevTools protocol over its WebSocket.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from spikewire.monitor import layout
from spikewire.runtime.publish import Unix

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-dev-shm-usage", "--hide-scrollbars",
         "--remote-debugging-port=0"]
STEP_HZ = 102.4


def datagram(sequence: int, fired: np.ndarray, spikes: int, **changes: Any) -> bytes:
    """A step as the loop tells it; every 10th with EMG, every 50th with the slow records."""
    step = {"step": sequence, "now_s": 100 + sequence / STEP_HZ, "end": 20.0 * sequence, "state": 2,
            "decoded": 1, "faults": 0, "age_ms": 2.0, "compute_ms": 0.5,
            "drive": [80.0, 60.0, np.nan, np.nan], "missed": 0, "gaps": 0, "silent": 0} | changes
    bits = np.zeros(layout.MOST_UNITS, np.uint8)
    bits[: len(fired)] = fired
    into = bytearray(8192)
    end = layout.put(
        layout.STEP, into, 0, sequence, step["step"], step["now_s"], step["end"], step["state"],
        step["decoded"], step["faults"], step["age_ms"], step["compute_ms"], *step["drive"],
        spikes, step["missed"], step["gaps"], step["silent"],
        np.packbits(bits, bitorder="little").tobytes())
    n_mu = len(fired)
    if sequence % 10 == 0:
        rms = 40 + 30 * np.sin(np.arange(64) / 9 + sequence / 300) ** 2
        end = layout.put(layout.EMG, into, end, rest=rms.astype("<f4"))
    if sequence % 50 == 1:
        bad = np.zeros(64, np.uint8)
        bad[[17, 40]] = 1
        end = layout.put(layout.UNITS, into, end, bytes(32),
                         rest=np.linspace(0.86, 0.97, n_mu, dtype="<f4"))
        end = layout.put(layout.CHANNELS, into, end, rest=np.packbits(bad, bitorder="little"))
        end = layout.put(layout.LINKS, into, end, rest=np.array([sequence, 2, 0], "<u4"))
        end = layout.put(layout.RUN, into, end, 1.9, 3.2, 8.5, 0.4, 0.9, 3.1, 51.0, 0, 1)
        half = n_mu // 2
        about = {"pid": 1, "source": "muovi:", "fs_hz": 2048.0, "step_samples": 20, "channels": 64,
                 "engine": "native (fp32)", "arm_id": "7443b2da",
                 "links": ["serial:/dev/ttyTHS1?baud=921600"], "drive_delay_ms": 100.0,
                 "bundles": [{"name": "vastus lateralis", "n_mu": half, "channels": [0, 32]},
                             {"name": "vastus medialis", "n_mu": n_mu - half,
                              "channels": [32, 64]}]}
        end = layout.put(layout.ABOUT, into, end, rest=json.dumps(about).encode())
    return bytes(into[:end])


class Made:
    """A run that never was: regular units, published until it is closed."""

    def __init__(self, path: str, units: int = 30) -> None:
        self.way, self.spikes, self.sequence = Unix(path), 0, 0
        self._gaps = np.random.default_rng(5)
        self._next = self._gaps.uniform(0, 10, units)
        self._every = self._gaps.uniform(0.06, 0.14, units) * STEP_HZ
        self.sixth: list[int] = []  # when unit 6 fired
        self.pause, self._end = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        began = time.monotonic()
        for k in itertools.count(1):
            if self._end.wait(max(began + k / STEP_HZ - time.monotonic(), 0)):
                return
            self.way.listen(0.0)
            effort = 0.75 + 0.25 * np.sin(k / 400)
            due = self._next <= k
            self._next[due] += np.maximum(
                self._every[due] / effort * (1 + 0.13 * self._gaps.standard_normal(due.sum())), 2)
            self.spikes += int(due.sum())
            self.sixth += [k] * bool(due[6:7].any())
            self.sequence = k
            if self.pause.is_set():
                continue
            half, noise = len(due) // 2, self._gaps.normal(0, 3)
            drives = [10.0 * half * effort + noise, 8.5 * (len(due) - half) * effort - noise]
            self.way.send(memoryview(datagram(
                k, due.astype(np.uint8), self.spikes, drive=[*drives, np.nan, np.nan],
                state=3 if k % 1500 < 1350 else 4, faults=0 if k % 1500 < 1350 else 2,
                age_ms=1.6 + abs(self._gaps.normal(0, 0.5)),
                compute_ms=0.45 + abs(self._gaps.normal(0, 0.12)))))

    def close(self) -> None:
        """End it; twice is once."""
        self._end.set()
        self.thread.join()
        self.way.close()


class Server:
    """`mu-monitor` as a process; `url` is what it printed."""

    def __init__(self, *words: str, cwd: str | Path = ".") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "spikewire.commands.monitor", *words, "--port", "0"],
            stderr=subprocess.PIPE, text=True, cwd=cwd)
        assert self.process.stderr is not None
        said = self.process.stderr.readline()
        found = re.search(r"http://(\S+?):(\d+)/(#token=\S+)?", said)
        assert found, said
        self.host, self.port, self.url = found[1], int(found[2]), found[0]
        self.token = (found[3] or "").removeprefix("#token=")
        self.process.stderr.readline()

    def close(self) -> str:
        """End it as a person would; what it said meanwhile."""
        self.process.send_signal(signal.SIGINT)
        assert self.process.stderr is not None
        said = self.process.stderr.read()
        self.process.stderr.close()
        assert self.process.wait(20) == 0, said
        return said

    def rss_mb(self) -> float:
        """Memory that it holds."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6


class Chromium:
    """Headless Chromium without a page."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        assert CHROMIUM
        self.process = subprocess.Popen(
            [CHROMIUM, *FLAGS, f"--user-data-dir={self._folder.name}", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        ready = Path(self._folder.name) / "DevToolsActivePort"
        until = time.monotonic() + 60
        while not (ready.exists() and ready.read_text().count("\n")):
            if time.monotonic() > until:
                self.close()
                raise AssertionError("Chromium did not start")
            time.sleep(0.02)
        self.port = int(ready.read_text().split()[0])
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/json/version") as answer:
            self.address = json.load(answer)["webSocketDebuggerUrl"]

    def close(self) -> None:
        """End it, and every process it started."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._folder.cleanup()


class Browser:
    """A page in headless Chromium: in one of its own, or in a profile of its own of a shared one.

    Parameters
    ----------
    url : str
    width, height : int
    dark : bool
        What the system asks for.
    chromium : Chromium, optional
        The shared one; a profile keeps nothing of what the pages before it stored.
    """

    def __init__(self, url: str, width: int = 1360, height: int = 900, dark: bool = False,
                 chromium: Chromium | None = None) -> None:
        self._opened = ExitStack()  # websockets 17 wants a context
        try:
            self._chromium = chromium or Chromium()
            if not chromium:
                self._opened.callback(self._chromium.close)
            self.errors: list[str] = []
            self._numbers = itertools.count(1)
            self._size = width, height
            self._profile = self._new_profile()
            self._join(self._new_tab(), dark)
            self.open(url)
        except BaseException:
            self.close()
            raise

    def _new_profile(self) -> str:
        """A profile that is gone with this page."""
        from websockets.sync.client import connect

        self._socket = self._opened.enter_context(connect(self._chromium.address, max_size=None))
        return self.call("Target.createBrowserContext", disposeOnDetach=True)["browserContextId"]

    def _new_tab(self) -> str:
        return self.call("Target.createTarget", url="about:blank",
                         browserContextId=self._profile)["targetId"]

    def _join(self, tab: str, dark: bool) -> None:
        """Talk to a tab."""
        from websockets.sync.client import connect

        self.tab = tab
        self._socket = self._opened.enter_context(connect(
            f"ws://127.0.0.1:{self._chromium.port}/devtools/page/{tab}", max_size=None))
        self.call("Page.enable")
        self.call("Runtime.enable")
        self.call("Log.enable")
        width, height = self._size
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=False)
        self.media(dark)

    def another(self, url: str) -> str:
        """Open a new tab and talk to it from now on; the id of the one before."""
        before = self.tab
        self.turn(self._new_tab())
        self.open(url)
        return before

    def turn(self, tab: str) -> None:
        """Talk to a tab that is open."""
        self._join(tab, False)

    def shut(self, tab: str) -> None:
        """Close a tab."""
        self.call("Target.closeTarget", targetId=tab)

    def open(self, url: str) -> None:
        """Go there, until a key arrives: Chromium drops those of the first moments."""
        self.call("Page.navigate", url=url)
        self.until("location.href !== 'about:blank' && document.readyState === 'complete'")
        self.ask("addEventListener('keydown', () => { globalThis.heard = true; })")
        end = time.monotonic() + 40
        while not self.ask("globalThis.heard === true"):
            assert time.monotonic() < end, "no key arrives"
            self.key("Shift")
            time.sleep(0.05)

    def downloads(self, folder: Path) -> None:
        """Where what the page saves goes."""
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder),
                  browserContextId=self._profile)

    def media(self, dark: bool, calm: bool = False) -> None:
        """What the person has set in the system."""
        self.call("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if calm else "no-preference"}])

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command and its result; errors of the page are kept meanwhile."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            said = json.loads(self._socket.recv(timeout=60))
            if said.get("method") == "Runtime.exceptionThrown":
                self.errors.append(json.dumps(said["params"])[:600])
            if said.get("method") == "Log.entryAdded":
                self.errors.append(json.dumps(said["params"]["entry"])[:600])
            if said.get("id") == number:
                assert "error" not in said, said
                return said["result"]

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True,
                          awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, expression: str, seconds: float = 40.0) -> Any:
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while not (value := self.ask(expression)):
            assert time.monotonic() < end, f"{expression} stayed {value!r}; {self.errors}"
            time.sleep(0.05)
        return value

    def key(self, key: str, text: str = "") -> None:
        """Press a key."""
        code = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "End": 35, "Home": 36,
                "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40,
                "Shift": 16,
                }.get(key, ord(key[0].upper()))
        more = {"text": text or key} if len(key) == 1 or text else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code,
                  **more)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def picture(self, path: str | Path) -> None:
        """A screenshot."""
        data = self.call("Page.captureScreenshot", format="png")["data"]
        Path(path).write_bytes(base64.b64decode(data))

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End it, and what it started."""
        self._opened.close()
