"""What lies in models/: the reference bundle runs here and is the one that was scored."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from spikewire.bundle import read_bundle
from spikewire.runtime.engine import check_golden, open_engine
from spikewire.signals import STEP

MODELS = Path(__file__).parents[1] / "models"
REFERENCE = MODELS / "reference.mub"


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_reference_bundle_runs_here(precision: str) -> None:
    pytest.importorskip("onnxruntime")
    bundle = read_bundle(REFERENCE)
    worst = check_golden(open_engine(bundle, "ort", precision), bundle, precision)
    assert worst <= bundle.manifest.tolerance[precision]


def test_it_is_the_one_that_was_scored() -> None:
    assert REFERENCE.stat().st_size <= 12e6
    m = read_bundle(REFERENCE).manifest
    score = json.loads((MODELS / "reference.json").read_text())
    assert score["units"] + score["unpaired"]["predicted"] == m.n_mu
    assert m.decoder == "network"
    assert score["f1"] > 0.9


def test_its_front_stays_solvable_on_the_board() -> None:
    """Upkeep needs moments that give the front's own kernels again."""
    bundle = read_bundle(REFERENCE)
    moments, front = bundle.moments(), bundle.front()
    assert moments is not None
    assert front is not None
    solved = moments.solve(bundle.manifest.loading)
    emg = bundle.array("golden/emg.npy")[: 50 * STEP].astype(np.float32)
    delays = moments.delays
    view = np.lib.stride_tricks.sliding_window_view(emg, delays, axis=0)[..., ::-1]
    x = view.transpose(0, 2, 1).reshape(len(view), -1) * bundle.manifest.golden_lsb_uv
    difference = x @ solved - x @ front[0]
    assert np.abs(difference).max() < 0.02
