"""The study's page: what was reduced, the tables, the curves, and what differs from the paper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spikewire.report import page, plots
from spikewire.study import published as paper
from spikewire.study.data import Data
from spikewire.study.jobs import Outcome
from spikewire.study.paper import LAYERS, NODES, Profile
from spikewire.study.tables import Report

CITATION = ("Y. Wen, S. Avrillon, J. C. Hernandez-Pavon, S. Kim, F. Hug, J. L. Pons, J. Neural "
            "Eng. 18 (2021) 056003")
DIFFERENCES = (
    "Labels come from spikewire's own decomposition, without hand editing and with the silhouette "
    "as the criterion; the paper used DEMUSE, edited by hand, PNR above 30 dB. Our PNR is that of "
    "the linear source signal: tools that square it first report about twice the decibels.",
    "As in the paper, the labels come from a decomposition of the whole recording, the test part "
    "included.",
    "The best epoch is chosen by mean F1 on 15 % of the training part, which is not trained on. "
    "The paper does not say on which part it counted the F1 that chose its best epoch.",
    "EMG is divided by the largest amplitude of the training part, not of the whole recording.",
    "Simulated muscle after section 3.1; conductivities, end-plates and fibre places are ours, "
    "since the paper does not print them. The paper's three simulated segments are not defined.",
    "A step of 5 has its bin centred on the middle sample: eq. (2) gives half samples there.",
    "Layer variants (section 2.2): heads stay one per motor unit, the network with two "
    "convolutions keeps the pool after them. Dropout acts on the inputs of C3, F1 and F2. The "
    "learning rate is Keras' default, 0.001; the paper prints none.",
    "The linear MU filter is not in the paper: 24 delays, ridge by cross-fitting, trained on the "
    "same samples as the networks, decoded with a look-ahead of 20 samples instead of 60, with the "
    "causal decisions of mu-run.",
)


def data_rows(data: Data) -> list[tuple[str, str, str]]:
    """What was decoded, beside the paper's."""
    facts, wanted = data.facts, data.facts["wanted"]
    rows = [("recording", facts["recording"], "60 s of plateau at 25 %, ramp 2.5 %/s, 20 dB")]
    if not wanted["recording"]:
        rows.append(("simulated", f"{wanted['contractions']} contraction(s) of "
                     f"{wanted['plateau_s']:g} s plateau at 25 %, ramp 2.5 %/s, 20 dB, seed "
                     f"{wanted['seed']}", "one contraction, three segments"))
    rows += [
        ("folds", facts["folded"], "three, by contraction"),
        ("motor units found / used", f"{facts['found']} / {facts['used']}",
         f"{paper.SIMULATED_UNITS} (simulated)"),
        ("discharges needed in every fold", str(wanted["min_discharges"]),
         str(paper.MIN_DISCHARGES)),
    ]
    if facts["pnr_db"]:
        rows.append(("PNR (dB), mean", f"{sum(facts['pnr_db']) / len(facts['pnr_db']):.1f}",
                     f"{paper.SIMULATED_PNR_DB} (of the squared source)"))
    if "truth" in facts:
        rates = [t["agreement"] for t in facts["truth"]]
        rows.append(("labels' rate of agreement with the truth, mean / least",
                     f"{sum(rates) / len(rates):.3f} / {min(rates):.3f}",
                     "sensitivity and precision > 99 %"))
    return rows


def table_1() -> str:
    """The paper's table 1, for who compares a recording of their own."""
    rows = [(name, *(f"{m} ± {s}" for m, s in values)) for name, values in paper.TABLE_1.items()]
    return page.table(("paper, table 1", "10 % MVC", "30 % MVC", "50 % MVC"), rows)


def curves(outcome: Outcome, report: Report) -> list[tuple[str, str]]:
    """F1 over the window, and over the epochs."""
    over_window: dict[int, list[tuple[int, float]]] = {}
    for which, f in sorted(report.shown.items()):
        if which[0] == "mo" and which[3:] == (LAYERS, NODES) and f[report.reference]["f1"]:
            over_window.setdefault(which[1], []).append((which[2], f[report.reference]["f1"][0]))
    sections = []
    if over_window:
        lines = [(f"step {step}", [w for w, _ in at], [v for _, v in at])
                 for step, at in over_window.items()]
        sections.append(("F1 of the MO-DCNN over the window",
                         plots.curves(lines, "window (samples)", "F1")))
    trained = [(job["name"], range(1, 1 + r["epochs"]), r["validation_f1"])
               for job, r in outcome.done
               if job["decoder"] == "mo" and job["fold"] == max(report.cells.get(
                   ("mo", *paper.BEST, LAYERS, NODES), {0: None}))]
    if trained:
        sections.append(("F1 on the validation part over the epochs", plots.curves(
            trained[:7], "epoch", "F1") + page.note("Names: step, window, convolutions, nodes of "
                                                    "C1, fold. The seven largest trainings.")))
    return sections


def write(
    path: Path, profile: Profile, report: Report, outcome: Outcome, facts: dict[str, Any]
) -> None:
    """Write the page."""
    said = [f"Profile {profile.name}: {len(outcome.done)} trainings, at most {profile.epochs} "
            f"epochs each; "
            + ", ".join(f"{n} {v}" for n, v in facts["versions"].items()) + "."]
    if profile.reduced:
        said.append(f"Reduced: {'; '.join(profile.reduced.values())}. Such figures say that the "
                    "path works and which way they point, not what the networks can reach.")
    said += [f"Failed: {name}: {why}" for name, why in outcome.failed.items()]
    sections = [("What was done", "".join(page.note(s) for s in said) + page.note(CITATION)),
                ("Data", page.table(("", "here", "paper"), data_rows(report.data)) + "<p></p>"
                 + table_1())]
    sections += [(t.title, page.table(t.head, t.rows) + page.note(t.note))
                 for t in report.tables()]
    sections += curves(outcome, report)
    sections.append(("Where this differs from the paper",
                     "".join(page.note(d) for d in DIFFERENCES)))
    page.write_page(path, f"Wen et al. 2021 repeated: {profile.name} profile", sections)
