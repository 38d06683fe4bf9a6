"""What a compiled library asks of the machine that loads it, read as the loader reads it.

The dynamic segment names the versioned symbols that a file needs; section headers, which a loader
does not look at, are not read. System V ABI, and the LSB's chapter on symbol versioning.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from spikewire.signals import InputError

MAGIC = b"\x7fELF"
MACHINES = {62: "x86_64", 183: "aarch64"}
LOAD, DYNAMIC = 1, 2  # kinds of segments
STRTAB, VERNEED = 5, 0x6FFFFFFE  # tags of the dynamic segment
# Needs that bear no number. The linker's mark of packed relocations came with glibc 2.36.
UNNUMBERED = {"GLIBC_ABI_DT_RELR": (2, 36)}
NOWHERE = (1 << 16,)  # e.g. GLIBC_PRIVATE: no board promises it

Version = tuple[int, ...]


@dataclass(frozen=True)
class Elf:
    """One file.

    Attributes
    ----------
    machine : str
        "aarch64", "x86_64", or what the header says.
    needs : dict of family -> version
        Newest version needed of each family, such as {"GLIBC": (2, 17)}.
    """

    machine: str
    needs: dict[str, Version]


def read_elf(path: Path) -> Elf:
    """Read machine and needs of a library.

    Raises
    ------
    InputError
        No 64-bit little-endian ELF file, or one that points outside itself.
    """
    data = path.read_bytes()
    if data[:6] != MAGIC + b"\x02\x01":
        raise InputError(f"{path}: not a 64-bit little-endian ELF file")
    try:
        (number,) = struct.unpack_from("<H", data, 18)
        machine = MACHINES.get(number, f"ELF machine {number}")
        needs: dict[str, Version] = {}
        for name in _needed(data):
            family, version = _split(name)
            needs[family] = max(needs.get(family, ()), version)
    except (struct.error, LookupError, ValueError, OverflowError) as error:
        raise InputError(f"{path}: damaged ELF file ({error})") from None
    return Elf(machine, needs)


def _split(name: str) -> tuple[str, Version]:
    """`GLIBC_2.17` as family and version."""
    family, _, version = name.partition("_")
    try:
        return family, tuple(int(n) for n in version.split("."))
    except ValueError:
        return family, UNNUMBERED.get(name, NOWHERE)


def _needed(data: bytes) -> Iterator[str]:
    """Names of all versions that the file needs."""
    start, size, count = struct.unpack_from("<Q14xHH", data, 32)
    segments = [struct.unpack_from("<IIQQQQ", data, start + size * k) for k in range(count)]
    dynamic = {}
    for kind, _, offset, _, _, length in segments:
        if kind == DYNAMIC:
            dynamic = dict(struct.iter_unpack("<QQ", data[offset : offset + length // 16 * 16]))

    def at(address: int) -> int:
        """Where in the file something lies that is loaded at `address`."""
        for kind, _, offset, first, _, length in segments:
            if kind == LOAD and first <= address < first + length:
                return int(offset + address - first)
        raise ValueError(f"no segment holds address {address:#x}")

    if VERNEED not in dynamic:
        return
    strings, entry, last = at(dynamic[STRTAB]), at(dynamic[VERNEED]), False
    while not last:
        _, versions, _, first, onward = struct.unpack_from("<HHIII", data, entry)
        each = entry + first
        for _ in range(versions):
            name, step = struct.unpack_from("<8xII", data, each)
            end = data.index(b"\0", strings + name)
            yield data[strings + name : end].decode("ascii")
            each += step
        entry, last = entry + onward, not onward
