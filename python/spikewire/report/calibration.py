"""The page of mu-calibrate: the verdict first, then why: electrodes, effort, units, scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spikewire.guide import Plan
from spikewire.report import decomposition, page, plots, rasters, shapes
from spikewire.signals import FLAT_SHARE, Recording, SpikeTrains

ENVELOPE_S = 0.25
CELL_W, CELL_H = 50, 24


@dataclass(frozen=True)
class Calibrated:
    """What a calibration made.

    Attributes
    ----------
    facts : of its `report.json`
    recording : the contractions, cut as the decoder's training saw them
    labels : all units that were found in it
    found : (what, remedy), of electrodes and effort
    held_out : (decoded, labels) of the decoder's units over the held-out seconds; None where the
        decoder was there before
    """

    facts: dict[str, Any]
    plan: Plan
    recording: Recording
    labels: SpikeTrains
    found: Sequence[tuple[str, str]]
    held_out: tuple[SpikeTrains, SpikeTrains] | None


def hold_rms_uv(recording: Recording) -> np.ndarray:
    """Amplitude of every channel in the last contraction, microvolt."""
    emg = recording.emg
    if recording.segments is not None and len(recording.segments):
        emg = emg[slice(*recording.segments[-1])]
    return emg.astype(np.float64).std(axis=0)


def electrodes(c: Calibrated) -> str:
    """Amplitude of each electrode in its place, and what is wrong."""
    rms = hold_rms_uv(c.recording)
    row, col, known = shapes.places(c.recording)
    flat = rms < FLAT_SHARE * np.median(rms)
    top = float(rms.max()) or 1.0
    cells = []
    for k, value in enumerate(rms):
        x, y = CELL_W * int(row[k]), CELL_H * int(col[k])
        frame = f"M{x + 2} {y + 2}h{CELL_W - 4}v{CELL_H - 4}h-{CELL_W - 4}z"
        mark = f'<path class="l1" style="stroke-width:2" d="{frame}"/>' if flat[k] else ""
        cells.append(f'<rect class="f0" x="{x + 1}" y="{y + 1}" width="{CELL_W - 2}" rx="3" '
                     f'height="{CELL_H - 2}" fill-opacity="{0.35 * value / top:.2f}"/>{mark}'
                     f'<text class="ink" x="{x + CELL_W / 2:.0f}" y="{y + 16}" '
                     f'text-anchor="middle">{value:.0f}</text>')
    size = CELL_W * (int(row.max()) + 1), CELL_H * (int(col.max()) + 1)
    picture = (f'<div class="plot"><svg viewBox="0 0 {size[0]} {size[1]}" role="img" '
               f'style="max-width:{size[0]}px" aria-label="Amplitude of each electrode">'
               f'{"".join(cells)}</svg></div>')
    where = "In their places, a column of the grid a line" if known else "In their order"
    wrong = page.table(("what is wrong", "what to do"), c.found) if c.found else page.note(
        "Nothing is wrong with electrodes or effort.")
    return wrong + picture + page.note(
        f"{where}: RMS of each electrode in the last contraction, uV. Framed: flat.")


def effort(c: Calibrated) -> str:
    """EMG beside the target that was shown."""
    recording, fs = c.recording, c.recording.fs_hz
    size = round(ENVELOPE_S * fs)
    whole = recording.emg[: len(recording.emg) // size * size]
    power = np.square(whole, dtype=np.float64).mean(axis=1).reshape(-1, size).mean(axis=1)
    envelope = np.sqrt(power)
    at = (np.arange(len(envelope)) + 0.5) * ENVELOPE_S
    shift = 0.0
    if recording.segments is not None and len(recording.segments):
        shift = c.plan.contractions_s()[-1][0] - recording.segments[-1][0] / fs
    target = np.array([c.plan.target(t + shift) for t in at])
    held = target >= c.plan.level
    scale = float(np.median(envelope[held])) / c.plan.level if held.any() else 1.0
    return plots.lines([("EMG, RMS over all channels", at, envelope),
                        (f"target, {c.plan.level:g} % where it is held", at, scale * target)],
                       "time (s)", "uV", span=(0.0, recording.seconds)) + page.note(
        "The target is scaled to the EMG's median while it was held: whether it was followed and "
        "held steadily can be seen, how strong the effort was cannot.")


def scores(c: Calibrated) -> str:
    """F1 of each unit on what was held out."""
    facts = c.facts
    if facts["what"] == "new":
        head, beside = ("unit", f"F1 of the bundle ({facts['decoder']})", "F1 linear"), \
            facts["f1_linear"]
        words = (f"On {facts['hold_out_s'].replace(':', ' to ')} s, of which nothing was learned, "
                 "from what mu-run decodes.")
    else:
        head, beside = ("unit", f"F1 of the bundle ({facts['what']})", "F1 as it was"), \
            facts["f1_before"]
        words = ("Against units found afresh in this recording, paired by their agreement; the "
                 "bundle was trained on none of them.")
    longest = max(len(facts["f1"]), len(beside))
    both = [list(v) + [None] * (longest - len(v)) for v in (facts["f1"], beside)]
    shown = page.table(head, [(str(k), page.figure(a, 3), page.figure(b, 3))
                              for k, (a, b) in enumerate(zip(*both, strict=True))])
    if facts.get("left_out"):
        words += " Left out, since no filter follows them: " + ", ".join(
            f"unit {k} ({v:.2f})" for k, v in facts["left_out"].items()) + "."
    if c.held_out:
        decoded, labels = ([t / trains.fs_hz for t in trains.times] for trains in c.held_out)
        a, b = (float(v) for v in facts["hold_out_s"].split(":"))
        shown += rasters.raster(decoded, labels, (a, b))
    return shown + page.note(words)


def next_step(facts: dict[str, Any], source: str) -> str:
    """What to type now."""
    if facts["out"]:
        kept = f" The older bundle is {facts['before']}." if facts.get("before") else ""
        return f"Next: mu-run {facts['out']} --source {source} --link null:{kept}"
    if facts["what"] == "kept":
        return "The bundle stays as it was; nothing has to be done."
    return "Nothing was installed: what was made lies beside this page."


def write(path: Path, c: Calibrated, source: str, ran_section: page.Section) -> None:
    """Write the page."""
    facts = c.facts
    f1 = facts["f1"]
    top = page.said(facts["sentence"], facts["verdict"]) + page.said(next_step(facts, source)) + \
        page.tiles([
            ("Units decoded", str(len(f1)), f"of {len(c.labels)} found"),
            ("Mean F1, held out", page.figure(float(np.mean(f1)) if f1 else None, 3),
             f"worst {page.figure(min(f1, default=None), 3)}"),
            ("RMS of the hold", f"{np.median(hold_rms_uv(c.recording)):.0f}", "\u00b5V"),
            ("Ready after", f"{facts['seconds_after_recording']:.0f}", "s")])
    units = decomposition.of_one(c.recording, c.labels)
    page.write_page(path, f"Calibration on {source}",
                    [("Electrodes", electrodes(c)), ("Target and effort", effort(c)),
                     ("Held-out scores", scores(c)), *units, ran_section],
                    about=c.recording.summary(), top=top)
