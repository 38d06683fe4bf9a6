"""PID 1 of the stand-in board: boots it, runs its units, answers systemctl and journalctl.

    unshare --pid --mount --fork --mount-proc --kill-child python supervisor.py ROOT how.json

It is no systemd. It reads the installed unit files and acts on the keys in unitfile.ACTED_ON; jobs
of one transaction run one after another in the order of After= and Before=; sandboxing, users,
slices and sockets are not simulated. tests/standin/README.md has the whole list.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import uuid
from graphlib import TopologicalSorter
from pathlib import Path

from control import answer
from oldkernel import pretend
from service import Service
from unitfile import find

# Reached at boot before any unit of ours, so always there.
ALWAYS = (".target", ".slice", ".mount", ".socket", ".timer")
CONTROL = "run/standin/control"
JOURNAL = "var/log/standin.journal"


class Supervisor:
    """The units of a board and its journal."""

    def __init__(self, root: Path, how: dict) -> None:
        self.root, self.prefix, self.slow = root, how["enter"], float(how.get("slow", 1))
        self.services: dict[str, Service] = {}
        self.jobs: set[asyncio.Task[bool]] = set()
        self.boot = time.time()

    # What a service asks for (service.Board).

    def enter(self, argv: list[str]) -> list[str]:
        return [*self.prefix, *argv]

    def log(self, unit: str, text: str) -> None:
        line = json.dumps({"t": round(time.time(), 3), "boot": self.boot, "unit": unit,
                           "text": text})
        with open(self.root / JOURNAL, "a", encoding="utf-8") as journal:
            journal.write(line + "\n")

    def failed(self, service: Service) -> None:
        for name in service.unit.names("OnFailure"):
            self.log(service.unit.name, f"Triggering OnFailure= dependencies: {name}")
            self.job(name)

    # Units.

    def job(self, name: str) -> asyncio.Task[bool]:
        """Start a unit in the background."""
        task = asyncio.create_task(self.start([name]))
        self.jobs.add(task)
        task.add_done_callback(self.jobs.discard)
        return task

    def service(self, name: str) -> Service | None:
        """The unit of that name; its file is read again when it is not running."""
        known = self.services.get(name)
        if known and known.state in ("active", "activating", "deactivating"):
            return known
        unit = find(self.root, name)
        if unit is None:
            return known
        if known:
            known.unit = unit
            return known
        if unit.not_simulated:
            self.log(name, f"standin: not simulated: {' '.join(sorted(set(unit.not_simulated)))}")
        return self.services.setdefault(name, Service(self, unit))

    def reload(self) -> None:
        """Read every unit file again, those of running units, too."""
        for name, service in self.services.items():
            service.unit = find(self.root, name) or service.unit

    async def start(self, names: list[str]) -> bool:
        """Start units and what they need, in order; False if one or what it requires fails."""
        wanted = self._needs(list(names))
        up: dict[str, bool] = {}
        for each in order(wanted):
            service = wanted[each]
            needed = service.unit.names("Requires") + service.unit.names("BindsTo")
            broken = [n for n in needed if not up.get(n, self.present(n))]
            if broken:
                self.log(each, f"Dependency failed: {' '.join(broken)}")
                service.result, up[each] = "dependency", False
                continue
            for other in service.unit.names("Conflicts"):
                if other in self.services:
                    await self.services[other].stop()
            up[each] = await service.start()
        return all(up.get(name, False) for name in names)

    def present(self, name: str) -> bool:
        """Whether something that a unit requires is there without a job of ours."""
        if name.endswith(".device"):
            device = "/" + name.removesuffix(".device").replace("-", "/")
            return Path(device).exists()
        return name.endswith(ALWAYS)

    def _needs(self, names: list[str]) -> dict[str, Service]:
        found: dict[str, Service] = {}
        while names:
            name = names.pop()
            service = self.service(name) if name.endswith(".service") else None
            if service and name not in found:
                found[name] = service
                for key in ("Requires", "BindsTo", "Wants"):
                    names += service.unit.names(key)
        return found

    async def stop(self, name: str) -> None:
        """Stop a unit and those that are bound to it."""
        for other in list(self.services.values()):
            bound = other.unit.names("Requires") + other.unit.names("BindsTo")
            if name in bound and other.state == "active":
                await other.stop()
        if name in self.services:
            await self.services[name].stop()

    # The board.

    async def listen(self) -> asyncio.AbstractServer:
        """Answer systemctl on a socket without a path (paths are short); a file has its name."""
        name = f"standin/{uuid.uuid4().hex}"
        server = await asyncio.start_unix_server(
            lambda reader, writer: answer(self, reader, writer), "\0" + name)
        (self.root / CONTROL).parent.mkdir(parents=True, exist_ok=True)
        (self.root / CONTROL).write_text(name)
        return server

    async def run(self, ssh: list[str]) -> None:
        """Boot: sshd, then every enabled unit; then answer for ever."""
        server = await self.listen()
        if ssh:
            subprocess.Popen(ssh, stdin=subprocess.DEVNULL)
        enabled = sorted(path.name for path in
                         (self.root / "etc/systemd/system").glob("*.wants/*.service"))
        self.log("standin", f"boot: {' '.join(enabled) or 'nothing is enabled'}")
        await self.start(enabled)
        (self.root / "run/standin/booted").touch()
        async with server:
            await server.serve_forever()


def order(wanted: dict[str, Service]) -> list[str]:
    """Names of units in the order in which After= and Before= let them start."""
    before: dict[str, set[str]] = {name: set() for name in wanted}
    for name, service in wanted.items():
        for other in service.unit.names("After"):
            before[name] |= {other} & set(wanted)
        for other in service.unit.names("Before"):
            if other in wanted:
                before[other].add(name)
    return list(TopologicalSorter(before).static_order())


def main() -> None:
    """Fork the supervisor; what is left is an init that buries orphans."""
    root, how = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
    for command in how.get("mounts", []):
        subprocess.run(command, check=True)
    if how.get("old_kernel"):
        pretend()
    child = os.fork()
    if child == 0:
        asyncio.run(Supervisor(root, how).run(how.get("ssh", [])))
    while os.wait()[0] != child:
        pass


if __name__ == "__main__":
    main()
