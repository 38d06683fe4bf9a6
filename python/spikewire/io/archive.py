"""Members of a tar or zip that an amplifier's program wrote, read in memory; nothing is extracted.

Names are keys and never paths. XML is parsed without a document type: no entity is ever defined.
"""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from spikewire.io.bounded import Budget, reason
from spikewire.signals import InputError

GZIP, ZIP = b"\x1f\x8b", b"PK\x03\x04"
MOST_MEMBERS, MOST_XML_BYTES = 4096, 16 << 20
MOST_NODES, DEEPEST = 200_000, 64
MOST_LISTED, LONGEST_NAME = 8, 60
DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError,
           RuntimeError, NotImplementedError, OverflowError, MemoryError, RecursionError,
           KeyError, IndexError)


def listed(names: list[str]) -> list[str]:
    """Some names of members, short, for a report."""
    short = [name.rpartition("/")[2][:LONGEST_NAME] for name in names[:MOST_LISTED]]
    return short + ([f"{len(names) - MOST_LISTED} more"] if len(names) > MOST_LISTED else [])


class _Clamped:
    """A file that never makes room for more than it holds, whatever a header asks for."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        """At most what is left."""
        left = max(self._size - self._file.tell(), 0)
        return self._file.read(left if size < 0 else min(size, left))


def read_members(path: Path, wanted: tuple[str, ...]) -> tuple[dict[str, bytes], list[str]]:
    """Members whose names end in one of `wanted`, and the names of all others.

    Raises
    ------
    InputError
        Neither tar nor zip, damaged, or one that unpacks to too much.
    """
    try:
        with open(path, "rb") as file:
            size = path.stat().st_size
            budget = Budget(path, size)
            if file.read(4) == ZIP:
                return _of_zip(file, wanted, budget)
            file.seek(0)
            return _of_tar(_Clamped(file, size), size, wanted, budget)
    except InputError:
        raise
    except DAMAGED as error:
        raise InputError(f"{path}: not a readable archive of OTBiolab+ ({reason(error)})") from None


def _of_zip(
    file: BinaryIO, wanted: tuple[str, ...], budget: Budget
) -> tuple[dict[str, bytes], list[str]]:
    """Members of a zip; each is unpacked within the budget, whatever it claims."""
    held, others = {}, []
    with zipfile.ZipFile(file) as archive:
        infos = [i for i in archive.infolist() if not i.is_dir()]
        if len(infos) > MOST_MEMBERS:
            raise ValueError(f"{len(infos)} members")
        for info in infos:
            if not info.filename.endswith(wanted):
                others.append(info.filename)
                continue
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{info.filename!r} is packed in an unusual way")
            with archive.open(info) as member:
                content = member.read(budget.left + 1)
            budget.take(len(content))
            held[info.filename] = content
    return held, others


def _of_tar(
    file: Any, size: int, wanted: tuple[str, ...], budget: Budget
) -> tuple[dict[str, bytes], list[str]]:
    """Members of a tar that is not packed."""
    held, others = {}, []
    if file.read(2) == GZIP:
        raise ValueError("it is gzipped; unpack it with gunzip first")
    file.seek(0)
    with tarfile.open(fileobj=file, mode="r:") as archive:
        before = -1
        for count, member in enumerate(archive):
            # A header may lead backwards: tarfile would then go round for ever.
            if member.offset <= before or not 0 <= member.size <= size or count > MOST_MEMBERS:
                raise ValueError("its headers contradict one another")
            before = member.offset
            if not member.isreg() or member.issparse():
                continue
            if not member.name.endswith(wanted):
                others.append(member.name)
                continue
            content = archive.extractfile(member)
            assert content is not None
            held[member.name] = content.read(budget.take(member.size))
            if len(held[member.name]) != member.size:
                raise EOFError(f"{member.name!r} ends early")
    return held, others


def parse_xml(path: Path, name: str, content: bytes) -> Element:
    """Tree of an XML file that needs no document type.

    Raises
    ------
    InputError
        Damaged, too large or deep, or with a document type (entities grow without bound).
    """
    builder, parser = TreeBuilder(), expat.ParserCreate()
    left, depth = MOST_NODES, 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal left, depth
        left, depth = left - 1, depth + 1
        if left < 0 or depth > DEEPEST:
            raise ValueError("too many elements in one another")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def refuse(*_: Any) -> int:
        raise ValueError("it has a document type, which is not read")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    parser.ExternalEntityRefHandler = refuse
    try:
        if len(content) > MOST_XML_BYTES:
            raise ValueError(f"{len(content)} bytes")
        parser.Parse(content, True)
        return builder.close()
    except (expat.ExpatError, ValueError, LookupError, AssertionError) as error:
        raise InputError(f"{path}: {name} is not readable XML ({reason(error)})") from None
