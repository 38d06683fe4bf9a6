"""Board files.

Truth: what NVIDIA and others publish, copied here by hand and named; the arithmetic of CAN bit
timing; tables that hypothesis thinks of.
"""

from __future__ import annotations

import copy
import json
import re
import string
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikewire import board as module
from spikewire.board import all_boards, from_table, read_board, read_facts, to_json
from spikewire.boardfacts import PYTHONS, Can, Flash, JetPack, Power, Realtime, Uart, rows
from spikewire.signals import InputError
from spikewire.tomlfile import read_toml

FOLDER = Path(__file__).parents[1] / "boards"
IDS = ("agx-orin-64", "generic-aarch64", "orin-nano-super", "orin-nx-16", "standin-arm64",
       "thor-t5000", "x86_64-sim")
REFUSED = {"xavier-nx": "3.8", "agx-xavier": "3.8", "jetson-nano": "3.6"}
NANO = read_toml(FOLDER / "orin-nano-super.toml", "{}")
SECTIONS = {"power": Power, "realtime": Realtime, "jetpack[0]": JetPack, "flash[0]": Flash,
            "can.can0": Can, "uart.exo": Uart}


def changed(key: str, value: Any) -> dict[str, Any]:
    """The Nano's table with one value, named as messages name it, set or (None) taken away."""
    table = copy.deepcopy(NANO)
    at: Any = table
    *above, last = [int(part) if part.isdecimal() else part
                    for part in re.findall(r"[a-z_0-9]+", key)]
    for part in above:
        at = at[part]
    if value is None:
        del at[last]
    else:
        at[last] = value
    return table


def refusal(table: Any) -> str:
    """What a table is refused with."""
    with pytest.raises(InputError) as caught:
        from_table(table, "x.toml")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("x.toml: ")
    return str(caught.value)


def test_the_boards_that_come_with_the_package() -> None:
    found = all_boards()
    assert {b.id for b in found if b.supported} == set(IDS)
    assert {b.id for b in found if not b.supported} == set(REFUSED)
    assert [b.id for b in found] == sorted(path.stem for path in FOLDER.glob("*.toml"))
    for board in found:
        assert read_facts(board.id) == board
        assert board.verified == "none", "show the log of a bench first"


# NVIDIA, Jetson Linux Developer Guide, "Controller Area Network (CAN)", r36.4.3 and r38.2.
PINS = {
    "orin-nano-super": {"can0": "sfio"},
    "orin-nx-16": {"can0": "sfio"},
    "agx-orin-64": {"can0": ((0x0C303018, 0xC458), (0x0C303010, 0xC400)),
                    "can1": ((0x0C303008, 0xC458), (0x0C303000, 0xC400))},
    "thor-t5000": {"can0": ((0x8110310000, 0xC458), (0x8110310020, 0xC400)),
                   "can1": ((0x8110311000, 0xC458), (0x8110311020, 0xC400))},
}
# OE4T/meta-tegra and jetpack-nixos: SM, then TensorRT and Python of JetPack 6.2, 7.1, 7.2.
BRINGS = {"6.2": ("10.3.0", "12.6", "3.10"), "7.1": ("10.13.3", "13.0", "3.12"),
          "7.2": ("10.16.2", "13.2", "3.12")}
# Public copies of nvpmodel.conf: the modes with a number of watts.
WATTS = {"orin-nano-super": (15, 25, 7), "orin-nx-16": (10, 15, 25, 40),
         "agx-orin-64": (15, 30, 50), "thor-t5000": (120, 90, 70)}


@pytest.mark.parametrize("name", PINS)
def test_a_jetson_is_as_its_makers_publish(name: str) -> None:
    board = read_board(name)
    assert {key: can.pinmux for key, can in board.can.items()} == PINS[name]
    assert board.sm == (110 if board.soc == "t264" else 87)
    for jetpack in board.jetpack:
        assert (jetpack.tensorrt, jetpack.cuda, jetpack.python) == BRINGS[jetpack.version]
    assert {f.jetpack for f in board.flash} == {j.version for j in board.jetpack}
    assert int(re.sub(r"\D", "", board.power.mode)) == max(WATTS[name])
    assert not board.power.allow_maxn_super


@pytest.mark.parametrize("clock_mhz", [40, 50, 80])
@pytest.mark.parametrize("name", PINS)
def test_a_can_clock_can_make_the_bit_timing(name: str, clock_mhz: int) -> None:
    """A bit is 1 + before + after quanta, sampled between; sjw may not exceed what is after."""
    for can in read_board(name).can.values():
        for rate, point, sjw in ((can.bitrate, can.sample_point, can.sjw),
                                 (can.dbitrate, can.dsample_point, can.dsjw)):
            quanta = clock_mhz * 1_000_000 / rate
            assert quanta == int(quanta)
            after = round(quanta * (1 - point))
            assert abs(1 - after / quanta - point) < 0.02
            assert sjw <= after


@pytest.mark.parametrize("name", REFUSED)
def test_an_unsupported_board_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(InputError) as caught:
        read_board(name)
    for words in (f"board {name} is not supported: ", f"Python {REFUSED[name]}", "take an ",
                  "allowed are agx-orin-64, "):
        assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("word", "words"), [
    ("orin", "board 'orin' is unknown, allowed are agx-orin-64, "),
    ("../boards/orin-nano-super", "is unknown, allowed are "),
    ("", "board '' is unknown, allowed are "),
    ("nowhere.toml", "nowhere.toml: cannot read the board (No such file"),
    ("nowhere.json", "nowhere.json: cannot read the board (No such file"),
])
def test_what_is_no_board(word: str, words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        read_board(word)


@pytest.mark.parametrize(("name", "content", "words"), [
    ("x.toml", b"id = 1 = 2", "not a TOML file"), ("x.toml", b"\xff", "not a TOML file"),
    ("x.toml", b"#" * 70_000, "not a TOML file (more than 65536 bytes)"),
    ("x.toml", b"a = " + b"[" * 30_000, "not a TOML file"),
    ("x.json", b"{", "not a JSON file"), ("x.json", b"[" * 60_000, "not a JSON file"),
    ("x.json", b"1" * 5_000, "x.json: "), ("x.json", b"[]", "a board is [], allowed is a table"),
    ("x.json", b"{}", "key 'id' is missing, allowed is small letters"),
])
def test_a_hostile_file_is_refused_in_one_line(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_board(tmp_path / name)
    assert words in str(caught.value)
    assert len(" ".join(str(caught.value).split())) < 600


@pytest.mark.parametrize(("key", "value", "words"), [
    ("id", "Orin Nano", "id is 'Orin Nano', allowed is small letters, digits, _ and -"),
    ("id", "../x", "id is '../x', allowed is "),
    ("title", "two\nlines", "title is 'two\\nlines', allowed is 1 to 80 printable characters"),
    ("verified", "yes", "verified is 'yes', allowed is \"none\" or \"bench:YYYY-MM-DD,WHO,LOG\""),
    ("verified", "bench:2026-01-01", "verified is 'bench:2026-01-01', allowed is "),
    ("supported", 1, "supported is 1, allowed is true or false"),
    ("supported", False, "reason is '', allowed is a sentence if supported is false"),
    ("reason", "old", "reason is 'old', allowed is "),
    ("arch", "arm64", "arch is 'arm64', allowed is aarch64 or x86_64"),
    ("compatible", "nvidia", "compatible is 'nvidia', allowed is a list of at most 16, each: "),
    ("compatible", ["a\0b"], "compatible is ['a\\x00b'], allowed is "),
    ("sm", 87.0, "sm is 87.0, allowed is 0 to 130"),
    ("sm", True, "sm is True, allowed is 0 to 130"),
    ("sm", 0, "engine is 'tensorrt', allowed is native where sm is 0"),
    ("mem_bw_gbs", float("nan"), "mem_bw_gbs is nan, allowed is 0 to 10000"),
    ("python", ["3.8"], "python is ['3.8'], allowed is a list of at most 16, each: 3.10 or "),
    ("python", [], "python is (), allowed is one or more of 3.10, 3.11, 3.12, 3.13"),
    ("python", ["3.10"], "jetpack.python is '3.12', allowed is 3.10"),
    ("glibc", "2.35.1", "glibc is '2.35.1', allowed is such as 2.35"),
    ("engine", "cuda", "engine is 'cuda', allowed is tensorrt or native"),
    ("power", 3, "power is 3, allowed are keys and values"),
    ("power.mode", "25 W", "power.mode is '25 W', allowed is the name of a mode, or \"\""),
    ("power.mode", "MAXN_SUPER", "power.mode is 'MAXN_SUPER', allowed is a mode with a number of "
     "watts, or MAXN_SUPER with allow_maxn_super = true"),
    ("realtime.priority", 99, "realtime.priority is 99, allowed is 20 to 90"),
    ("realtime.cpus", [6], "realtime.cpus is [6], allowed is 0 to 5"),
    ("jetpack", {}, "jetpack is {}, allowed are [[jetpack]] sections"),
    ("jetpack[0].l4t", "R36", "jetpack[0].l4t is 'R36', allowed is such as 36.4.3"),
    ("flash[0].jetpack", "5.1", "flash.jetpack is '5.1', allowed is 6.2 or 7.2"),
    ("flash[0].storage", "usb", "flash[0].storage is 'usb', allowed is nvme or sd or emmc"),
    ("flash[0].command", "sudo ./flash.sh; rm -rf /", "allowed is sudo ./... of letters"),
    ("flash[0].command", "sudo ./flash.sh $(id)", "flash[0].command is 'sudo ./flash.sh $(id)'"),
    ("can", [], "can is [], allowed are [can.NAME] sections"),
    ("can.eth0", {}, "can 'eth0' is unknown, allowed is v?can[0-9]{1,2}"),
    ("can.can0.bitrate", 5000, "can.can0.bitrate is 5000, allowed is 10000 to 1000000"),
    ("can.can0.dbitrate", 250000, "can.can0.dbitrate is 250000, allowed is bitrate (500000) or"),
    ("can.can0.sample_point", 80, "can.can0.sample_point is 80, allowed is 0.5 to 0.95"),
    ("can.can0.fd", "on", "can.can0.fd is 'on', allowed is true or false"),
    ("can.can0.pinmux", "gpio", "allowed is \"sfio\" or a list of [address, value]"),
    ("can.can0.pinmux", [[0x0C303018]], "allowed is \"sfio\" or a list of [address, value]"),
    ("can.can0.pinmux", [[0x0C303018, True]], "allowed is \"sfio\" or a list of [address, value]"),
    # No board file may write to memory at will.
    ("can.can0.pinmux", [[0x80000000, 0]],
     "can.can0.pinmux is '[0x80000000, 0x0]', allowed is [0xc303000 to 0xc303ffc in steps of 4"),
    ("can.can0.pinmux", [[0x0C303001, 0]], "can.can0.pinmux is '[0xc303001, 0x0]', allowed is "),
    ("can.can0.pinmux", [[0x0C303000, 1 << 32]], "can.can0.pinmux is '[0xc303000, 0x100000000]'"),
    ("uart.exo.dt", "ttyTHS1", "uart.exo.dt is 'ttyTHS1', allowed is such as \"3100000.serial\""),
    ("uart.exo.symlink", "spikewire-a\", RUN+=\"x", "allowed is spikewire-NAME"),
    ("uart.exo.baud", 115201, "uart.exo.baud is 115201, allowed is 115200 or 230400 or "),
    ("uart.exo.stop_bits", True, "uart.exo.stop_bits is True, allowed is 1 or 2"),
    ("uart.exo.getty", "x.service\nExecStart=/bin/sh", "allowed is a unit, such as "),
])
def test_one_line_names_key_value_and_what_is_allowed(key: str, value: Any, words: str) -> None:
    assert words in refusal(changed(key, value))


@pytest.mark.parametrize("section", ["", *SECTIONS])
def test_every_key_is_needed_and_no_other_is_known(section: str) -> None:
    kind = SECTIONS.get(section, module.Board)
    for key in rows(kind):
        if key == "reason":
            continue
        full = f"{section}.{key}".lstrip(".")
        assert f"key '{full}' is missing, allowed is " in refusal(changed(full, None))
    full = f"{section}.colour".lstrip(".")
    said = refusal(changed(full, "red"))
    assert f"key '{full}' is unknown, allowed are " + ", ".join(rows(kind)) in said
    for name in ("power", "realtime"):
        assert f"section [{name}] is missing" in refusal(changed(name, None))


def test_maxn_super_may_be_allowed_by_who_cools_the_board() -> None:
    table = changed("power.mode", "MAXN_SUPER")
    table["power"]["allow_maxn_super"] = True
    assert from_table(table, "x").power == Power(
        mode="MAXN_SUPER", jetson_clocks=True, allow_maxn_super=True)


@pytest.mark.parametrize("name", [*IDS, *REFUSED])
def test_json_carries_all_and_has_one_spelling(name: str, tmp_path: Path) -> None:
    board = read_facts(name)
    text = to_json(board)
    assert text.endswith(b"\n")
    table = json.loads(text)
    assert text == json.dumps(table, sort_keys=True, indent=1).encode() + b"\n"
    assert to_json(from_table(table, name)) == text
    (tmp_path / "board.json").write_bytes(text)
    assert read_facts(tmp_path / "board.json") == board


def test_a_whole_number_in_toml_is_the_same_board() -> None:
    table = changed("mem_bw_gbs", 102)
    assert to_json(from_table(table, "x")) == to_json(read_board("orin-nano-super"))


words = st.text(string.ascii_lowercase, min_size=1, max_size=8)
cans = st.fixed_dictionaries({
    "dt": words.map("{}.mttcan".format),
    "pinmux": st.just("sfio") | st.lists(
        st.tuples(st.integers(0, 0x3FF).map(lambda k: 0x0C303000 + 4 * k),
                  st.integers(0, 2**32 - 1)).map(list), min_size=1, max_size=8),
    "bitrate": st.integers(10_000, 1_000_000), "dbitrate": st.integers(1_000_000, 8_000_000),
    "sample_point": st.floats(0.5, 0.95), "dsample_point": st.floats(0.5, 0.95),
    "sjw": st.integers(1, 128), "dsjw": st.integers(1, 16), "fd": st.booleans(),
    "txqueuelen": st.integers(1, 1000),
    "transceiver": st.sampled_from(["external", "onboard", "none"]),
})
uarts = st.fixed_dictionaries({
    "dt": st.integers(0x1000, 0xFFFFFFFFFFFF).map("{:x}.serial".format),
    "symlink": words.map("spikewire-{}".format), "baud": st.sampled_from([115200, 921600]),
    "stop_bits": st.integers(1, 2), "getty": st.just("") | words.map("{}.service".format),
})
jetpacks = st.builds(lambda version, python: {
    "version": version, "l4t": "36.4.3", "tensorrt": "10.3.0", "cuda": "12.6", "python": python},
    st.sampled_from(["6.2", "7.2"]), st.sampled_from(PYTHONS))
tables = st.fixed_dictionaries({
    "id": words, "title": words, "supported": st.just(True), "arch": st.just("aarch64"),
    "verified": st.just("none") | words.map("bench:2026-11-26,{},docs/x.log".format),
    "compatible": st.lists(words.map("nvidia,{}".format), max_size=16), "soc": st.just("t234"),
    "sm": st.integers(1, 130), "cores": st.integers(4, 256), "mem_bw_gbs": st.floats(0, 10_000),
    "dla": st.integers(0, 4), "python": st.just(list(PYTHONS)), "glibc": st.just("2.35"),
    "engine": st.just("native"),
    "power": st.builds(dict, mode=st.just("") | words, jetson_clocks=st.booleans(),
                       allow_maxn_super=st.booleans()),
    "realtime": st.builds(dict, priority=st.integers(20, 90),
                          cpus=st.lists(st.integers(0, 3), max_size=16)),
    "jetpack": st.lists(jetpacks, max_size=3),
    "can": st.dictionaries(st.sampled_from(["can0", "can1", "vcan0"]), cans),
    "uart": st.dictionaries(words, uarts),
})


@given(tables)
def test_any_board_survives_json(table: dict[str, Any]) -> None:
    board = from_table(table, "x")
    assert from_table(json.loads(to_json(board)), "x") == board
    for name, can in table["can"].items():
        for key in ("bitrate", "sample_point", "dt", "fd"):
            assert getattr(board.can[name], key) == can[key]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner,
                                                                max_size=3), max_leaves=6)


@given(st.sampled_from([*NANO, "power.mode", "can.can0", "can.can0.pinmux", "uart.exo.dt",
                        "realtime.cpus", "jetpack[0]", "flash[0].command"]), anything)
def test_anything_else_is_a_board_or_one_line(key: str, value: Any) -> None:
    table = changed(key, value)
    try:
        board = from_table(table, "x.toml")
    except InputError:
        assert refusal(table)
    else:
        assert from_table(json.loads(to_json(board)), "x") == board


def test_without_a_toml_reader_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.10 has none of its own; board.json needs none."""
    for name in ("tomllib", "tomli"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=r"type: pip install 'spikewire\[can\]'"):
        read_board("orin-nano-super")


def test_every_fact_names_its_source() -> None:
    for path in FOLDER.glob("*.toml"):
        text = path.read_text()
        assert "\n# Source" in text, path
    for name in PINS:
        for part in re.split(r"\n(?=\[)", (FOLDER / f"{name}.toml").read_text())[1:]:
            assert "#" in part or part.startswith("[[flash]]"), f"{name}: no source in {part}"


def test_the_page_shows_every_board() -> None:
    """The table of boards/README.md is what the files say."""
    page = (FOLDER / "README.md").read_text()
    for board in all_boards():
        if board.supported:
            row = (f"| `{board.id}` | {board.title} | {' '.join(board.python)} | "
                   f"{', '.join(j.version for j in board.jetpack) or '-'} | {board.engine} | "
                   f"{board.power.mode or '-'} | {', '.join(board.can) or '-'} | "
                   f"{', '.join(board.uart) or '-'} | {board.verified} |")
        else:
            row = f"| `{board.id}` | {board.reason} |"
        assert row in page.splitlines(), row
    assert len(re.findall(r"^\| `", page, re.M)) == len(all_boards())
