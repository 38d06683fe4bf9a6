"""What systemctl and journalctl print on the stand-in board: one line of JSON in, one out.

Output and exit codes follow systemctl(1) and journalctl(1) of systemd 252 for the verbs in VERBS;
any other verb or option is refused by name, so that a test cannot pass on an answer nobody wrote.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service import Service
from unitfile import find

if TYPE_CHECKING:
    from supervisor import Supervisor

Reply = tuple[int, str, str]  # exit code, standard output, standard error
LINES = 10


async def answer(board: Supervisor, reader: Any, writer: Any) -> None:
    """Serve one call of systemctl or journalctl."""
    try:
        program, *argv = json.loads(await reader.readline())
        tool = {"systemctl": systemctl, "journalctl": journalctl}[program]
        code, out, err = await tool(board, argv)
    except Exception as error:  # the board must not die of a wrong call
        code, out, err = 1, "", f"standin: {type(error).__name__}: {error}\n"
    writer.write(json.dumps([code, out, err]).encode() + b"\n")
    try:
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    except OSError:  # the caller was killed
        pass


class RefusedError(Exception):
    """An option or verb that nobody has scripted."""


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise RefusedError(f"{self.prog}: {message}")


def systemctl_parser() -> Parser:
    p = Parser("systemctl", add_help=False)
    p.add_argument("verb", choices=sorted(VERBS))
    p.add_argument("units", nargs="*")
    for flag in ("--now", "--no-block", "--no-pager", "--value", "--full", "-l", "--system"):
        p.add_argument(flag, action="store_true")
    p.add_argument("--quiet", "-q", action="store_true")
    p.add_argument("--lines", "-n", default=str(LINES))
    p.add_argument("--property", "-p", action="append", default=[])
    return p


async def systemctl(board: Supervisor, argv: list[str]) -> Reply:
    """Do a verb to every unit named."""
    args = systemctl_parser().parse_intermixed_args(argv)
    names = [n if "." in n.rpartition("@")[2] or n.endswith(SUFFIXES) else n + ".service"
             for n in args.units]
    code, out, err = await VERBS[args.verb](board, names, args)
    return code, "" if args.quiet else out, "" if args.quiet else err


SUFFIXES = (".service", ".target", ".device", ".socket", ".slice", ".mount", ".timer")


async def _start(board: Supervisor, names: list[str], args: Any) -> Reply:
    err = ""
    for name in names:
        if board.service(name) is None and not board.present(name):
            return 5, "", f"Failed to {args.verb} {name}: Unit {name} not found.\n"
        if args.verb in ("restart", "try-restart", "reload-or-restart"):
            service = board.services.get(name)
            if args.verb == "try-restart" and not (service and service.state == "active"):
                continue
            await board.stop(name)
        job = board.job(name)
        if not args.no_block and not await asyncio.shield(job):
            err += (f"Job for {name} failed.\nSee \"systemctl status {name}\" and "
                    f"\"journalctl -xeu {name}\" for details.\n")
    return (1 if err else 0), "", err


async def _stop(board: Supervisor, names: list[str], args: Any) -> Reply:
    for name in names:
        if board.service(name) is None:
            return 5, "", f"Failed to stop {name}: Unit {name} not loaded.\n"
        await board.stop(name)
    return 0, "", ""


async def _reload(board: Supervisor, names: list[str], args: Any) -> Reply:
    board.reload()
    return 0, "", ""


async def _reset_failed(board: Supervisor, names: list[str], args: Any) -> Reply:
    for name in names or list(board.services):
        service = board.services.get(name)
        if service:
            service.starts.clear()
            service.restarts = 0
            if service.state == "failed":
                service.enter_state("inactive", "dead")
                service.result = "success"
    return 0, "", ""


async def _is(board: Supervisor, names: list[str], args: Any) -> Reply:
    """is-active, is-failed: the states, and 0 if any unit has the one that was asked for."""
    states = [board.services[n].state if n in board.services else "inactive" for n in names]
    wanted = args.verb.removeprefix("is-")
    return (0 if wanted in states else 1 if wanted == "failed" else 3), \
        "".join(s + "\n" for s in states), ""


async def _enable(board: Supervisor, names: list[str], args: Any) -> Reply:
    err = ""
    for name in names:
        unit = find(board.root, name)
        if unit is None:
            return 1, "", f"Failed to {args.verb} unit: Unit file {name} does not exist.\n"
        targets = unit.names("WantedBy", "Install") + unit.names("RequiredBy", "Install")
        for target in targets:
            link = board.root / f"etc/systemd/system/{target}.wants/{name}"
            link.unlink(missing_ok=True)
            if args.verb == "enable":
                link.parent.mkdir(exist_ok=True)
                link.symlink_to(f"/etc/systemd/system/{name}")
                err += f"Created symlink {link} -> /etc/systemd/system/{name}.\n"
        if args.now:
            await (_start if args.verb == "enable" else _stop)(board, [name], args)
    return 0, "", err


async def _is_enabled(board: Supervisor, names: list[str], args: Any) -> Reply:
    words = [_enabled(board, name) for name in names]
    return 0 if "enabled" in words else 1, "".join(w + "\n" for w in words), ""


def _enabled(board: Supervisor, name: str) -> str:
    unit = find(board.root, name)
    if unit is None:
        return "not-found"
    wants = (board.root / "etc/systemd/system").glob("*.wants")
    if any((folder / name).is_symlink() for folder in wants):
        return "enabled"
    return "disabled" if "Install" in unit.sections else "static"


def properties(board: Supervisor, name: str, service: Service | None) -> dict[str, str]:
    """What `systemctl show` knows of a unit here."""
    unit = service.unit if service else find(board.root, name)
    process = service.process if service else None
    running = process is not None and process.returncode is None
    return {
        "Id": name, "LoadState": "loaded" if unit else "not-found",
        "ActiveState": service.state if service else "inactive",
        "SubState": service.sub if service else "dead",
        "Result": service.result if service else "success",
        "UnitFileState": _enabled(board, name) if unit else "",
        "MainPID": str(process.pid) if process and running else "0",
        "NRestarts": str(service.restarts if service else 0),
        # CLD_EXITED and the code, or CLD_KILLED and the signal; as asyncio tells them apart.
        "ExecMainCode": "2" if service and service.exit_code < 0 else "1",
        "ExecMainStatus": str(abs(service.exit_code) if service else 0),
        "StatusText": service.status if service else "",
        "Description": unit.one("Description", section="Unit") if unit else name,
    }


async def _show(board: Supervisor, names: list[str], args: Any) -> Reply:
    out = ""
    for name in names:
        known = properties(board, name, board.service(name))
        keys = [key for value in args.property for key in value.split(",")] or list(known)
        unknown = [key for key in keys if key not in known]
        if unknown:
            raise RefusedError(f"systemctl show: nobody has scripted {' '.join(unknown)}")
        out += "".join((known[k] if args.value else f"{k}={known[k]}") + "\n" for k in keys)
    return 0, out, ""


async def _status(board: Supervisor, names: list[str], args: Any) -> Reply:
    out, code = "", 0
    for name in names:
        known = properties(board, name, board.service(name))
        out += (f"{name} - {known['Description']}\n"
                f"     Loaded: {known['LoadState']} ({known['UnitFileState']})\n"
                f"     Active: {known['ActiveState']} ({known['SubState']}), result "
                f"{known['Result']}\n   Main PID: {known['MainPID']}\n"
                f"     Status: \"{known['StatusText']}\"\n")
        out += "".join(stamp(line) for line in lines(board, [name], int(args.lines)))
        code = code or (0 if known["ActiveState"] == "active" else 3)
    return code, out, ""


async def _cat(board: Supervisor, names: list[str], args: Any) -> Reply:
    files = [board.root / "etc/systemd/system" / name for name in names]
    return 0, "".join(f"# /etc/systemd/system/{f.name}\n{f.read_text()}" for f in files), ""


async def _running(board: Supervisor, names: list[str], args: Any) -> Reply:
    bad = any(service.state == "failed" for service in board.services.values())
    return (1, "degraded\n", "") if bad else (0, "running\n", "")


VERBS: dict[str, Any] = {
    "start": _start, "restart": _start, "try-restart": _start, "reload-or-restart": _start,
    "stop": _stop, "daemon-reload": _reload, "reset-failed": _reset_failed, "is-active": _is,
    "is-failed": _is, "enable": _enable, "disable": _enable, "is-enabled": _is_enabled,
    "show": _show, "status": _status, "cat": _cat, "is-system-running": _running,
}


async def journalctl(board: Supervisor, argv: list[str]) -> Reply:
    """The journal's last lines; -f is answered by the client, which asks again."""
    p = Parser("journalctl", add_help=False)
    p.add_argument("--unit", "-u", action="append", default=[])
    p.add_argument("--lines", "-n", default="1000")
    p.add_argument("--output", "-o", choices=["short", "short-iso", "short-precise", "cat",
                                              "json"], default="short")
    p.add_argument("--boot", "-b", action="store_true")
    p.add_argument("--no-pager", action="store_true")
    p.add_argument("--quiet", "-q", action="store_true")
    args = p.parse_args(argv)
    count = 10**9 if args.lines == "all" else int(args.lines)
    found = lines(board, args.unit, count, board.boot if args.boot else None)
    form = {"cat": lambda line: line["text"] + "\n", "json": lambda line: json.dumps(
        {"__REALTIME_TIMESTAMP": str(int(line["t"] * 1e6)), "_SYSTEMD_UNIT": line["unit"],
         "MESSAGE": line["text"]}) + "\n"}.get(args.output, stamp)
    return 0, "".join(map(form, found)) or ("" if args.quiet else "-- No entries --\n"), ""


def lines(board: Supervisor, units: list[str], count: int,
          boot: float | None = None) -> list[dict[str, Any]]:
    """The newest lines of some units, oldest first."""
    wanted = {name if name.endswith(SUFFIXES) else name + ".service" for name in units}
    journal: Path = board.root / "var/log/standin.journal"
    found = []
    for text in journal.read_text(errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:  # the power went away in the middle of it
            continue
        ours = not wanted or any(fnmatch(line["unit"], one) for one in wanted)
        if ours and boot in (None, line["boot"]):
            found.append(line)
    return found[-count:] if count else []


def stamp(line: dict[str, Any]) -> str:
    when = time.strftime("%b %d %H:%M:%S", time.localtime(line["t"]))
    return f"{when} standin {line['unit'].removesuffix('.service')}: {line['text']}\n"
