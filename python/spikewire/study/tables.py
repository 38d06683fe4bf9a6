"""The paper's tables, ours beside theirs: pure functions from results to rows of text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from spikewire.study import published as paper
from spikewire.study.data import Data
from spikewire.study.jobs import Job
from spikewire.study.paper import LAYERS, NODES
from spikewire.study.results import LINEAR, Cells, Which, figures, gather, label_figures

Row = list[str]
NAMES = {"so": "SO-DCNN", "mo": "MO-DCNN", "linear": "linear MU filter"}


@dataclass(frozen=True)
class Table:
    """One table of the report."""

    title: str
    head: Row
    rows: list[Row]
    note: str = ""


def percent(pair: tuple[float, float] | None) -> str:
    """Mean +- sd of shares, in %."""
    return "-" if pair is None else f"{100 * pair[0]:.1f} ± {100 * pair[1]:.1f}"


def number(value: float | None, digits: int = 1) -> str:
    """A number, or a dash."""
    return "-" if value is None else f"{value:.{digits}f}"


def accuracy(shown: dict[str, Any], reference: str) -> Row:
    """Units above 0.7, sensitivity, precision, F1."""
    s = shown[reference]
    f1 = "-" if s["f1"] is None else f"{s['f1'][0]:.3f}"
    return [f"{s['found']:.3g} of {shown['units']}", percent(s["sensitivity"]),
            percent(s["precision"]), f1]


def printed(which: tuple[str, int, int], real: bool) -> str:
    """The paper's sensitivity / precision of a cell, where its text has them."""
    if real:
        pair = paper.EXPERIMENT.get(which)
        return f"{pair[0][0]} ± {pair[0][1]} / {pair[1][0]} ± {pair[1][1]}" if pair else "drawn"
    both = [d[which] for d in (paper.SIMULATED, paper.SIMULATED_AGAIN) if which in d]
    return ", ".join(f"{s} / {p}" for s, p in both) or "drawn"


def published_cells(cells: Cells, decoder: str) -> list[Which]:
    """The cells of the published architecture, by step and window."""
    return sorted(w for w in cells if w[0] == decoder and w[3:] == (LAYERS, NODES))


class Report:
    """All tables of one study, from its results and its data."""

    def __init__(self, done: Sequence[tuple[Job, dict[str, Any]]], data: Data) -> None:
        self.cells, self.data = gather(done, data), data
        self.real = data.truth is None
        self.reference = "labels" if self.real else "truth"
        self.shown = {which: figures(folds, data) for which, folds in self.cells.items()}
        self.labels = label_figures(self.cells, data)

    def linear(self, *before: str) -> list[Row]:
        """The baseline's row, its accuracy after the cells given."""
        return [[NAMES["linear"], *before, *accuracy(self.shown[LINEAR], self.reference)]] \
            if LINEAR in self.shown else []

    def compared(self) -> Table:
        """SO-DCNN beside MO-DCNN over the step (section 4.1, figure 4)."""
        head = ["decoder", "step", "units > 0.7", "sensitivity %", "precision %", "F1",
                "paper: sens. / prec. %"]
        rows = []
        if self.labels:
            rows.append(["labels (CKC)", "20", *accuracy(self.labels, "truth"), "> 99 / > 99"])
        rows += [[*row, "not in the paper"] for row in self.linear("20")]
        for decoder in ("so", "mo"):
            rows += [[NAMES[decoder], str(w[1]), *accuracy(self.shown[w], self.reference),
                      printed(w[:3], self.real)]
                     for w in published_cells(self.cells, decoder) if w[2] == paper.BEST[1]]
        return Table("SO-DCNN and MO-DCNN, window 120 (section 4.1, figure 4)", head, rows,
                     f"Against the {self.words()}. Mean and sd over units and folds. 'drawn': in a "
                     "figure only. The paper prints two pairs for the MO-DCNN at step 20 "
                     "(sections 4.1 and 4.2.1).")

    def words(self) -> str:
        """What is scored against, in words."""
        return "decomposition" if self.real else "simulated discharges"

    def times(self) -> Table:
        """Training and prediction time, weights (section 4.1, figure 4)."""
        head = ["decoder", "step", "training s/epoch", "paper", "predict ms/window", "paper",
                "compiled ms/window", "weights", "per unit", "paper, 64 channels"]
        rows = []
        per_unit = {"so": paper.WEIGHTS["so"], "mo": paper.WEIGHTS["mo_per_unit"]}
        for decoder in ("so", "mo"):
            for w in published_cells(self.cells, decoder):
                if w[2] != paper.BEST[1]:
                    continue
                f = self.shown[w]
                low, high = paper.TRAINING_S[decoder]
                rows.append([
                    NAMES[decoder], str(w[1]), number(f["s_per_epoch"]), f"{low} to {high}",
                    number(f["predict_ms"], 0), "{} to {}".format(*paper.PREDICTION_MS[decoder]),
                    number(f["compiled_ms"], 2), f"{f['weights']:.0f}",
                    f"{f['weights'] / f['units']:.0f}", str(per_unit[decoder])])
        if LINEAR in self.shown:
            f = self.shown[LINEAR]
            rows.append([NAMES["linear"], "20", "no epochs", "-", "-", "-",
                         number(f["compiled_ms"], 2), f"{f['weights']:.0f}",
                         f"{f['weights'] / f['units']:.0f}", "-"])
        return Table("Time and size, window 120 (section 4.1, figure 4)", head, rows,
                     "Sums over the units' networks of the SO-DCNN. The paper: ten units, steps 40 "
                     "to 5, Xeon W-2123 with a Quadro P1000. Ours: validation not counted, workers "
                     "side by side on one machine.")

    def grid(self) -> Table:
        """Step size and window size (section 4.2.1, figure 5; table 2)."""
        head = ["decoder", "step", "window", "units > 0.7", "sensitivity %", "precision %", "F1",
                "paper: sens. / prec. %", "s/epoch", "table 2", "predict ms", "table 2"]
        rows = []
        for w in published_cells(self.cells, "mo"):
            f = self.shown[w]
            training, prediction = paper.table_2(w[1], w[2])
            rows.append([NAMES["mo"], str(w[1]), str(w[2]), *accuracy(f, self.reference),
                         printed(w[:3], self.real), number(f["s_per_epoch"]), str(training),
                         number(f["predict_ms"], 0), str(prediction)])
        rows += [[*row, *"-----"] for row in self.linear("20", "120")]
        return Table("Step and window of the MO-DCNN (section 4.2, figures 5 and 6, table 2)",
                     head, rows, "The linear filter is defined at step 20 and window 120 only. A "
                     "window of 20 goes through the same valid convolutions; two columns are left "
                     "before F1. An epoch has every window once, as in the paper: at step 5 it "
                     "makes four times the updates of step 20.")

    def variants(self) -> Table:
        """Layers and nodes (section 2.2)."""
        head = ["variant", "units > 0.7", "sensitivity %", "precision %", "F1", "weights",
                "s/epoch"]
        rows = []
        choices = [(f"layers, {n}", (c, NODES)) for n, c in paper.LAYERS.items()]
        choices += [(f"nodes, {n}", (LAYERS, n_)) for n, n_ in paper.NODES.items()]
        for name, rest in choices:
            f = self.shown.get(("mo", *paper.BEST, *rest))
            if f:
                rows.append([name + (" (published)" if rest == (LAYERS, NODES) else ""),
                             *accuracy(f, self.reference), f"{f['weights']:.0f}",
                             number(f["s_per_epoch"])])
        rows += [[*row, f"{self.shown[LINEAR]['weights']:.0f}", "-"] for row in self.linear()]
        return Table("Layers and nodes, step 20, window 120 (section 2.2)", head, rows,
                     "The paper chose on the data of one participant and prints no figures.")

    def drive(self) -> Table:
        """Correlation of cumulative spike trains (section 4.2.1; figure 7)."""
        head = ["decoder", "step", "r with labels: lag 0", "best lag", "r with truth: lag 0",
                "best lag", "paper, with truth"]
        rows = []

        def row(name: str, step: int, f: dict[str, Any], said: str) -> Row:
            found = [number(f[ref]["cst"][k] if ref in f else None, 2)
                     for ref in ("labels", "truth") for k in ("lag0", "best_lag")]
            return [name, str(step), *found, said]

        if self.labels:
            rows.append(row("labels (CKC)", 20, self.labels, f"> {paper.CST_CKC}"))
        if LINEAR in self.shown:
            rows.append(row(NAMES["linear"], 20, self.shown[LINEAR], "not in the paper"))
        for decoder in ("so", "mo"):
            for w in published_cells(self.cells, decoder):
                if w[2] == paper.BEST[1]:
                    said = "{} ± {}".format(*paper.CST[w[1]]) if decoder == "mo" else "-"
                    rows.append(row(NAMES[decoder], w[1], self.shown[w], said))
        return Table("Neural drive: CST, 400 ms Hann, 1 s pieces, window 120 (section 4.2.1)",
                     head, rows, "r with the mean removed, all trains in bins of the step. On a "
                     "plateau of constant drive the smoothed CST is nearly flat and r compares "
                     "noise; the paper does not say how much its drive varied, nor whether the "
                     "mean was removed.")

    def main(self) -> Table:
        """All of the published networks in one narrow table, for a terminal."""
        head = ["decoder", "step", "window", "units>0.7", "sens %", "prec %", "F1",
                "paper: sens/prec %"]
        rows = []

        def add(name: str, cell: tuple[int, int], f: dict[str, Any], said: str) -> None:
            s = f[self.reference]
            means = [number(s[k] and 100 * s[k][0]) for k in ("sensitivity", "precision")]
            rows.append([name, *map(str, cell), f"{s['found']:.3g} of {f['units']}", *means,
                         number(s["f1"] and s["f1"][0], 3), said])

        if self.labels:
            add("labels (CKC)", paper.BEST, self.labels, "> 99 / > 99")
        if LINEAR in self.shown:
            add(NAMES["linear"], paper.BEST, self.shown[LINEAR], "not in it")
        for decoder in ("so", "mo"):
            for w in published_cells(self.cells, decoder):
                add(NAMES[decoder], w[1:3], self.shown[w], printed(w[:3], self.real))
        return Table(f"Against the {self.words()}, in bins of the step", head, rows)

    def tables(self) -> list[Table]:
        """In the order of the paper; those without a row are left out."""
        made = (self.compared(), self.times(), self.grid(), self.variants(), self.drive())
        return [t for t in made if t.rows]

    def as_json(self) -> list[dict[str, Any]]:
        """Figures of every decoder."""
        return [{"decoder": w[0], "step": w[1], "window": w[2], "convolutions": w[3],
                 "nodes": list(w[4])} | f for w, f in sorted(self.shown.items())]
