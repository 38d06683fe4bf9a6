"""The study's bookkeeping: conditions that exist, labels that are true, perfect decoders at 1."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from spikewire import score
from spikewire.commands.study_robustness import table
from spikewire.signals import SpikeTrains
from spikewire.simulate.discharge import Contraction
from spikewire.simulate.emg import Scene, simulate
from spikewire.simulate.faults import FAULTS
from spikewire.simulate.muap import Anatomy, Grid
from spikewire.study import robustness as study


@pytest.mark.parametrize("condition", study.CONDITIONS, ids=lambda c: c.name)
def test_every_condition_can_be_made(condition: study.Condition) -> None:
    assert all(name in FAULTS for name, _ in condition.faults)
    scene = study.Setup(3).scene(1, 30.0, **condition.scene)
    assert scene.first == 1
    assert scene.anatomy.seed == 3
    assert condition.draws >= 1


@pytest.fixture(scope="module")
def muscle() -> tuple[Scene, object, SpikeTrains]:
    scene = Scene(Anatomy(5, n_mu=16, grid=Grid(9, 3)), Contraction(60.0, 20.0, 0.0, 0.0))
    return scene, *simulate(scene)


def test_labels_are_true_and_of_different_units(muscle) -> None:
    _, recording, truth = muscle
    units, labels = study.fixed_points(recording, truth)
    assert len(units) == len(set(units)) == len(labels) >= 2
    for unit, times in zip(units, labels.times, strict=True):
        assert score.agreement(truth.times[unit], times) >= study.MIN_AGREEMENT


def test_a_perfect_decoder_has_one_everywhere(muscle, tmp_path: Path, monkeypatch) -> None:
    scene, _, _ = muscle
    monkeypatch.setattr(study, "TEST_S", 20.0)
    monkeypatch.setattr(study.Setup, "scene", lambda self, first, seconds, **changes: replace(
        scene, first=first, contraction=replace(scene.contraction, plateau_s=seconds)))
    setup = study.Setup(5)
    _, truth = simulate(setup.scene(1, study.TEST_S))
    units = [k for k, t in enumerate(truth.times) if len(t) > 100][:3]
    perfect = SpikeTrains([truth.times[u] + 7 for u in units], truth.fs_hz)
    asked: list[tuple[str, ...]] = []

    def decode(bundle: Path, recording: Path, out: Path, *more: str) -> SpikeTrains:
        asked.append((bundle.name, *more))
        return perfect

    monkeypatch.setattr(study, "decode", decode)
    monkeypatch.setattr(study, "registered", lambda b, r, o: (o, {"better": True}))
    condition = study.Condition("nominal", {}, (("gain", 0.5),), 2, moved=True)
    made = study.row(setup, condition, units, tmp_path)
    assert set(made["results"]) == {
        "linear24, plain", "linear32, plain", "linear24, upkeep", "network, plain",
        "network, upkeep", "linear24, registered", "network, registered",
        "linear24, registered+upkeep", "network, registered+upkeep"}
    assert all(r["f1"] == 1 and r["on_time"] == 1 for r in made["results"].values())
    assert len(asked) == 2 * 9
    assert ("linear32.mub", "--no-upkeep") in asked
    assert ("network.mub",) in asked
    text = table({"seed": 5, "units": units, "left_out": [9], "training_s": 1.0, "rows": [made]})
    assert "1.000 / 1.00" in text
    assert np.isfinite(made["results"]["network, upkeep"]["cst_lag0"])


def test_a_condition_that_does_not_exist_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(study.InputError, match="no condition has this in its name"):
        next(study.robustness(study.Setup(1), tmp_path, only="zzz"))
    assert not list(tmp_path.iterdir())


def test_a_folder_of_another_muscle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "facts.json").write_text('{"seed": 2, "units": [1], "training_s": 1}')
    with pytest.raises(study.InputError, match="other options"):
        next(study.robustness(study.Setup(1), tmp_path))


def test_a_missing_bundle_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(study.InputError, match="mu-run failed"):
        study.decode(tmp_path / "none.mub", tmp_path / "none.npz", tmp_path / "o.npz")


def test_finished_rows_are_not_made_again(tmp_path: Path, monkeypatch) -> None:
    made: list[str] = []
    monkeypatch.setattr(study, "prepare", lambda *_: ([3], [5]))
    monkeypatch.setattr(study, "train_all", lambda *_: 1.0)

    def row(setup, condition, units, folder) -> dict[str, object]:
        made.append(condition.name)
        return {"condition": condition.name, "results": {}}

    monkeypatch.setattr(study, "row", row)
    assert len(list(study.robustness(study.Setup(1), tmp_path, only="amplitude"))) == 2
    *_, last = study.robustness(study.Setup(1), tmp_path, only="m")
    assert made.count("amplitude x 0.5") == 1
    assert [r["condition"] for r in last["rows"]] == \
        [c.name for c in study.CONDITIONS if "m" in c.name]
