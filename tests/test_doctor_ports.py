"""CAN interfaces and serial ports. A pseudo-terminal stands for the port, linked below the root."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from jetson import add_can, make_jetson, on_path, only, put, shim, shim_ip, told_can

from spikewire.doctor import ports
from spikewire.doctor.finding import Asked
from spikewire.doctor.machine import Machine


@pytest.fixture
def root(tmp_path: Path, monkeypatch) -> Path:
    """A Jetson, and only shims on the path."""
    on_path(monkeypatch, tmp_path / "bin")
    shim_ip(tmp_path / "bin", told_can("can0"))
    return make_jetson(tmp_path / "root")


def can(root: Path, *links: str) -> list:
    return list(ports.can(Machine(root), Asked(links=links)))


def test_an_interface_in_order(root: Path) -> None:
    found = only(can(root, "can:can0?profile=fd&arm=1"), "CAN can0")
    assert found.state == "ok"
    assert found.evidence == ("up, ERROR-ACTIVE, 500 kbit/s, FD 2000 kbit/s, queue 100 frames, "
                              "restart 100 ms")


@pytest.mark.parametrize(("told", "state", "words"), [
    ({"state": "BUS-OFF", "offs": 3}, "fail", "BUS-OFF, 500 kbit/s"),
    ({"state": "BUS-OFF", "offs": 3}, "fail", "bus-offs 3"),
    ({"state": "ERROR-PASSIVE"}, "warn", "120 ohm"),
    ({"tx": 96}, "warn", "error counters 96/0"),
    ({"restart": 0}, "warn", "restart-ms 100"),
    ({"state": "\x1b[2J"}, "ok", "up, ?, "), ({"state": ["x"]}, "ok", "up, ?, "),
    ({"restart": "many"}, "ok", "restart ? ms"), ({"tx": 1 << 80}, "ok", "up, ERROR-ACTIVE"),
])
def test_what_the_kernel_tells(root: Path, tmp_path: Path, told: dict, state: str,
                               words: str) -> None:
    shim_ip(tmp_path / "bin", told_can("can0", **told))
    found = only(can(root, "can:can0"), "CAN can0")
    assert found.state == state
    assert words in f"{found.evidence} {found.remedy}"


def test_an_interface_that_is_down_fails_only_who_needs_it(root: Path) -> None:
    add_can(root, "can0", flags="0x40080")
    assert only(can(root), "CAN can0").state == "warn"
    found = only(can(root, "can:can0"), "CAN can0")
    assert found.state == "fail"
    assert found.remedy.startswith("sudo systemctl start mu-can@can0, or: sudo ip link set can0")


def test_a_short_queue_and_two_interfaces(root: Path) -> None:
    add_can(root, "can1", queue=10, mtu=16)
    found = can(root, "can:can0", "can:can7")
    assert [f.step for f in found] == ["CAN can7", "CAN can0", "CAN can1"]
    assert found[0].state == "fail"
    assert "there are: can0, can1" in found[0].evidence
    assert "txqueuelen 100" in found[2].remedy
    assert "FD" not in found[2].evidence


@pytest.mark.parametrize("said", ["", "[", "{}", "[1]", '[{"ifname": 3, "linkinfo": {}}]',
                                  '[{"ifname": "can0", "linkinfo": []}]', "[" * 100_000, "null"])
def test_an_ip_that_tells_nothing_leaves_the_files(root: Path, tmp_path: Path, said: str) -> None:
    shim(tmp_path / "bin", "ip", said)
    found = only(can(root, "can:can0"), "CAN can0")
    assert found.state == "warn"
    assert "up, ?, ? kbit/s, FD, queue 100 frames" in found.evidence
    assert "iproute2" in found.remedy


def test_a_virtual_interface_has_no_bit_rate(root: Path, tmp_path: Path) -> None:
    shim_ip(tmp_path / "bin", {"ifname": "can0", "linkinfo": {"info_kind": "vcan"}})
    found = only(can(root, "can:can0"), "CAN can0")
    assert (found.state, "kbit" in found.evidence) == ("ok", False)


def test_no_can_is_nothing_to_say_unless_a_link_wants_it(tmp_path: Path) -> None:
    assert only(can(tmp_path), "CAN").state == "n/a"
    found = only(can(tmp_path, "can:can0"), "CAN can0")
    assert (found.state, found.evidence) == ("fail", "no such interface; there are: none")


@pytest.fixture
def port(root: Path) -> Iterator[Path]:
    """A port /dev/ttyTHS1 that is a real terminal."""
    master, slave = os.openpty()
    (root / "dev").mkdir()
    (root / "dev/ttyTHS1").symlink_to(os.ttyname(slave))
    (root / "dev/pts").symlink_to("/dev/pts")
    yield root / "dev/ttyTHS1"
    os.close(slave)
    os.close(master)


def serial(root: Path, *links: str) -> list:
    return list(ports.serial(Machine(root), Asked(links=links)))


LINK, STEP = "serial:/dev/ttyTHS1?baud=921600&arm=1", "serial /dev/ttyTHS1"


def test_a_port_in_order(root: Path, port: Path) -> None:
    found = only(serial(root, LINK), STEP)
    assert found.state == "ok"
    group = {0: "root", 5: "tty"}.get(port.stat().st_gid, str(port.stat().st_gid))
    assert f"group {group}, mode " in found.evidence
    assert "may be opened" in found.evidence
    assert only(serial(root), STEP).state == "ok"  # found without being asked for


def test_a_link_of_ours_is_followed(root: Path, port: Path) -> None:
    (root / "dev/spikewire-exo").symlink_to("ttyTHS1")
    found = only(serial(root, "serial:/dev/spikewire-exo"), "serial /dev/spikewire-exo")
    assert found.state == "ok"
    assert found.evidence.startswith("/dev/pts/")


def test_rights_and_the_group_that_has_them(root: Path, port: Path, monkeypatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    put(root, "etc/group", f"x:x:1:\ndialout:x:{port.stat().st_gid}:ana\n")
    found = only(serial(root, LINK), STEP)
    assert (found.state, found.remedy) == (
        "fail", "sudo usermod -aG dialout $USER; then log in again")
    assert only(serial(root), STEP).state == "warn"


def test_a_getty_will_take_it(root: Path, port: Path) -> None:
    """Truth: nvgetty.service of JetPack, and systemd's getty generator."""
    (port.parent / "ttyUSB0").symlink_to(os.readlink(port))
    port.unlink()
    port.symlink_to("ttyUSB0")
    put(root, "etc/systemd/system/multi-user.target.wants/nvgetty.service", "")
    name = Path(os.readlink(root / "dev/ttyUSB0")).name
    put(root, f"etc/systemd/system/getty.target.wants/serial-getty@{name}.service", "")
    found = only(serial(root, LINK), STEP)
    assert found.state == "fail"
    assert f"sudo systemctl disable --now serial-getty@{name}.service" in found.remedy


@pytest.mark.parametrize("enabled", [True, False])
def test_nvgetty_holds_the_headers_port_only(root: Path, enabled: bool) -> None:
    if enabled:
        put(root, "etc/systemd/system/multi-user.target.wants/nvgetty.service", "")
    assert ports.logins(Machine(root), "ttyTHS1") == ["nvgetty.service"] * enabled
    assert ports.logins(Machine(root), "ttyUSB0") == []


@pytest.mark.parametrize(("comm", "state", "words"), [
    ("agetty", "fail", "a login holds it"), ("nvgetty.sh", "fail", "a login holds it"),
    ("python3", "warn", "if that is not mu-run, end it"),
])
def test_who_holds_it(root: Path, port: Path, comm: str, state: str, words: str) -> None:
    put(root, "proc/812/comm", f"{comm}\n")
    (root / "proc/812/fd").mkdir()
    (root / "proc/812/fd/7").symlink_to(os.readlink(port))
    (root / "proc/812/fd/8").symlink_to("socket:[1]")
    found = only(serial(root, LINK), STEP)
    assert found.state == state
    assert f"open in {comm} (812)" in found.evidence
    assert words in found.remedy


def test_the_kernels_console(root: Path, port: Path) -> None:
    name = Path(os.readlink(port)).name
    put(root, "proc/cmdline", f"root=/dev/x console=tty0 console={name},115200n8 rw")
    found = only(serial(root, LINK), STEP)
    assert found.state == "fail"
    assert "extlinux.conf" in found.remedy


def test_ports_that_are_none(root: Path) -> None:
    put(root, "dev/ttyUSB3", "a file")
    (root / "dev/loop").symlink_to("loop")
    for name, words in (("ttyUSB3", "no port but a file"), ("loop", "not there"),
                        ("no", "not there"), ("", "no port but a file"), ("a\0b", "not there")):
        found = serial(root, f"serial:/dev/{name}")[0]
        assert found.state == "fail"
        assert words in found.evidence
    assert only(serial(root / "no"), "serial").state == "n/a"


def test_without_pyserial_a_serial_link_fails(root: Path, port: Path, monkeypatch) -> None:
    monkeypatch.setattr(ports, "version_of", lambda module, package: "")
    found = only(serial(root, LINK), "pyserial")
    assert (found.state, found.remedy.endswith("pip install pyserial")) == ("fail", True)
    assert [f.step for f in serial(root)] == [STEP]
