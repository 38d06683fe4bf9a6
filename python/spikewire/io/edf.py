"""EDF and BDF: the plain format (Kemp 1992; BioSemi's 24 bits), read and written.

A physical value is (digital - digital minimum) * physical range / digital range + physical minimum,
in the unit the channel names; a record holds so many samples of each channel, one after another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikewire.durable import write_durably
from spikewire.io.choice import MOST_CHANNELS
from spikewire.signals import InputError

BDF = b"\xffBIOSEMI"
WIDTHS = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)  # label, transducer, unit, ranges, filter, samples
ANNOTATIONS = ("EDF Annotations", "BDF Annotations")
LONGEST_RECORD_S = 100


@dataclass(frozen=True)
class Channel:
    """What the header says of a channel.

    Attributes
    ----------
    first, samples : int
        Where its samples begin in a record, and how many they are.
    scale, offset : float
        Physical value = digital * scale + offset.
    """

    label: str
    unit: str
    first: int
    samples: int
    scale: float
    offset: float


@dataclass(frozen=True)
class File:
    """An EDF or BDF file: its channels, and the digital samples (records, samples of a record)."""

    channels: list[Channel]
    record_s: float
    digital: NDArray[Any]
    bits: int

    def rate(self, channel: Channel) -> float:
        """Samples per second."""
        return channel.samples / self.record_s

    def physical(self, channel: Channel) -> NDArray[np.float64]:
        """Samples of a channel in its unit."""
        part = self.digital[:, channel.first : channel.first + channel.samples].ravel()
        return part * channel.scale + channel.offset


def _number(path: Path, what: str, text: bytes, low: float, high: float) -> float:
    """A number of the header inside its bounds."""
    try:
        value = float(text.decode("ascii").strip(" \0"))
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise InputError(f"{path}: {what} in its header is {text.strip()[:12]!r}, allowed is "
                         f"{low:g} to {high:g}")
    return value


def _channels(path: Path, head: bytes, count: int) -> list[Channel]:
    """Channels from the second part of the header."""
    fields, at = [], 0
    for width in WIDTHS:
        fields.append([head[at + width * k : at + width * (k + 1)] for k in range(count)])
        at += width * count
    out, first = [], 0
    for label, _, unit, *ends, _, size, _ in zip(*fields, strict=True):
        name = label.decode("latin-1").strip()
        low, high, least, most = (
            _number(path, f"a range of {name!r}", e, -1e9, 1e9) for e in ends)
        samples = int(_number(path, f"samples of {name!r}", size, 0, 1 << 24))
        if most <= least:
            raise InputError(f"{path}: the digital range of {name!r} is {least:g} to {most:g}; "
                             "the file is damaged")
        scale = (high - low) / (most - least)
        out.append(Channel(name, unit.decode("latin-1").strip(), first, samples, scale,
                           low - least * scale))
        first += samples
    return out


def read(path: Path) -> File:
    """Read a file as a whole.

    Raises
    ------
    InputError
        Not EDF or BDF, discontinuous, damaged, or shorter than its header says.
    """
    content = path.read_bytes()
    bits = 24 if content[:8] == BDF else 16
    if len(content) < 512 or (bits == 16 and content[:8].strip() != b"0"):
        raise InputError(f"{path}: not an EDF or BDF file")
    if content[192:197] in (b"EDF+D", b"BDF+D"):
        raise InputError(f"{path}: is discontinuous ({content[192:197].decode()}), only whole "
                         "recordings are read; split it at its gaps")
    count = int(_number(path, "number of channels", content[252:256], 1, MOST_CHANNELS))
    start = int(_number(path, "size of the header", content[184:192], 512, 1 << 24))
    record_s = _number(path, "length of a record", content[244:252], 1e-6, 1e6)
    if start != 256 * (count + 1) or start > len(content):
        raise InputError(f"{path}: a header of {start} bytes does not fit {count} channels")
    channels = _channels(path, content[256:start], count)
    wide = sum(c.samples for c in channels)
    records = int(_number(path, "number of records", content[236:244], -1, 1 << 31))
    there = (len(content) - start) // (max(wide, 1) * bits // 8)
    if not wide or records > there or not there:
        raise InputError(f"{path}: ends after {there} of {records} records; it is cut off")
    records = there if records < 0 else records
    raw = np.frombuffer(content, np.uint8, records * wide * bits // 8, start)
    if bits == 16:
        return File(channels, record_s, raw.view("<i2").reshape(records, wide), bits)
    low = raw.reshape(records, wide, 3)
    digital = low[..., 0] | low[..., 1].astype(np.int32) << 8
    digital |= low[..., 2].view(np.int8).astype(np.int32) << 16
    return File(channels, record_s, digital, bits)


def _range(most: float) -> str:
    """Text of a physical maximum of seven characters, not below `most`: its minus needs the eighth.

    A range of 0 is not allowed.
    """
    for digits in range(5, -1, -1):
        text = f"{math.ceil(max(most, 1e-3) * 10**digits) / 10**digits:.{digits}f}"
        if len(text) <= 7:
            return text
    raise InputError(f"values of {most:.3g} do not fit the header of an EDF or BDF; is the unit "
                     "right?")


def record_length(fs_hz: float) -> int:
    """Seconds of a record that hold a whole number of samples.

    Raises
    ------
    InputError
        No such length up to 100 s.
    """
    for seconds in range(1, LONGEST_RECORD_S + 1):
        if math.isclose(fs_hz * seconds, round(fs_hz * seconds), rel_tol=1e-9):
            return seconds
    raise InputError(f"a rate of {fs_hz:g} Hz fits no record of an EDF or BDF; resample to 2048 Hz "
                     "(--resample 2048)")


def _header(heads: list[tuple[Any, ...]], bits: int, records: int, seconds: int) -> bytes:
    """Both parts of a header; who, when and where are not stated."""
    fixed = ("", "X X X X", "Startdate X X X X", "01.01.85", "00.00.00", 256 * (len(heads) + 1),
             "24BIT" if bits == 24 else "", records, seconds, len(heads))
    head = b"".join(str(v).encode("ascii", "replace").ljust(n)[:n] for v, n in zip(
        fixed, (8, 80, 80, 8, 8, 8, 44, 8, 8, 4), strict=True))
    return (BDF if bits == 24 else b"0       ") + head[8:] + b"".join(
        str(h[k]).encode("latin-1", "replace").ljust(n)[:n]
        for k, n in enumerate(WIDTHS) for h in heads)


def write(
    path: Path, signals: Sequence[tuple[str, str, NDArray[Any], float | None]], fs_hz: float
) -> int:
    """Write channels of one rate; the last record is filled up with zeros.

    Parameters
    ----------
    path : Path
        Ends in `.edf` (16 bits) or `.bdf` (24 bits).
    signals : sequence of (label, unit, samples, value of a count or None)
        The value of a count is kept where the range allows it.

    Returns
    -------
    int
        Samples filled up.
    """
    bits = 24 if path.suffix.lower() == ".bdf" else 16
    tops, seconds = sorted({32767, (1 << (bits - 1)) - 1}), record_length(fs_hz)
    wide, samples = round(fs_hz * seconds), len(signals[0][2])
    records = -(-samples // wide)
    heads, blocks = [], []
    for label, unit, values, lsb in signals:
        most = float(np.abs(values).max())
        kept = next((t for t in tops if lsb and lsb * t >= most), None)
        top = kept or tops[-1]
        text = _range(lsb * top if lsb and kept else most)
        digital = np.zeros(records * wide, np.int32)
        digital[:samples] = np.round(values * (top / float(text)))
        blocks.append(digital.reshape(records, wide))
        heads.append((label, "", unit, "-" + text, text, -top, top, "", wide, ""))
    head = _header(heads, bits, records, seconds)
    data = np.ascontiguousarray(np.stack(blocks, axis=1))
    packed = data.astype("<i2").tobytes() if bits == 16 else \
        data.astype("<i4").view(np.uint8).reshape(*data.shape, 4)[..., :3].tobytes()

    def fill(file: Any) -> None:
        file.write(head)
        file.write(packed)

    write_durably(path, fill)
    return records * wide - samples
