"""The block in a terminal. Truth: what was put into the records."""

from __future__ import annotations

import os
import pty
import re
import select
import socket
import subprocess
import sys
import time

import numpy as np
from monitor_world import datagram
from rich.console import Console

from spikewire.monitor.terminal import Seen, block, figures, line


def text(seen: Seen, live: bool = True) -> str:
    console = Console(width=160, record=True, file=open(os.devnull, "w"))
    with console.file:
        console.print(block(seen, "unix:/s", live))
    return console.export_text()


def test_the_block_says_what_the_records_say() -> None:
    seen = Seen()
    for k in range(1, 121):
        seen.take([datagram(k, np.arange(30) == k % 30, k, state=4, faults=0x22, missed=3, gaps=1,
                            silent=2)])
    said = text(seen)
    for words in ("DEGRADED", "steps are late", "samples were lost or came twice", "80, 60 pulse/s",
                  "p50 2.00   p99 2.00   max 2.00 ms", "120, 3 missed, 1 gaps, 2 silent",
                  "bad: 17, 40", "EMG",
                  "link        serial:/dev/ttyTHS1?baud=921600: 101 sent, 2 d",
                  "lowest 0.86 (unit 0)", "120 spikes in 1.2 s"):
        assert words in said
    assert "not heard any more" in text(seen, live=False)
    assert line(seen).startswith("DEGRADED, 120 steps, 3 missed, age p50 2.00")


def test_nothing_yet_is_said_and_lies_do_no_harm() -> None:
    seen = Seen()
    seen.take([b"", b"\1\1\xff\xff", b"x" * 200, bytes(99)])
    assert "waiting for a run; start it with mu-run --monitor unix:/s" in text(seen)
    assert figures([float("nan")]) == "not known"
    seen.take([datagram(5, np.zeros(0), 0, age_ms=np.nan, state=99), datagram(9, np.zeros(3), 0)])
    assert "NA" in text(seen) or "READY" in text(seen)
    assert seen.lost == 3


def viewer(stderr: int) -> tuple[subprocess.Popen, socket.socket]:
    """What `mu-run --live` starts, and the loop's end of its socket."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made = subprocess.Popen([sys.executable, "-m", "spikewire.monitor.terminal",
                             str(theirs.fileno())], pass_fds=[theirs.fileno()], stderr=stderr)
    theirs.close()
    return made, ours


def test_on_a_terminal_it_stays_in_place_and_ends_with_the_run() -> None:
    ours_end, theirs_end = pty.openpty()
    made, ours = viewer(theirs_end)
    os.close(theirs_end)
    came, until = b"", time.monotonic() + 30
    sequence = 0
    while came.count(b"READY") < 3 and time.monotonic() < until:
        sequence += 1
        ours.send(datagram(sequence, np.ones(4), sequence))
        time.sleep(0.01)
        if select.select([ours_end], [], [], 0)[0]:
            came += os.read(ours_end, 65536)
    ours.close()
    while select.select([ours_end], [], [], 10)[0]:
        try:
            came += os.read(ours_end, 65536)
        except OSError:
            break
    assert made.wait(20) == 0
    os.close(ours_end)
    plain = re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", came)
    assert plain.count(b"mu-run --live") >= 3
    assert b"\x1b[1A" in came  # it moves up and writes over itself
    assert f"{sequence}, 0 missed".encode() in plain


def test_without_a_terminal_it_is_a_line_now_and_then() -> None:
    made, ours = viewer(subprocess.PIPE)
    until, sequence = time.monotonic() + 30, 0
    os.set_blocking(made.stderr.fileno(), False)
    said = b""
    while b"\n" not in said and time.monotonic() < until:
        sequence += 1
        ours.send(datagram(sequence, np.ones(4), sequence))
        time.sleep(0.01)
        said += made.stderr.read() or b""
    ours.close()
    assert made.wait(20) == 0
    made.stderr.close()
    assert re.fullmatch(rb"mu-run: READY, \d+ steps, 0 missed, age p50 2.00 .*\n", said), said
