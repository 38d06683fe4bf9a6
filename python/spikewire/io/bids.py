"""EDF and BDF in the layout of BIDS-EMG (BIDS 1.11): the recording and the tables beside it.

For `sub-01_task-hold_emg.bdf`: `_emg.json`, `_channels.tsv`, and where the grid is known
`sub-01_electrodes.tsv` and `sub-01_space-grid1_coordsystem.json`. Plain EDF and BDF are read, too:
what is in volts and no auxiliary is EMG.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from spikewire.io import edf
from spikewire.io.choice import ANY, Ask, known_unit, pick, settle_rate, settle_unit
from spikewire.io.scale import finite, measured_lsb, microvolts
from spikewire.io.tsv import (
    NONE,
    positive,
    read_sidecar,
    read_table,
    write_sidecar,
    write_table,
)
from spikewire.signals import UNITS_UV, InputError, Recording

NAME = re.compile(r"sub-[a-zA-Z0-9]+(_[a-z]+-[a-zA-Z0-9]+)*_emg\.(edf|bdf)")
NO_EMG = ("aux", "trig", "status", "force", "quaternion", "buffer", "ramp", "load", "acc", "gyr")
FORCE, GRID, MARGIN_MM = "force", "grid1", 0.05


def _beside(path: Path, end: str) -> Path:
    """A file that belongs to this recording: its name with another end."""
    stem = path.name[: -len(path.suffix)]
    return path.with_name(stem.removesuffix("_emg") + end)


def _of_place(path: Path, end: str) -> Path:
    """A file that belongs to the electrodes: only of subject, visit and acquisition."""
    parts = [p for p in path.stem.split("_") if p.split("-")[0] in ("sub", "ses", "acq")]
    return path.with_name("_".join(parts) + end)


def _table(path: Path, count: int) -> dict[str, list[str]]:
    """`_channels.tsv`, in the order of the file; empty if there is none."""
    where = _beside(path, "_channels.tsv")
    if not where.is_file():
        return {}
    table = read_table(where)
    if not {"name", "type", "units"} <= table.keys() or len(table["name"]) != count:
        raise InputError(f"{where}: {len(table.get('name', []))} channels with name, type and "
                         f"units; {path.name} has {count}")
    return table


def _roles(path: Path, channels: list[edf.Channel]) -> tuple[list[str], list[str], list[bool]]:
    """Type of each channel, its grid, and whether it is marked bad."""
    data = [c for c in channels if c.label not in edf.ANNOTATIONS]
    table = _table(path, len(data))
    types = table.get("type") or [
        "MISC" if c.label.lower().startswith(NO_EMG) or known_unit(c.unit) is None else "EMG"
        for c in data]
    return types, table.get("group") or [""] * len(data), [
        s == "bad" for s in table.get("status") or [""] * len(data)]


def read_recording(path: Path, ask: Ask = ANY) -> Recording:
    """Read the EMG in microvolts, its grid, force and bad channels.

    Raises
    ------
    InputError
        Damaged, tables that do not fit, no EMG, or several grids and none chosen.
    """
    file = edf.read(path)
    facts = read_sidecar(_beside(path, "_emg.json"))
    data = [c for c in file.channels if c.label not in edf.ANNOTATIONS]
    types, groups, bad = _roles(path, data)
    emg = [k for k, t in enumerate(types) if t == "EMG" and data[k].samples]
    grids = list(dict.fromkeys(groups[k] for k in emg))
    if not emg:
        raise InputError(f"{path}: none of its {len(data)} channels is EMG in uV, mV or V")
    taken = pick(path, [f"{g or 'EMG'} ({sum(groups[k] == g for k in emg)} channels)"
                        for g in grids], ask)
    chosen = [k for k in emg if groups[k] in [grids[j] for j in taken]]
    units = [settle_unit(path, ask, data[k].unit) for k in chosen]
    rates = {file.rate(data[k]) for k in chosen}
    if len(rates) > 1:
        raise InputError(f"{path}: its EMG channels have rates of {sorted(rates)} Hz; one is "
                         "allowed")
    rate = settle_rate(path, ask, rates.pop())
    samples, padded = _length(file, data[chosen[0]], rate, positive(facts.get("RecordingDuration")))
    columns = [microvolts(file.physical(data[k])[:samples], unit)
               for k, unit in zip(chosen, units, strict=True)]
    force = next((k for k, c in enumerate(data) if c.label == FORCE and types[k] == "MISC"
                  and file.rate(c) == rate), None)
    row, col, ied_mm = _grid(path, [data[k].label for k in chosen], facts)
    ignored = [f"{len(data) - len(emg) - (force is not None)} channels of other types"] \
        if len(data) - len(emg) > (force is not None) else []
    ignored += [f"grid {j + 1}, {g}" for j, g in enumerate(grids) if j not in taken]
    ignored += ["annotations"] if len(data) < len(file.channels) else []
    ignored += [f"{padded} samples of padding"] if padded else []
    scales = {data[k].scale * UNITS_UV[u] for k, u in zip(chosen, units, strict=True)}
    return Recording(
        np.stack(columns, axis=1), rate,
        path.name.removesuffix(path.suffix).removesuffix("_emg"), row, col, ied_mm,
        force=None if force is None else finite(file.physical(data[force])[:samples]),
        force_unit=_force_unit(path, force, len(data)),
        bad=tuple(j for j, k in enumerate(chosen) if bad[k]),
        stored=f"int{file.bits}, {units[0]}",
        lsb_uv=abs(scales.pop()) if len(scales) == 1 else None, ignored=tuple(ignored),
    )


def _length(
    file: edf.File, channel: edf.Channel, rate: float, seconds: float | None
) -> tuple[int, int]:
    """Samples to read, and those of padding: the sidecar knows where the recording ended."""
    there = len(file.digital) * channel.samples
    told = round(seconds * rate) if seconds else there
    return (told, there - told) if 0 <= there - told < channel.samples else (there, 0)


def _force_unit(path: Path, force: int | None, count: int) -> str:
    """Unit of the force: of the table's description, since EDF leaves it eight characters."""
    words = _table(path, count).get("description") if force is not None else None
    return words[force] if words and force is not None and words[force] != NONE else ""


def _grid(path: Path, labels: list[str], facts: dict[str, Any]) -> tuple[Any, Any, float | None]:
    """Rows, columns and distance from `_electrodes.tsv`; None each if it does not tell."""
    ied_mm = positive(facts.get("InterelectrodeDistance"))
    where = _of_place(path, "_electrodes.tsv")
    if ied_mm is None or not where.is_file():
        return None, None, ied_mm
    table = read_table(where)
    try:
        at = {n: (float(x), float(y)) for n, x, y in zip(
            table["name"], table["x"], table["y"], strict=True)}
        place = np.array([at[label] for label in labels]) / ied_mm
    except (KeyError, ValueError):
        return None, None, ied_mm
    near = np.round(np.nan_to_num(place, nan=-1, posinf=-1, neginf=-1))
    if (np.abs(near - place) > MARGIN_MM).any() or near.min() < 0 or near.max() > 1000:
        return None, None, ied_mm
    col, row = near.astype(np.int64).T
    return row, col, ied_mm


def write_recording(path: str | Path, recording: Recording) -> None:
    """Write a recording and the tables beside it; the EDF or BDF itself comes last.

    Raises
    ------
    InputError
        A name that BIDS does not allow, or electrodes other than those already in the folder.
    """
    path = Path(path)
    if not NAME.fullmatch(path.name) or "_task-" not in path.name:
        raise InputError(f"{path.name}: BIDS names a recording like sub-01_task-hold_emg.bdf; "
                         "choose such a name, or .npz")
    samples, channels = recording.emg.shape
    edf.record_length(recording.fs_hz)
    names = [f"EMG{k + 1:03d}" for k in range(channels)]
    write_sidecar(_beside(path, "_emg.json"), {
        "TaskName": path.name.split("_task-")[1].split("_")[0],
        "EMGPlacementScheme": "Other",
        "EMGPlacementSchemeDescription": "not stated in the recording that was converted",
        "EMGReference": NONE, "SamplingFrequency": recording.fs_hz, "PowerLineFrequency": NONE,
        "SoftwareFilters": NONE, "HardwareFilters": NONE, "EMGChannelCount": channels,
        "RecordingDuration": samples / recording.fs_hz, "RecordingType": "continuous",
        **({"InterelectrodeDistance": recording.ied_mm} if recording.ied_mm else {}),
    })
    _write_channels(path, recording, names)
    _write_electrodes(path, recording, names)
    lsb_uv = recording.lsb_uv or measured_lsb(recording.emg)
    signals: list[Any] = [(n, "uV", recording.emg[:, k], lsb_uv)
                          for k, n in enumerate(names)]
    if recording.force is not None:
        signals.append((FORCE, recording.force_unit[:8], recording.force, None))
    edf.write(path, signals, recording.fs_hz)


def _write_channels(path: Path, recording: Recording, names: list[str]) -> None:
    """A row for each channel of the file, the force last."""
    n, forced = len(names), recording.force is not None
    other = [NONE] * forced
    write_table(_beside(path, "_channels.tsv"), {
        "name": names + [FORCE] * forced, "type": ["EMG"] * n + ["MISC"] * forced,
        "units": ["uV"] * n + other,
        "description": [NONE] * n + [recording.force_unit or NONE] * forced,
        "signal_electrode": names + other, "reference": [NONE] * n + other,
        "group": [GRID] * n + other,
        "status": ["bad" if k in recording.bad else "good" for k in range(n)] + ["good"] * forced,
    })


def _write_electrodes(path: Path, recording: Recording, names: list[str]) -> None:
    """Where the electrodes lie, in mm from the grid's own corner."""
    if recording.grid_row is None or recording.grid_col is None or not recording.ied_mm:
        return
    where = _of_place(path, "_electrodes.tsv")
    table: dict[str, list[Any]] = {
        "name": names, "x": [float(c * recording.ied_mm) for c in recording.grid_col],
        "y": [float(r * recording.ied_mm) for r in recording.grid_row],
        "coordinate_system": [GRID] * len(names), "group": [GRID] * len(names),
    }
    if where.is_file():
        told = {n: [f"{v:.10g}" if isinstance(v, float) else v for v in c]
                for n, c in table.items()}
        if read_table(where) != told:
            raise InputError(f"{where}: is there and names other electrodes; give this recording "
                             "another ses- or acq- label")
    write_table(where, table)
    write_sidecar(_of_place(path, f"_space-{GRID}_coordsystem.json"), {
        "EMGCoordinateSystem": "Other", "EMGCoordinateUnits": "mm",
        "EMGCoordinateSystemDescription":
            "the grid's own: x along its rows to higher columns, y along its columns to higher "
            "rows, from the place of row 0 and column 0",
    })
