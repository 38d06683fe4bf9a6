"""The page of a training, from facts as `model.json` has them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from report_world import EVIL, read

pytest.importorskip("tomllib")
from spikewire.recipe import Recipe
from spikewire.report import training

UNIT = {"f1": 0.98, "sensitivity": None, "precision": 0.97, "agreement_1ms": 0.96, "reference": 81}


def made(**changes: Any) -> dict[str, Any]:
    one = {"f1": 0.98, "f1_worst": 0.91, "per_unit": [UNIT, UNIT | {"f1": 0.91}], "step": 400}
    linear = {"f1": 0.9799, "f1_worst": 0.9, "per_unit": [UNIT, UNIT]}
    return {
        "validation": {"span_s": [3.0, 5.0], "network": one, "linear": linear},
        "history": [{"step": k, "loss": 1 / k, "validation_f1": 0.9 + k / 5000}
                    for k in range(200, 1001, 200)],
        "decoder": "network", "n_mu": 2, "units": [0, 5], "left_out": {"3": 0.871},
        "weights": 12345, "loading": 0.01, "cross_fitted_f1": 0.97, "seed": 7, "channels": 64,
        "fs_hz": 2048.0, "recording": EVIL, "spans_s": [[0.0, 18.0]],
        "recipe": asdict(Recipe()), "versions": {"keras": "3.15.1"}} | changes


def write(path: Path, **changes: Any) -> str:
    training.write(path, made(**changes), [0.5, 0.6125], "mu-train x")
    return read(path).text


def test_it_says_which_decoder_why_and_who_was_left_out(tmp_path: Path) -> None:
    text = write(tmp_path / "p.html")
    assert "takes the network: its mean F1 on the validation part, 0.9800, is at least as high " \
        "as the other's 0.9799" in text
    assert "58" + "10.9100.980\u20130.9700.9600.613" in text.replace("0.612", "0.613")
    assert "30.871" in text
    assert "keras 3.15.1" in text
    assert EVIL in text
    assert "none after" not in text


def test_the_linear_filter_may_be_better(tmp_path: Path) -> None:
    text = write(tmp_path / "p.html", decoder="linear", left_out={})
    assert "takes the linear MU filter" in text
    assert "every unit's own linear filter follows it" in text


def test_a_long_history_stays_small(tmp_path: Path) -> None:
    write(tmp_path / "p.html", history=[{"step": k, "loss": 0.1, "validation_f1": 0.9}
                                        for k in range(5000)])
