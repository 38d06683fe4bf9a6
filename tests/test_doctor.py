"""The whole examination, of a Jetson that is a folder; and of one whose files are noise."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jetson import make_jetson, on_path, only, put, shim_ip, told_can

from spikewire.doctor import examine
from spikewire.doctor.finding import STATES, Asked, judged
from spikewire.doctor.machine import Machine
from spikewire.link.transport import LinkError
from spikewire.signals import InputError


def test_a_jetson_in_order_has_nothing_to_mend(tmp_path: Path, monkeypatch) -> None:
    on_path(monkeypatch, tmp_path / "bin")
    shim_ip(tmp_path / "bin", told_can("can0"))
    findings = list(examine(Asked(), Machine(make_jetson(tmp_path / "root"))))
    steps = [f.step for f in findings]
    assert len(set(steps)) == len(steps)
    assert {"board", "Python", "power mode", "CAN can0", "bundle", "latency"} <= set(steps)
    # what this very machine, not the folder, decides
    ours = {"TensorRT", "engines", "packages", "disk"}
    assert [f for f in findings if f.state in ("warn", "fail") and f.step not in ours] == []
    assert all(f.evidence for f in findings)
    assert all(f.remedy for f in findings if f.state in ("warn", "fail"))


FILES = [
    "etc/nv_tegra_release", "etc/nvpmodel.conf", "var/lib/nvpmodel/status", "var/lib/dpkg/status",
    "proc/self/limits", "proc/self/status", "proc/cmdline", "proc/device-tree/model", "etc/group",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq", "sys/class/thermal/thermal_zone0/temp",
    "sys/class/devfreq/17000000.gpu/max_freq", "sys/class/net/can0/type",
    "sys/class/net/can0/flags", "sys/class/net/can0/tx_queue_len",
    "sys/devices/system/clocksource/clocksource0/current_clocksource",
]
NOISE = st.one_of(
    st.binary(max_size=200), st.text(max_size=60).map(lambda t: t.encode("utf8", "surrogatepass")),
    st.sampled_from([b"", b"\0", b"nan", b"inf", b"-1", b"1e999", b"9" * 400, b"pmode:99999999999",
                     b"# R999 (release), REVISION: 9.9.9.9", b"\xff" * 99, b"0x" + b"f" * 99,
                     b"CapEff:\tffffffffffffffff", "pmode:\u0661".encode()]))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noise=st.dictionaries(st.sampled_from(FILES), NOISE, max_size=6), said=NOISE)
def test_no_file_ends_an_examination(tmp_path_factory, monkeypatch, noise, said) -> None:
    folder = tmp_path_factory.mktemp("noise")
    with monkeypatch.context() as patch:
        on_path(patch, folder / "bin")
        shim_ip(folder / "bin")
        (folder / "bin/ip.txt").write_bytes(said)
        make_jetson(folder / "root")
        for path, content in noise.items():
            put(folder / "root", path, content)
        findings = list(examine(Asked(), Machine(folder / "root")))
    assert all(f.state in STATES for f in findings)
    assert all(f.evidence.isprintable() and f.step.isprintable() for f in findings)


def test_an_empty_folder_and_a_missing_one_are_examined(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "no"):
        findings = list(examine(Asked(), Machine(root)))
        assert only(findings, "board").state == "n/a"
        assert only(findings, "CAN").state == "n/a"


@pytest.mark.parametrize(("asked", "words"), [
    (Asked(bundle="no.mub"), "no.mub: no such bundle"),
    (Asked(self_test=True), "type mu-doctor X.mub --self-test"),
    (Asked(seconds=-1.0), "--seconds is -1, allowed is 0"),
    (Asked(seconds=float("nan")), "--seconds is nan"),
    (Asked(source="muscle:here"), "allowed are quattrocento:"),
    (Asked(source="quattrocento"), "allowed are quattrocento:"),
    (Asked(source="quattrocento:10.0.0.1:0"), "port 0 came, allowed is 1 to 65535"),
    (Asked(source="muovi::70000"), "port 70000 came"),
    (Asked(source="intan:h:\u0661"), "allowed is 1 to 65535"),
    (Asked(links=("pigeon:",)), "unknown scheme 'pigeon'"),
    (Asked(links=("ttyUSB0",)), "has no scheme"),
])
def test_what_cannot_be_asked_is_one_line(asked: Asked, words: str) -> None:
    with pytest.raises((InputError, LinkError)) as caught:
        next(iter(examine(asked)))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("source", "place"), [
    ("quattrocento:", ("169.254.1.10", 23456)), ("quattrocento:10.1.2.3", ("10.1.2.3", 23456)),
    ("intan:rig.local:5001?block=10", ("rig.local", 5001)), ("muovi:", ("0.0.0.0", 54321)),
    ("sessantaquattro:?gain=8&port=45455", ("0.0.0.0", 45455)), ("intan://h/", ("h", 5000)),
    ("muovi:?host=10.0.0.2", ("10.0.0.2", 54321)), ("syncstation:", ("192.168.76.1", 54320)),
])
def test_amplifiers_are_where_their_makers_say(source: str, place: tuple[str, int]) -> None:
    """Truth: the makers' protocol sheets. Options of sources that come later are let through."""
    found = Asked(source=source).place()
    assert (found.host, found.port) == place


def test_the_worst_row_is_the_state_and_remedies_come_once() -> None:
    rows = [(True, "warn", "do"), (False, "fail", "never"), (True, "warn", "do"),
            (True, "ok", "")]
    assert (judged("x", "e", rows).state, judged("x", "e", rows).remedy) == ("warn", "do")
    assert judged("x", "e", []).state == "ok"
    assert os.fspath(Machine().root) == "/"
