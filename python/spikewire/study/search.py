"""A search for better recipes, shared by several processes through one storage (Optuna).

A trial trains one recipe and is judged by the mean F1 on a validation part inside the training
spans, at its best check. The best trial's figure is therefore an optimistic one: score the recipe
on held-out spans before believing it.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from spikewire.durable import write_durably
from spikewire.recipe import Recipe
from spikewire.signals import InputError, Recording, Span, SpikeTrains

Progress = Callable[[float, str], None]
SAMPLERS = ("tpe", "random")
TRIES = 20
WAIT_S = 60  # for another process to let go of the storage
# widths of C1 and C2, and of C3, C4 and F1, by kind of network
TRUNKS = {
    "recommended": ((24, 24), (48, 48), (96, 96), (128, 128)),
    "mo_dcnn": ((64, 64), (128, 128), (256, 256)),
}
HEADS = {
    "recommended": ((8, 8, 16), (16, 16, 32), (32, 32, 64)),
    "mo_dcnn": ((64, 32, 128), (128, 64, 256), (256, 128, 512)),
}
STEPS = {"recommended": (400, 800, 1600, 3200), "mo_dcnn": (1600, 3200, 6400)}


def words(widths: Sequence[int]) -> str:
    """48-48: storages hold text, not tuples."""
    return "-".join(map(str, widths))


def suggest(trial: Any, start: Recipe) -> Recipe:
    """The recipe of a trial.

    Searched are learning rate, one-cycle or constant, optimizer, dropout, number of steps and
    widths; of the recommended decoder also noise and gain jitter. The rest is the start's.
    """
    kind = "recommended" if start.kind == "recommended" else "mo_dcnn"

    def pick(name: str, allowed: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        chosen = trial.suggest_categorical(name, [words(w) for w in allowed])
        return tuple(int(n) for n in chosen.split("-"))

    steps = trial.suggest_categorical("steps", list(STEPS[kind]))
    found = replace(
        start, name="searched",
        learning_rate=trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True),
        one_cycle=trial.suggest_categorical("one_cycle", [True, False]),
        optimizer=trial.suggest_categorical("optimizer", ["adam", "rmsprop"]),
        dropout=trial.suggest_float("dropout", 0.0, 0.6),
        trunk=pick("trunk", TRUNKS[kind]), heads=pick("heads", HEADS[kind]),
        steps=steps, check_every=max(1, steps // 8),
    )
    if kind != "recommended":
        return found
    return replace(found, noise=trial.suggest_float("noise", 0.0, 0.2),
                   gain_jitter=trial.suggest_float("gain_jitter", 0.0, 0.3))


def objective(
    recording: Recording, trains: SpikeTrains, spans: Sequence[Span], start: Recipe, seed: int
) -> Callable[[Any], float]:
    """Train a trial's recipe on `spans`; mean F1 on the validation part that `train` sets aside."""
    from spikewire import train

    def value(trial: Any) -> float:
        # Nothing is trained again on the validation part: the trial ends with its figure.
        recipe = replace(suggest(trial, start), refit=False)
        with tempfile.TemporaryDirectory() as logs:
            model = train.fit(recording, trains, recipe, spans, Path(logs), seed)
        figures = model.facts["validation"]
        trial.set_user_attr("linear_f1", float(figures["linear"]["f1"]))
        trial.set_user_attr("weights", int(model.facts["weights"]))
        return float(figures["network"]["f1"])

    return value


def open_storage(where: str) -> Any:
    """A database by its URL, or a journal file; both may be opened by several processes at once.

    Raises
    ------
    InputError
        Optuna is not installed, or the storage is none of these or cannot be opened.
    """
    if find_spec("optuna") is None:
        raise InputError("searches run on Optuna, which is not installed; type: pip install "
                         "'spikewire[study]'")
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    if where.endswith(".journal"):
        if not Path(where).parent.is_dir():
            raise InputError(f"{Path(where).parent}: no such folder; make it first")
        return JournalStorage(JournalFileBackend(where))
    if "://" not in where:
        raise InputError(f"--storage {where}: allowed are sqlite:///FILE.db, another database's "
                         "URL, or a file NAME.journal (for a network drive)")
    patience = {"connect_args": {"timeout": WAIT_S}} if where.startswith("sqlite") else {}
    for left in reversed(range(TRIES)):
        try:
            return RDBStorage(where, engine_kwargs=patience)
        except Exception as error:
            said = " ".join(str(error).split())
            # Processes that start together on a new file all make its tables, one by one.
            if not left or not any(w in said for w in ("already exists", "UNIQUE", "locked")):
                raise InputError(f"--storage {where}: cannot be opened ({said})") from None
            time.sleep(random.uniform(0.1, 0.5))
    raise AssertionError("unreachable")


def finished(study: Any) -> list[Any]:
    """Trials of all processes that have come to an end."""
    return [t for t in study.get_trials(deepcopy=False) if t.state.is_finished()]


def search(
    value: Callable[[Any], float], storage: str, name: str, trials: int, sampler: str = "tpe",
    seed: int | None = None, progress: Progress = lambda share, words: None,
) -> Any:
    """Add trials to a study until `trials` were begun, counting those of other processes.

    A trial whose recipe cannot be trained fails and counts; so does one whose process was killed.
    The first process to find nothing left returns while the others' last trials still run.

    Parameters
    ----------
    value : callable (trial) -> F1
    storage : see `open_storage`
    seed : int or None
        Of the sampler. Processes that share a study need different ones, or None.

    Returns
    -------
    optuna.Study
    """
    store = open_storage(storage)
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    kinds = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
    study = optuna.create_study(storage=store, study_name=name, direction="maximize",
                                load_if_exists=True, sampler=kinds[sampler](seed=seed))
    while len(study.get_trials(deepcopy=False)) < trials:
        best, done = best_of(study), len(finished(study))
        progress(done / trials, f"{done} of {trials} trials"
                 + (f", best F1 {best.value:.4f}" if best else ""))
        study.optimize(value, n_trials=1, catch=(InputError,))
    return study


def best_of(study: Any) -> Any:
    """The best finished trial; None before there is one."""
    known = [t for t in finished(study) if t.value is not None]
    return max(known, key=lambda t: t.value, default=None)


def recipe_of(trial: Any, start: Recipe) -> Recipe:
    """The recipe that a finished trial was made from."""
    from optuna.trial import FixedTrial

    return suggest(FixedTrial(trial.params), start)


def write_recipe(path: Path, recipe: Recipe) -> None:
    """Write a recipe that `mu-train --recipe` reads."""
    lines = [f"{k} = {json.dumps(v)}" for k, v in asdict(recipe).items()]
    text = "# found by mu-study search\n" + "\n".join(lines) + "\n"
    write_durably(path, lambda file: file.write(text.encode()))
