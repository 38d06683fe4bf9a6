"""A systemd unit file, read as far as the stand-in acts on it.

Truth: systemd.unit(5), systemd.service(5), systemd.exec(5), systemd.syntax(7) of systemd 252.
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

# What the supervisor acts on. Everything else is noted in the journal and not simulated.
ACTED_ON = {
    "Unit": {"Description", "Documentation", "Requires", "Wants", "BindsTo", "After", "Before",
             "Conflicts", "OnFailure", "StartLimitBurst", "StartLimitIntervalSec",
             "ConditionPathExists"},
    "Service": {"Type", "ExecStart", "ExecStartPre", "ExecStartPost", "ExecStop", "ExecStopPost",
                "Restart", "RestartSec", "WatchdogSec", "TimeoutStartSec", "TimeoutStopSec",
                "RemainAfterExit", "Environment", "EnvironmentFile", "WorkingDirectory",
                "RuntimeDirectory", "StateDirectory", "CacheDirectory", "NotifyAccess",
                "SuccessExitStatus", "RestartPreventExitStatus"},
    "Install": {"WantedBy", "RequiredBy", "Alias", "Also"},
}
SPANS = {"": 1.0, "s": 1.0, "sec": 1.0, "ms": 1e-3, "us": 1e-6, "m": 60.0, "min": 60.0, "h": 3600.0}
Sections = dict[str, dict[str, list[str]]]


@dataclass
class UnitFile:
    """One unit: its name (an instance's, if it is one) and what its file says."""

    name: str
    sections: Sections
    not_simulated: list[str] = field(default_factory=list)

    @property
    def instance(self) -> str:
        return self.name.partition("@")[2].rpartition(".")[0]

    def all(self, key: str, section: str = "Service") -> list[str]:
        """Every value of a key, specifiers expanded; an empty one forgets those before it."""
        values: list[str] = []
        for value in self.sections.get(section, {}).get(key, []):
            values = [*values, expand(value, self)] if value else []
        return values

    def one(self, key: str, default: str = "", section: str = "Service") -> str:
        return (self.all(key, section) or [default])[-1]

    def names(self, key: str, section: str = "Unit") -> list[str]:
        """The names in a list of units."""
        return " ".join(self.all(key, section)).split()

    def seconds(self, key: str, default: float, section: str = "Service") -> float:
        return seconds(self.one(key, section=section), default)

    def flag(self, key: str) -> bool:
        return self.one(key).lower() in ("yes", "true", "on", "1")


def parse(name: str, text: str) -> UnitFile:
    """Read a unit file's text; ValueError on a line that is none."""
    unit, section = UnitFile(name, {}), ""
    joined = re.sub(r"\s*\\\n\s*", " ", text)
    for number, line in enumerate(joined.splitlines(), 1):
        line = line.strip()
        if not line or line[0] in "#;":
            continue
        if line[0] == "[" and line[-1] == "]":
            section = line[1:-1]
            continue
        key, equals, value = line.partition("=")
        if not equals or not section:
            raise ValueError(f"{name}:{number}: not a setting: {line!r}")
        key = key.strip()
        unit.sections.setdefault(section, {}).setdefault(key, []).append(value.strip())
        if key not in ACTED_ON.get(section, set()):
            unit.not_simulated.append(key)
    return unit


def find(root: Path, name: str) -> UnitFile | None:
    """The unit of that name under `root`, an instance's from its template."""
    template = re.sub(r"@[^.]+\.", "@.", name)
    for folder in ("etc/systemd/system", "usr/lib/systemd/system"):
        for file in (inside(root, f"{folder}/{name}"), inside(root, f"{folder}/{template}")):
            if file.is_file() and "@." not in name:
                return parse(name, file.read_text())
    return None


def inside(root: Path, path: str) -> Path:
    """Where a path of the board lies on this machine: its links lead to places on the board."""
    at, left, links = root, [p for p in path.split("/") if p], 0
    while left:
        part = left.pop(0)
        if part == "..":
            at = at if at == root else at.parent
        elif part != ".":
            at = at / part
        if at.is_symlink():
            links += 1
            if links > 40:
                raise OSError(f"too many links: {path}")
            target = os.readlink(at)
            at = root if target.startswith("/") else at.parent
            left = [p for p in target.split("/") if p] + left
    return at


def expand(value: str, unit: UnitFile) -> str:
    """Put the unit's names in the place of its specifiers."""
    known = {"i": unit.instance, "I": unit.instance.replace("-", "/"), "n": unit.name,
             "N": unit.name.rpartition(".")[0], "p": re.split("[@.]", unit.name)[0],
             "t": "/run", "S": "/var/lib", "C": "/var/cache", "L": "/var/log", "%": "%"}
    return re.sub(r"%(.)", lambda found: known.get(found[1], found[0]), value)


def seconds(value: str, default: float) -> float:
    """A span of time such as 1, 500ms or 1min 30s."""
    if not value:
        return default
    if value == "infinity":
        return float("inf")
    parts = re.findall(r"([\d.]+)\s*([a-z]*)", value)
    if not parts or any(word not in SPANS for _, word in parts):
        raise ValueError(f"not a span of time: {value!r}")
    return sum(float(number) * SPANS[word] for number, word in parts)


def environment(unit: UnitFile, root: Path) -> dict[str, str]:
    """Environment= and EnvironmentFile= of a unit; FileNotFoundError where one must be there."""
    found = dict(word.split("=", 1) for value in unit.all("Environment")
                 for word in shlex.split(value))
    for name in unit.all("EnvironmentFile"):
        file = inside(root, name.lstrip("-"))
        if not file.exists() and name.startswith("-"):
            continue
        for line in file.read_text().splitlines():
            line = line.strip()
            if line and line[0] not in "#;":
                key, _, value = line.partition("=")
                found[key.strip()] = "".join(shlex.split(value)) if "'" in value or '"' in value \
                    else value.strip()
    return found


def words(command: str, env: dict[str, str]) -> list[str]:
    """Split a command line: $NAME as a word of its own becomes words, ${NAME} stays inside one."""
    out: list[str] = []
    for word in shlex.split(command):
        if re.fullmatch(r"\$\w+", word):
            out += shlex.split(env.get(word[1:], ""))
        else:
            filled = re.sub(r"\$\{(\w+)\}", lambda found: env.get(found[1], ""), word)
            out.append(filled.replace("$$", "$"))
    return out
