"""A decomposition to be edited by hand: its sources, packed into a section of a page.

The page holds no signal but the local maxima of each unit's source: where they are, how high, how
deep the signal falls after them, whether they are among the peaks that SIL is computed from. What
is too low to be sent is counted, so that the page's figures are those of `edits.figures`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spikewire.decompose import sources
from spikewire.edits import SAME_PEAK_S, belonging, fingerprint
from spikewire.score import MILLISECOND_S, agreement, nearest
from spikewire.separate import Settings, peaks_of
from spikewire.signals import Floats, InputError, Recording, SpikeTrains, Times

FOLDER = Path(__file__).parent
PALETTE = FOLDER.parent / "monitor" / "page" / "style.css"
FLOORS = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)  # of the highest discharge
MOST_BYTES = 1_300_000  # packed; as text it is a third longer, and a page stays below 2 MB
SHARED_BYTES = 600_000  # beside a report of up to 1 MB
MOST_UNITS = 150  # a grid shows up to about 60
ALIKE = Settings.duplicate_agreement
PEAK, GIVEN = 1, 2  # flags
IN_16_BITS = 65535  # the highest maximum


@dataclass(frozen=True)
class Maxima:
    """Local maxima of one source; samples count from the source's start."""

    at: Times
    height: Floats
    flag: np.ndarray[Any, np.dtype[np.uint8]]
    source: Floats

    def above(self, floor: float, reach: int) -> Maxima:
        """Without those that are lower, unless they are discharges or next to one."""
        given = self.at[self.flag & GIVEN > 0]
        keep = self.height >= floor
        if len(given):
            keep |= np.abs(nearest(given, self.at)) <= reach
        return Maxima(self.at[keep], self.height[keep], self.flag[keep], self.source)


def maxima(source: Floats, times: Times, fs_hz: float) -> Maxima:
    """All positive local maxima, and the given discharges wherever they are."""
    inner = source[1:-1]
    tops = 1 + np.flatnonzero((inner > source[:-2]) & (inner >= source[2:]) & (inner > 0))
    peaks = peaks_of(source, fs_hz)
    at = np.union1d(np.union1d(tops, peaks), times).astype(np.int64)
    flag = PEAK * np.isin(at, peaks) + GIVEN * np.isin(at, times)
    return Maxima(at, np.maximum(source[at], 0), flag.astype(np.uint8), source)


def planes(values: Any, dtype: str) -> bytes:
    """Numbers byte by byte: all lowest bytes, then all next ones, which packs better."""
    whole = np.asarray(values, dtype)
    return whole.view(np.uint8).reshape(len(whole), -1).T.tobytes()


def pack(units: Sequence[Maxima], floor: float, reach: int) -> tuple[list[dict[str, Any]], bytes]:
    """What the page knows of each unit, and the packed maxima of all (`review_model.js` reads it).

    Returns
    -------
    list of dict
        Of each unit: `maxima` packed, `top`, the height of the highest, `power`, the sum of squares
        of the whole source, `lost`, number and sum of squares of the peaks below the floor.
    bytes
        Deflated planes of all units one after another: steps from one maximum to the next (u32),
        heights (u16, 65535 is `top`), minima before the next maximum (u8, 255 is 1), flags (u8).
    """
    facts: list[dict[str, Any]] = []
    columns: list[tuple[Any, ...]] = []
    for unit in units:
        sent = unit.above(floor, reach)
        low = ~np.isin(unit.at, sent.at) & (unit.flag & PEAK > 0)
        top = float(sent.height.max(initial=0)) or 1.0
        facts.append({
            "maxima": len(sent.at), "top": top,
            "power": float(np.square(unit.source, dtype=np.float64).sum()),
            "lost": [int(low.sum()), float(np.square(unit.height[low], dtype=np.float64).sum())],
        })
        valleys = np.minimum.reduceat(unit.source, sent.at) if len(sent.at) else np.zeros(0)
        columns.append((np.diff(sent.at, prepend=0), np.round(sent.height / top * IN_16_BITS),
                        np.round(255 * valleys.clip(0, 1)), sent.flag))
    whole = b"".join(planes(np.concatenate(values), dtype) for values, dtype in
                     zip(zip(*columns, strict=True), ("<u4", "<u2", "u1", "u1"), strict=True))
    return facts, zlib.compress(whole, 9)


def fitted(
    units: Sequence[Maxima], reach: int, name: str, most: int
) -> tuple[float, list[Any], bytes]:
    """Packed with the lowest floor that a page has room for.

    Raises
    ------
    InputError
        Not even the discharges alone have room.
    """
    for floor in FLOORS:
        count = sum(len(u.above(floor, reach).at) for u in units)
        if count > most:  # each takes more than a byte, however well it packs
            continue
        facts, packed = pack(units, floor, reach)
        if len(packed) <= most:
            return floor, facts, packed
    raise InputError(f"{name}: {len(units)} units with so many discharges are too much for one "
                     "page; cut the recording")


def alike(trains: SpikeTrains) -> list[list[float]]:
    """Pairs of units that agree as duplicates do: [unit, unit, rate of agreement], best first."""
    tolerance = int(MILLISECOND_S * trains.fs_hz)
    pairs = [[a, b, round(agreement(one, other, tolerance=tolerance), 3)]
             for b, other in enumerate(trains.times) for a, one in enumerate(trains.times[:b])]
    return sorted((p for p in pairs if p[2] >= ALIKE), key=lambda p: -p[2])


def program() -> str:
    """The page's script; what it defines is seen by nothing else."""
    parts = ((FOLDER / f"{name}.js").read_text() for name in
             ("review_model", "review_draw", "review"))
    return "(() => {\n\"use strict\";\n" + "\n".join(parts) + "})();\n"


def head() -> str:
    """For the head of a page with this section: its script alone may run, nothing is loaded."""
    digest = base64.b64encode(hashlib.sha256(program().encode()).digest()).decode()
    return ("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
            f"script-src 'sha256-{digest}'; style-src 'unsafe-inline'; base-uri 'none'; "
            "form-action 'none'\">")


def section(
    recording: Recording, trains: SpikeTrains, name: str = "",
    rounds: Sequence[dict[str, Any]] = (), most_bytes: int = MOST_BYTES,
) -> tuple[str, str]:
    """Heading and self-contained HTML in which a person edits spike trains; one to a page.

    Parameters
    ----------
    recording : Recording
        What was decomposed.
    trains : SpikeTrains
    name : str
        Of the file that the page writes, NAME_edited.npz; the recording's by default.
    rounds : list of dict
        What `edits.read_rounds` found in the file of the spike trains.
    most_bytes : int
        Of packed maxima; a page with other sections has less room.

    Raises
    ------
    InputError
        The spike trains are of another recording, or too many for a page.
    """
    trains = belonging(recording, trains, name or "the spike trains")
    if len(trains) > MOST_UNITS:
        raise InputError(f"{name}: {len(trains)} units, a review takes up to {MOST_UNITS}; review "
                         "one grid at a time")
    signals, start, clean = sources(recording, trains.times)
    fs_hz = recording.fs_hz
    units = [maxima(np.ascontiguousarray(s), t - start, fs_hz)
             for s, t in zip(signals.T, trains.times, strict=True)]
    reach = round(SAME_PEAK_S * fs_hz)
    floor, facts, packed = fitted(units, reach, recording.name, most_bytes)
    out = re.sub(r"[^\w.-]+", "_", name or recording.name)[:80].strip("._") or "trains"
    facts_of_all = {
        "of": fingerprint(recording, trains.times), "name": recording.name, "out": out,
        "fs_hz": fs_hz, "samples": len(recording.emg), "start": start, "length": len(signals),
        "reach": reach, "floor": floor, "method": trains.method, "rounds": list(rounds),
        "alike": alike(trains),
        "units": [{**f, "clean": c} for f, c in zip(facts, clean, strict=True)],
    }
    # In a script, only "<" could end it.
    text = json.dumps(facts_of_all, allow_nan=False).replace("<", "\\u003c")
    palette = PALETTE.read_text().split("* {", 1)[0]
    return "Review", (
        f"<style>{palette}{(FOLDER / 'review.css').read_text()}</style>"
        f"{(FOLDER / 'review.html').read_text()}"
        f'<script type="application/json" id="review-head">{text}</script>'
        f'<script type="text/plain" id="review-data">{base64.b64encode(packed).decode()}</script>'
        f"<script>{program()}</script>")
