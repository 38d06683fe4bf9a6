"""Releases for the stand-in boards: good ones by mu-flash, broken ones made from a good one.

A broken release is whole and signed unless that is what is broken: its files are changed, its
record is written again and signed with the key that the board trusts. So it gets far.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from spikewire.release import RECORD, canonical
from spikewire.signing import sign

Changes = dict[str, bytes]
# What stands in for mu-run in releases that start well and then do not live.
DIES = """#!/bin/sh
( sleep 5; kill -9 $$ ) &
exec "$(dirname "$0")/mu-run.real" "$@"
"""
SILENT = """#!/usr/bin/python3
import os, socket, time
link = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
address = os.environ["NOTIFY_SOCKET"]
link.connect("\\0" + address[1:] if address[0] == "@" else address)
link.send(b"READY=1")
while True:
    time.sleep(0.2)
    link.send(b"WATCHDOG=1")
"""
HANGS = SILENT.partition("while True")[0] + "time.sleep(1000)\n"


def flash(*words: str | Path, env: dict[str, str] | None = None) -> list[str]:
    """The words of a mu-flash call of this checkout."""
    return [sys.executable, "-m", "spikewire.commands.flash", *map(str, words)]


def build(board: str | Path, bundle: Path, out: Path, key: Path, *more: str) -> tuple[Path, float]:
    """mu-flash build; the release's folder, and how long it took."""
    began = time.monotonic()
    done = subprocess.run(flash("build", "--board", board, "--bundle", bundle, "--out", out,
                                "--key", key, "--json", *more), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"mu-flash build failed: {done.stderr.strip()}")
    return Path(json.loads(done.stdout)["release"]), time.monotonic() - began


def remake(release: Path, key: Path, changes: Changes) -> Path:
    """A release like another, but for some files; signed."""
    beside = release.with_name(".remade")
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(release, beside)
    record = json.loads((beside / RECORD).read_bytes())
    for name, content in changes.items():
        (beside / name).write_bytes(content)
        (beside / name).chmod(0o755 if name.startswith("bin/") else 0o644)
        record["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(),
                                 "mode": "0755" if name.startswith("bin/") else "0644"}
    if "bundle.mub" in changes:
        record["bundle"]["sha256"] = record["files"]["bundle.mub"]["sha256"]
    (beside / RECORD).write_bytes(canonical(record))
    (beside / f"{RECORD}.sig").unlink()
    sign(beside / RECORD, key)
    digest = hashlib.sha256((beside / RECORD).read_bytes()).hexdigest()[:12]
    made = release.with_name(f"{record['version']}-{digest}")
    shutil.rmtree(made, ignore_errors=True)
    beside.rename(made)
    return made


def replaced_run(release: Path, text: str) -> Changes:
    """Changes that put another program in the place of mu-run, which stays beside it."""
    real = (release / "bin/mu-run").read_bytes()
    return {"bin/mu-run": text.encode(), "bin/mu-run.real": real}


def paced(release: Path, key: Path, seconds: float) -> Path:
    """A release whose self-test runs at real speed for so long, not for ten seconds."""
    real = (release / "bin/mu-doctor").read_bytes()
    short = f'#!/bin/sh\nexec "$(dirname "$0")/mu-doctor.real" "$@" --seconds {seconds:g}\n'
    return remake(release, key, {"bin/mu-doctor": short.encode(), "bin/mu-doctor.real": real})


def whole(folder: Path) -> bool:
    """Whether each file of a release has the hash in its record; nothing of ours is asked."""
    try:
        record = json.loads((folder / RECORD).read_bytes())
        name = hashlib.sha256((folder / RECORD).read_bytes()).hexdigest()[:12]
        return folder.name.endswith(name) and all(
            hashlib.sha256((folder / path).read_bytes()).hexdigest() == row["sha256"]
            for path, row in record["files"].items())
    except (OSError, ValueError):
        return False


def native_board(folder: Path, edit: Callable[[str], str] = lambda text: text) -> Path:
    """native.toml with this machine's own Python and C library, and perhaps other changes."""
    version = "import sys; print('%d.%d' % sys.version_info[:2])"
    python = subprocess.run(["/usr/bin/python3", "-c", version], capture_output=True, text=True,
                            check=True).stdout.strip()
    libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
    text = (Path(__file__).parent / "native.toml").read_text()
    path = folder / "native.toml"
    path.write_text(edit(text.replace("3.11", python).replace("2.36", libc.split()[-1])))
    return path
