"""One service as systemd would run it: start, ready, watchdog, restart, start limit, failed.

Truth: systemd.service(5), the tables under Type= and Restart=; systemd.unit(5), StartLimitBurst=
and OnFailure=. A service with Restart= is failed only after the start limit was reached.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
import uuid
from collections import deque
from pathlib import Path
from typing import Protocol

from notes import Notes
from unitfile import UnitFile, environment, inside, words

# Which ends of the main process make systemd start it again.
RESTARTS = {
    "no": set(), "": set(),
    "always": {"success", "exit-code", "signal", "timeout", "watchdog"},
    "on-success": {"success"},
    "on-failure": {"exit-code", "signal", "timeout", "watchdog"},
    "on-abnormal": {"signal", "timeout", "watchdog"},
    "on-abort": {"signal"},
    "on-watchdog": {"watchdog"},
}
CLEAN_SIGNALS = {signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE}
PATH = "/opt/standin/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Board(Protocol):
    """What a service asks of the board it runs on."""

    root: Path
    slow: float  # time limits are this many times longer: an emulated board is slow

    def enter(self, argv: list[str]) -> list[str]: ...
    def log(self, unit: str, text: str) -> None: ...
    def failed(self, service: Service) -> None: ...


class Service:
    """A unit that can be started and stopped, and what became of it."""

    def __init__(self, board: Board, unit: UnitFile) -> None:
        self.board, self.unit = board, unit
        self.state, self.sub, self.result = "inactive", "dead", "success"
        self.status, self.exit_code, self.restarts = "", 0, 0
        self.process: asyncio.subprocess.Process | None = None
        self.task: asyncio.Task[None] | None = None
        self.starts: deque[float] = deque()
        self.lock = asyncio.Lock()

    def say(self, text: str) -> None:
        self.board.log(self.unit.name, text)

    def enter_state(self, state: str, sub: str) -> None:
        self.state, self.sub = state, sub

    # Starting and stopping, as asked for by systemctl or another unit.

    async def start(self) -> bool:
        """Start unless it runs; True if it is up, or done where that is all it does."""
        async with self.lock:
            if self.state == "active":
                return True
            await self._drop_task()
            return await self._launch()

    async def stop(self) -> None:
        """End it, and any restart that is due."""
        async with self.lock:
            await self._drop_task()
            if self.process and self.process.returncode is None:
                self.enter_state("deactivating", "stop-sigterm")
                await self._end(signal.SIGTERM)
                await self._helpers("ExecStopPost", self._env())
            if self.state != "failed":
                self.enter_state("inactive", "dead")

    async def _drop_task(self) -> None:
        if self.task and self.task is not asyncio.current_task():
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        self.task = None

    # One life.

    async def _launch(self) -> bool:
        if not self._allowed():
            self.say("Start request repeated too quickly.")
            self._fail("start-limit-hit")
            return False
        if not self._conditions():
            return True
        self.enter_state("activating", "start")
        self.result, self.status = "success", ""
        try:
            env = self._env()
        except OSError as error:
            self.say(f"Failed to load environment files: {error}")
            self._ended("resources")
            return False
        if not await self._helpers("ExecStartPre", env):
            self._ended("exit-code")
            return False
        run = self._oneshot if self.unit.one("Type") == "oneshot" else self._long_running
        return await run(env)

    async def _oneshot(self, env: dict[str, str]) -> bool:
        if not await self._helpers("ExecStart", env):
            self._ended(self.result if self.result != "success" else "exit-code")
            return False
        if self.unit.flag("RemainAfterExit"):
            self.enter_state("active", "exited")
        else:
            self.enter_state("inactive", "dead")
        self.say("Finished.")
        return True

    async def _long_running(self, env: dict[str, str]) -> bool:
        notes = Notes(self._say_status) if self.unit.one("Type") == "notify" else None
        if notes:
            env["NOTIFY_SOCKET"] = notes.address
            if self._watchdog_s():
                env["WATCHDOG_USEC"] = str(int(self._watchdog_s() * 1e6))
        self.process = await self._spawn(words(self.unit.one("ExecStart"), env), env)
        if notes and not await self._until_ready(notes):
            notes.close()
            return False
        self.enter_state("active", "running")
        self.say("Started.")
        await self._helpers("ExecStartPost", env)
        self.task = asyncio.create_task(self._guard(notes))
        return True

    def _say_status(self, words: str) -> None:
        self.status = words

    async def _until_ready(self, notes: Notes) -> bool:
        assert self.process
        exit_ = asyncio.create_task(self.process.wait())
        ready = asyncio.create_task(notes.ready.wait())
        await asyncio.wait({exit_, ready}, return_when=asyncio.FIRST_COMPLETED,
                           timeout=self._limit("TimeoutStartSec", 90))
        if ready.done() and not exit_.done():
            exit_.cancel()
            return True
        ready.cancel()
        if exit_.done():
            self._ended(self._verdict())
        else:
            self.say("start operation timed out. Terminating.")
            await self._end(signal.SIGTERM)
            self._ended("timeout")
        return False

    async def _guard(self, notes: Notes | None) -> None:
        """Watch it run: until it ends, or until its watchdog has not been fed in time."""
        assert self.process
        limit = self._watchdog_s() if notes else 0
        verdict = ""
        try:
            while not verdict:
                left = notes.fed + limit - time.monotonic() if notes and limit else None
                try:
                    await asyncio.wait_for(self.process.wait(), left)
                    verdict = self._verdict()
                except asyncio.TimeoutError:
                    if notes and time.monotonic() > notes.fed + limit:
                        self.say(f"Watchdog timeout (limit {limit:g}s)!")
                        await self._end(signal.SIGABRT)
                        verdict = "watchdog"
        finally:
            if notes:
                notes.close()
        await self._helpers("ExecStopPost", self._env())
        self._ended(verdict)

    # What follows an end.

    def _verdict(self, key: str = "ExecStart") -> str:
        assert self.process
        code = self.process.returncode or 0
        if key == "ExecStart":
            self.exit_code = code
        fine = {0, *map(int, filter(str.isdigit, self.unit.names("SuccessExitStatus", "Service")))}
        if code < 0:
            number = signal.Signals(-code)
            self.say(f"Main process exited, code=killed, status={-code}/{number.name}")
            return "success" if number in CLEAN_SIGNALS else "signal"
        if code in fine:
            return "success"
        self.say(f"Main process exited, code=exited, status={code}")
        return "exit-code"

    def _ended(self, verdict: str) -> None:
        """Start again, fail, or rest, as Restart= says."""
        self.result = verdict
        kept = str(self.exit_code) in self.unit.names("RestartPreventExitStatus", "Service")
        if verdict in RESTARTS[self.unit.one("Restart")] and not (kept and verdict == "exit-code"):
            self.enter_state("activating", "auto-restart")
            self.task = asyncio.create_task(self._again())
        elif verdict == "success":
            self.enter_state("inactive", "dead")
            self.say("Deactivated successfully.")
        else:
            self._fail(verdict)

    async def _again(self) -> None:
        await asyncio.sleep(self.unit.seconds("RestartSec", 0.1))
        async with self.lock:
            self.restarts += 1
            self.say(f"Scheduled restart job, restart counter is at {self.restarts}.")
            await self._launch()

    def _fail(self, verdict: str) -> None:
        self.result = verdict
        self.enter_state("failed", "failed")
        self.say(f"Failed with result '{verdict}'.")
        self.board.failed(self)

    def _allowed(self) -> bool:
        """Whether StartLimitBurst= starts in StartLimitIntervalSec= have not been used up."""
        burst = int(self.unit.one("StartLimitBurst", "5", "Unit"))
        interval = self.unit.seconds("StartLimitIntervalSec", 10, "Unit") * self.board.slow
        now = time.monotonic()
        while self.starts and now - self.starts[0] > interval:
            self.starts.popleft()
        if interval and len(self.starts) >= burst:
            return False
        self.starts.append(now)
        return True

    def _conditions(self) -> bool:
        for value in self.unit.all("ConditionPathExists", "Unit"):
            if inside(self.board.root, value.lstrip("!")).exists() == value.startswith("!"):
                self.say(f"skipped, unmet condition check ConditionPathExists={value}")
                self.enter_state("inactive", "dead")
                return False
        return True

    # Processes.

    def _limit(self, key: str, default: float) -> float | None:
        limit = self.unit.seconds(key, default) * self.board.slow
        return None if limit in (0, float("inf")) else limit

    def _watchdog_s(self) -> float:
        return self.unit.seconds("WatchdogSec", 0) * self.board.slow

    def _env(self) -> dict[str, str]:
        env = {"PATH": PATH, "LANG": "C.UTF-8", "INVOCATION_ID": uuid.uuid4().hex}
        for key, at in (("RuntimeDirectory", "/run"), ("StateDirectory", "/var/lib"),
                        ("CacheDirectory", "/var/cache")):
            paths = [f"{at}/{name}" for name in self.unit.names(key, "Service")]
            for path in paths:
                (self.board.root / path[1:]).mkdir(parents=True, exist_ok=True)
            if paths:
                env["_".join((key[:-9].upper(), "DIRECTORY"))] = ":".join(paths)
        return env | environment(self.unit, self.board.root)

    async def _spawn(self, argv: list[str], env: dict[str, str]) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *self.board.enter(argv), env=env, start_new_session=True,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT)
        self.reader = asyncio.create_task(self._read(process))
        return process

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout
        while line := await process.stdout.readline():
            self.say(line.decode(errors="replace").rstrip("\n"))

    async def _helpers(self, key: str, env: dict[str, str]) -> bool:
        """Run the commands of a key one after another; a leading - forgives a failure."""
        for command in self.unit.all(key):
            bare = command.lstrip("-+!@:")
            self.process = await self._spawn(words(bare, env), env)
            try:
                await asyncio.wait_for(self.process.wait(), self._limit("TimeoutStartSec", 90))
            except asyncio.TimeoutError:
                self.say(f"{key} operation timed out. Terminating.")
                await self._end(signal.SIGTERM)
                self.result = "timeout"
                return False
            await asyncio.wait({self.reader}, timeout=1)
            if self._verdict(key) != "success" and "-" not in command[: len(command) - len(bare)]:
                return False
        return True

    async def _end(self, first: signal.Signals) -> None:
        """Send a signal to its whole session, then SIGKILL to what is left of it."""
        assert self.process
        kill_session(self.process.pid, first)
        try:
            await asyncio.wait_for(self.process.wait(), self._limit("TimeoutStopSec", 90))
        except asyncio.TimeoutError:
            self.say("stop-sigterm timed out. Killing.")
        kill_session(self.process.pid, signal.SIGKILL)
        await self.process.wait()


def kill_session(leader: int, number: signal.Signals) -> None:
    """A signal to every process of a session: what is nearest to a control group without one."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                session = int((entry / "stat").read_text().rpartition(")")[2].split()[3])
                if session == leader:
                    os.kill(int(entry.name), number)
            except (OSError, ValueError):
                continue
