"""OTBiolab+ 4 `.otb4`: a tar whose `Tracks_000.xml` says where in the signals each track lies.

A value is counts * ADC_Range * UnitOfMeasurementFactor / (2^ADC_Nbits * Gain), in
UnitOfMeasurement. A Novecento+ writes 32-bit words, a signal for each stream, with
ChannelOffsetInSubPacket; the others one 16-bit signal, with AcquisitionChannel.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from spikewire.io.archive import listed, parse_xml, read_members
from spikewire.io.choice import (
    ANY,
    MOST_CHANNELS,
    Ask,
    known_unit,
    pick,
    settle_rate,
    settle_unit,
)
from spikewire.io.grids import of_code
from spikewire.signals import UNITS_UV, InputError, Recording

LONGEST_WORD = 200
NO_EMG = ("quaternion", "buffer", "ramp", "load", "aux", "control", "counter", "trigger", "force")


@dataclass(frozen=True)
class Track:
    """Some neighbouring channels of a signal."""

    name: str
    emg: bool
    signal: str
    first: int
    channels: int
    total: int
    width: int
    lsb_uv: float
    fs_hz: float
    ied_mm: float | None


def _text(node: Element, tag: str) -> str:
    """Text of such an element of a node, or of the first below it, or nothing."""
    found = node.find(tag)
    found = node.find(f".//{tag}") if found is None else found
    return (found.text or "").strip()[:LONGEST_WORD] if found is not None else ""


def _number(path: Path, node: Element, tag: str, low: float, high: float,
            default: float | None = None) -> float:
    """A number inside its bounds."""
    text = _text(node, tag)
    try:
        value = float(text) if text or default is None else default
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise InputError(f"{path}: {tag} of track {_text(node, 'Title')[:20]!r} is {text[:20]!r}, "
                         f"allowed is {low:g} to {high:g}")
    return value


def _track(path: Path, node: Element, totals: dict[str, int]) -> Track:
    """One TrackInfo."""
    novecento = _text(node, "Device").lower().startswith("novecento")
    title, signal = _text(node, "Title"), _text(node, "SignalStreamPath")
    sensor = _text(node, "OriginalSensor")
    words = f"{title} {_text(node, 'SubTitle')} {_text(node, 'Name')}".lower()
    channels = int(_number(path, node, "NumberOfChannels", 1, MOST_CHANNELS))
    unit = known_unit(_text(node, "UnitOfMeasurement"))
    control = _text(node, "IsControl").lower() == "true"
    emg = not control and unit is not None and not any(w in words for w in NO_EMG) \
        and (not novecento or title.upper().startswith("IN"))
    lsb_uv = 0.0
    if emg and unit:
        bits = _number(path, node, "ADC_Nbits", 8, 32)
        lsb_uv = UNITS_UV[unit] / 2**bits * _number(path, node, "ADC_Range", 1e-9, 1e9) * \
            _number(path, node, "UnitOfMeasurementFactor", 1e-9, 1e9) / \
            _number(path, node, "Gain", 1e-6, 1e6)
    place = "ChannelOffsetInSubPacket" if novecento else "AcquisitionChannel"
    total = int(_number(path, node, "TotalChannelsInFile", 1, MOST_CHANNELS, totals[signal]))
    ied = _number(path, node, "IED", 0, 1000, 0.0)
    return Track(
        f"{sensor or _text(node, 'SubTitle')} {_text(node, 'Muscle')} ({channels} channels, "
        f"{title})", emg, signal, int(_number(path, node, place, 0, MOST_CHANNELS)), channels,
        total, int(_number(path, node, "SampleSize", 2, 4, 4 if novecento else 2)), lsb_uv,
        _number(path, node, "SamplingFrequency", 0.1, 1e6), ied or None)


def _tracks(path: Path, root: Element) -> list[Track]:
    """All tracks; a signal is as wide as its tracks together, unless they say its width."""
    nodes = list(root.iter("TrackInfo"))
    totals: dict[str, int] = {}
    for node in nodes:
        signal = _text(node, "SignalStreamPath")
        totals[signal] = totals.get(signal, 0) + int(
            _number(path, node, "NumberOfChannels", 1, MOST_CHANNELS))
    return [_track(path, node, totals) for node in nodes]


def _samples(path: Path, held: dict[str, bytes], track: Track) -> tuple[np.ndarray, int]:
    """Counts of a track, (samples, channels), and the bytes left over at the signal's end."""
    content = held.get(track.signal, held.get("./" + track.signal))
    if content is None or track.width not in (2, 4):
        raise InputError(f"{path}: holds no signal {track.signal[:40]!r} of words of 2 or 4 bytes")
    if track.first + track.channels > track.total or track.total > MOST_CHANNELS:
        raise InputError(f"{path}: track {track.name!r} lies beyond the {track.total} channels of "
                         "its signal; the file is damaged")
    samples = len(content) // (track.width * track.total)
    counts = np.frombuffer(content, f"<i{track.width}", samples * track.total)
    counts = counts.reshape(samples, track.total)[:, track.first : track.first + track.channels]
    return counts, len(content) - samples * track.total * track.width


def read_recording(path: Path, ask: Ask = ANY) -> Recording:
    """Read the raw EMG, in microvolts.

    Raises
    ------
    InputError
        Damaged, no track of EMG, or several and none chosen.
    """
    held, others = read_members(path, (".sig", "Tracks_000.xml"))
    sheet = next((n for n in held if n.endswith("Tracks_000.xml")), None)
    if sheet is None:
        raise InputError(f"{path}: has no Tracks_000.xml; is it an .otb4?")
    tracks = _tracks(path, parse_xml(path, sheet, held[sheet]))
    emg = [t for t in tracks if t.emg]
    if not emg:
        raise InputError(f"{path}: no track of its {len(tracks)} is EMG in uV, mV or V")
    taken = pick(path, [t.name for t in emg], ask)
    chosen = [emg[k] for k in taken]
    one = chosen[0]
    settle_unit(path, ask, "uV")
    rate = settle_rate(path, ask, one.fs_hz)
    parts = [_samples(path, held, t) for t in chosen]
    if len({(t.fs_hz, len(counts)) for t, (counts, _) in zip(chosen, parts, strict=True)}) > 1:
        raise InputError(f"{path}: its grids differ in rate or length; take one as {path.name}#1")
    scaled = [counts * np.float32(t.lsb_uv) for t, (counts, _) in zip(chosen, parts, strict=True)]
    row, col, ied_mm = of_code(one.name, one.channels) if len(chosen) == 1 else (None,) * 3
    ignored = [f"{t.channels} of {t.name}" for t in tracks if not t.emg]
    ignored += [f"grid {k + 1}, {t.name}" for k, t in enumerate(emg) if k not in taken]
    ignored += listed(others)
    ignored += [f"{left} bytes at the end" for _, left in parts if left]
    lsb = {t.lsb_uv for t in chosen}
    return Recording(
        np.ascontiguousarray(np.hstack(scaled), np.float32), rate, path.stem, row, col,
        ied_mm or one.ied_mm, stored=f"int{8 * one.width}",
        lsb_uv=lsb.pop() if len(lsb) == 1 else None, ignored=tuple(ignored),
    )
