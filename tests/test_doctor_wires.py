"""Amplifiers, Wi-Fi and liblsl. A socket of this machine stands for the amplifier."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from jetson import make_jetson, on_path, only, put, shim

from spikewire.doctor import wires
from spikewire.doctor.finding import Asked
from spikewire.doctor.machine import Machine


@pytest.fixture
def waiting() -> Iterator[int]:
    """A port that takes calls."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def amplifier(source: str | None):
    (found,) = wires.amplifier(Machine(), Asked(source=source))
    return found


def test_an_amplifier_that_takes_calls(waiting: int) -> None:
    found = amplifier(f"quattrocento:127.0.0.1:{waiting}?channels=64")
    assert (found.state, found.evidence) == (
        "ok", f"quattrocento at 127.0.0.1:{waiting} takes connections")


def test_one_that_does_not(monkeypatch) -> None:
    found = amplifier(f"intan:127.0.0.1:{free_port()}")
    assert found.state == "fail"
    assert "Connection refused" in found.evidence
    assert "in RHX" in found.remedy

    def patient(place: object, timeout: float) -> None:
        assert timeout == 2.0
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", patient)
    found = amplifier("quattrocento:")
    assert found.evidence == "quattrocento at 169.254.1.10:23456: no answer (waited up to 2 s)"
    assert "169.254.1.1/24" in found.remedy


@pytest.mark.parametrize("host", ["nowhere.invalid", "a" * 300, "\x00", "..", "\udcff", "é" * 80])
def test_a_host_that_is_none(host: str) -> None:
    for scheme in ("quattrocento", "muovi"):
        found = amplifier(f"{scheme}:{host}:54321")
        assert found.state == "fail"


def test_a_port_for_amplifiers_that_call_us(waiting: int) -> None:
    found = amplifier(f"muovi:127.0.0.1:{waiting}")
    assert found.state == "fail"
    assert "Address already in use" in found.evidence
    assert f"sport = :{waiting}" in found.remedy
    assert amplifier(f"sessantaquattro:127.0.0.1:{free_port()}").state == "ok"
    found = amplifier("muovi:203.0.113.9")  # no address of ours, RFC 5737
    assert found.state == "fail"
    assert "ip -brief address" in found.remedy


def test_what_is_reached_over_no_network(bundle_path: Path, tmp_path: Path) -> None:
    found = amplifier(f"replay:{bundle_path}?loop=1")
    assert (found.state, found.step) == ("ok", "source")
    assert "16 channels at 2048 Hz" in found.evidence
    (tmp_path / "x.npz").write_bytes(b"PK")
    for name in ("x.npz", "no.npz"):
        assert amplifier(f"replay:{tmp_path / name}").state == "fail"
    assert amplifier("simulate:").state == "n/a"
    assert amplifier(None).remedy.startswith("--source ")


@pytest.mark.parametrize(("said", "state", "words"), [
    ("Power save: on\n", "warn", "sudo iw dev wlan0 set power_save off"),
    ("Power save: off\n", "ok", "power save off"), ("", "warn", "apt install iw"),
    ("\x00\xff", "warn", "power save unknown"), (None, "warn", "apt install iw"),
])
def test_a_radio_that_sleeps(tmp_path, monkeypatch, said, state, words) -> None:
    on_path(monkeypatch, tmp_path / "bin")
    put(tmp_path, "sys/class/net/wlan0/wireless/x", "")
    put(tmp_path, "sys/class/net/wlan0/phy80211/x", "")
    if said is not None:
        shim(tmp_path / "bin", "iw", said)
    found = only(wires.wifi(Machine(tmp_path), Asked()), "Wi-Fi wlan0")
    assert found.state == state
    assert words in f"{found.evidence} {found.remedy}"


def test_no_radio(tmp_path: Path) -> None:
    assert only(wires.wifi(Machine(make_jetson(tmp_path)), Asked()), "Wi-Fi").state == "n/a"


def test_liblsl_is_wanted_by_lsl_only(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(wires, "version_of", lambda module, package: "")

    def state(source: str | None) -> str:
        return only(wires.lsl(Machine(tmp_path), Asked(source=source)), "liblsl").state

    assert (state(None), state("lsl:EMG")) == ("n/a", "fail")
    put(tmp_path, "usr/lib/aarch64-linux-gnu/liblsl.so.1.16", "")
    assert state("lsl:EMG") == "ok"
