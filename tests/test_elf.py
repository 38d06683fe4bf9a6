"""ELF files whose bytes are laid out here by the System V ABI, and readelf on real ones."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spikewire.elf import read_elf
from spikewire.signals import InputError

BASE = 0x10000  # where the file is loaded; addresses are not offsets
HEAD, STRINGS, NEEDS = 64 + 2 * 56, 0x200, 0x400


def make_elf(machine: int, needs: dict[str, list[str]]) -> bytes:
    """A library of two segments that needs versions of libraries: {"libc.so.6": ["GLIBC_2.17"]}."""
    tags = [(5, BASE + STRINGS), (0x6FFFFFFE, BASE + NEEDS), (0x6FFFFFFF, len(needs))]
    names, where = b"\0", {}
    for name in [n for library, each in needs.items() for n in (library, *each)]:
        where[name] = len(names)
        names += name.encode() + b"\0"
    rows = b""
    for k, (library, each) in enumerate(needs.items()):
        last = k == len(needs) - 1
        rows += struct.pack("<HHIII", 1, len(each), where[library], 16,
                            0 if last else 16 + 16 * len(each))
        for j, name in enumerate(each):
            rows += struct.pack("<IHHII", 0, 0, 2 + j, where[name], 16 * (j < len(each) - 1))
    dynamic = b"".join(struct.pack("<QQ", *tag) for tag in [*(tags if needs else []), (0, 0)])
    size = NEEDS + len(rows)
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack(
        "<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, 0, 0, 64, 56, 2, 64, 0, 0)
    segments = (struct.pack("<IIQQQQQQ", 1, 4, 0, BASE, BASE, size, size, 4096)
                + struct.pack("<IIQQQQQQ", 2, 6, HEAD, BASE + HEAD, 0, len(dynamic), 0, 8))
    made = (head + segments + dynamic).ljust(STRINGS, b"\0") + names
    return made.ljust(NEEDS, b"\0") + rows


GOOD = {"libc.so.6": ["GLIBC_2.17", "GLIBC_2.4"], "libstdc++.so.6": ["GLIBCXX_3.4.29", "GCC_3.0"]}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "lib.so"


@pytest.mark.parametrize(("number", "name"), [(183, "aarch64"), (62, "x86_64"),
                                              (243, "ELF machine 243")])
def test_what_was_laid_out_is_read(file: Path, number: int, name: str) -> None:
    file.write_bytes(make_elf(number, GOOD))
    elf = read_elf(file)
    assert elf.machine == name
    assert elf.needs == {"GLIBC": (2, 17), "GLIBCXX": (3, 4, 29), "GCC": (3, 0)}


def test_a_library_may_need_nothing(file: Path) -> None:
    file.write_bytes(make_elf(62, {}))
    assert read_elf(file).needs == {}


def test_versions_are_numbers_and_not_text(file: Path) -> None:
    file.write_bytes(make_elf(183, {"libc.so.6": ["GLIBC_2.9", "GLIBC_2.34", "GLIBC_2.4"]}))
    assert read_elf(file).needs == {"GLIBC": (2, 34)}


@pytest.mark.parametrize(("name", "at_least"), [("GLIBC_ABI_DT_RELR", (2, 36)),
                                                ("GLIBC_PRIVATE", (2, 999))])
def test_needs_without_a_number_are_not_overlooked(
    file: Path, name: str, at_least: tuple[int, ...]
) -> None:
    file.write_bytes(make_elf(183, {"libc.so.6": ["GLIBC_2.17", name]}))
    assert read_elf(file).needs["GLIBC"] >= at_least


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"#!/bin/sh\n",
                                     b"\x7fELF\1\1" + bytes(99), b"\x7fELF\2\2" + bytes(99)])
def test_what_is_no_elf_file_is_named(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"lib\.so: not a 64-bit"):
        read_elf(file)


@example(cut=1200, at=39, byte=255)  # segments that start past any file
@given(cut=st.integers(6, 1200), at=st.integers(6, 1000), byte=st.integers(0, 255))
def test_damage_is_refused_or_read_never_worse(
    tmp_path_factory: pytest.TempPathFactory, cut: int, at: int, byte: int
) -> None:
    content = bytearray(make_elf(183, GOOD))
    content[at % len(content)] = byte
    file = tmp_path_factory.getbasetemp() / "damaged.so"
    file.write_bytes(bytes(content[:cut]))
    with suppress(InputError):
        assert {type(v) for v in read_elf(file).needs.values()} <= {tuple}


@pytest.mark.skipif(not shutil.which("readelf"), reason="needs binutils")
def test_readelf_says_the_same() -> None:
    """Of every library of numpy, and of the interpreter's own."""
    found = [*Path(np.__file__).parent.rglob("*.so"),
             *Path(np.__file__).parents[1].glob("numpy.libs/*.so*"), Path(sys.executable)]
    assert len(found) > 10
    for path in found:
        said = subprocess.run(["readelf", "-W", "-V", str(path)], capture_output=True, text=True)
        newest: dict[str, tuple[int, ...]] = {}
        for family, version in re.findall(r"Name: (\w+?)_([0-9.]+) ",
                                          said.stdout.partition("Version needs")[2]):
            numbers = tuple(map(int, version.split(".")))
            newest[family] = max(newest.get(family, ()), numbers)
        assert read_elf(path).needs == newest, path
