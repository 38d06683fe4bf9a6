"""The model folder that `mu-train` leaves: Keras weights, linear filters, golden EMG, facts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import keras

from spikewire import network
from spikewire.crossfit import Front
from spikewire.durable import write_durably
from spikewire.io.npz import read_arrays, read_recording, write_arrays, write_recording
from spikewire.moments import Moments
from spikewire.recipe import Recipe
from spikewire.signals import WINDOW, InputError, Labels, Recording

FRONT = ("kernels", "scale", "thresholds", "height", "loading", "f1")
MOMENTS = ("lagged", "means", "samples", "counts")
FILES = ("network.weights.h5", "front.npz", "golden.npz")


@dataclass
class Model:
    """A trained decoder and its baseline, as kept in a model folder.

    `golden` is an excerpt of the training data on which every engine must agree.
    """

    recipe: Recipe
    net: keras.Model
    front: Front
    facts: dict[str, Any]
    golden: Recording


def build(recipe: Recipe, front: Front, channels: int, samples: int) -> keras.Model:
    """Build the recipe's network for inputs of `samples` columns."""
    if recipe.kind == "recommended":
        bin_start = Labels(recipe.look_ahead).bin_start
        return network.recommended(front.thresholds.tolist(), bin_start, recipe.trunk,
                                   recipe.heads, recipe.dropout, samples)
    n_mu = len(front.thresholds)
    return network.mo_dcnn(channels, n_mu, recipe.trunk, recipe.heads, recipe.dropout)


def one_window(model: Model) -> keras.Model:
    """The trained network for inputs of exactly one window, as it is exported."""
    if model.net.input_shape[1] == WINDOW:
        return model.net
    net = build(model.recipe, model.front, model.facts["channels"], WINDOW)
    net.set_weights(model.net.get_weights())
    return net


def refuse_constant(word: str) -> None:
    """NaN and infinity are no JSON."""
    raise ValueError(f"model.json holds {word}")


def save(folder: Path, model: Model) -> None:
    """Write a model folder: Keras weights, filters, facts."""
    folder.mkdir(parents=True, exist_ok=True)
    model.net.save_weights(folder / "network.weights.h5")
    front = model.front
    write_arrays(folder / "front.npz", {name: getattr(front, name) for name in FRONT} | {
        name: getattr(front.moments, name) for name in MOMENTS})
    write_recording(folder / "golden.npz", model.golden)
    # The facts come last and name the bytes of the rest: a mixture of two trainings is noticed.
    hashes = {name: sha256((folder / name).read_bytes()).hexdigest() for name in FILES}
    facts = model.facts | {"hashes": hashes}
    text = json.dumps(facts, indent=1, default=float, allow_nan=False).encode()
    write_durably(folder / "model.json", lambda file: file.write(text))


def load(folder: Path) -> Model:
    """Read a model folder; the network comes back for single windows.

    Raises
    ------
    InputError
        A file is missing, damaged, or of another architecture.
    """
    if not (folder / "model.json").is_file():
        raise InputError(f"{folder}: no model folder (no model.json in it); see mu-train")
    try:
        facts = json.loads((folder / "model.json").read_text(), parse_constant=refuse_constant)
        for name in FILES:
            if sha256((folder / name).read_bytes()).hexdigest() != facts["hashes"][name]:
                raise ValueError(f"{name} is damaged or of another training; train again")
        words: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in facts["recipe"].items()}
        recipe = Recipe(**words)
        a = read_arrays(folder / "front.npz", FRONT + MOMENTS, ())
        moments = Moments(a["lagged"], a["means"], float(a["samples"]), a["counts"])
        front = Front(a["kernels"], a["scale"], a["thresholds"], a["height"],
                      float(a["loading"]), a["f1"], moments)
        if a["kernels"].shape != (recipe.delays * facts["channels"], facts["n_mu"]):
            raise ValueError(f"front.npz has kernels of shape {a['kernels'].shape}")
        missing = {"decoder", "fs_hz", "input_scale"} - facts.keys()
        if missing:
            raise ValueError(f"model.json lacks {', '.join(sorted(missing))}")
        net = build(recipe, front, facts["channels"], WINDOW)
        net.load_weights(folder / "network.weights.h5")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{folder}: not a readable model folder ({error})") from None
    return Model(recipe, net, front, facts, read_recording(folder / "golden.npz"))
