"""The wheels of a release: those that wheels.sha256 lists and no others, kept on the workstation.

pip reads environment markers for the Python it runs on, not for the one it fetches for; the list
names files instead, complete for every Python and architecture, and pip resolves nothing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from spikewire.durable import cache_folder
from spikewire.signals import InputError

LIST = Path(__file__).with_name("wheels.sha256")
GPU = {"cuda_bindings", "cuda_pathfinder"}  # only where the board's engine is TensorRT
PLATFORMS = ("manylinux_2_28", "manylinux_2_17", "manylinux2014")  # some have only an old tag
# What only compilers, type checkers and the wheels' own tests read: a third of all bytes.
SOURCES = {".pyi", ".pyx", ".pxd", ".pxi", ".c", ".cpp", ".h", ".f90", ".a"}
# What pip writes about the installation: it differs from one to the next.
NOTES = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}


def listed(python: str, arch: str, gpu: bool = False) -> dict[str, str]:
    """Wheels for one Python and architecture.

    Parameters
    ----------
    python : str
        Such as "3.10".
    arch : str
        "aarch64" or "x86_64".
    gpu : bool
        With NVIDIA's CUDA bindings, where there are any for this Python.

    Returns
    -------
    dict of file name -> sha256

    Raises
    ------
    InputError
        None is listed.
    """
    rows = [line.split() for line in LIST.read_text().splitlines() if not line.startswith("#")]
    all_of = {name: digest for digest, name in rows}
    found = {name: digest for name, digest in all_of.items() if _fits(name, python, arch)}
    if not any(_tag(python) in name for name in found):
        raise InputError(f"no wheels for Python {python} on {arch} are listed; add them to {LIST}")
    return {name: d for name, d in found.items() if gpu or name.split("-")[0] not in GPU}


def _tag(python: str) -> str:
    """`cp310` of "3.10"."""
    return "cp" + python.replace(".", "")


def _fits(name: str, python: str, arch: str) -> bool:
    """Whether a wheel's tags name this Python and architecture."""
    interpreters, _, platforms = name.removesuffix(".whl").split("-")[-3:]
    return bool({"py3", _tag(python)} & set(interpreters.split("."))) and any(
        p == "any" or p.endswith("_" + arch) for p in platforms.split("."))


def missing(wheels: dict[str, str]) -> list[str]:
    """Names of those that are not kept yet, or are damaged."""
    folder = cache_folder("wheels")
    return [name for name, digest in wheels.items() if _sha256(folder / name) != digest]


def _sha256(path: Path) -> str:
    """Hash of a file; "" if it is not there."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def fetch(wheels: dict[str, str], python: str, arch: str) -> list[Path]:
    """Download what is not kept yet; every file has the listed hash.

    Raises
    ------
    InputError
        No network, no such version, or other bytes than those listed.
    """
    folder = cache_folder("wheels")
    wanted = missing(wheels)
    if wanted:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as beside:
            _pip("download", "--no-deps", *_target(python, arch), "--dest", beside,
                 *("==".join(name.split("-")[:2]) for name in wanted))
            for name in wanted:
                if _sha256(Path(beside, name)) != wheels[name]:
                    came = ", ".join(sorted(os.listdir(beside)))
                    raise InputError(
                        f"{name} is not what was listed: the package index gave other bytes, or "
                        f"another file ({came}); take https://pypi.org/simple as the index")
                os.replace(Path(beside, name), folder / name)
    return [folder / name for name in wheels]


def unpack(wheels: Iterable[Path], python: str, arch: str, site: Path) -> None:
    """Install wheels into a folder and take out what nobody runs; the same bytes each time.

    Raises
    ------
    InputError
        pip refuses one.
    """
    _pip("install", "--isolated", "--no-index", "--no-deps", "--no-compile", "--target", str(site),
         *_target(python, arch), *map(str, wheels), configured=False)
    for script in ("bin", "share"):
        shutil.rmtree(site / script, ignore_errors=True)
    for path in sorted(site.rglob("*"), reverse=True):
        if path.is_dir():
            if path.name in ("tests", "__pycache__"):
                shutil.rmtree(path)
            elif not any(path.iterdir()):
                path.rmdir()
        elif path.suffix in SOURCES or (
                path.name in NOTES and path.parent.suffix == ".dist-info"):
            path.unlink()


def _target(python: str, arch: str) -> list[str]:
    """Words that make pip work for another machine than this one."""
    platforms = [word for p in PLATFORMS for word in ("--platform", f"{p}_{arch}")]
    return ["--only-binary=:all:", "--implementation", "cp", "--python-version", python, *platforms]


def _pip(verb: str, *words: str, configured: bool = True) -> None:
    """Run pip; what it says last is the reason if it fails."""
    environment = dict(os.environ)
    if not configured:
        environment["PIP_CONFIG_FILE"] = os.devnull
    done = subprocess.run(
        [sys.executable, "-m", "pip", verb, "--quiet", "--no-input", "--disable-pip-version-check",
         *words], env=environment, capture_output=True, text=True)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = (said or done.stderr.splitlines() or ["no reason given"])[-1]
        advice = ("; type: python -m ensurepip" if "No module named pip" in reason else
                  "; the first build for a board needs the network" if verb == "download" else "")
        raise InputError(f"pip {verb}: {reason.removeprefix('ERROR: ')}{advice}")
