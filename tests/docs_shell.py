"""A shell for the documentation's commands: run for real, made shorter, or only read.

What runs is decided by the tables below and nowhere else. `Shell` runs a page's lines in order, and
leaves those running that have no end, as a person does in other shells, until the page is done.
Called as a program this file stands for a command: every mu-* of the package, and what is foreign.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import ClassVar

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# The only commands that are read and not run: their own parser takes every word, and nothing is
# done. Each names why, and where it does run.
ONLY_READ = {
    "mu-simulate": "a quarter of a minute for a muscle; test_commands_simulate.py",
    "mu-decompose": "half a minute; test_commands_offline.py",
    "mu-train": "minutes of TensorFlow; test_commands_offline.py",
    "mu-export": "TensorFlow; test_export.py",
    "mu-prune": "minutes of TensorFlow; test_commands_prune.py",
    "mu-calibrate": "asks a person for a contraction; test_commands_calibrate.py",
    "mu-study": "minutes to days; test_commands_study.py",
    "mu-adapter": "needs a CAN bus between processes; test_commands_adapter.py",
    "mu-flash": "needs a board, but for a dry build; test_deploy.py, test_release.py, test_l4t.py",
}
# Of these, what `pytest tests/test_docs.py --slow-blocks` does run.
SLOW = {"mu-simulate", "mu-decompose", "mu-train", "mu-export", "mu-prune"}
HOURS = re.compile(r"mu-train .*--recipe|mu-simulate .*--contractions|mu-decompose .*contraction")
RUNS_ANYHOW = re.compile(r"mu-flash build .*--dry-run|mu-flash image-cmd .*")
# An end that is no file, no terminal of the page's own and no emulator: a machine is needed.
HARDWARE = re.compile(
    r"(?:serial|slcan):/dev/|(?:can|lsl|pcan):|(?:quattrocento|intan):(?!127\.0\.0\.1)|"
    r"(?:sessantaquattro|muovi\+?):$")
# Programs that are not ours: what of their words is looked at.
FOREIGN = {
    "make": "its targets are in the Makefile",
    "pip": "the extras that it names are in pyproject.toml",
    "sudo": "its words, if they are a command of this list",
    "chrt": "the same", "python3": "nothing: the environment is here already",
    "ip": "nothing: root and a CAN interface", "apt": "nothing: the network",
    "cmake": "nothing: test_native_build.py builds and installs",
}
# Words added so that a page takes seconds, and asks for no port that may be taken.
MORE = {
    "mu-record": ["--duration", "0.7"], "mu-monitor": ["--port", "0"],
    "mu-link soak": ["--trials", "1"], "mu-link send": ["--duration", "1"],
    # so that it is still there when its page ends, and not just ending
    "mu-link watch": ["--duration", "100", "--idle", "100"], "mu-doctor": ["--seconds", "0"],
}
ENDLESS = re.compile(r"mu-(link watch|monitor|emulate) |mu-run (?!.*--(duration|pace max)).*"
                     r"(loop=1|simulate:|:127\.0\.0\.1)")
# What several pages type alike, and nothing later needs, runs on the first of them.
ONCE = re.compile(r"mu-(adapt|doctor) ")
MISSING = re.compile(r"needs (?:the package )?(\w+), which is not installed")
READY_S, QUIET_S, END_S = 20.0, 2.0, 30.0  # QUIET_S: for what prints nothing


def scripts() -> dict[str, str]:
    """Every command of the package, and its module."""
    return {name: target.partition(":")[0] for name, target in PROJECT["scripts"].items()}


class Shell:
    """Runs lines in a folder; `said` is all that they printed.

    Parameters
    ----------
    folder : Path
        Where the lines run; what they name under /tmp lies in it, too.
    swaps : dict of text -> text
        What stands in a page -> what is typed here.
    slow : bool
        Run what takes minutes, too.
    """

    typed: ClassVar[set[str]] = set()  # on any page

    def __init__(self, folder: Path, swaps: dict[str, str], slow: bool = False) -> None:
        self.folder, self.swaps, self.slow, self.said = folder, swaps, slow, ""
        self._running: list[tuple[str, subprocess.Popen[str], Path]] = []
        tools = folder / ".tools"
        tools.mkdir()
        (folder / "tmp").mkdir()
        for name in [*scripts(), *FOREIGN]:
            tool = tools / name
            tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" {name} "$@"\n')
            tool.chmod(0o755)
        self._env = os.environ | {
            "PATH": f"{tools}:{os.environ['PATH']}", "HOME": str(folder), "COLUMNS": "120",
            "PYTHONPATH": f"{ROOT / 'python'}:{os.environ.get('PYTHONPATH', '')}",
            "PYTHONUNBUFFERED": "1", "REC": "recording.npz", "TERM": "dumb"}

    def type(self, line: str) -> None:
        """One command line; it must succeed, or have no end and not fail until the page's."""
        for there, here in self.swaps.items():
            line = line.replace(there, here)
        words = shlex.split(line, comments=True)
        if line.startswith(". .venv/"):
            return  # the path is set already
        again = bool(ONCE.match(line)) and line in self.typed
        self.typed.add(line)
        known = words[0] in scripts()
        if known and self.slow and words[0] in SLOW and not HOURS.search(line):
            self.real(line)
        elif words[0] in FOREIGN or again or (known and only_read(words)):
            assert (read(words[0], words[1:]) if again else stand_for(*words)) in (0, None)
            for path in re.findall(r" pty:(\S+)", line):  # a listener in place of its machine
                self.type(f"mu-link watch pty:{path}")
        elif ENDLESS.match(line):
            self._leave_running(line.replace("/tmp/", f"{self.folder}/tmp/"))
        else:
            self.run(line.replace("/tmp/", f"{self.folder}/tmp/"))

    def real(self, line: str) -> None:
        """A command of ours, whatever the tables say."""
        name = line.partition(" ")[0]
        self.run(line.replace(name, f'"{sys.executable}" -m {scripts()[name]}', 1))

    def python(self, code: str) -> None:
        """A block of Python, as a program."""
        if "pty:" in code:  # it makes a name that something else may have
            self.end()
        (self.folder / "page.py").write_text(code.replace("/tmp/", f"{self.folder}/tmp/"))
        self.run(f'"{sys.executable}" -W error page.py')

    def run(self, line: str) -> None:
        """One command line as it is, to its end."""
        done = subprocess.run(["bash", "-c", line], cwd=self.folder, env=self._env, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=3600 if self.slow else 100,
                              stdin=subprocess.DEVNULL)
        self._judge(line, done.returncode, done.stdout)

    def _judge(self, line: str, code: int, said: str) -> None:
        """It succeeded, or what it needs is truly not installed here."""
        self.said += f"$ {line}\n{said}"
        lacks = MISSING.search(said)
        if code == 2 and lacks and lacks[1].lower() in missing():
            return
        assert code == 0, f"exit code {code}\n$ {line}\n{said}"

    def _leave_running(self, line: str) -> None:
        """Start what has no end, and wait until it is ready for what comes next.

        What makes a name that is there takes it over: a person ends what had it.
        """
        made = [Path(p) for p in re.findall(r"(?:watch pty|--monitor unix):(\S+)", line)]
        if any(path.exists() for path in made):
            self.end()
        out = self.folder / f".said{len(self._running)}"
        with out.open("w") as file:
            process = subprocess.Popen(["bash", "-c", f"exec {line}"], cwd=self.folder, text=True,
                                       env=self._env, stdout=file, stderr=file,
                                       stdin=subprocess.DEVNULL, start_new_session=True)
        self._running.append((line, process, out))
        until = time.monotonic() + (READY_S if made else QUIET_S)
        while process.poll() is None and time.monotonic() < until:
            if all(p.exists() for p in made) and (made or out.read_text()):
                return
            time.sleep(0.02)

    def end(self) -> None:
        """Ctrl-C in every shell that is left, the last one first."""
        time.sleep(0.5 * bool(self._running))  # let what runs side by side do so for a while
        for line, process, out in reversed(self._running):
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            try:
                code = process.wait(END_S)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            self._judge(line, code, out.read_text())
        self._running.clear()


def missing() -> set[str]:
    """Packages that a command may lack in a test without training or pages."""
    from importlib import util

    wanted = {"tensorflow", "keras", "scipy", "onnx", "h5py", "dask", "starlette", "uvicorn",
              "websockets", "pylsl", "can", "tf2onnx"}
    return {name for name in wanted if util.find_spec(name) is None}


def only_read(words: list[str]) -> bool:
    """Whether a command of ours is parsed, and not run."""
    line = " ".join(words)
    named = words[0] in ONLY_READ and not RUNS_ANYHOW.fullmatch(line)
    return named or any(HARDWARE.match(word) for word in words[1:])


def read(name: str, words: list[str]) -> None:
    """Let a command's own parser take the words; SystemExit where it does not."""
    try:
        parser: argparse.ArgumentParser = import_module(scripts()[name]).parser()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in missing():
            raise
        return  # mu-simulate cannot even say its options without SciPy
    parser.parse_args(words)


def foreign(name: str, words: list[str]) -> int:
    """Look at what can be looked at of a program that is not ours."""
    if name == "make":
        targets = re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text())
        wanted = [word for word in words if "=" not in word]
        assert set(wanted) <= set(targets), f"make has no {wanted}"
    elif name == "pip":
        extras = [extra for word in words for part in re.findall(r"\[([\w,-]+)\]", word)
                  for extra in part.split(",")]
        assert set(extras) <= set(PROJECT["optional-dependencies"]), extras
    elif name in ("sudo", "chrt"):
        rest = words[2:] if name == "chrt" else words
        if rest and rest[0] in scripts():
            read(rest[0], rest[1:])
        else:
            assert rest[0] in FOREIGN or rest[0] == "python", rest
    return 0


def stand_for(name: str, *words: str) -> int:
    """Stand for a command."""
    if name in FOREIGN:
        return foreign(name, list(words))
    read(name, list(words))
    if only_read([name, *words]):
        return 0
    more = MORE.get(name) or MORE.get(f"{name} {words[0] if words else ''}", [])
    if name == "mu-monitor" and "--terminal" in words:
        more = []
    if name == "mu-run" and "--duration" in words:
        more = ["--duration", "1"]
    sys.argv = [name, *words, *more]
    return int(import_module(scripts()[name]).main([*words, *more]))


if __name__ == "__main__":
    sys.exit(stand_for(*sys.argv[1:]))
