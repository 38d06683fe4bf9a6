"""The page of mu-run: latency against the budget, states and faults, links, drive, what was missed.

Made after the loop ended, from what it kept and, if there is one, from its log.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spikewire.link.load import wire_s
from spikewire.link.table import FAULTS, STATES
from spikewire.monitor.words import FAULT_WORDS, STATE_WORDS
from spikewire.report import latency, page, plots, rasters
from spikewire.report.latency import BUDGET_MS, Counted
from spikewire.report.story import Story
from spikewire.signals import SpikeTrains

LISTED = 10  # holes of the stream
LAST_FRAMES = 3  # of every run, SAFE
MUCH = 0.1  # of the frames
NO_LOG = "Not known of this run: only a log has it (mu-run --record)."


@dataclass(frozen=True)
class Ran:
    """What is left of a run.

    Attributes
    ----------
    summary : of the loop, as `mu-run --json` prints it
    age, compute : None where the clock was not the machine's
    story : of its log; None without --record
    trains : None without --trains
    look_ahead_ms : longest of the decoders
    upkeep : a line for each bundle that is kept up
    """

    summary: dict[str, Any]
    age: Counted | None
    compute: Counted | None
    story: Story | None
    trains: SpikeTrains | None
    look_ahead_ms: float
    upkeep: Sequence[str] = ()


def wire_ms(summary: dict[str, Any]) -> float | None:
    """Of the slowest line whose speed is known."""
    units = [b["n_mu"] for b in summary["bundles"]]
    known = [w for w in (wire_s(k["uri"], units) for k in summary["links"]) if w is not None]
    return 1e3 * max(known) if known else None


def stretches(t_s: np.ndarray, yes: np.ndarray, span: tuple[float, float]) -> str:
    """The `d` of where something was so, from each frame to the next: a line for each stretch."""
    edges = np.diff(np.concatenate([[False], yes, [False]]).astype(np.int8))
    ends = np.append(t_s, t_s[-1])
    column = [((ends[np.flatnonzero(edges == e)] - span[0]) / (span[1] - span[0])
               * plots.COLUMNS).astype(int) for e in (1, -1)]
    cover = np.zeros(plots.COLUMNS + 2, int)
    np.add.at(cover, column[0], 1)
    np.add.at(cover, np.maximum(column[1], column[0] + 1), -1)
    shown = np.diff((np.cumsum(cover) > 0).astype(np.int8), prepend=0, append=0)
    return "".join(f"M{plots.LEFT + a} {{y}}h{b - a}" for a, b in
                   zip(np.flatnonzero(shown == 1), np.flatnonzero(shown == -1), strict=True)) \
        or "M0 0"


def strip(story: Story, rows: Sequence[tuple[str, str, np.ndarray]], label: str) -> str:
    """When each of several things was so: (name, colour, bool (n,)), a row each."""
    span = 0.0, max(float(story.t_s[-1]), 1e-3) * 1.001
    axes = plots.Axes(24 * len(rows) + 4, span, (0, 1), "time (s)", "")
    for k, (name, colour, yes) in enumerate(rows):
        y = axes.top + 24 * k + 12
        axes.parts.append(
            f'<text x="{plots.LEFT - 7}" y="{y + 4}" text-anchor="end" font-size="9">'
            f"{name}</text>"
            f'<path d="{stretches(story.t_s, yes, span).format(y=y)}" fill="none" '
            f'style="stroke:var({colour});stroke-width:16"/>')
    return axes.svg(label)


def states(run: Ran) -> str:
    """How often each state was told, and when."""
    heard, total = run.summary["states"], max(sum(run.summary["states"].values()), 1)
    shown = page.table(("state", "frames", "share", "what it means"), [
        (name, str(n), f"{100 * n / total:.1f} %", STATE_WORDS[name]) for name, n in heard.items()])
    if run.story is None or not len(run.story.t_s):
        return shown + page.note(f"When: {NO_LOG[0].lower()}{NO_LOG[1:]}")
    rows = [(name, f"--{name}", run.story.state == k) for k, name in STATES.items()
            if name in heard]
    return strip(run.story, rows, "States over time") + shown


def faults(run: Ran) -> str:
    """Which faults were told, in words."""
    story = run.story
    if story is None:
        return page.note(NO_LOG)
    told = {bit: story.faults >> bit & 1 == 1 for bit in FAULTS}
    told = {bit: yes for bit, yes in told.items() if yes.any()}
    if not told:
        return page.note("None was told.")
    rows = [(FAULTS[bit], FAULT_WORDS[FAULTS[bit]], str(int(yes.sum())),
             page.figure(float(story.t_s[yes][0]), 2), page.figure(float(story.t_s[yes][-1]), 2))
            for bit, yes in told.items()]
    return strip(story, [(FAULTS[bit], "--FAULT", yes) for bit, yes in told.items()],
                 "Faults over time") + page.table(
        ("fault", "what it means", "frames", "first (s)", "last (s)"), rows)


def links(summary: dict[str, Any]) -> str:
    """What each link did."""
    if not summary["links"]:
        return page.note("None: nobody was told anything.")
    units = [b["n_mu"] for b in summary["bundles"]]
    wires = [wire_s(k["uri"], units) for k in summary["links"]]
    return page.table(("link", "frames sent", "dropped", "recovered", "a step on the wire (ms)"), [
        (k["uri"], str(k["sent"]), str(k["dropped"]), str(k["recovered"]),
         page.figure(None if wire is None else 1e3 * wire, 2))
        for k, wire in zip(summary["links"], wires, strict=True)]) + page.note(
        "Dropped: handed to a line on which the last one was still queued, never sent late. What a "
        "controller made of them it must say itself (mu-link watch).")


def missed(run: Ran) -> str:
    """Steps that were not decoded in time, holes in the stream, silence."""
    s = run.summary
    shown = page.facts([
        ("steps consumed", s["steps"]), ("decoded", s["decoded"]),
        ("missed: overtaken by a newer one before they were decoded", s["missed"]),
        ("gaps in the samples", s["gaps"]), ("frames sent while no samples came", s["silent"]),
        *[(f"source: {name.replace('_', ' ')}", value) for name, value in s["troubles"].items()]])
    if run.story is None or not s["missed"]:
        return shown
    jumps = np.diff(run.story.step)
    at = np.flatnonzero(jumps > 1)
    rows = [(page.figure(float(run.story.t_s[k + 1]), 2), str(int(jumps[k]) - 1))
            for k in at[:LISTED]]
    more = f" The first {LISTED} of {len(at)} places." if len(at) > LISTED else ""
    return shown + page.table(("at (s)", "steps missed"), rows) + page.note(
        "A missed step was consumed, so that the decoder's state stayed whole." + more)


def drive(run: Ran) -> str:
    """Neural drive of each bundle over time."""
    if run.story is None:
        return page.note(NO_LOG)
    if not np.isfinite(run.story.drives).any():
        return page.note("No drive was valid at any time.")
    names = [Path(b["bundle"]).name for b in run.summary["bundles"]]
    series = [(name if len(names) > 1 else "", run.story.t_s, run.story.drives[:, k])
              for k, name in enumerate(names)]
    return plots.lines(series, "time (s)", "neural drive (pulse/s)") + page.note(
        "As it was decoded, whether or not a controller was told; smoothed causally, so it lags "
        f"by {run.summary['drive_delay_ms']:.0f} ms. Interrupted where no drive was valid.")


def rates(run: Ran) -> str:
    """Spikes and rate of each unit."""
    units = run.summary["n_mu"]
    if run.trains is not None:
        trains = [t / run.trains.fs_hz for t in run.trains.times]
        first = min((float(t[0]) for t in trains if len(t)), default=0.0)
        last = max((float(t[-1]) for t in trains if len(t)), default=1.0)
        fine = "Times are those of --trains, in seconds of the source's counter."
    elif run.story is not None:
        trains, first = run.story.trains(units), 0.0
        last = max(float(run.story.spike_s.max(initial=0.0)), 1.0)
        fine = "Times are those of the log: ends of windows, 20 samples apart."
    else:
        return page.note(f"{run.summary['spikes']} spikes of {units} units in all. Which unit's "
                         "and when is not known of this run: --trains or --record keep it.")
    span = first, last + 0.1
    rows = [(str(k), str(len(t)), page.figure(len(t) / (span[1] - span[0]), 1))
            for k, t in enumerate(trains)]
    return rasters.activity(trains, span) + page.table(
        ("unit", "spikes", "mean rate (/s)"), rows) + page.note(fine)


def verdict(run: Ran) -> str:
    """The run in one sentence."""
    s = run.summary
    if run.age is None:
        return page.said("Run as fast as the machine allows, on a clock of its own: latency was "
                         "not measured.")
    wire = wire_ms(s)
    late = s["decode_delay_ms"]["p99"] + (wire or 0.0)
    what = "decoded and on the wire" if wire is not None else "decoded and handed over"
    useless = max(sum(s["states"].get(k, 0) for k in ("SAFE", "FAULT")) - LAST_FRAMES, 0)
    share = useless / max(sum(s["states"].values()), 1)
    words = (f"99 of 100 steps were {what} within {late:.1f} ms after the middle of their bin, of "
             f"a budget of {BUDGET_MS:g} ms; "
             f"{s['missed']} of {s['steps']} steps were missed.")
    if useless:
        words += f" {share:.0%} of the frames told SAFE or FAULT."
    if late > BUDGET_MS or share > MUCH:
        return page.said(words, "poor")
    return page.said(words, "usable" if s["missed"] or useless else "good")


def write(path: Path, run: Ran, ran_section: page.Section, source: str) -> None:
    """Write the page."""
    s = run.summary
    age = s["age_ms"]["p99"] if run.age else None
    delay = s["decode_delay_ms"]["p99"] if run.age else None
    top = verdict(run) + page.tiles([
        ("Steps decoded", str(s["decoded"]), f"of {s['steps']}"),
        ("Missed", str(s["missed"]), f"{s['gaps']} gaps"),
        ("Age p99", page.figure(age, 2), "ms"),
        ("Decode delay p99", page.figure(delay, 2), f"of {BUDGET_MS:g} ms"),
        ("Spikes", str(s["spikes"]), f"of {s['n_mu']} units")])
    measured = page.note("Not measured at --pace max: its clock stands still while the machine "
                         "computes.")
    if run.age and run.compute:
        measured = latency.section(s, run.story, run.age, run.compute, run.look_ahead_ms,
                                   wire_ms(s))
    sections = [("Latency by stage", measured), ("States", states(run)), ("Faults", faults(run)),
                ("Missed steps", missed(run)), ("Links", links(s)), ("Neural drive", drive(run)),
                ("Rate of each unit", rates(run))]
    if run.upkeep:
        sections.append(("Filters", "".join(page.note(line) for line in run.upkeep)))
    page.write_page(path, f"A run on {source}", [*sections, ran_section],
                    about=f"{s['decoder']} on {s['engine']}, {s['n_mu']} motor units", top=top)
