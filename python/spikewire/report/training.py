"""The page of mu-train: how it learned, network beside linear filter, what it left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spikewire.report import page, plots, ran

Facts = dict[str, Any]
WORDS = {"network": "network", "linear": "linear MU filter"}


def learning(facts: Facts) -> str:
    """Loss and F1 over the steps of the first training."""
    history = facts["history"]
    steps = [h["step"] for h in history]
    linear = facts["validation"]["linear"]["f1"]
    f1 = [h["validation_f1"] for h in history]
    low = max(0.0, min([*f1, linear]) - 0.05)
    series = [("network", steps, f1), ("linear MU filter", steps, [linear] * len(steps))]
    shown = plots.lines(series, "step", "F1 on the validation part", 1.0, dots=True, low=low)
    shown += plots.lines([("", steps, [h["loss"] for h in history])], "step", "loss", height=120,
                         dots=True)
    recipe = facts["recipe"]
    again = (" The network was then trained again from the start on all training data, the "
             "validation part included." if recipe["refit"] else "")
    return shown + page.note(
        f"The first training, on all but the validation part, up to step {steps[-1]}; the best F1 "
        f"was at step {facts['validation']['network']['step']}.{again}")


def per_unit(facts: Facts, thresholds: Any) -> str:
    """Both decoders on the validation part."""
    sides = [facts["validation"][name]["per_unit"] for name in WORDS]
    head = ("unit", "discharges", "F1 network", "F1 linear", "sensitivity", "precision",
            "1 ms agreement", "linear threshold")
    rows = [(str(number), str(net["reference"]), page.figure(net["f1"], 3),
             page.figure(lin["f1"], 3), page.figure(net["sensitivity"], 3),
             page.figure(net["precision"], 3), page.figure(net["agreement_1ms"], 3),
             page.figure(float(threshold), 3))
            for number, net, lin, threshold in zip(facts["units"], *sides, thresholds, strict=True)]
    span = facts["validation"]["span_s"]
    return page.table(head, rows) + page.note(
        f"On the validation part, {span[0]:.1f} to {span[1]:.1f} s, which the first training did "
        "not see, by the same causal decisions as mu-run; sensitivity, precision and agreement are "
        "the network's. Units bear the numbers of the labels. Nothing was learned from the "
        "seconds of --hold-out: what the decoder does there says mu-score, on what mu-run --trains "
        f"wrote. The network fires above a presence of {facts['recipe']['threshold']:g}, the "
        "linear filter above its threshold.")


def left_out(facts: Facts) -> str:
    """Units that no filter follows, and why."""
    if not facts["left_out"]:
        return page.note("None: every unit's own linear filter follows it.")
    rows = [(str(k), page.figure(v, 3)) for k, v in facts["left_out"].items()]
    return page.table(("unit", "cross-fitted F1"), rows) + page.note(
        f"Their own linear filters, each tested on a part that it was not fitted to, reach less "
        f"than F1 {facts['recipe']['min_f1']:g}: a decoder would send their errors on.")


def carried(facts: Facts) -> str:
    """Which decoder the folder carries, and why."""
    net, linear = (facts["validation"][name]["f1"] for name in WORDS)
    reason = "at least as high as" if facts["decoder"] == "network" else "higher than"
    mine, other = (net, linear) if facts["decoder"] == "network" else (linear, net)
    return (f"mu-export takes the {WORDS[facts['decoder']]}: its mean F1 on the validation part, "
            f"{mine:.4f}, is {reason} the other's {other:.4f}.")


def write(path: Path, facts: Facts, thresholds: Any, command: str) -> None:
    """Write the page.

    Parameters
    ----------
    facts : of the model folder's `model.json`
    thresholds : (n_mu,), of the linear filters
    command : as it was typed
    """
    net, linear = (facts["validation"][name] for name in WORDS)
    top = page.said(carried(facts)) + page.tiles([
        ("Units carried", str(facts["n_mu"]), f"{len(facts['left_out'])} left out"),
        ("Mean F1, network", f"{net['f1']:.3f}", f"worst {net['f1_worst']:.3f}"),
        ("Mean F1, linear", f"{linear['f1']:.3f}", f"worst {linear['f1_worst']:.3f}"),
        ("Weights", f"{facts['weights']:,}".replace(",", "\u202f"), "")])
    spans = ", ".join(f"{a:.1f}\u2013{b:.1f} s" for a, b in facts["spans_s"])
    recipe = ", ".join(f"{k} {v}" for k, v in facts["recipe"].items())
    trained = ", ".join(f"{k} {v}" for k, v in facts["versions"].items())
    page.write_page(
        path, f"A decoder for {facts['recording'] or 'a recording'}",
        [("Learning", learning(facts)),
         ("Network beside linear filter", per_unit(facts, thresholds)),
         ("Units left out", left_out(facts)),
         ran.section(command, [
             ("trained on", spans), ("seed", facts["seed"]),
             ("ridge of the filters", f"{facts['loading']:g}"), ("recipe", recipe),
             ("trained with", trained)])],
        about=f"{facts['channels']} channels at {facts['fs_hz']:g} Hz; mean F1 of the cross-fitted "
              f"filters {facts['cross_fitted_f1']:.3f}", top=top)
