"""Every kind of broken release, put on a board that runs a good one: refused or undone, and why."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from board import HOST, Board
from cuts import HOME, current, wrong
from releases import DIES, HANGS, SILENT, build, flash, native_board, remake, replaced_run


@dataclass(frozen=True)
class Kit:
    """What broken releases are made of.

    Attributes
    ----------
    board : the board that runs `good`
    good : a release
    key, stranger : keys; the board trusts the first
    bundle, wrong_bundle : the second one's golden windows do not agree with it
    out : folder for releases
    """

    board: Board
    good: Path
    key: Path
    stranger: Path
    bundle: Path
    wrong_bundle: Path
    out: Path


@dataclass(frozen=True)
class Said:
    """How a deploy ended: exit code, the lines that failed, all it printed."""

    code: int
    failed: list[str]
    text: str


def deploy(kit: Kit, release: Path, key: Path | None = None, watch: str = "10") -> Said:
    """mu-flash deploy, and what it said."""
    done = subprocess.run(flash("deploy", HOST, release, "--key", key or kit.key, "--watch", watch,
                                "--json"), env=kit.board.env(), capture_output=True, text=True)
    return said(done)


def said(done: subprocess.CompletedProcess[str]) -> Said:
    """Read the lines of a mu-flash call, or of the program on the board."""
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"step"')]
    failed = [f"{row['step']}: {row['evidence']}" for row in rows if row["state"] == "fail"]
    return Said(done.returncode, failed + done.stderr.strip().splitlines()[-1:],
                done.stdout + done.stderr)


def flipped_before(kit: Kit) -> Said:
    """A byte changed on the workstation, after the build."""
    release = remake(kit.good, kit.key, {"mark": b"flipped before\n"})
    flip(release / "site/spikewire/signals.py")
    return deploy(kit, release)


def flipped_on_the_way(kit: Kit) -> Said:
    """A byte changed on the way: what lies in staging/ is not what was signed."""
    release = remake(kit.good, kit.key, {"mark": b"flipped on the way\n"})
    flip(release / "site/spikewire/signals.py")
    env = kit.board.env()
    subprocess.run(["rsync", "-rp", f"{release}/", f"{HOST}:/{HOME}/staging/{release.name}"],
                   env=env, check=True)
    return said(kit.board.run(f"python3 -I /{HOME}/onboard.pyz install {release.name}"))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def stranger(kit: Kit) -> Said:
    """Signed by somebody whom the board does not know."""
    release = remake(kit.good, kit.stranger, {"mark": b"stranger\n"})
    return deploy(kit, release, kit.stranger)


def with_board(change: Callable[[str], str]) -> Callable[[Kit], Said]:
    """A release for another board than this one."""
    def play(kit: Kit) -> Said:
        board = native_board(kit.out, change)
        return deploy(kit, build(board, kit.bundle, kit.out, kit.key)[0])
    return play


def other_board(text: str) -> str:
    return text.replace("compatible = []", 'compatible = ["nvidia,p3768-0000+p3767-0005"]')


def other_jetpack(text: str) -> str:
    return text.replace('[power]', '[[jetpack]]\nversion = "7.2"\nl4t = "39.2"\n'
                        'tensorrt = "10.16.2"\ncuda = "13.2"\npython = "3.11"\n\n[power]')


def wrong_golden(kit: Kit) -> Said:
    """A decoder that does not compute what it computed when it was exported."""
    return deploy(kit, build(native_board(kit.out), kit.wrong_bundle, kit.out, kit.key)[0])


def instead_of_run(text: str) -> Callable[[Kit], Said]:
    """A release whose runtime is another program."""
    return lambda kit: deploy(kit, remake(kit.good, kit.key, replaced_run(kit.good, text)))


def full_disk(kit: Kit) -> Said:
    """Too little room for another release, known before anything is copied."""
    fill = "head -c $(($(df --output=avail -B1 {0} | tail -1) - 50000000)) /dev/zero > {0}/fill"
    kit.board.run(fill.format(f"/{HOME}"))
    try:
        return deploy(kit, remake(kit.good, kit.key, {"mark": b"full\n"}))
    finally:
        (kit.board.disk / HOME / "fill").unlink(missing_ok=True)


def fills_up(kit: Kit) -> Said:
    """The room goes while the release is copied."""
    release = remake(kit.good, kit.key, {f"ballast{n}": bytes([n]) * 20_000_000 for n in range(3)})
    fill = kit.board.disk / HOME / "fill"
    stop = threading.Event()

    def eat() -> None:
        staged = kit.board.disk / HOME / "staging" / release.name / "ballast0"
        while not stop.is_set() and not list(staged.parent.glob("*allast0*")):
            time.sleep(0.005)
        kit.board.run(f"cat /dev/zero > /{HOME}/fill")

    eater = threading.Thread(target=eat)
    eater.start()
    try:
        return deploy(kit, release)
    finally:
        stop.set()
        eater.join()
        fill.unlink(missing_ok=True)


# what is broken -> how it is played, and what the board must say
BROKEN: dict[str, tuple[Callable[[Kit], Said], str]] = {
    "bad signature": (stranger, r"sign"),
    "flipped byte, on the workstation": (flipped_before, r"signals\.py"),
    "flipped byte, on the way": (flipped_on_the_way, r"signals\.py"),
    "wrong board": (with_board(other_board), r"^board: .*nvidia,p3768"),
    "wrong JetPack": (with_board(other_jetpack), r"^jetpack: L4T 36\.4\.3.*7\.2"),
    "full disk": (full_disk, r"^disk: \d+ MiB free"),
    "disk that fills up while copying": (fills_up, r"No space left|fill|space"),
    "failing self-test": (wrong_golden, r"^self-test: golden"),
    "runtime that dies after 5 s": (instead_of_run(DIES), r"^watch: .*(died|activating|failed)"),
    "no heartbeat": (instead_of_run(SILENT), r"^watch: no heartbeat"),
    "runtime that hangs": (instead_of_run(HANGS), r"^(watch|start): "),
}


def play(kit: Kit) -> dict[str, dict[str, object]]:
    """Every kind: exit code, message, and whether the good release runs on."""
    out: dict[str, dict[str, object]] = {}
    for kind, (act, pattern) in BROKEN.items():
        began = time.monotonic()
        told = act(kit)
        message = next((line for line in told.failed if re.search(pattern, line)), "")
        left = wrong(kit.board, {kit.good.name})
        out[kind] = {
            "ok": bool(told.code and message and not left), "exit_code": told.code,
            "message": message or told.failed or told.text[-600:], "after": left or "good runs",
            "current": current(kit.board), "seconds": round(time.monotonic() - began, 1)}
        print(f"  {kind}: {out[kind]}", file=sys.stderr, flush=True)
    messages = [str(row["message"]) for row in out.values()]
    assert len(set(messages)) == len(messages) or not all(r["ok"] for r in out.values())
    return out
