"""The page of mu-decompose: units, discharges and rates, action potentials, drive and force."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spikewire.report import page, plots, rasters, shapes
from spikewire.score import CST_RATE_HZ, CST_WINDOW_S, smoothed_cst
from spikewire.signals import Recording, SpikeTrains

HEAD = ("unit", "discharges", "rate (/s)", "SIL", "PNR (dB)", "CoV of ISI (%)")


def rate_hz(times: np.ndarray, fs_hz: float) -> float:
    """Mean rate between the first and the last discharge; NaN for less than two."""
    return (len(times) - 1) * fs_hz / (times[-1] - times[0]) if len(times) > 1 else float("nan")


def units(trains: SpikeTrains) -> str:
    """Table of the units' quality."""
    def known(values: np.ndarray | None, k: int, digits: int, scale: float = 1.0) -> str:
        return page.figure(None if values is None else scale * float(values[k]), digits)

    rows = [(str(k), str(len(t)), page.figure(rate_hz(t, trains.fs_hz), 1),
             known(trains.sil, k, 3), known(trains.pnr_db, k, 1), known(trains.cov_isi, k, 1, 100))
            for k, t in enumerate(trains.times)]
    return page.table(HEAD, rows)


def drive(recording: Recording, trains: SpikeTrains) -> str:
    """Neural drive over the recording, and the force below it if there is one."""
    fs, seconds = recording.fs_hz, recording.seconds
    cst = smoothed_cst(trains.times, 0, len(recording.emg), fs)
    shown = plots.lines([("", np.arange(len(cst)) / CST_RATE_HZ, cst)], "time (s)",
                        "neural drive (pulse/s)", span=(0.0, seconds))
    words = (f"Discharges of all {len(trains)} units per second, in a Hann window of "
             f"{1e3 * CST_WINDOW_S:g} ms without delay.")
    if recording.force is not None:
        force = np.asarray(recording.force, float)
        shown += plots.lines([("", np.arange(len(force)) / fs, force)], "time (s)",
                             f"force ({recording.force_unit or 'unit unknown'})", height=120,
                             span=(0.0, seconds), low=min(0.0, float(np.nanmin(force))))
        words += " Below it the force of the recording."
    return shown + page.note(words)


def of_one(recording: Recording, trains: SpikeTrains) -> list[page.Section]:
    """The sections about one recording and its spike trains."""
    seconds = [t / trains.fs_hz for t in trains.times]
    return [
        ("Motor units", units(trains) + page.note(
            "SIL: silhouette of the discharges' peaks among all peaks of the unit's source. PNR: "
            "pulse-to-noise ratio of the linear source. CoV of ISI: coefficient of variation of "
            "intervals from 20 to 250 ms. They judge the decomposition from within; only a "
            "comparison with a second decomposition, or with the truth of a simulation, says "
            "whether discharges are right.")),
        ("Discharges and rates", rasters.activity(seconds, (0.0, recording.seconds)) + page.note(
            "Ticks are discharges, dots the rate between one and the next (none after pauses of "
            f"more than {rasters.LONGEST_S:g} s).")),
        ("Action potentials", shapes.section(recording, trains.times)),
        ("Neural drive", drive(recording, trains)),
    ]


def write(path: Path, pairs: Sequence[tuple[Recording, SpikeTrains]],
          ran_section: page.Section, more: Sequence[page.Section] = (),
          head: str = page.NO_SCRIPT) -> None:
    """Write the page of one or several recordings that were decomposed together.

    Parameters
    ----------
    more : sections of others, such as a review of the spikes; before what was run
    head : what they need in the page's head
    """
    sections: list[page.Section] = []
    for number, (recording, trains) in enumerate(pairs):
        which = f" in {recording.name or number + 1}" if len(pairs) > 1 else ""
        sections += [(heading + which, html) for heading, html in of_one(recording, trains)]
    first = pairs[0][1]
    sil = np.zeros(0) if first.sil is None else first.sil
    rates = [rate_hz(t, first.fs_hz) for t in first.times]
    top = page.tiles([
        ("Motor units", str(len(first)), ""),
        ("SIL, least to most", f"{sil.min():.2f}\u2013{sil.max():.2f}" if len(sil) else page.NONE,
         ""),
        ("Mean rate, least to most",
         f"{np.nanmin(rates):.0f}\u2013{np.nanmax(rates):.0f}" if np.isfinite(rates).any()
         else page.NONE, "/s"),
        ("Discharges", str(sum(len(t) for _, trains in pairs for t in trains.times)), ""),
    ])
    about = "; ".join(recording.summary() for recording, _ in pairs)
    page.write_page(path, "Motor units of " + ", ".join(r.name or "a recording" for r, _ in pairs),
                    [*sections, *more, ran_section], head, about, top)
