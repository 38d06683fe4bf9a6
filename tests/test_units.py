"""Units and udev rules.

Truth: systemd's own checker and its own measure of exposure; the system calls that mu-run makes,
seen by strace, against the lists that systemd knows; systemd.exec(5) for which settings would take
a GPU, a CAN bus or a scheduler away.
"""

from __future__ import annotations

import configparser
import dataclasses
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from spikewire.board import Board, all_boards
from spikewire.runtime.engine_native import LIBRARY
from spikewire.units import ENABLED, udev_rules, units

SYSTEM = Path("/usr/lib/systemd/system")
BOARDS = [pytest.param(board, id=board.id) for board in all_boards() if board.supported]
NEEDS_SYSTEMD = pytest.mark.skipif(
    not (shutil.which("systemd-analyze") and SYSTEM.is_dir()), reason="needs: apt install systemd")
PROGRAMS = ("usr/bin/python3", "usr/sbin/ip", "opt/spikewire/current/bin/mu-run",
            "opt/spikewire/current/bin/mu-doctor")
MOST_EXPOSED = 3.0
SET_MDWE, MDWE_REFUSE_EXEC_GAIN = 65, 1  # linux/prctl.h, since Linux 6.3


def lines(text: str) -> dict[str, list[str]]:
    """Setting -> its values, in order."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals:
            found.setdefault(key, []).append(value)
    return found


def runtime(board: Board) -> dict[str, list[str]]:
    return lines(units(board)["mu-runtime.service"])


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root folder with this system's own units and programs that do nothing."""
    root = tmp_path_factory.mktemp("system")
    shutil.copytree(SYSTEM, root / "usr/lib/systemd/system", symlinks=True)
    for name in ("lib", "sbin"):
        (root / name).symlink_to(f"usr/{name}")
    for name in PROGRAMS:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("#!/bin/sh\n")
        (root / name).chmod(0o755)
    return root


def complaints(root: Path, made: dict[str, str], interfaces: list[str]) -> str:
    """What systemd-analyze verify says of some units, lines of its exit included."""
    folder = root / "etc/systemd/system"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, text in made.items():
        (folder / name).write_text(text)
    names = [name for name in made if "@" not in name]
    names += [f"mu-can@{name}.service" for name in interfaces]
    done = subprocess.run(
        ["systemd-analyze", "verify", f"--root={root}", "--man=no", *names],
        cwd=folder, capture_output=True, text=True)
    return done.stdout + done.stderr + ("" if done.returncode == 0 else "failed")


@NEEDS_SYSTEMD
@pytest.mark.parametrize("board", BOARDS)
def test_systemd_has_nothing_to_say(board: Board, system: Path) -> None:
    assert complaints(system, units(board), list(board.can)) == ""


@NEEDS_SYSTEMD
def test_systemd_would_have_something_to_say(system: Path) -> None:
    """The check above can fail: a misspelt key, a program that is not there."""
    made = units(all_boards()[0])
    text = made["mu-runtime.service"]
    spoilt = text.replace("WatchdogSec", "WatchdogSecs")
    assert "WatchdogSecs" in complaints(system, made | {"mu-runtime.service": spoilt}, [])
    spoilt = text.replace("bin/mu-run ", "bin/mu-ran ")
    assert "mu-ran" in complaints(system, made | {"mu-runtime.service": spoilt}, [])


@NEEDS_SYSTEMD
@pytest.mark.parametrize("board", BOARDS)
def test_the_runtime_is_little_exposed(board: Board, tmp_path: Path) -> None:
    for name in ("mu-runtime.service", "mu-engine.service"):
        if name not in units(board):
            continue
        (tmp_path / name).write_text(units(board)[name])
        done = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", "--no-pager", str(tmp_path / name)],
            capture_output=True, text=True)
        found = re.search(r"Overall exposure level for \S+ (\d+\.\d)", done.stdout)
        assert found, done.stdout + done.stderr
        assert float(found[1]) <= MOST_EXPOSED, done.stdout


@pytest.mark.parametrize("board", BOARDS)
def test_what_the_runtime_needs_is_left_to_it(board: Board) -> None:
    """systemd.exec(5), systemd.resource-control(5)."""
    said = runtime(board)
    # Each of these would close serial lines, sockets, /proc/device-tree or the scheduler.
    for key in ("PrivateDevices", "PrivateNetwork", "PrivateUsers", "RestrictRealtime",
                "ProcSubset", "IPAddressDeny", "RootDirectory", "NoExecPaths"):
        assert key not in said
    families = said["RestrictAddressFamilies"][0].split()
    assert {"AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK", "AF_CAN"} == set(families)
    assert said["LimitMEMLOCK"] == ["infinity"]
    assert int(said["LimitRTPRIO"][0]) >= 20  # runtime.realtime.PRIORITY
    assert said["CacheDirectory"] == said["RuntimeDirectory"] == ["spikewire"]
    assert "XDG_CACHE_HOME=/var/cache" in said["Environment"]
    groups = set(said["SupplementaryGroups"][0].split())
    if board.engine == "tensorrt":
        assert groups == {"dialout", "video", "render"}
        # ProtectClock= implies DeviceAllow=char-rtc, with which every other device is closed.
        for key in ("DevicePolicy", "DeviceAllow", "ProtectClock", "MemoryDenyWriteExecute"):
            assert key not in said
    else:
        assert groups == {"dialout"}
        assert {"char-tty* rw", "char-pts rw"} <= set(said["DeviceAllow"])
    # A bus that went off is taken down and up by the runtime itself.
    wanted = "CAP_NET_ADMIN" if board.can else ""
    assert said["CapabilityBoundingSet"] == [wanted]
    assert said.get("AmbientCapabilities", [""]) == [wanted]


@pytest.mark.parametrize("board", BOARDS)
def test_the_runtime_as_the_contract_has_it(board: Board) -> None:
    said, made = runtime(board), units(board)
    assert said["Type"] == ["notify"]
    assert said["WatchdogSec"] == ["1"]
    assert said["Restart"] == ["on-failure"]
    assert said["OnFailure"] == ["mu-rollback.service"]
    assert int(said["StartLimitBurst"][0]) == 3
    command = said["ExecStart"][0].split()
    assert command[:2] == ["/opt/spikewire/current/bin/mu-run", "/opt/spikewire/current/bundle.mub"]
    assert command[-1] == "$SPIKEWIRE_RUN"  # so that the owner's words win
    assert command[command.index("--engine") + 1] == board.engine
    assert command[command.index("--status") + 1] == "/run/spikewire/status.json"
    for name in ENABLED:
        assert "WantedBy=multi-user.target" in made[name]
    assert {name for name, text in made.items() if "[Install]" in text} == set(ENABLED)
    # What it waits for is there, and nothing is there that nobody starts.
    started = set(said.get("Wants", [""])[0].split()) | set(said["OnFailure"]) | set(ENABLED)
    assert {re.sub("@[a-z0-9]+", "@", name) for name in started} == set(made)
    assert set(said.get("Wants", [""])[0].split()) <= set(said["After"][0].split())
    assert "mu-boot-check.service" in said["After"][0].split()


def test_the_commands_on_the_board_are_onboards() -> None:
    made = units(next(b for b in all_boards() if b.id == "agx-orin-64"))
    verbs = {name: line.removeprefix("/usr/bin/python3 -I /opt/spikewire/onboard.pyz ")
             for name, text in made.items() for line in lines(text)["ExecStart"]}
    assert verbs == verbs | {
        "mu-power.service": "power", "mu-can@.service": "can-up %i",
        "mu-boot-check.service": "boot-check", "mu-confirm.service": "confirm",
        "mu-rollback.service": "rollback"}
    can = lines(made["mu-can@.service"])
    assert can["BindsTo"] == ["sys-subsystem-net-devices-%i.device"]
    assert can["JobTimeoutSec"] == ["15"]


def test_a_login_on_the_port_gives_way() -> None:
    """As display managers do with getty@tty1: Conflicts= and After=."""
    for board in all_boards():
        logins = {uart.getty for uart in board.uart.values()}
        if board.supported and logins:
            assert runtime(board)["Conflicts"] == ["nvgetty.service"] == list(logins)
            assert "nvgetty.service" in runtime(board)["After"][0].split()


def test_cores_are_named_only_if_the_board_file_names_them() -> None:
    board = next(b for b in all_boards() if b.id == "orin-nano-super")
    assert "--realtime --status" in runtime(board)["ExecStart"][0]
    assert "CPUAffinity" not in runtime(board)
    realtime = dataclasses.replace(board.realtime, cpus=(4, 5))
    said = runtime(dataclasses.replace(board, realtime=realtime))
    assert "--realtime 4 " in said["ExecStart"][0]
    assert said["CPUAffinity"] == ["4 5"]


def test_ports_are_bound_by_address() -> None:
    rules = {b.id: udev_rules(b) for b in all_boards()}
    assert rules["agx-orin-64"]["60-spikewire.rules"].splitlines()[1] == (
        'SUBSYSTEM=="tty", KERNELS=="3100000.serial", SYMLINK+="spikewire-exo", '
        'GROUP="dialout", MODE="0660"')
    assert rules["thor-t5000"] == rules["generic-aarch64"] == {}


def test_every_unit_is_a_file_of_three_sections() -> None:
    for board in all_boards():
        for name, text in units(board).items():
            parsed = configparser.ConfigParser(strict=False, interpolation=None)
            parsed.read_string(text)
            assert set(parsed.sections()) <= {"Unit", "Service", "Install"}, name
            assert max(map(len, text.splitlines())) < 300


def calls_in(group: str) -> set[str]:
    """The system calls of one of systemd's groups."""
    shown = subprocess.run(["systemd-analyze", "syscall-filter", group], capture_output=True,
                           text=True, check=True).stdout
    found: set[str] = set()
    for line in shown.splitlines()[1:]:
        word = line.strip()
        if word and not word.startswith("#"):
            found |= calls_in(word) if word.startswith("@") else {word}
    return found


@pytest.fixture
def command(
    kept_bundle_path: Path, recording_path: Path, tmp_path: Path
) -> Iterator[list[str]]:
    """A short mu-run with a serial line, UDP, a log, and all that --realtime asks for."""
    if not LIBRARY.is_file():
        pytest.skip("the C++ library is not built here")
    ends = os.openpty()
    yield [sys.executable, "-m", "spikewire.commands.run", str(kept_bundle_path), "--source",
           f"replay:{recording_path}", "--engine", "native", "--realtime", "--duration", "1.5",
           "--link", "udp:127.0.0.1:47113", "--link", f"serial:{os.ttyname(ends[1])}",
           "--record", str(tmp_path / "run.mcap")]
    for end in ends:
        os.close(end)


@NEEDS_SYSTEMD
@pytest.mark.skipif(not shutil.which("strace"), reason="needs: apt install strace")
def test_every_system_call_of_the_runtime_is_allowed(command: list[str], tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    done = subprocess.run(["strace", "-f", "-qq", "-o", str(trace), *command],
                          capture_output=True, text=True)
    if "strace" in done.stderr and "PTRACE" in done.stderr:
        pytest.skip("nothing may be traced here")
    assert done.returncode == 0, done.stderr
    used = set(re.findall(r"^\d+ +(\w+)\(", trace.read_text(), re.M))
    assert {"mlockall", "sched_setscheduler", "sendto", "mmap"} <= used
    board = all_boards()[0]
    allow, deny = runtime(board)["SystemCallFilter"]
    allowed = calls_in(allow) - calls_in(deny.removeprefix("~"))
    assert used <= allowed, used - allowed


def test_the_runtime_lives_without_writable_code(command: list[str]) -> None:
    """What MemoryDenyWriteExecute= forbids, forbidden by the kernel itself."""
    forbid = ("import ctypes, os, sys\n"
              f"if ctypes.CDLL(None).prctl({SET_MDWE}, {MDWE_REFUSE_EXEC_GAIN}, 0, 0, 0):\n"
              "    sys.exit(9)\n"
              "os.execv(sys.argv[1], sys.argv[1:])")
    done = subprocess.run([sys.executable, "-c", forbid, *command], capture_output=True, text=True)
    if done.returncode == 9:
        pytest.skip("this kernel has no PR_SET_MDWE (Linux 6.3)")
    assert done.returncode == 0, done.stderr
