"""MATLAB 7.3 files, which are HDF5: the same values as of a MATLAB 5 file.

The HDF5 library is C and not made for hostile files, so a child process reads, with bounds on its
memory and time; what breaks it does not break us. The child hands over plain numbers.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import util
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from spikewire.io.bounded import Budget
from spikewire.signals import InputError

LONGEST_S, MOST_BYTES = 120, 4 << 30
DEEPEST, MOST_ELEMENTS = 16, 20_000


class Mat73:
    """A MATLAB 7.3 file; raises ValueError for a damaged one, InputError without h5py."""

    def __init__(self, path: Path) -> None:
        if util.find_spec("h5py") is None:
            raise InputError(f"{path}: a MATLAB 7.3 file is read with h5py, which is not "
                             "installed; type: pip install 'spikewire[files]'")
        self._path = path

    def names(self) -> list[str]:
        """Variables in the file."""
        return [n for n in _ask(self._path, []) if not n.startswith("#")]  # "#refs#": the cells

    def read(self, wanted: set[str]) -> dict[str, Any]:
        """Values of the wanted variables that are there."""
        return _ask(self._path, sorted(wanted))


def run_child(path: Path, wanted: list[str]) -> bytes:
    """What a child process answers; raises ValueError if it fails, crashes or takes too long."""
    command = [sys.executable, "-m", "spikewire.io.mat73", str(path.resolve()), *wanted]
    root = str(Path(__file__).parents[2])
    try:
        done = subprocess.run(command, capture_output=True, timeout=LONGEST_S, cwd=root,
                              stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        raise ValueError(f"the HDF5 library did not finish in {LONGEST_S} s") from None
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["it crashed"]
        raise ValueError(f"HDF5: {last[0][:120]}")
    return done.stdout


def _ask(path: Path, wanted: list[str]) -> dict[str, Any]:
    """What the child process finds; every value None if nothing is wanted."""
    head, _, body = run_child(path, wanted).partition(b"\n")
    tree: dict[str, Any] = json.loads(head)
    return {name: _value(node, body) for name, node in tree.items()}


def _value(node: Any, body: bytes) -> Any:
    """A value from its description and the bytes that follow all descriptions."""
    match node:
        case {"text": str(text)}:
            return text
        case {"fields": dict(fields)}:
            return {name: _value(inner, body) for name, inner in fields.items()}
        case {"cells": list(inner), "shape": list(shape)}:
            out = np.empty(len(inner), object)
            for k, cell in enumerate(inner):
                out[k] = _value(cell, body)
            return out.reshape(shape, order="F")
        case {"dtype": str(kind), "at": int(at), "shape": list(shape)}:
            count = int(np.prod(shape, dtype=np.int64))
            return np.frombuffer(body, kind, count, at).reshape(shape, order="F")
    return None


class _Child:
    """Turns HDF5 objects into descriptions, and their numbers into bytes."""

    def __init__(self, file: Any, budget: Budget) -> None:
        self._file, self._budget, self._elements = file, budget, MOST_ELEMENTS
        self.body: list[bytes] = []
        self._at = 0

    def describe(self, node: Any, depth: int = 0) -> Any:
        """Describe one object; MATLAB's shape is HDF5's turned around."""
        import h5py

        self._elements -= 1
        if depth > DEEPEST or self._elements < 0:
            raise ValueError("too many cells in one another")
        if isinstance(node, h5py.Group):
            return {"fields": {str(k): self.describe(node[k], depth + 1) for k in node}}
        shape = list(node.shape[::-1])
        made = node.attrs.get("MATLAB_class", b"")
        if node.attrs.get("MATLAB_empty"):
            shape = [0, 0]
        size = self._budget.take(int(np.prod(shape, dtype=object)) * node.dtype.itemsize)
        if node.dtype == h5py.ref_dtype:
            inner = [self.describe(self._file[r], depth + 1) if r else None
                     for r in node[()].ravel()] if size else []
            return {"cells": inner, "shape": shape if size else [0, 0]}
        if node.dtype.kind not in "iuf" or len(shape) > 8:
            return None
        values = node[()].ravel() if size else np.zeros(0, node.dtype)
        if made == b"char":
            return {"text": "".join(chr(c) for c in values if 0 < c < 0x110000)}
        values = values.astype(values.dtype.newbyteorder("<"))
        self.body.append(values.tobytes())
        self._at += size
        return {"dtype": values.dtype.str, "at": self._at - size, "shape": shape}


def main(path: str, wanted: list[str], out: BinaryIO) -> None:
    """Answer with one line of descriptions, then all numbers."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (LONGEST_S, LONGEST_S))
    import h5py

    with h5py.File(path, "r") as file:
        child = _Child(file, Budget(Path(path), Path(path).stat().st_size))
        names = [str(n) for n in file]
        tree = {n: child.describe(file[n]) if wanted else None
                for n in names if not wanted or n in wanted}
    out.write(json.dumps(tree).encode() + b"\n")
    out.writelines(child.body)


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2:], sys.stdout.buffer)
    except Exception as error:  # h5py raises whatever a damaged file leads it to
        sys.exit(f"{type(error).__name__}: {' '.join(str(error).split())}")
