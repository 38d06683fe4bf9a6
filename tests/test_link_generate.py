"""What is generated from the message table.

Truth: cantools reads and writes with the CAN database, a C compiler with the header, both what our
codec reads and writes; the contract's lines of the database, its vector of a drive frame, the
published check values of the CRCs, and the contract's loads.
"""

from __future__ import annotations

import ctypes
import math
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import cantools
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikewire.link import dbc, header
from spikewire.link.generate import FILES, generate
from spikewire.link.packing import CRCS, FrameError, pack, unpack
from spikewire.link.table import BASE, DRIVE, MESSAGES, Field, Message, table_number

ROOT = Path(__file__).parents[1]
COMMITTED = {
    "spikewire.dbc": ROOT / "docs/link/spikewire.dbc",
    "link.md": ROOT / "docs/link/link.md",
    "spikewire_link.h": ROOT / "runtime/receiver/spikewire_link.h",
}
VECTOR = bytes.fromhex("fb33d204bc1f512f")
DATABASE = cantools.database.load_string(dbc.database(), "dbc", strict=True)
ON_CAN = list(dbc.messages())
SEVERAL = pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.name)
Raws = dict[str, Any]  # field -> raw, or list of raws


def raws_of(row: Field) -> st.SearchStrategy[int]:
    """Raws that have a meaning."""
    if row.choices is not None:
        return st.sampled_from(sorted(row.choices))
    marks = [mark for mark in (row.invalid, row.saturated) if mark is not None]
    values = st.integers(0, row.largest)
    return values | st.sampled_from(marks) if marks else values


def fields(message: Message) -> st.SearchStrategy[Raws]:
    """Raws of a whole message."""
    return st.fixed_dictionaries({
        row.name: raws_of(row) if row.count == 1
        else st.lists(raws_of(row), min_size=row.count, max_size=row.count)
        for row in message.fields if row.name != "crc"
    })  # fmt: skip


def value(row: Field, raw: int) -> float:
    """What a raw says, computed here again."""
    return math.nan if raw == row.invalid else raw * row.scale + row.offset


def encoded(message: Message, raws: Raws, slot: int = 0, base: int = BASE) -> bytes:
    """Bytes that our codec makes of it."""
    values: dict[str, Any] = {}
    for row in message.fields:
        if row.name == "crc":
            continue
        raw = raws[row.name]
        if row.count > 1 and row.width < 8:
            values[row.name] = np.array(raw, np.uint8)
        elif row.count > 1:
            values[row.name] = [value(row, r) for r in raw]
        else:
            values[row.name] = raw if row.modulus else value(row, raw)
    return pack(message, values, slot, base)


# ---- what is committed is what the table says


@pytest.mark.parametrize("name", FILES)
def test_committed_files_are_those_of_the_table(name: str) -> None:
    hint = "type: mu-link generate --out build/link, and copy its files into docs/link and " \
        "runtime/receiver"
    assert COMMITTED[name].read_text() == FILES[name](BASE), hint


def test_generate_writes_all_of_them(tmp_path: Path) -> None:
    written = generate(tmp_path / "new" / "folder", 0x100)
    assert sorted(written) == sorted((tmp_path / "new/folder").iterdir())
    assert {path.name: path.read_text() for path in written} == {
        name: make(0x100) for name, make in FILES.items()}


# ---- the CAN database


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_cantools_writes_and_reads_what_our_codec_does(data: st.DataObject) -> None:
    message, slot, can_id, name = data.draw(st.sampled_from(ON_CAN))
    raws = data.draw(fields(message))
    ours = encoded(message, raws, slot)
    width = CRCS[message.crc][0]
    raws = raws | {"crc": int.from_bytes(ours[:width], "little")}
    theirs, scaled = {}, {}
    seen: dict[str, int] = {}
    for signal, row, _ in dbc.signals(message, slot):
        k = seen[row.name] = seen.get(row.name, -1) + 1
        raw = raws[row.name] if row.count == 1 else raws[row.name][k]
        theirs[signal], scaled[signal] = raw, value(row, raw)
    found = DATABASE.get_message_by_frame_id(can_id)
    assert found.name == name
    assert found.encode(theirs, scaling=False, strict=False) == ours
    assert found.decode(ours, scaling=False, decode_choices=False) == theirs
    read = found.decode(ours)
    for signal, wanted in scaled.items():
        if math.isnan(wanted):
            assert read[signal] == "NA"
        elif isinstance(read[signal], float | int):
            assert read[signal] == pytest.approx(wanted)
        else:  # a state or a request, by name
            assert read[signal].value == wanted


def test_the_database_has_the_contracts_lines() -> None:
    """From the contract; its slot-less MU_STEP_FD is slot 0."""
    lines = dbc.database().splitlines()
    for line in """\
BO_ 1664 MU_DRIVE0: 8 MUDEC
 SG_ E2E_CRC : 0|8@1+ (1,0) [0|255] "" EXO
 SG_ E2E_CNT : 8|4@1+ (1,0) [0|14] "" EXO
 SG_ State : 12|4@1+ (1,0) [0|15] "" EXO
 SG_ Step : 16|16@1+ (1,0) [0|65535] "step" EXO
 SG_ Drive : 32|16@1+ (0.1,0) [0|6553.3] "pulse/s" EXO
 SG_ Activation : 48|8@1+ (0.5,0) [0|125] "%" EXO
 SG_ Age : 56|8@1+ (0.5,0) [0|126.5] "ms" EXO
BO_ 1679 MU_STATUS: 8 MUDEC
 SG_ Faults : 16|16@1+ (1,0) [0|65535] "" EXO
 SG_ LatencyP99 : 48|8@1+ (0.5,0) [0|126.5] "ms" EXO
BO_ 1680 MU_STEP_FD0: 64 MUDEC
 SG_ Age : 96|16@1+ (0.01,0) [0|655.33] "ms" EXO
 SG_ Drive0 : 128|16@1+ (0.1,0) [0|6553.3] "pulse/s" EXO
BA_ "VFrameFormat" BO_ 1680 14;""".splitlines():
        assert line in lines
    states = '0 "BOOT" 1 "IDLE" 2 "READY" 3 "ACTIVE" 4 "DEGRADED" 5 "SAFE" 6 "FAULT"'
    assert f'VAL_ 1664 State {states} 15 "NA" ;' in lines


def test_formats_nodes_rates_and_names() -> None:
    found = {message.name: message for message in DATABASE.messages}
    assert [name for name, m in found.items() if m.is_fd] == [f"MU_STEP_FD{k}" for k in range(4)]
    assert {name: m.cycle_time for name, m in found.items() if m.cycle_time != 10} == {
        "MU_VALID": 1000, "MU_INFO": 1000, "MU_INFO2": 1000, "MU_STATUS": 100, "EXO_ARM": 100}
    assert all(m.senders == ["MUDEC"] and m.receivers == {"EXO"}
               for name, m in found.items() if name != "EXO_ARM")
    assert (found["EXO_ARM"].senders, found["EXO_ARM"].receivers) == (["EXO"], {"MUDEC"})
    assert all(m.comment for m in found.values())
    assert str(found["EXO_ARM"].get_signal_by_name("Request").choices[1]) == "arm"
    assert [s.name for s in found["MU_COUNTS1"].signals][3:5] == ["Count_24", "Count_25"]
    assert DATABASE.version.endswith(f"{table_number():08x}")


def test_another_base_moves_all_identifiers() -> None:
    moved = cantools.database.load_string(dbc.database(0x100), "dbc", strict=True)
    assert [m.frame_id + BASE - 0x100 for m in moved.messages] == [
        m.frame_id for m in DATABASE.messages]


# ---- the C header

STRICT = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-Wconversion", "-Wshadow"]
NEEDS_GCC = pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")
CHECK_NAMES = ("ok", "length", "crc", "range", "state", "proto", "request")  # as in the header
# constants that the contract fixes
CONSTANTS = {
    "SPW_PROTO": 1, "SPW_BASE": 0x680, "SPW_MU_DRIVE_ID": 0x680, "SPW_MU_COUNTS_ID": 0x684,
    "SPW_MU_VALID_ID": 0x687, "SPW_MU_INFO_ID": 0x68E, "SPW_MU_STATUS_ID": 0x68F,
    "SPW_MU_STEP_FD_ID": 0x690, "SPW_EXO_ARM_ID": 0x6A0, "SPW_MU_STEP_FD_TYPE": 0x10,
    "SPW_MU_STEP_FD_SIZE": 64, "SPW_MU_SHORT_SIZE": 16, "SPW_MU_DRIVE_SLOTS": 4,
    "SPW_STATE_ACTIVE": 3, "SPW_STATE_FAULT": 6, "SPW_STATE_NA": 15, "SPW_REQUEST_CLEAR": 2,
    "SPW_FAULT_DRIFT": 1 << 12, "SPW_FAULT_LATCHED": 1 << 15, "SPW_MU_DRIVE_DRIVE_INVALID": 0xFFFF,
    "SPW_MU_DRIVE_AGE_MS_SATURATED": 0xFE, "SPW_MU_DRIVE_DRIVE_PER_UNIT": 10,
    "SPW_MU_STEP_FD_AGE_MS_PER_UNIT": 100, "SPW_MU_DRIVE_COUNTER_MODULUS": 15,
    "SPW_TABLE_HASH": table_number(),
}  # fmt: skip


def struct_of(message: Message) -> type[ctypes.Structure]:
    """The message's struct."""
    kinds = {8: ctypes.c_uint8, 16: ctypes.c_uint16, 32: ctypes.c_uint32}
    members = [(row.name, kinds[max(8, row.width)] * row.count if row.count > 1
                else kinds[max(8, row.width)]) for row in header.c_fields(message)]
    return type(message.name, (ctypes.Structure,), {"_fields_": members})


def wrapper(message: Message) -> str:
    """Functions of a message that can be called from outside, all with the same arguments."""
    name, can_id = header.c_name(message), ", can_id" if message.crc else ""
    arguments = "const uint8_t *data, size_t size, uint32_t can_id"
    return f"""
int unpack_{message.name}({name} *m, {arguments});
int unpack_{message.name}({name} *m, {arguments}) {{
    (void)can_id;
    return (int){name}_unpack(m, data, size{can_id});
}}
void pack_{message.name}(uint8_t *data, const {name} *m, uint32_t can_id);
void pack_{message.name}(uint8_t *data, const {name} *m, uint32_t can_id) {{
    (void)can_id;
    {name}_pack(data, m{can_id});
}}
"""


class Library:
    """The header, compiled."""

    def __init__(self, folder: Path, base: int) -> None:
        self.base = base
        (folder / "spikewire_link.h").write_text(header.header(base))
        source = folder / "link.c"
        source.write_text(
            '#include "spikewire_link.h"\n' + "".join(map(wrapper, MESSAGES))
            + f"const uint32_t constants[] = {{{', '.join(CONSTANTS)}}};\n"
            "int crc8(const uint8_t *d, size_t n);\nint crc16(const uint8_t *d, size_t n);\n"
            "int crc8(const uint8_t *d, size_t n) { return spw_crc8(0, d, n); }\n"
            "int crc16(const uint8_t *d, size_t n) { return spw_crc16(0xFFFF, d, n); }\n")
        subprocess.run(["gcc", "-std=c99", *STRICT, "-O1", "-shared", "-fPIC", str(source), "-o",
                        str(folder / "link.so")], check=True)
        self.c = ctypes.CDLL(str(folder / "link.so"))

    def pack(self, message: Message, raws: Raws, slot: int) -> bytes:
        """Bytes of a message."""
        room = (ctypes.c_uint8 * message.size)(*[0xA5] * message.size)
        members = {row.name: tuple(raws[row.name]) if row.count > 1 else raws[row.name]
                   for row in header.c_fields(message)}
        struct = struct_of(message)(**members)
        self.c[f"pack_{message.name}"](room, ctypes.byref(struct), message.data_id(slot, self.base))
        return bytes(room)

    def unpack(self, message: Message, data: bytes, slot: int) -> tuple[str, Raws]:
        """Verdict and raws."""
        struct = struct_of(message)()
        verdict = self.c[f"unpack_{message.name}"](
            ctypes.byref(struct), data, ctypes.c_size_t(len(data)),
            message.data_id(slot, self.base))
        return CHECK_NAMES[verdict], {
            row.name: list(getattr(struct, row.name)) if row.count > 1
            else getattr(struct, row.name) for row in header.c_fields(message)}


@pytest.fixture(scope="module", params=[BASE, 0x100], ids=hex)
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Library:
    if not shutil.which("gcc"):
        pytest.skip("needs gcc")
    return Library(tmp_path_factory.mktemp("link"), request.param)


@SEVERAL
def test_c_writes_and_reads_what_our_codec_does(library: Library, message: Message) -> None:
    @given(fields(message), st.integers(0, message.slots - 1))
    @settings(deadline=None, max_examples=30)
    def check(raws: Raws, slot: int) -> None:
        data = encoded(message, raws, slot, library.base)
        assert library.pack(message, raws, slot) == data
        assert library.unpack(message, data, slot) == ("ok", raws)

    check()


@SEVERAL
def test_c_refuses_what_our_codec_refuses(library: Library, message: Message) -> None:
    """Any bytes, most with a CRC that fits: the same verdict, for the same reason."""
    width, crc = CRCS[message.crc]

    @given(st.binary(min_size=message.size, max_size=message.size), st.booleans(),
           st.integers(0, message.slots - 1), st.sampled_from([0, 0, 0, -1, 1]))
    @settings(deadline=None, max_examples=60)
    def check(data: bytes, fits: bool, slot: int, longer: int) -> None:
        if fits:
            data_id = message.data_id(slot, library.base).to_bytes(2, "little")
            data = crc(data_id, data[width:]).to_bytes(width, "little") + data[width:]
        data = (data + b"\0")[: message.size + longer]
        try:
            unpack(message, data, slot, library.base)
            wanted = "ok"
        except FrameError as error:
            wanted = error.check
        assert library.unpack(message, data, slot)[0] == wanted

    check()


@pytest.mark.parametrize("library", [BASE], indirect=True, ids=hex)
def test_the_contracts_vector_in_c(library: Library) -> None:
    """Identifier 0x680, counter 3, ACTIVE, step 1234, 812.4 pulse/s, 40.5 %, 23.5 ms."""
    raws = {"counter": 3, "state": 3, "step": 1234, "drive": 8124, "activation": 81, "age_ms": 47}
    assert library.pack(DRIVE, raws, 0) == VECTOR
    assert library.unpack(DRIVE, VECTOR, 0) == ("ok", raws)
    assert library.unpack(DRIVE, VECTOR, 1)[0] == "crc"


def test_check_values_and_constants_in_c(library: Library) -> None:
    assert (library.c.crc8(b"123456789", 9), library.c.crc16(b"123456789", 9)) == (0x37, 0x29B1)
    found = list((ctypes.c_uint32 * len(CONSTANTS)).in_dll(library.c, "constants"))
    moved = {name: number + (library.base - BASE if re.search("_ID$|BASE$", name) else 0)
             for name, number in CONSTANTS.items()}
    assert dict(zip(CONSTANTS, found, strict=True)) == moved


@NEEDS_GCC
@pytest.mark.parametrize("compiler", [["gcc", "-std=c99"], ["gcc", "-std=c11"],
                                      ["g++", "-std=c++17", "-xc++"]], ids=" ".join)
def test_the_header_goes_with_that_of_the_decoder(compiler: list[str], tmp_path: Path) -> None:
    if not shutil.which(compiler[0]):
        pytest.skip(f"needs {compiler[0]}")
    (tmp_path / "both.c").write_text('#include "spikewire_link.h"\n#include "spikewire.h"\n')
    subprocess.run([*compiler, *STRICT, "-fsyntax-only", f"-I{ROOT}/runtime/receiver",
                    f"-I{ROOT}/runtime/include", str(tmp_path / "both.c")], check=True)


# ---- the page


def cells(page: str, first: str) -> list[list[str]]:
    """Rows of the page's tables that begin with a word."""
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in page.splitlines()
            if line.startswith("|")]
    return [row for row in rows if row[0] == first]


def numbers(row: list[str]) -> list[float]:
    """All numbers of a row."""
    return [float(n) for cell in row for n in re.findall(r"\d+(?:\.\d+)?", cell)]


def test_the_page_has_the_contracts_figures() -> None:
    """Loads and times of the contract, within 2 %, or half a digit where there is only one."""
    page = FILES["link.md"](BASE)
    assert VECTOR.hex() in page
    assert "**0x37**" in page
    assert "**0x29B1**" in page
    assert numbers(cells(page, "classic")[0][2:]) == pytest.approx([15309, 6.1, 3.1, 1.5], rel=0.02)
    few, many = cells(page, "counts")
    assert numbers(few[2:]) == pytest.approx([29133, 11.7, 5.8, 2.9], rel=0.02)
    assert numbers(many[2:]) == pytest.approx([56781, 22.7, 11.4, 5.7], rel=0.02)
    for name, us, load in (("500k / 2M", 405, 4.2), ("1M / 2M", 372, 3.8), ("1M / 5M", 169, 1.7)):
        assert numbers(cells(page, name)[0][1:]) == pytest.approx([us, load], rel=0.02)
    full, short = cells(page, "full")[0], cells(page, "short")[0]
    wanted = [71, 7270, 63, 6.16, 32, 3.08, 16, 1.54, 7.9, 0.77]
    assert numbers([*full[1:3], *full[4:]]) == pytest.approx(wanted, rel=0.02)
    wanted = [23, 2355, 20, 2.00, 10, 1.00, 5.1, 0.50, 2.6, 0.25]
    assert numbers([*short[1:3], *short[4:]]) == pytest.approx(wanted, rel=0.02)


@SEVERAL
def test_the_page_has_every_field(message: Message) -> None:
    page = FILES["link.md"](BASE)
    section = page.partition(f"## {message.name} ({message.can_name})")[2].partition("\n## ")[0]
    said = [line.split("|")[2].strip() for line in section.splitlines() if line.startswith("|")]
    assert said[2:] == [row.name for row in sorted(message.fields, key=lambda row: row.bit)]
    assert len(page.splitlines()) > 100
    assert max(map(len, page.splitlines())) <= 140
