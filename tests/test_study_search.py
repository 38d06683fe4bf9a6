"""The search: processes share one study's trials, and what it finds is a recipe that trains."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

optuna = pytest.importorskip("optuna")
pytest.importorskip("tomllib")

from optuna.trial import FixedTrial

from spikewire.recipe import Recipe, read_recipe
from spikewire.signals import InputError, SpikeTrains
from spikewire.study import search

HERE = Path(__file__).parent


def quick(trial: object) -> float:
    """Best at a learning rate of 1e-3; slow enough that two processes overlap."""
    trial.set_user_attr("process", os.getpid())
    time.sleep(0.1)
    return 1 - abs(trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True) - 1e-3)


@pytest.mark.parametrize("storage", ["sqlite:///{}/search.db", "{}/search.journal"])
def test_two_processes_share_a_study(tmp_path: Path, storage: str) -> None:
    where, wanted = storage.format(tmp_path), 20
    code = ("import sys; sys.path.insert(0, sys.argv[1])\n"
            "from spikewire.study import search\nimport test_study_search as t\n"
            "search.search(t.quick, sys.argv[2], 'shared', int(sys.argv[3]))\n")
    both = [subprocess.Popen([sys.executable, "-c", code, str(HERE), where, str(wanted)])
            for _ in range(2)]
    assert [p.wait(60) for p in both] == [0, 0]
    study = search.search(quick, where, "shared", wanted)  # nothing is left to do
    ended = search.finished(study)
    assert wanted <= len(ended) <= wanted + 1
    assert [t.number for t in ended] == list(range(len(ended)))
    by = [t.user_attrs["process"] for t in ended]
    assert set(by) == {p.pid for p in both}
    assert min(by.count(p.pid) for p in both) >= 2
    assert search.best_of(study).value == max(t.value for t in ended)
    assert search.best_of(search.search(quick, where, "other", 1)).number == 0


def test_a_seed_repeats_the_draws(tmp_path: Path) -> None:
    values = [
        [t.params for t in search.finished(search.search(
            lambda trial: trial.suggest_float("x", 0, 1), f"sqlite:///{tmp_path}/{k}.db", "s", 4,
            sampler, seed=3))]
        for sampler in search.SAMPLERS for k in (f"{sampler}a", f"{sampler}b")
    ]
    assert values[0] == values[1]
    assert values[2] == values[3]


def test_a_trial_that_cannot_be_trained_counts_and_does_not_stop_the_others(
    tmp_path: Path
) -> None:
    def value(trial: object) -> float:
        x = trial.suggest_float("x", 0, 1)
        if trial.number == 1:
            raise InputError("training diverged")
        return x

    study = search.search(value, f"sqlite:///{tmp_path}/s.db", "s", 3, "random")
    assert [t.state.name for t in search.finished(study)] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert search.best_of(study).number in (0, 2)


@pytest.mark.parametrize("start", [
    Recipe(), Recipe(kind="mo_dcnn", optimizer="rmsprop", one_cycle=False, look_ahead=60),
])
def test_what_is_found_is_a_recipe_that_mu_train_reads(tmp_path: Path, start: Recipe) -> None:
    study = search.search(lambda trial: search.suggest(trial, start).learning_rate,
                          f"sqlite:///{tmp_path}/s.db", "s", 3, "random", seed=1)
    best = search.best_of(study)
    found = search.recipe_of(best, start)
    assert found.learning_rate == best.value
    assert (found.kind, found.look_ahead, found.delays) == (start.kind, start.look_ahead, 24)
    search.write_recipe(tmp_path / "best.toml", found)
    assert read_recipe(tmp_path / "best.toml") == found


def test_a_trial_trains_inside_the_spans(synthetic, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny recipe on the synthetic record; the last third is given to nobody."""
    pytest.importorskip("tensorflow")
    monkeypatch.setitem(search.STEPS, "recommended", (30, 40))
    monkeypatch.setitem(search.TRUNKS, "recommended", ((8, 8),))
    monkeypatch.setitem(search.HEADS, "recommended", ((4, 4, 8),))
    labels = SpikeTrains([t + 16 for t in synthetic.truth.times], synthetic.truth.fs_hz)
    start = Recipe(delays=12, loadings=(1e-3,))
    seen = synthetic.recording.emg.copy()
    seen[26000:] = 1e6
    trial = FixedTrial({"learning_rate": 1e-3, "one_cycle": True, "optimizer": "adam",
                        "dropout": 0.1, "steps": 40, "trunk": "8-8", "heads": "4-4-8",
                        "noise": 0.05, "gain_jitter": 0.1})
    value = search.objective(replace(synthetic.recording, emg=seen), labels, [(0, 26000)], start, 0)
    assert value(trial) > 0.9
    assert trial.user_attrs["linear_f1"] > 0.9


@pytest.mark.parametrize(("storage", "words"), [
    ("search.db", "allowed are sqlite:///FILE.db"),
    ("sqlite:////no/such/folder/x.db", "cannot be opened"),
    ("/no/such/folder/x.journal", "/no/such/folder: no such folder"),
    ("nonsense://x", "cannot be opened"),
])
def test_a_storage_that_cannot_be_used_is_named(storage: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        search.open_storage(storage)


def test_without_optuna_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'spikewire\[study\]'"):
        search.open_storage("sqlite:///x.db")
