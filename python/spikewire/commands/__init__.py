"""The mu-* commands, one thin file each, and what all of them do alike."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BAD_INPUT, INTERRUPTED = 2, 130
WEB = {"starlette", "uvicorn", "websockets", "h11"}
# What a board does not have; tomllib comes with Python 3.11.
TRAINING = {"tensorflow", "keras", "scipy", "tf2onnx", "onnx", "h5py", "tensorboard", "tomllib"}


def guarded(name: str, work: Callable[[], int]) -> int:
    """Run a command: what came from outside and cannot be used is one line and exit code 2.

    Parameters
    ----------
    name : str
        The command, as typed.
    work : callable
        Returns the exit code.
    """
    try:
        return _guarded(name, work)
    except KeyboardInterrupt:
        print(f"{name}: interrupted, nothing was written", file=sys.stderr)
        return INTERRUPTED


def _guarded(name: str, work: Callable[[], int]) -> int:
    """All but Ctrl-C, which may also come during these imports."""
    from spikewire.link.transport import LinkError
    from spikewire.runtime.engine import EngineError
    from spikewire.signals import InputError

    try:
        return work()
    except (InputError, LinkError, EngineError) as error:
        print(f"{name}: {printable(' '.join(str(error).split()))}", file=sys.stderr)
    except ModuleNotFoundError as error:
        needed = (error.name or "").split(".")[0]
        if needed in WEB:
            print(f"{name}: needs {needed}, which is not installed; type: pip install "
                  "'spikewire[web]', or add --terminal", file=sys.stderr)
            return BAD_INPUT
        if needed not in TRAINING:
            raise
        print(f"{name}: needs {needed}, which is not installed; on Python 3.11 to 3.13 type: "
              "pip install 'spikewire[train]'", file=sys.stderr)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"{name}: {where}{error.strerror or error}", file=sys.stderr)
    return BAD_INPUT


def parsed(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """The options, with the command line as it was typed in `typed`, for who reports it."""
    args = parser.parse_args(argv)
    args.typed = shlex.join([parser.prog, *(sys.argv[1:] if argv is None else argv)])
    return args


def printable(text: str) -> str:
    """Text that may quote a file, without what could steer a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what TensorFlow's C++ part prints while it is imported; exceptions still pass."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def progress(title: str) -> Iterator[Callable[[float, str], None]]:
    """A bar on a terminal, a line per new stage elsewhere; always on stderr.

    Yields
    ------
    callable (share done 0..1, words)
    """
    if not sys.stderr.isatty():
        said = ""

        def say(share: float, words: str) -> None:
            nonlocal said
            if words != said:
                said = words
                print(f"{title}: {words}", file=sys.stderr, flush=True)

        yield say
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.fields[title]}"), BarColumn(bar_width=24), TimeElapsedColumn(),
               TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=1.0, title=title)
        yield lambda share, words: bar.update(task, completed=share, description=words)


def tool(name: str, *words: str) -> list[str]:
    """A command of this package in this very Python."""
    return [sys.executable, "-m", f"spikewire.commands.{name}", *words]


def call(name: str, *words: str) -> dict[str, Any]:
    """Run a command to its end; its JSON. A command that fails has said why on stderr."""
    print(f"$ mu-{name} {shlex.join(words)}", file=sys.stderr, flush=True)
    done = subprocess.run(tool(name, *words, "--json"), stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(done.returncode)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def check_out(path: str, suffix: str, *inputs: str) -> Path:
    """Refuse an output that could not be written at the end of long work."""
    from spikewire.signals import InputError

    out = Path(path)
    if out.suffix != suffix:
        raise InputError(f"{out}: the output's name ends in {suffix}")
    if any(out.exists() and Path(i).exists() and out.samefile(i) for i in inputs):
        raise InputError(f"{out}: is the input; choose another name for the output")
    if out.is_dir():
        raise InputError(f"{out}: is a folder; choose another name for the output")
    check_parent(out)
    return out


def write_report(out: Path, made: dict[str, Any]) -> None:
    """Replace a JSON report by a longer one, or leave it."""
    from spikewire.durable import write_durably

    write_durably(out, lambda file: file.write(json.dumps(made, indent=1).encode()))


def check_parent(out: Path) -> None:
    """Refuse an output in a folder that is not there."""
    from spikewire.signals import InputError

    if not out.parent.is_dir():
        raise InputError(f"{out.parent}: no such folder; make it first")


def check_seed(seed: int) -> None:
    """Refuse what no random generator takes."""
    from spikewire.signals import InputError

    if not 0 <= seed < 1 << 32:
        raise InputError(f"--seed is {seed}, allowed is 0 to {(1 << 32) - 1}")
