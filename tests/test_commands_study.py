"""mu-study as a person types it: bad input is one line, a study goes on where it stopped."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy")
pytest.importorskip("tomllib")

from spikewire.commands import study
from spikewire.io.npz import write_trains
from spikewire.signals import SpikeTrains


@pytest.fixture
def files(tmp_path: Path, synthetic, recording_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("rec.npz").write_bytes(recording_path.read_bytes())
    labels = [t + 16 for t in synthetic.truth.times]
    write_trains("trains.npz", SpikeTrains(labels, 2048.0))
    write_trains("slow.npz", SpikeTrains(labels, 2000.0))
    write_trains("late.npz", SpikeTrains([np.array([10**9])] * 4, 2048.0))
    return tmp_path


PAPER = "paper --workers 0 --recording rec.npz --labels trains.npz "
SEARCH = "search rec.npz --labels trains.npz --study s --storage "


@pytest.mark.parametrize(("command", "words"), [
    ("paper --out x --epochs 0", "--epochs is 0, allowed is 1 to 10000"),
    ("paper --out x --workers 65", "--workers is 65, allowed is 0 to 64"),
    ("paper --out x --seed -1", "--seed is -1"),
    ("paper --out no/x", "no: no such folder"),
    ("paper --out x --labels trains.npz", "--labels belong to a recording"),
    ("paper --out x --recording no.npz", "no.npz: no such file"),
    (PAPER + "--out x --min-discharges 500", "has 500 discharges in every fold"),
    (PAPER + "--out x --contractions 3", "are of the simulated recording"),
    ("paper --workers 0 --out x --recording rec.npz --labels slow.npz", "labels count at 2000 Hz"),
    ("paper --workers 0 --out x --recording rec.npz --labels late.npz", "after the end"),
    (SEARCH + "s.db", "allowed are sqlite:///FILE.db"),
    (SEARCH + "s.journal --trials 0", "--trials is 0, allowed is 1 to 100000"),
    (SEARCH + "s.journal --out best.txt", "the output's name ends in .toml"),
    (SEARCH + "s.journal --recipe no.toml", "no.toml: cannot read the recipe"),
    (SEARCH + "s.journal --hold-out 5", "is not START:STOP"),
    ("search no.npz --labels trains.npz --study s --storage s.journal", "no.npz: no such file"),
])
def test_bad_input_is_one_line_and_code_2(
    files: Path, command: str, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    if command.startswith("search"):
        pytest.importorskip("optuna")
    assert study.main(command.split()) == 2
    error = capfd.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("mu-study: ")
    assert words in error


def test_a_kind_is_needed(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        study.main([])
    assert stop.value.code == 2
    assert "KIND" in capfd.readouterr().err


def test_without_dask_nothing_is_begun(files: Path, monkeypatch, capfd) -> None:
    from spikewire.study import jobs

    monkeypatch.setattr(jobs, "find_spec", lambda name: None)
    assert study.main(["paper", "--out", "x"]) == 2
    assert "pip install 'spikewire[study]'" in capfd.readouterr().err
    assert not Path("x").exists()


def test_ctrl_c_keeps_what_is_finished(files: Path, monkeypatch, capfd) -> None:
    from spikewire.study import paper

    def interrupted(*rest: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(paper, "run", interrupted)
    assert study.main([*PAPER.split(), "--out", "x"]) == 130
    assert "what was finished is kept" in capfd.readouterr().err


def test_a_paper_study_and_its_second_run(files: Path, monkeypatch, capfd) -> None:
    """One cell of two small epochs and the linear filter, on one's own recording."""
    pytest.importorskip("tensorflow")
    from spikewire.study import cell, paper

    def narrow(channels: int, units: int, window: int, *rest: object) -> object:
        return networks_build(channels, units, window, 4, (8, 8, 8, 4, 8))

    networks_build = cell.build
    monkeypatch.setattr(cell, "build", narrow)
    tiny = replace(paper.QUICK, cells=((20, 120),), so_steps=(), variants=False)
    monkeypatch.setitem(paper.PROFILES, "quick", tiny)
    command = [*PAPER.split(), "--out", "out", "--min-discharges", "30", "--epochs", "2"]
    assert study.main(command) == 0
    shown = capfd.readouterr().out
    assert "reduced: 2 epochs instead of 100" in shown
    assert "linear MU filter  20    120     4 of 4" in shown
    assert "2 of 2 jobs run now" in shown
    facts = json.loads(Path("out/study.json").read_text())
    assert [d["decoder"] for d in facts["decoders"]] == ["linear", "mo"]
    assert facts["decoders"][0]["labels"]["f1"][0] > 0.9
    assert facts["failed"] == {}
    html = Path("out/study.html").read_text()
    assert "Where this differs from the paper" in html
    assert not re.search("https?:", html)
    assert study.main([*command, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["run_now"] == 0


def test_a_failed_training_is_named_and_the_code_is_1(files: Path, monkeypatch, capfd) -> None:
    from spikewire.study import paper

    def fails(job: dict, folder: str) -> dict:
        raise MemoryError("too little")

    monkeypatch.setattr(paper, "do", fails)
    command = [*PAPER.split(), "--out", "out", "--min-discharges", "30"]
    assert study.main(command) == 1
    shown = capfd.readouterr().out
    assert "mu-study: linear-s20-w120-f2 failed: MemoryError: too little" in shown


def test_a_search_writes_a_recipe(files: Path, monkeypatch, capfd) -> None:
    """The trainings themselves are test_study_search's."""
    pytest.importorskip("optuna")
    pytest.importorskip("tensorflow")
    from spikewire.recipe import read_recipe
    from spikewire.study import search

    def objective(recording, trains, spans, start, seed):
        assert len(trains) == 4
        assert spans[0][1] < 14 * 2048

        def value(trial: object) -> float:
            trial.set_user_attr("linear_f1", 0.5)
            return search.suggest(trial, start).dropout

        return value

    monkeypatch.setattr(search, "objective", objective)
    command = [*SEARCH.split(), "s.journal", "--trials", "3", "--hold-out", "14:19"]
    assert study.main([*command, "--out", "best.toml", "--json"]) == 0
    facts = json.loads(capfd.readouterr().out)
    assert facts["trials"] == 3
    assert read_recipe("best.toml").dropout == facts["f1"]
    assert study.main(command) == 0
    assert "study s: 3 trials, best is number" in capfd.readouterr().out
