"""libspikewire for a board: compiled once for each architecture and state of the sources."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from spikewire.durable import cache_folder, write_durably
from spikewire.signals import InputError

HERE = Path(__file__).parent
PLACES = (HERE / "native", HERE.parents[1])  # of the sources: in a wheel, in a checkout
FOLDERS = ("runtime/src", "runtime/include", "runtime/toolchains")
INSTALLED = HERE / "lib" / "libspikewire.so"
NAME = "libspikewire.so"
# What a person's shell may set for other builds; it would be compiled into the release.
SWAYING = ("CC", "CXX", "CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS", "LD_PRELOAD")
NATIVE = ("c++", "g++")  # program, Debian's package of it


def _cross(arch: str) -> tuple[str, str]:
    """Debian's cross compiler and its package."""
    return f"{arch}-linux-gnu-g++", f"g++-{arch.replace('_', '-')}-linux-gnu"


def _root() -> Path | None:
    """Where the sources are."""
    return next((place for place in PLACES if (place / "runtime/src").is_dir()), None)


def kept(arch: str) -> Path | None:
    """The place of the library of these sources; None if the sources are not here."""
    root = _root()
    if root is None:
        return None
    digest = hashlib.sha256(arch.encode())
    parts = [p for folder in FOLDERS for p in sorted((root / folder).iterdir())]
    for path in [root / "CMakeLists.txt", *parts]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return cache_folder("shims") / f"{arch}-{digest.hexdigest()[:16]}.so"


def shim(arch: str) -> Path:
    """Return the compiled library; compile it if these sources have not been yet.

    Parameters
    ----------
    arch : str
        "aarch64" or "x86_64".

    Raises
    ------
    InputError
        No compiler, no sources, or they do not compile.
    """
    path, root = kept(arch), _root()
    if path is None or root is None:
        if arch == platform.machine() and INSTALLED.is_file():
            return INSTALLED
        raise InputError(f"the C++ sources, needed for {arch}, are not in the installed package; "
                         "build from a checkout: git clone, then pip install -e .")
    if not path.is_file():
        compiler, package = NATIVE if arch == platform.machine() else _cross(arch)
        for program in ("cmake", compiler):
            if not shutil.which(program):
                raise InputError(f"{program} is not installed, needed once for {arch}; type: "
                                 f"apt install cmake {package}")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="spikewire-") as folder:
            made = _compile(root, arch, Path(folder))
            write_durably(path, lambda file: file.write(made.read_bytes()))
    return path


def _compile(root: Path, arch: str, folder: Path) -> Path:
    """The library as a wheel has it, without symbols for debuggers."""
    options = ["-DSKBUILD=ON", "-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_SHARED_LINKER_FLAGS=-s"]
    if arch != platform.machine():
        options += [f"-DCMAKE_TOOLCHAIN_FILE={root}/runtime/toolchains/{arch}-linux-gnu.cmake"]
    environment = {k: v for k, v in os.environ.items()
                   if k not in SWAYING and not k.startswith("CMAKE_")}
    for command in (["cmake", "-S", str(root), "-B", str(folder), *options],
                    ["cmake", "--build", str(folder), "--parallel"]):
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
            errors = [line for line in said if "error" in line.lower()] or said
            raise InputError(f"libspikewire for {arch} does not compile: {(errors or ['?'])[0]}")
    return folder / NAME
