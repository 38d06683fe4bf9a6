"""OTBiolab+ `.otb+` (a tar) and old `.otb` (a zip): raw counts, and the XML that scales them.

Microvolts are counts * range / 2^16 / gain, with range and gain of the amplifier as OT
Bioelettronica's own reader has them (OTB-Matlab, OpenOTBfilesConvFact): the gains in the XML are 1
in some files and absent in others. Of each `.sig` the adapters that bear electrodes are its grids.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from spikewire.io.archive import listed, parse_xml, read_members
from spikewire.io.choice import ANY, MOST_CHANNELS, Ask, pick, settle_rate, settle_unit
from spikewire.io.grids import of_code
from spikewire.signals import InputError, Recording

# Amplifier -> volts of the converter's range, gain before it. 16 bits.
AMPLIFIERS = {
    "QUATTROCENTO": (5.0, 150.0), "QUATTRO": (5.0, 150.0), "DUE": (5.0, 200.0),
    "DUE+": (3.3, 202.0), "QUATTRO+": (3.3, 202.0),
    **dict.fromkeys(("SESSANTAQUATTRO", "SESSANTAQUATTRO+", "MUOVI", "MUOVI+", "SYNCSTATION"),
                    (4.8, 256.0)),
}
PROBES = {"DUE+", "QUATTRO+"}  # which keep their scale behind a SyncStation
BITS = 16
LONGEST_WORD = 60
NO_ELECTRODES = ("adaptercontrol", "adapterquaternions", "adapterloadcell", "direct connection")
NO_EMG = ("quaternion", "buffer", "ramp", "loadcell", "load cell", "aux", "control", "counter")


@dataclass(frozen=True)
class Grid:
    """Columns of one adapter that bear electrodes."""

    name: str
    signal: str
    columns: list[int]
    lsb_uv: float
    total: int
    fs_hz: float
    note: str


def _number(path: Path, node: Element, key: str, low: float, high: float,
            default: float | None = None) -> float:
    """A number of an attribute, inside its bounds."""
    try:
        value = float(node.get(key, "") if default is None else node.get(key, default))
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise InputError(f"{path}: {key} of {node.tag} is {node.get(key, '')[:20]!r}, allowed is "
                         f"{low:g} to {high:g}")
    return value


def _grids(path: Path, signal: str, device: Element) -> tuple[list[Grid], list[str]]:
    """Grids of one signal, and what else is in it."""
    amplifier = device.get("Name", "").split(";")[0].strip().upper()
    if amplifier not in AMPLIFIERS:
        raise InputError(f"{path}: amplifier {amplifier[:30]!r} has no known scale, known are "
                         f"{', '.join(AMPLIFIERS)}; export a .mat from OTBiolab+ instead")
    if _number(path, device, "ad_bits", 1, 64) != BITS:
        raise InputError(f"{path}: ad_bits is {device.get('ad_bits', '')[:9]}, the scale is known "
                         f"for {BITS} only; export a .mat from OTBiolab+ instead")
    total = int(_number(path, device, "DeviceTotalChannels", 1, MOST_CHANNELS))
    fs_hz = _number(path, device, "SampleFrequency", 1, 1e6)
    grids, others = [], []
    for adapter in device.iter("Adapter"):
        word = adapter.get("ID", "")[:LONGEST_WORD]
        first = int(_number(path, adapter, "ChannelStartIndex", 0, total, 0))
        channels = list(adapter.iter("Channel"))
        emg = [] if word.lower().startswith(NO_ELECTRODES) else [
            c for c in channels if not c.get("ID", "").lower().startswith(NO_EMG)]
        if len(emg) < len(channels):
            others.append(f"{len(channels) - len(emg)} of {word or 'an adapter'}")
        if not emg:
            continue
        volts, gain = AMPLIFIERS[word.upper() if amplifier == "SYNCSTATION"
                                 and word.upper() in PROBES else amplifier]
        if {_number(path, c, "Gain", 1e-3, 1e6, 1) for c in emg} - {1.0, gain}:
            raise InputError(f"{path}: a channel of {word!r} has a gain other than 1 and {gain:g}, "
                             "its scale is not known; export a .mat from OTBiolab+ instead")
        lsb_uv = 1e6 * volts / (1 << BITS) / gain
        columns = [first + int(_number(path, c, "Index", 0, total - 1)) for c in emg]
        if max(columns) >= total or len(set(columns)) < len(columns):
            raise InputError(f"{path}: adapter {word!r} has channels beyond the {total} of its "
                             "signal, or one twice; the file is damaged")
        said = adapter.get("Gain", "")[:9]
        note = f"; gain {said} in the XML not used" if said not in ("", "1", f"{gain:g}") else ""
        grid = " ".join(f"{emg[0].get('ID', '')} {emg[0].get('Muscle', '')}".split())[:LONGEST_WORD]
        grids.append(Grid(f"{grid} ({len(emg)} channels, {word})", signal, columns, lsb_uv, total,
                          fs_hz, note))
    return grids, others


def _all_grids(path: Path, held: dict[str, bytes]) -> tuple[list[Grid], list[str]]:
    """Grids of all signals in the archive, and what else is in it."""
    grids: list[Grid] = []
    ignored: list[str] = []
    for name in sorted(n for n in held if n.endswith(".sig")):
        sheet = name[:-4] + ".xml"
        if sheet not in held:
            raise InputError(f"{path}: {listed([name])[0]} has no XML that scales it; the file is "
                             "damaged")
        found, beside = _grids(path, name, parse_xml(path, sheet, held[sheet]))
        grids += found
        ignored += beside
    ignored += listed([n for n in held if n.endswith(".xml") and n[:-4] + ".sig" not in held])
    if not grids:
        raise InputError(f"{path}: holds no electrodes (it holds "
                         f"{', '.join(listed(list(held))) or 'nothing'})")
    return grids, ignored


def read_recording(path: Path, ask: Ask = ANY) -> Recording:
    """Read the raw EMG, in microvolts.

    Raises
    ------
    InputError
        Damaged, an amplifier or resolution without a known scale, or several grids and none chosen.
    """
    held, others = read_members(path, (".sig", ".xml"))
    grids, beside = _all_grids(path, held)
    ignored = listed(others) + beside
    taken = pick(path, [g.name for g in grids], ask)
    chosen = [grids[k] for k in taken]
    if len({g.signal for g in chosen}) > 1:
        raise InputError(f"{path}: its grids are of several recordings; take one as {path.name}#1")
    one = chosen[0]
    settle_unit(path, ask, "uV")
    rate = settle_rate(path, ask, one.fs_hz)
    counts = np.frombuffer(held[one.signal], "<i2", len(held[one.signal]) // 2)
    samples = len(counts) // one.total
    left = len(held[one.signal]) - 2 * samples * one.total
    counts = counts[: samples * one.total].reshape(samples, one.total)
    lsb = [g.lsb_uv for g in chosen for _ in g.columns]
    emg = counts[:, [c for g in chosen for c in g.columns]] * np.array(lsb, np.float32)
    ignored += [f"grid {k + 1}, {g.name}" for k, g in enumerate(grids) if k not in taken]
    ignored += [f"{left} bytes at the end"] if left else []
    row, col, ied_mm = of_code(one.name, len(lsb)) if len(chosen) == 1 else (None,) * 3
    return Recording(
        emg, rate, path.stem, row, col, ied_mm, stored="int16" + "".join({g.note for g in chosen}),
        lsb_uv=lsb[0] if len(set(lsb)) == 1 else None, ignored=tuple(ignored),
    )
