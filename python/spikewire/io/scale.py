"""What a loader made of a file: unit, LSB, RMS, channels, rate, and what it left unread."""

from __future__ import annotations

from typing import Any

import numpy as np

from spikewire.signals import UNITS_UV, Floats, Recording

LOOKED_AT = 20_000  # samples of one channel
FEWEST_LEVELS = 30
OFF = 0.05  # of a step that a level may lie beside its place


def microvolts(values: Any, unit: str) -> Floats:
    """Values of a unit as float32 microvolts; what overflows or is no number stays as it is.

    `Recording.check` names those samples.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ascontiguousarray(
            np.asarray(values).astype(np.float32) * np.float32(UNITS_UV[unit]))


def finite(force: Any) -> Floats:
    """A force as float32, 0 where the file has no number; it is a reference, no input."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.nan_to_num(np.asarray(force).astype(np.float32), posinf=0, neginf=0)


def measured_lsb(emg: Floats) -> float | None:
    """Step of the converter that the samples themselves show; None if they show none."""
    rms = emg.std(axis=0)
    channel = emg[:LOOKED_AT, int(np.argsort(rms)[len(rms) // 2])].astype(np.float64)
    gaps = np.diff(np.unique(channel))
    if len(gaps) < FEWEST_LEVELS:
        return None
    steps = gaps / gaps.min()
    whole = np.round(steps)
    if (np.abs(steps - whole) > OFF * whole).any():
        return None
    return float(gaps.sum() / whole.sum())


def facts(recording: Recording) -> dict[str, Any]:
    """The report as plain values."""
    told = recording.lsb_uv
    return {
        "name": recording.name, "stored": recording.stored, "unit": "uV",
        "lsb_uv": told if told is not None else measured_lsb(recording.emg),
        "lsb_from": "file" if told is not None else "samples",
        "rms_uv": recording.rms_uv, "largest_uv": float(np.abs(recording.emg).max()),
        "channels": recording.emg.shape[1], "fs_hz": recording.fs_hz,
        "seconds": recording.seconds, "bad": list(recording.bad),
        "grid": recording.grid_row is not None, "ied_mm": recording.ied_mm,
        "force": recording.force_unit or ("unknown unit" if recording.force is not None else ""),
        "ignored": list(recording.ignored),
    }


def report(recording: Recording) -> str:
    """The report in lines."""
    f = facts(recording)
    source = {"file": "", "samples": " (from the samples)"}[f["lsb_from"]]
    lsb = f"{f['lsb_uv']:.5g} uV{source}" if f["lsb_uv"] else "not to be seen"
    grid = f"{f['ied_mm']:g} mm apart" if f["ied_mm"] else "distance unknown"
    rows = [
        ("stored as", f["stored"] or "unknown"), ("unit now", "uV"), ("LSB", lsb),
        ("RMS, largest", f"{f['rms_uv']:.1f} uV, {f['largest_uv']:.0f} uV"),
        ("channels", f"{f['channels']}, places {'' if f['grid'] else 'un'}known, {grid}"),
        ("rate, length", f"{f['fs_hz']:g} Hz, {f['seconds']:.2f} s"),
        ("force", f["force"] or "none"), ("marked bad", ", ".join(map(str, f["bad"])) or "none"),
        ("ignored", "; ".join(f["ignored"]) or "nothing"),
    ]
    return "\n".join(f"{name:13s} {value}" for name, value in rows)
