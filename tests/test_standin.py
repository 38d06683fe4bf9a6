"""The stand-in board's supervisor against what systemd's manual pages say (version 252).

systemd.service(5): Type=, Restart= and its table, WatchdogSec=, "Command lines"; systemd.unit(5):
After=, Requires=, OnFailure=, StartLimitBurst=; systemctl(1): exit codes. The units here run this
machine's own Python; the board test runs ours, under emulation.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "standin"))

from supervisor import Supervisor, order
from unitfile import environment, inside, parse, seconds, words

NOTIFY = """
import os, socket, sys, time
link = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
link.connect("\\0" + os.environ["NOTIFY_SOCKET"][1:])
say = lambda text: link.send(text.encode())
"""
Call = Callable[..., Awaitable[tuple[int, str, str]]]


def unit(root: Path, name: str, service: str, head: str = "") -> None:
    folder = root / "etc/systemd/system"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"[Unit]\n{head}\n[Service]\n{service}\n"
                               "[Install]\nWantedBy=multi-user.target\n")


def program(root: Path, text: str) -> str:
    """A Python program as an ExecStart= value."""
    file = root / f"program{len(list(root.glob('*.py')))}.py"
    file.write_text(text)
    return f"{sys.executable} -S -E {file}"


def on_board(root: Path, play: Callable[[Supervisor, Call], Awaitable[None]]) -> None:
    """Play a scene on a supervisor that answers systemctl over its socket."""
    async def scene() -> None:
        (root / "var/log").mkdir(parents=True, exist_ok=True)
        (root / "var/log/standin.journal").touch()
        board = Supervisor(root, {"enter": []})
        server = await board.listen()

        async def call(*argv: str) -> tuple[int, str, str]:
            name = "\0" + (root / "run/standin/control").read_text()
            reader, writer = await asyncio.open_unix_connection(name)
            writer.write(json.dumps(argv).encode() + b"\n")
            said = json.loads(await reader.readline())
            writer.close()
            return said[0], said[1], said[2]

        try:
            await asyncio.wait_for(play(board, call), 30)
        finally:
            for service in list(board.services.values()):
                await service.stop()
            server.close()

    asyncio.run(scene())


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def test_a_unit_file_is_read_as_systemd_syntax_7_says() -> None:
    text = ("# a comment\n[Unit]\nDescription=one \\\n  line\n; another\n[Service]\n"
            "ExecStartPre=/a\nExecStartPre=\nExecStartPre=/b %i %n 100%%\nPrivateTmp=yes\n")
    made = parse("mu-can@can0.service", text)
    assert made.one("Description", section="Unit") == "one line"
    assert made.all("ExecStartPre") == ["/b can0 mu-can@can0.service 100%"]
    assert made.not_simulated == ["PrivateTmp"]
    with pytest.raises(ValueError, match=r"x\.service:2: not a setting"):
        parse("x.service", "[Unit]\nnonsense\n")


@pytest.mark.parametrize(("text", "span"), [
    ("5", 5), ("500ms", 0.5), ("1min 30s", 90), ("2 h", 7200), ("infinity", float("inf")),
    ("", 7)])
def test_spans_of_time(text: str, span: float) -> None:
    assert seconds(text, 7) == span


def test_variables_in_a_command_line(tmp_path: Path) -> None:
    # The first example of "Command lines" in systemd.service(5).
    made = parse("x.service", "[Service]\nEnvironment=\"ONE=one\" 'TWO=two two'\n")
    env = environment(made, tmp_path)
    assert words("echo $ONE $TWO ${TWO}", env) == ["echo", "one", "two", "two", "two two"]


def test_an_environment_file(tmp_path: Path) -> None:
    (tmp_path / "run.env").write_text('# ours\nRUN="--source a --link b"\nBARE=x\n')
    made = parse("x.service", "[Service]\nEnvironmentFile=/run.env\nEnvironmentFile=-/none\n")
    env = environment(made, tmp_path)
    assert env == {"RUN": "--source a --link b", "BARE": "x"}
    assert words("mu-run $RUN", env) == ["mu-run", "--source", "a", "--link", "b"]
    gone = parse("x.service", "[Service]\nEnvironmentFile=/none\n")
    with pytest.raises(FileNotFoundError):
        environment(gone, tmp_path)


def test_links_of_the_board_stay_on_the_board(tmp_path: Path) -> None:
    (tmp_path / "opt/releases/a").mkdir(parents=True)
    (tmp_path / "opt/current").symlink_to("/opt/releases/a")
    (tmp_path / "loop").symlink_to("loop")
    assert inside(tmp_path, "/opt/current/bin") == tmp_path / "opt/releases/a/bin"
    assert inside(tmp_path, "/../../etc") == tmp_path / "etc"
    with pytest.raises(OSError, match="too many links"):
        inside(tmp_path, "/loop")


def test_it_is_up_once_it_says_so_and_its_status_is_shown(tmp_path: Path) -> None:
    unit(tmp_path, "a.service", "Type=notify\nExecStart=" + program(
        tmp_path, NOTIFY + 'say("READY=1\\nSTATUS=frames 7"); time.sleep(60)'))

    async def play(board: Supervisor, call: Call) -> None:
        assert await call("systemctl", "is-active", "a") == (3, "inactive\n", "")
        assert await call("systemctl", "start", "a") == (0, "", "")
        assert await call("systemctl", "is-active", "a") == (0, "active\n", "")
        code, out, _ = await call("systemctl", "show", "a", "-p", "StatusText,NRestarts")
        assert (code, out) == (0, "StatusText=frames 7\nNRestarts=0\n")
        assert await call("systemctl", "stop", "a") == (0, "", "")
        assert (await call("systemctl", "is-active", "a"))[0] == 3

    on_board(tmp_path, play)


def test_one_that_ends_before_it_is_ready_has_not_started(tmp_path: Path) -> None:
    unit(tmp_path, "a.service", "Type=notify\nExecStart=/bin/sh -c 'echo no bundle; exit 2'")

    async def play(board: Supervisor, call: Call) -> None:
        code, _, err = await call("systemctl", "start", "a.service")
        assert code == 1
        assert "Job for a.service failed" in err
        assert await call("systemctl", "is-failed", "a") == (0, "failed\n", "")
        code, out, _ = await call("systemctl", "show", "a", "-p", "ExecMainCode", "-p",
                                  "ExecMainStatus")
        assert out == "ExecMainCode=1\nExecMainStatus=2\n"
        await until(lambda: "no bundle" in (tmp_path / "var/log/standin.journal").read_text())
        assert "no bundle" in (await call("journalctl", "-u", "a", "-o", "cat"))[1]

    on_board(tmp_path, play)


def test_what_keeps_dying_fails_after_its_limit_and_calls_for_help(tmp_path: Path) -> None:
    unit(tmp_path, "a.service", "Restart=on-failure\nRestartSec=10ms\nExecStart=/bin/false",
         "StartLimitBurst=3\nStartLimitIntervalSec=60\nOnFailure=help.service")
    unit(tmp_path, "help.service", f"Type=oneshot\nExecStart=/usr/bin/touch {tmp_path}/helped")

    async def play(board: Supervisor, call: Call) -> None:
        await call("systemctl", "start", "a")
        await until((tmp_path / "helped").exists)
        dead = board.services["a.service"]
        assert (dead.state, dead.result, len(dead.starts)) == ("failed", "start-limit-hit", 3)
        assert (await call("systemctl", "start", "a"))[0] == 1
        assert dead.result == "start-limit-hit"
        await call("systemctl", "reset-failed", "a")
        assert dead.state == "inactive"
        await call("systemctl", "start", "a")
        assert dead.starts
        assert dead.result != "start-limit-hit"

    on_board(tmp_path, play)


def test_help_is_not_called_while_it_is_started_again(tmp_path: Path) -> None:
    flag = tmp_path / "second"
    unit(tmp_path, "a.service", "Restart=on-failure\nRestartSec=0\nExecStart=/bin/sh -c "
         f"'test -e {flag} && exec sleep 60; touch {flag}; exit 1'", "OnFailure=help.service")
    unit(tmp_path, "help.service", f"Type=oneshot\nExecStart=/usr/bin/touch {tmp_path}/helped")

    async def play(board: Supervisor, call: Call) -> None:
        await call("systemctl", "start", "a")
        await until(lambda: board.services["a.service"].restarts == 1)
        await until(lambda: board.services["a.service"].state == "active")
        assert not (tmp_path / "helped").exists()

    on_board(tmp_path, play)


def test_a_watchdog_that_nobody_feeds_bites(tmp_path: Path) -> None:
    fed = 'say("READY=1")\nfor _ in range(4): time.sleep(0.1); say("WATCHDOG=1")\n'
    unit(tmp_path, "a.service", "Type=notify\nWatchdogSec=300ms\nExecStart=" + program(
        tmp_path, NOTIFY + f'print(os.environ["WATCHDOG_USEC"], flush=True)\n{fed}time.sleep(60)'))

    async def play(board: Supervisor, call: Call) -> None:
        started = time.monotonic()
        await call("systemctl", "start", "a")
        await until(lambda: board.services["a.service"].state == "failed")
        assert board.services["a.service"].result == "watchdog"
        assert time.monotonic() - started > 0.4, "it bit although it was fed"
        out = (await call("journalctl", "-u", "a"))[1]
        assert "300000" in out
        assert "Watchdog timeout (limit 0.3s)!" in out

    on_board(tmp_path, play)


def test_a_stop_ends_what_the_service_has_started(tmp_path: Path) -> None:
    unit(tmp_path, "a.service", f"ExecStart=/bin/sh -c 'sleep 61 & echo $$! > {tmp_path}/child;"
         " wait'")

    async def play(board: Supervisor, call: Call) -> None:
        await call("systemctl", "start", "a")
        await until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text())
        child = Path("/proc") / (tmp_path / "child").read_text().strip()
        assert child.exists()
        await call("systemctl", "stop", "a")
        await until(lambda: not child.exists() or ") Z " in (child / "stat").read_text())

    on_board(tmp_path, play)


def test_boot_starts_what_is_enabled_in_order_and_stops_at_what_fails(tmp_path: Path) -> None:
    said = tmp_path / "said"
    for name, head, more in (
            ("last", "Requires=first.service\nAfter=first.service middle.service", ""),
            ("middle", "Wants=bad.service\nAfter=bad.service", ""),
            ("first", "Before=middle.service bad.service", ""),
            ("bad", "", "\nExecStart=/bin/false"),
            ("needy", "Requires=bad.service\nAfter=bad.service", "")):
        unit(tmp_path, f"{name}.service",
             f"Type=oneshot\nExecStart=/bin/sh -c 'echo {name} >> {said}'{more}", head)

    async def play(board: Supervisor, call: Call) -> None:
        code, _, err = await call("systemctl", "enable", "last", "middle", "needy")
        assert code == 0
        assert "Created symlink" in err
        assert (await call("systemctl", "is-enabled", "last"))[1] == "enabled\n"
        boot = asyncio.create_task(board.run([]))
        await until((tmp_path / "run/standin/booted").exists)
        assert said.read_text().split() == ["first", "bad", "middle", "last"]
        assert board.services["needy.service"].result == "dependency"
        boot.cancel()

    on_board(tmp_path, play)


def test_what_nobody_scripted_is_refused(tmp_path: Path) -> None:
    async def play(board: Supervisor, call: Call) -> None:
        assert (await call("systemctl", "start", "none"))[0] == 5
        code, _, err = await call("systemctl", "isolate", "rescue.target")
        assert code == 1
        assert "invalid choice: 'isolate'" in err
        assert (await call("journalctl", "--vacuum-size=1"))[0] == 1

    on_board(tmp_path, play)


def test_an_order_that_goes_in_a_circle_is_an_error(tmp_path: Path) -> None:
    unit(tmp_path, "a.service", "ExecStart=/bin/true", "After=b.service")
    unit(tmp_path, "b.service", "ExecStart=/bin/true", "After=a.service")
    board = Supervisor(tmp_path, {"enter": []})
    made = {name: board.service(name) for name in ("a.service", "b.service")}
    with pytest.raises(ValueError, match="cycle"):
        order({name: service for name, service in made.items() if service})
