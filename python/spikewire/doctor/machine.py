"""What a machine says of itself: files below a root, and programs on the path.

The only file here that reads any. Everything may be missing, empty, huge, binary or a lie: what
cannot be read is an empty text or NaN.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

MOST_BYTES = 1 << 16
MOST_DPKG_BYTES = 1 << 25
PROGRAM_S = 5.0
# The kernel driver's release -> JetPack; the longest that fits counts. developer.nvidia.com
JETPACKS = {"32": "4", "35": "5", "36.2": "6.0 preview", "36.3": "6.0", "36.4": "6.1",
            "36.4.3": "6.2", "36.4.4": "6.2.1", "36.4.7": "6.2.1", "36.5": "6.2.2", "38.2": "7.0",
            "38.4": "7.1", "39.2": "7.2"}


@dataclass(frozen=True)
class Machine:
    """A machine, or a folder that looks like one.

    Attributes
    ----------
    root : Path
    """

    root: Path = Path("/")

    def at(self, path: str | Path) -> Path:
        """A place below the root."""
        return self.root / str(path).lstrip("/")

    def text(self, path: str | Path, most: int = MOST_BYTES) -> str:
        """What a file says, to be searched; nothing if it cannot be read."""
        try:
            # A pipe that somebody left there must not hold the doctor.
            handle = os.open(self.at(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, ValueError):
            return ""
        try:
            with os.fdopen(handle, "rb") as file:
                content = file.read(most) or b""
        except OSError:
            return ""
        return content.decode(errors="replace").replace("\0", " ").strip()

    def line(self, path: str | Path) -> str:
        """The first line of a file, at most 80 characters of it, safe to print."""
        words = self.text(path, 4096).partition("\n")[0][:80].split()
        return "".join(c for c in " ".join(words) if c.isprintable())

    def number(self, path: str | Path) -> float:
        """The number that a file holds; NaN if it holds none."""
        try:
            value = float(self.line(path))
        except ValueError:
            return math.nan
        return value if math.isfinite(value) else math.nan

    def glob(self, pattern: str) -> list[Path]:
        """Places that fit a pattern, as paths below the root, sorted."""
        try:
            return sorted(Path("/", p.relative_to(self.root)) for p in self.root.glob(pattern))
        except OSError:
            return []

    def exists(self, path: str | Path) -> bool:
        """Whether something is there, also a link into nothing."""
        return os.path.lexists(self.at(path))

    def program(self, *words: str) -> str | None:
        """What a program prints; None if it is not there, fails or hangs."""
        found = shutil.which(words[0])
        if found is None:
            return None
        try:
            done = subprocess.run(
                [found, *words[1:]], stdin=subprocess.DEVNULL, capture_output=True, check=True,
                timeout=PROGRAM_S, env={**os.environ, "LC_ALL": "C"})
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.decode(errors="replace")


def tegra(machine: Machine) -> str:
    """Release of the Linux for Tegra, such as "36.4.3"; "?" if it says none, "" on no Jetson."""
    said = machine.text("/etc/nv_tegra_release")
    if not said and "nvidia,tegra" not in machine.text("/proc/device-tree/compatible"):
        return ""
    found = re.search(r"\bR(\d{1,3}) \(release\), REVISION: (\d{1,3}(?:\.\d{1,3})*)", said)
    return f"{found[1]}.{found[2]}" if found else "?"


def jetpack_of(release: str) -> str:
    """The JetPack of a Linux for Tegra; "?" if it is none that we know."""
    parts = release.split(".")
    for count in range(len(parts), 0, -1):
        known = JETPACKS.get(".".join(parts[:count]))
        if known:
            return known
    return "?"


def power_modes(machine: Machine) -> dict[int, str]:
    """Number -> name of the power modes that this board has; they differ between boards."""
    said = machine.text("/etc/nvpmodel.conf")
    rows = re.findall(r"<\s*POWER_MODEL\s+ID=(\d{1,3})\s+NAME=([\w+.-]{1,40})", said, re.ASCII)
    return {int(number): name for number, name in rows}


def gpu_limits(machine: Machine) -> dict[int, float]:
    """Number of a power mode -> highest frequency of the GPU in it, Hz; -1 in the file is none."""
    parts = re.split(r"<\s*POWER_MODEL\s+ID=(\d{1,3})\s", machine.text("/etc/nvpmodel.conf"))
    limits = {}
    for number, body in zip(parts[1::2], parts[2::2], strict=False):
        found = re.search(r"^GPU MAX_FREQ (\d{1,12})\s*$", body, re.MULTILINE | re.ASCII)
        if found:
            limits[int(number)] = float(found[1])
    return limits


def power_mode(machine: Machine) -> int | None:
    """Number of the power mode in use."""
    found = re.search(r"pmode:(\d{1,4})", machine.text("/var/lib/nvpmodel/status"), re.ASCII)
    return int(found[1]) if found else None


def package_version(machine: Machine, pattern: str) -> str:
    """Version of a Debian package whose name fits, or nothing."""
    for entry in machine.text("/var/lib/dpkg/status", MOST_DPKG_BYTES).split("\n\n"):
        name, _, rest = entry.partition("\n")
        if re.fullmatch(f"Package: {pattern}", name) and "\nStatus: install ok" in f"\n{rest}":
            version = re.search(r"^Version: ([\w.+:~-]{1,60})$", rest, re.MULTILINE | re.ASCII)
            return version[1] if version else ""
    return ""
