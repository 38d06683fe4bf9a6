"""What a run says of itself twice a second: a file, and a line for the service manager.

Written by a thread of its own, which only reads the loop: a disk may take its time.
"""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

from spikewire.link.table import FAULTS, STATES
from spikewire.runtime.loop import Loop
from spikewire.signals import InputError

EVERY_S, PATIENCE_S = 0.5, 1.0  # a disk that hangs must not keep the run from ending


def snapshot(loop: Loop) -> dict[str, Any]:
    """The run now, ready for JSON.

    `steps` stands still while no samples come, `frames` (steps that went out, over all links) only
    if the loop does; `monotonic_s` is when this was read.
    """
    t, decoders = loop.tally, loop.decoders
    return {
        "pid": os.getpid(), "steps": t.steps, "frames": sum(k.sent for k in loop.links),
        "state": STATES[loop.guard.state], "armed": loop.guard.drives(loop.clock.now()),
        "faults": [name for bit, name in FAULTS.items() if loop.faults >> bit & 1],
        "age_p99_ms": round(t.age.percentile(99), 3),
        "engine": ", ".join(dict.fromkeys(d.engine.name for d in decoders)),
        "bundle": " ".join(d.manifest.name for d in decoders),
        "arm_id": f"{loop.guard.arm_id:08x}", "n_mu": sum(d.manifest.n_mu for d in decoders),
        "missed": t.missed, "monotonic_s": round(time.monotonic(), 3),
    }


def line(now: dict[str, Any]) -> bytes:
    """The same for `systemctl status`."""
    words = [now["state"], f"{now['steps']} steps", f"{now['missed']} missed",
             f"age p99 {now['age_p99_ms']:.1f} ms", *now["faults"]]
    return f"STATUS={', '.join(words)}".encode()


class Status:
    """Writes until it is closed, and then once more.

    Parameters
    ----------
    loop : Loop
    path : Path or None
        Replaced as a whole, but not flushed: it belongs into a file system in memory.

    Raises
    ------
    InputError
        The file cannot be written.
    """

    def __init__(self, loop: Loop, path: Path | None = None) -> None:
        self._loop, self._path, self._end = loop, path, threading.Event()
        self._thread = threading.Thread(target=self._repeat, name="status", daemon=True)
        if path:
            try:
                self._write(path, snapshot(loop))
            except OSError as error:
                raise InputError(f"--status {path}: {error.strerror}; type for instance "
                                 "--status /run/spikewire/status.json") from None
        if path or loop.notifier.listens:
            self._thread.start()

    def _write(self, path: Path, now: dict[str, Any]) -> None:
        """Replace the file; a reader meets the old one or the new one."""
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            beside.write_text(json.dumps(now) + "\n")
            os.replace(beside, path)
        except OSError:
            beside.unlink(missing_ok=True)
            raise

    def _say(self) -> None:
        """Write, and tell the manager; a full disk leaves the old file, which bears its time."""
        now = snapshot(self._loop)
        self._loop.notifier.tell(line(now))
        if self._path:
            try:
                self._write(self._path, now)
            except OSError:
                return

    def _repeat(self) -> None:
        while not self._end.wait(EVERY_S):
            self._say()

    def close(self) -> None:
        """The last word is the run's last state."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join(PATIENCE_S)
        if self._thread.ident and not self._thread.is_alive():
            self._say()
