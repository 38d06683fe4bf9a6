"""A board in a folder: small signed releases, scripted programs, and a power switch.

Releases hold no decoder: bin/mu-run says what a runtime says, bin/mu-doctor what a self-test says,
each in the way that the file `site/behaviour` asks for. What systemctl does stands in
`SYSTEMCTL` (a program, for tests with processes) and in `Programs` (without any).
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import spikewire.onboard
from spikewire.onboard import disk, facts, health, programs
from spikewire.onboard.place import Place
from spikewire.onboard.programs import Done

COMPATIBLE = "nvidia,p3768-0000+p3767-0005"
BOARD = {
    "id": "test-board", "verified": "none", "arch": platform.machine(), "engine": "native",
    "compatible": [COMPATIBLE], "power": {"mode": "", "jetson_clocks": False},
    "jetpack": [{"version": "6.2", "l4t": "36.4.3", "tensorrt": "10.3", "cuda": "12.6",
                 "python": "3.10"}],
    "can": {"can0": {"pinmux": "sfio", "bitrate": 500000, "sample_point": 0.8, "sjw": 1,
                     "fd": True, "dbitrate": 2000000, "dsample_point": 0.75, "dsjw": 1,
                     "txqueuelen": 100}},
}
PYTHON = f"3.{sys.version_info[1]}"
UNIT = "[Unit]\nDescription={}\n[Service]\nExecStart=/opt/spikewire/current/bin/mu-run\n" \
       "[Install]\nWantedBy=multi-user.target\n"
# A runtime that says what status.json says, and lives as its release's `behaviour` tells.
RUN = f"""#!{sys.executable}
import json, os, pathlib, sys, time
here = pathlib.Path(__file__).resolve().parents[1]
root = pathlib.Path(sys.argv[1])
how = (here / "site/behaviour").read_text()
if how == "no start":
    sys.exit("engine: no such plan")
began, step = time.monotonic(), 0
while True:
    now = time.monotonic()
    if how == "dies" and now - began > 0.3:
        sys.exit("engine: lost the GPU")
    if how != "no heartbeat" or step == 0:
        step += 10
    said = {{"pid": os.getpid(), "steps": step, "frames": step, "engine": "scripted",
            "state": "FAULT" if how == "fault" and step > 20 else "READY",
            "faults": ["nan"] if how == "fault" else [], "monotonic_s": now, "missed": 0,
            "age_p99_ms": 1.5, "release": here.name}}
    if how != "silent":
        beside = root / f"run/spikewire/.status.{{os.getpid()}}"
        beside.write_text(json.dumps(said))
        os.replace(beside, root / "run/spikewire/status.json")
    time.sleep(0.03)
"""
DOCTOR = """#!/bin/sh
here=$(dirname "$0")/..
case $(cat "$here/site/behaviour") in
"self-test") echo '{"step": "golden", "state": "fail", "evidence": "3 of 200 windows differ"}'
             exit 1;;
*) echo '{"step": "golden", "state": "ok", "evidence": "200 windows"}';;
esac
"""
SYSTEMCTL = """#!/bin/sh
root=$(cd "$(dirname "$0")/.." && pwd)
echo "$*" >> "$root/run/systemctl.log"
pid=$(cat "$root/run/runtime.pid" 2>/dev/null)
alive() { [ -n "$pid" ] && kill -0 "$pid" && ! grep -q "^State:.Z" "/proc/$pid/status"; } 2>&-
case $1 in
is-active) if alive; then echo active; else echo failed; exit 3; fi;;
stop|restart)
    if alive; then kill -9 "$pid"; fi
    rm -f "$root/run/spikewire/status.json" "$root/run/runtime.pid"
    if [ "$1" = stop ]; then exit 0; fi
    exec 3>"$root/run/runtime.log"
    setsid "$root/opt/spikewire/current/bin/mu-run" "$root" >&3 2>&3 </dev/null &
    pid=$!
    echo $pid > "$root/run/runtime.pid"
    for k in $(seq 100); do
        if [ -e "$root/run/spikewire/status.json" ]; then exit 0; fi
        if ! alive; then echo "Job for mu-runtime.service failed"; exit 1; fi
        sleep 0.03
    done;;
esac
"""
JOURNALCTL = """#!/bin/sh
tail -n 1 "$(dirname "$0")/../run/runtime.log"
"""


def zipapp(path: Path) -> None:
    """Pack `spikewire.onboard` as mu-flash build does."""
    source = Path(spikewire.onboard.__file__).parent
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("__main__.py", "import runpy\n"
                        "runpy.run_module('spikewire.onboard', None, '__main__', True)\n")
        packed.writestr("spikewire/__init__.py", "")
        for file in sorted(source.glob("*.py")):
            packed.write(file, f"spikewire/onboard/{file.name}")


def make_key(folder: Path) -> Path:
    """A key pair of this test alone."""
    key = folder / "key"
    if not key.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", key],
                       check=True)
    return key


def make_release(folder: Path, version: str, behaviour: str = "good", key: Path | None = None,
                 program: Path | None = None, **changes: Any) -> Path:
    """Write folder/NAME.

    Parameters
    ----------
    key : Path or None
        Signs it; None for a signature that only `Programs` accepts.
    program : Path or None
        onboard.pyz; None for some bytes.
    **changes
        Keys of release.json that differ; `board` holds keys of board.json.
    """
    board = {**BOARD, **changes.pop("board", {})}
    files = {
        "board.json": json.dumps(board, sort_keys=True).encode() + b"\n",
        "bundle.mub": f"bundle {version}".encode(), "run.env": b'SPIKEWIRE_RUN="--link null:"\n',
        "onboard.pyz": program.read_bytes() if program else version.encode(),
        "site/behaviour": behaviour.encode(), "site/spikewire/__init__.py": b"X = 1\n",
        "bin/mu-run": RUN.encode(), "bin/mu-doctor": DOCTOR.encode(),
        "units/mu-runtime.service": UNIT.format(version).encode(),
        f"units/mu-extra-{version[0]}.service": UNIT.format("extra").encode(),
        "udev/60-spikewire.rules": f"# {version}\n".encode(),
    }
    work = folder / "work"
    for name, content in files.items():
        path = work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o755 if name.startswith("bin/") else 0o644)
    release = {
        "schema": 1, "version": version, "board": board["id"], "python": PYTHON,
        "arch": platform.machine(), "bundle": {"file": "bundle.mub", "id": "00000000",
                                               "sha256": sha256(files["bundle.mub"])},
        "files": {name: {"sha256": sha256(content),
                         "mode": "0755" if name.startswith("bin/") else "0644"}
                  for name, content in files.items()}}
    seal(work, {**release, **changes}, key)
    name = f"{version}-{sha256((work / 'release.json').read_bytes())[:12]}"
    shutil.rmtree(folder / name, ignore_errors=True)
    work.rename(folder / name)
    return folder / name


def seal(path: Path, release: dict[str, Any], key: Path | None) -> None:
    """Write release.json and its signature."""
    (path / "release.json").write_text(json.dumps(release, sort_keys=True, indent=1) + "\n")
    (path / "release.json.sig").unlink(missing_ok=True)
    if key is None:
        (path / "release.json.sig").write_text("none")
        return
    subprocess.run(["ssh-keygen", "-q", "-Y", "sign", "-n", "spikewire-release", "-f", key,
                    path / "release.json"], check=True, capture_output=True)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def make_root(root: Path) -> Place:
    """A board that nothing has been deployed to."""
    for name, content in {
        "proc/device-tree/compatible": f"{COMPATIBLE}-super\0nvidia,tegra234\0",
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic\n",
        "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=1 NAME=25W >\n",
        "bin/systemctl": SYSTEMCTL, "bin/journalctl": JOURNALCTL, "run/runtime.log": "",
        "etc/spikewire/allowed_signers": "spikewire ssh-ed25519 AAAA\n",
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(0o755 if name.startswith("bin/") else 0o644)
    (root / "run/spikewire").mkdir(parents=True)
    return Place(root)


def stage(place: Place, release: Path) -> str:
    """What rsync --delete does."""
    shutil.rmtree(place.staging / release.name, ignore_errors=True)
    shutil.copytree(release, place.staging / release.name, dirs_exist_ok=True)
    return release.name


class PowerCut(BaseException):
    """Not an Exception: after it nothing is tidied up."""


class Machine:
    """Counts what changes the disk and cuts the power before call number `cut_at`.

    What was not flushed at that moment may be lost. `lose` says what is: "nothing" (a process was
    killed), "bytes" (files whose content was not flushed are empty, as on file systems that write
    names first), "names" (renames and links whose folder was not flushed never happened) or "all".
    """

    def __init__(self, root: Path, cut_at: int | None = None, lose: str = "nothing") -> None:
        self.root, self.cut_at, self.lose = root, cut_at, lose
        self.calls, self.off = 0, False
        self.trace: list[tuple[str, str]] = []
        self.unwritten = {p.lstat().st_ino for p in (root / "opt/spikewire/staging").rglob("*")
                          if p.is_file()}
        self.undo: list[tuple[set[int], Callable[[], object]]] = []

    def powered(self) -> None:
        if self.off:
            raise PowerCut

    def call(self, function: Callable[..., Any], *words: Any) -> Any:
        self.powered()
        if self.calls == self.cut_at:
            self.off = True
            self._lose()
            raise PowerCut
        self.calls += 1
        if function in (os.rename, os.symlink, os.unlink, os.mkdir, os.rmdir):
            self._named(function, *(Path(word) for word in words if not isinstance(word, int)))
        result = None if function is os.fsync else function(*words)  # a slow disk is no truth
        if function is os.open:
            self._named(function, Path(words[0]))
        elif function is os.write:
            self.unwritten.add(os.fstat(words[0]).st_ino)
        elif function is os.fsync:
            number = os.fstat(words[0]).st_ino
            self.unwritten.discard(number)
            self.undo = [(left, f) for folders, f in self.undo if (left := folders - {number})]
        self.trace.append((function.__name__, self._path(words)))
        return result

    def _path(self, words: tuple[Any, ...]) -> str:
        """The file that a call was about, below the root."""
        path = os.readlink(f"/proc/self/fd/{words[0]}") if isinstance(words[0], int) else words[-1]
        return os.path.relpath(str(path), self.root)

    def _named(self, function: Callable[..., Any], path: Path, to: Path | None = None) -> None:
        """Remember how a change of names is undone."""
        folder = (to if function is os.symlink and to else path).parent.lstat().st_ino
        if function is os.open:
            self.undo.append(({folder}, lambda: path.unlink(missing_ok=True)))
        elif function is os.rename and to is not None:
            old = self._keep(to)
            self.undo.append(({folder, to.parent.lstat().st_ino},
                              lambda: (os.rename(to, path), old())))
        elif function is os.symlink and to is not None:
            self.undo.append(({folder}, lambda: to.unlink()))
        elif function is os.unlink and os.path.lexists(path):
            self.undo.append(({folder}, self._keep(path)))
        elif function is os.mkdir:
            self.undo.append(({folder}, lambda: shutil.rmtree(path)))
        elif function is os.rmdir:
            self.undo.append(({folder}, lambda: path.mkdir()))

    @staticmethod
    def _keep(path: Path) -> Callable[[], object]:
        """What puts back that which a name stands for now."""
        if not os.path.lexists(path):
            return lambda: None
        if path.is_symlink():
            target = os.readlink(path)
            return lambda: path.symlink_to(target)
        content, mode = path.read_bytes(), stat.S_IMODE(path.stat().st_mode)
        return lambda: (path.write_bytes(content), path.chmod(mode))

    def _lose(self) -> None:
        if self.lose in ("bytes", "all"):
            for path in self.root.rglob("*"):
                if not path.is_symlink() and path.is_file() and (
                        path.lstat().st_ino in self.unwritten):
                    path.write_bytes(b"")
        if self.lose in ("names", "all"):
            for _, undo in reversed(self.undo):
                undo()


class Programs:
    """systemctl, journalctl, ssh-keygen and a self-test without processes; time passes in pauses.

    Attributes
    ----------
    running : str or None
        The release whose runtime runs.
    behaviour : dict
        Release -> how it behaves; as `site/behaviour`, which is where it is read.
    """

    def __init__(self, place: Place, machine: Machine | None = None) -> None:
        self.place, self.machine = place, machine
        self.running: str | None = None
        self.state = "READY"
        self.clock, self.began, self.pid = 1000.0, 0.0, 1
        self.calls: list[str] = []
        self.ended = 1, 1  # ExecMainCode and ExecMainStatus of the runtime's last process

    def plug(self, patch: pytest.MonkeyPatch, machine: Machine | None = None) -> Programs:
        """Take the place of the real ones."""
        self.machine = machine
        patch.setattr(programs, "run", self.run)
        patch.setattr(health, "pause", self.pause)
        patch.setattr(health, "now", lambda: self.clock)
        patch.setattr(facts, "runtime", self.status)
        patch.setattr(disk, "call", machine.call if machine else
                      lambda f, *words: None if f is os.fsync else f(*words))
        return self

    def how(self, name: str | None) -> str:
        path = self.place.release(name or "") / "site/behaviour"
        return path.read_text() if name and path.is_file() else "no start"

    def pause(self, seconds: float) -> None:
        self.clock += seconds

    def status(self, path: Path) -> dict[str, Any]:
        if self.running is None or self.how(self.running) == "silent":
            return {}
        how, age = self.how(self.running), self.clock - self.began
        step = 1 if how == "no heartbeat" else int(age * 100)
        pid = self.pid + (how == "restarts" and age > 1)
        return {"pid": pid, "steps": step, "frames": step, "faults": ["nan"],
                "monotonic_s": self.clock, "engine": "scripted",
                "state": "FAULT" if how == "fault" and age > 1 else self.state}

    def run(self, words: Any, timeout_s: float = 60.0, given: bytes = b"",
            folder: Path | None = None) -> Done:
        if self.machine:
            self.machine.powered()
        words = [str(word) for word in words]
        self.calls.append(" ".join(words))
        if words[0] == "systemctl":
            if words[1] == "show":
                return Done(0, "ExecMainCode={}\nExecMainStatus={}\n".format(*self.ended))
            return self._systemctl(words[1])
        if words[0] == "journalctl":
            return Done(0, "engine: lost the GPU\n")
        if words[0] == "env" and self.how(folder.name if folder else None) == "self-test":
            return Done(1, '{"step": "golden", "state": "fail", "evidence": "3 windows differ"}\n')
        if "compileall" in words:
            cache = Path(words[-1]) / "spikewire/__pycache__"
            cache.mkdir(exist_ok=True)
            (cache / "__init__.cpython-310.pyc").write_bytes(b"compiled")
            if self.machine:
                self.machine.unwritten |= {p.stat().st_ino for p in cache.iterdir()}
        return Done(0, "")

    def _systemctl(self, verb: str) -> Done:
        if verb in ("restart", "stop"):
            self.running = self.place.named(self.place.current) if verb == "restart" else None
            self.began, self.pid, self.state = self.clock, self.pid + 10, "READY"
            if verb == "restart" and self.how(self.running) == "no start":
                self.running = None
                return Done(1, "Job for mu-runtime.service failed")
        if verb == "is-active":
            alive = self.running and not (
                self.how(self.running) == "dies" and self.clock - self.began > 5)
            return Done(0 if alive else 3, "active\n" if alive else "failed\n")
        return Done(0, "")
