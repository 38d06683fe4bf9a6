"""The demo's result: one table for the terminal, one page, and whether it went well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spikewire.report import latency, page, plots, ran, running, scoring
from spikewire.report.latency import BUDGET_MS
from spikewire.report.story import read_story

Facts = dict[str, Any]


def rows(facts: Facts) -> list[tuple[str, str]]:
    """What to know, in the order of the path."""
    live, link, scores = facts["live"], facts["live"]["link"], facts["scores"]
    run = live["run"]
    units = facts["decomposition"]["units"]
    span = f"{facts['block_s'][0]:g}-{facts['block_s'][1]:g} s"

    def ms(values: dict[str, float]) -> str:
        return f"{values['p50']:.2f} / {values['p99']:.2f} / {values['max']:.2f} ms"

    def f1(name: str) -> str:
        return f"{scores[name]['f1']:.3f} (worst unit {scores[name]['f1_worst']:.3f})"

    signal_s = run["steps"] * 20 / facts["fs_hz"]
    fast = live["decoder_fast"]
    return [
        ("motor units found", f"{len(units)} in {facts['decomposition']['seconds']:.0f} s, "
         f"SIL {min(u['sil'] for u in units):.2f}-{max(u['sil'] for u in units):.2f}"),
        ("training", f"{facts['training']['seconds']:.0f} s, {facts['training']['weights']} "
         f"weights; the bundle carries the {facts['bundle']['decoder']}"),
        (f"F1 on held-out {span}: network", f1("network")),
        (f"F1 on held-out {span}: linear filter", f1("linear")),
        ("steps at real speed", f"{run['steps']} ({run['decoded']} decoded)"),
        ("missed steps / by an idle loop", f"{run['missed']} / {live['control']['missed']}"),
        ("age at transmission p50 / p99 / max", ms(run["age_ms"])),
        (f"decode delay p50 / p99 / max, budget {BUDGET_MS:g} ms", ms(run["decode_delay_ms"])),
        ("frames sent / received / bad", f"{run['links'][0]['sent']} / {link['frames_accepted']} / "
         f"{sum(link['frames_rejected'].values()) + link['gaps']}"),
        ("stale frames marked valid", str(link["stale_marked_valid"])),
        ("states heard", ", ".join(f"{k} {v}" for k, v in link["states"].items())),
        ("as fast as possible", f"{signal_s / fast['loop_s']:.0f} x real time, "
         + ("same spikes" if live["identical"] else "DIFFERENT SPIKES")),
    ]


def show(table_rows: list[tuple[str, str]], scores: Facts) -> None:
    """Print the tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(title="spikewire demo", show_header=False)
    for name, value in table_rows:
        table.add_row(name, value)
    console.print()
    console.print(table)
    per_unit = Table("unit", "F1 network", "F1 linear", title="held-out block, per motor unit")
    for row in unit_rows(scores):
        per_unit.add_row(*row)
    console.print(per_unit)


def unit_rows(scores: Facts) -> list[tuple[str, str, str]]:
    """F1 of each unit by both decoders."""
    both = zip(scores["network"]["per_unit"], scores["linear"]["per_unit"], strict=True)
    return [(str(k), f"{n['f1']:.3f}", f"{lin['f1']:.3f}") for k, (n, lin) in enumerate(both)]


def write(out: Path, facts: Facts, table_rows: list[tuple[str, str]], command: str) -> Path:
    """Write the page from the run's own log and spike trains."""
    from spikewire.io import read_trains

    run, block = facts["live"]["run"], facts["block_s"]
    story = read_story(out / "live.mcap")
    decoded, reference = (read_trains(out / n) for n in ("live_trains.npz", "model/labels.npz"))
    start, stop = (round(s * reference.fs_hz) for s in block)
    compared = scoring.Compared(decoded, reference, [(k, k) for k in range(len(reference))],
                                start, stop)
    look_ahead_ms = run["decode_delay_ms"]["p50"] - run["age_ms"]["p50"]
    told = running.Ran(run, None, None, story, decoded, look_ahead_ms)
    sections = [
        ("Result", page.facts(table_rows) + page.note(
            "The reference is our own decomposition of the whole recording. The decoder learned "
            "from labels that were estimated again without this block; which units there are was "
            "found with it, so F1 is agreement with that decomposition, not accuracy.")),
        ("Latency by stage", latency.of_log(story, look_ahead_ms, running.wire_ms(run))
         + plots.histogram(story.age_ms, "age of the newest sample (ms)", BUDGET_MS)),
        ("F1 of network and linear filter", page.table(("unit", "network", "linear MU filter"),
                                                       unit_rows(facts["scores"]))),
        *scoring.sections(compared, facts["live"]["live_score"]),
        ("States", running.states(told)), ("Drive as it was sent", running.drive(told)),
        ran.section(command, [("engine", run["engine"]), ("arm id", run["arm_id"]),
                              ("seconds", facts["seconds"])]),
    ]
    path = out / "demo.html"
    page.write_page(path, f"spikewire demo: {facts['recording']}", sections,
                    about=f"{block[0]:g} to {block[1]:g} s, decoded live at real speed")
    return path


def verdict(facts: Facts) -> int:
    """0 if the run kept its promises, 1 with the reasons otherwise."""
    live, link = facts["live"], facts["live"]["link"]
    run = live["run"]
    promises = {
        "a frame was lost or bad": sum(link["frames_rejected"].values()) == 0
        and link["gaps"] == 0 and link["frames_accepted"] == run["links"][0]["sent"],
        "a stale frame was marked valid": link["stale_marked_valid"] == 0,
        "the paced and the fast run differ": live["identical"] or run["missed"] > 0,
        f"decode delay exceeds {BUDGET_MS:g} ms": run["decode_delay_ms"]["p99"] <= BUDGET_MS,
    }
    broken = [words for words, kept in promises.items() if not kept]
    for words in broken:
        print(f"mu-demo: {words}")
    return 1 if broken else 0
