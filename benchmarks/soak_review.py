"""A person's review of a decomposition, in headless Chromium: 500 edits, 60 s, 20 units.

    python benchmarks/soak_review.py --out report.json

Clicks, boxes, keys, undo and redo by chance, at every zoom. Each edit is timed from the input event
to the moment after the picture that shows it (`redraw_ms`), and the page's own work in between
(`work_ms`). On a machine with other things to do both hold the waiting for a core: the same edits
are made three times: what is slow by itself is slow each time. Then the tab is closed and opened
again, the export is read back, and Python follows its record.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from monitor_world import Browser  # noqa: E402
from test_report_review import READY, click, facts, saved  # noqa: E402

from spikewire import edits, separate  # noqa: E402
from spikewire.commands import review as command  # noqa: E402
from spikewire.decompose import sources  # noqa: E402
from spikewire.durable import write_durably  # noqa: E402
from spikewire.io import read_trains  # noqa: E402
from spikewire.io.npz import read_recording, write_recording, write_trains  # noqa: E402
from spikewire.signals import SpikeTrains  # noqa: E402
from spikewire.simulate.discharge import Contraction  # noqa: E402
from spikewire.simulate.emg import Scene, simulate  # noqa: E402
from spikewire.simulate.muap import Anatomy  # noqa: E402

LAG = 16  # samples from a discharge to the middle of its potential, roughly


def material(folder: Path, seed: int) -> tuple[Any, SpikeTrains]:
    """60 s of a simulated muscle and the 20 clearest of its units, as their sources show them."""
    hold = Contraction(level=25.0, plateau_s=60.0, ramp_s_per_level=0.0, rest_s=0.0)
    recording, truth = simulate(Scene(Anatomy(seed), hold), folder)
    late = [t[t < len(recording.emg) - 2 * LAG] + LAG for t in truth.times if len(t) > 60]
    made, start, _ = sources(recording, late)
    found = [f for s in made.T
             if (f := separate.judged(np.ascontiguousarray(s), recording.fs_hz))]
    found.sort(key=lambda f: -f.sil)
    trains = SpikeTrains([f.times + start for f in found[:20]], recording.fs_hz,
                         method="peaks of sources that were found with the truth")
    return replace(recording, force=None), trains


def act(page: Browser, rng: np.random.Generator, maxima: list[list[int]]) -> None:
    """One edit as a person makes it."""
    what = rng.random()
    if what < 0.15:
        page.key("z")
    elif what < 0.2:
        for kind in ("keyDown", "keyUp"):
            page.call("Input.dispatchKeyEvent", type=kind, key="Z", text="Z", modifiers=8)
    elif what < 0.25:
        page.key("k")
    elif what < 0.35:  # a box over some discharges
        page.key("Home")
        for _ in range(int(rng.integers(3))):
            page.key("]")
        page.key("b")
        page.key("ArrowRight")
        page.key("d")
    else:
        unit = int(rng.integers(len(maxima)))
        click(page, unit, int(rng.choice(maxima[unit])))
    if rng.random() < 0.2:
        page.key(str(rng.choice(["+", "-", "0"])))


# A key that does nothing, from its event to the next picture: what the browser itself needs here.
IDLE = """globalThis.idle = []; addEventListener("keydown", (e) => { if (e.key === "Shift")
  requestAnimationFrame(() => setTimeout(() => idle.push(performance.now() - e.timeStamp))); });"""

SHOWN = "new Promise((shown) => requestAnimationFrame(() => setTimeout(shown)))"


def review_once(
    folder: Path, args: Any, units: int
) -> tuple[dict, dict, Path, list[str], list[float]]:
    """All edits in a browser of its own: the page's facts, those of a new tab, the export, idle."""
    rng = np.random.default_rng(args.seed)
    kept = Path(tempfile.mkdtemp(dir=folder))
    with Browser((folder / "p.html").as_uri()) as page:
        page.until(READY)
        page.ask(IDLE)
        maxima = [page.ask(f"spikewireReview.maxima({k})") for k in range(units)]
        while page.ask("spikewireReview.facts().record.length") < args.edits:
            act(page, rng, maxima)
            page.ask(SHOWN)  # a person goes on when the picture is there
            page.key("Shift")
            page.ask(SHOWN)
        time.sleep(0.5)
        idle = page.ask("idle")
        before = facts(page)
        old = page.another((folder / "p.html").as_uri())
        page.shut(old)
        page.until(READY)
        return before, facts(page), saved(page, kept), page.errors, idle


def percentiles(values: np.ndarray) -> dict[str, float]:
    p50, p99, top = np.percentile(values, (50, 99, 100))
    return {"p50": round(float(p50), 1), "p99": round(float(p99), 1), "max": round(float(top), 1)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--edits", type=int, default=500)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recording, trains = material(folder, args.seed)
        write_recording(folder / "r.npz", recording)
        write_trains(folder / "t.npz", trains)
        recording, trains = read_recording(folder / "r.npz"), read_trains(folder / "t.npz")
        began = time.monotonic()
        command.write(folder / "p.html", recording, trains, folder / "t.npz", [])
        found: dict[str, Any] = {
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "load_before": round(os.getloadavg()[0], 1),
            "seconds": recording.seconds, "units": len(trains),
            "discharges": sum(map(len, trains.times)),
            "page_bytes": (folder / "p.html").stat().st_size,
            "page_made_s": round(time.monotonic() - began, 1)}
        runs = [review_once(folder, args, len(trains)) for _ in range(args.runs)]
        before, _, edited, errors, _ = runs[-1]
        idle = np.concatenate([r[-1] for r in runs])
        took, work = np.array([r[0]["redraws_ms"] for r in runs]).transpose(2, 0, 1)
        times, _ = edits.follow(recording, trains.times, edits.read_rounds(edited))
        actions = [e["action"] for e in before["record"]]
        found |= {
            "edits": {a: actions.count(a) for a in sorted(set(actions))},
            "runs": len(runs), "redraws": took.size, "redraw_ms": percentiles(took),
            "work_ms": percentiles(work), "redraws_over_100_ms": int((took > 100).sum()),
            "edits_over_100_ms_in_every_run": int((took > 100).all(axis=0).sum()),
            "key_that_does_nothing_ms": percentiles(idle),
            "of_these_over_100_ms": int((idle > 100).sum()), "of": len(idle),
            "best_of_runs_ms": percentiles(took.min(axis=0)),
            "kept_after_closing_the_tab": all(
                old[k] == new[k] for old, new, *_ in runs for k in ("record", "units")),
            "export_is_what_its_record_says": [t.tolist() for t in times]
            == [t.tolist() for t in read_trains(edited).times],
            "errors": errors}
    print(json.dumps(found, indent=1))
    if args.out:
        content = json.dumps(found, indent=1) + "\n"
        write_durably(args.out, lambda file: file.write(content.encode()))
    ok = took.max() <= 100 and found["kept_after_closing_the_tab"] and not errors
    return int(not (ok and found["export_is_what_its_record_says"]))


if __name__ == "__main__":
    sys.exit(main())
