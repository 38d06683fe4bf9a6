"""What mu-run leaves once its loop has ended: summary, spike trains, a page."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any


class Ended:
    """Writes what is left; the page last, after a run that failed, too.

    Parameters
    ----------
    args : options of mu-run
    page : Path or None
        Of --report.

    Attributes
    ----------
    summary : dict, empty until the loop has ended
    """

    def __init__(self, args: argparse.Namespace, page: Path | None) -> None:
        self.summary: dict[str, Any] = {}
        self._args, self._page = args, page
        self._loop: Any = None
        self._trains: Any = None

    def keep(self, loop: Any, trains_out: Path | None, more: dict[str, Any]) -> None:
        """Sum up, and write the spike trains."""
        from spikewire.io.npz import write_trains

        if loop.publisher and loop.publisher.failed:
            print(f"mu-run: warning: monitors heard nothing more after "
                  f"{loop.publisher.published} steps: {loop.publisher.failed}", file=sys.stderr)
        self._loop, self.summary = loop, loop.summary() | more
        if self._args.pace == "max":  # on a clock that stands still while the machine computes
            self.summary |= dict.fromkeys(("age_ms", "decode_delay_ms", "compute_ms"))
        if self._page:
            self.summary["report"] = str(self._page)
        if trains_out and loop.spool:
            self._trains = loop.spool.trains(self.summary["n_mu"], loop.source.fs_hz,
                                             self.summary["engine"])
            write_trains(trains_out, self._trains)

    def __enter__(self) -> Ended:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Write the page, unless nothing ran."""
        from spikewire.signals import InputError

        if not self._page or not self.summary:
            return
        try:
            self._write(self._page)
        except (OSError, InputError) as broken:
            if kind is None:
                raise
            print(f"mu-run: warning: {self._page} was not written: {broken}", file=sys.stderr)

    def _write(self, page: Path) -> None:
        """Tell what the loop kept, and its log."""
        from spikewire.report import ran, running
        from spikewire.report.latency import Counted
        from spikewire.report.story import read_story
        from spikewire.runtime.meter import BIN_MS

        s, loop, args = self.summary, self._loop, self._args
        age, compute = (Counted(m.counts, BIN_MS, s[name]) if s[name] else None for m, name in
                        ((loop.tally.age, "age_ms"), (loop.tally.compute, "compute_ms")))
        look_ahead = max(d.manifest.look_ahead + max(d.manifest.label_lag) for d in loop.decoders)
        running.write(
            page,
            running.Ran(s, age, compute, read_story(Path(args.record)) if args.record else None,
                        self._trains, 1e3 * look_ahead / loop.source.fs_hz, upkeep_lines(s)),
            ran.section(args.typed, [
                ("engine", s["engine"]), ("arm id", s["arm_id"]),
                *[("bundle", f"{d.bundle.path}, sha256 {d.bundle.sha256}") for d in loop.decoders],
                ("real time", json.dumps(s["realtime"])), ("seconds", s["loop_s"])]),
            args.source)
        if not args.json:
            print(f"page: {page}")


def upkeep_line(u: dict[str, Any]) -> str:
    """What was done to the filters while the loop ran."""
    words = [f"filters solved again {u['swaps']} times"]
    for what, now, usual in (("grid {:+g} mm along", u["along_mm"], 0),
                             ("grid {:+g} mm around", u["around_mm"], 0),
                             ("velocity x {:g}", u["velocity"], 1)):
        if now != usual:
            words.append(what.format(now))
    for what, which in (("bad channels", u["bad_channels"]), ("muted units", u["muted"])):
        if which:
            words.append(f"{what} {', '.join(map(str, which))}")
    if u["ended"]:
        words.append("ENDED EARLY: its process died or hung, the last filters stay")
    return "upkeep        " + "; ".join(words)


def upkeep_lines(summary: dict[str, Any]) -> list[str]:
    """A line for each bundle whose filters are kept up."""
    return [upkeep_line(b["upkeep"])
            + (f" ({b['bundle']})" if len(summary["bundles"]) > 1 else "")
            for b in summary["bundles"] if b["upkeep"]]
