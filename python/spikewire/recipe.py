"""A recipe: architecture and training of one decoder, as read from `models/*.toml`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import tomllib

from spikewire.signals import InputError

KINDS = ("recommended", "mo_dcnn", "so_dcnn")
OPTIMIZERS = ("adam", "rmsprop")


@dataclass(frozen=True)
class Recipe:
    """What `mu-train` may be told; the defaults are `models/recommended.toml`.

    Attributes
    ----------
    trunk, heads : widths of C1, C2 and of C3, C4, F1
    delays : samples of the linear MU filters
    gain_sd : error of channel gains that the filters are solved for, as a share
    min_f1 : cross-fitted F1 that a unit's filter must reach, or the unit is left out
    loadings : ridges to choose from, as shares of the mean eigenvalue
    look_ahead : samples from the bin's centre to the newest sample
    steps, check_every : batches in all, and between two looks at the validation part
    windows : windows per batch
    gain_jitter, noise : of every stretch, as shares
    augmented : share of stretches with what may happen after training (see augment.py)
    position_weight : weight of the cross-entropy over the bin's 20 samples
    validation_share : share of the training samples kept for choosing
    refit : train once more on all training samples after choosing
    threshold : presence probability above which a unit fires
    """

    name: str = "recommended"
    kind: str = "recommended"
    trunk: tuple[int, ...] = (48, 48)
    heads: tuple[int, ...] = (16, 16, 32)
    dropout: float = 0.2
    delays: int = 24
    gain_sd: float = 0.02
    min_f1: float = 0.95
    loadings: tuple[float, ...] = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
    look_ahead: int = 20
    optimizer: str = "adam"
    learning_rate: float = 2e-3
    one_cycle: bool = True
    clip_norm: float = 1.0
    steps: int = 3000
    check_every: int = 200
    windows: int = 64
    gain_jitter: float = 0.1
    noise: float = 0.05
    augmented: float = 0.5
    position_weight: float = 1.0
    validation_share: float = 0.25
    refit: bool = True
    threshold: float = 0.5


def are_widths(value: tuple[object, ...], count: int) -> bool:
    """Whether these are `count` layer widths."""
    return len(value) == count and all(type(n) is int and 1 <= n <= 1024 for n in value)


# key -> what is allowed, in words and as a test
LIMITS = {
    "kind": (f"one of {', '.join(KINDS)}", lambda v: v in KINDS),
    "optimizer": (f"one of {', '.join(OPTIMIZERS)}", lambda v: v in OPTIMIZERS),
    "trunk": ("two widths of 1..1024", lambda v: are_widths(v, 2)),
    "heads": ("three widths of 1..1024", lambda v: are_widths(v, 3)),
    "dropout": ("0 to 0.9", lambda v: 0 <= v <= 0.9),
    # A bundle tells by its history of delays - 1 samples that it has a front.
    "delays": ("2 to 64 samples", lambda v: 2 <= v <= 64),
    "gain_sd": ("0 to 1", lambda v: 0 <= v <= 1),
    "min_f1": ("0 (keep all) to 1", lambda v: 0 <= v <= 1),
    "loadings": ("positive shares below 1", lambda v: v and all(0 < x < 1 for x in v)),
    "look_ahead": ("10 to 110 samples", lambda v: 10 <= v <= 110),
    "learning_rate": ("1e-6 to 1", lambda v: 1e-6 <= v <= 1),
    "clip_norm": ("0 (off) to 1000", lambda v: 0 <= v <= 1000),
    "steps": ("1 to 1000000", lambda v: 1 <= v <= 1_000_000),
    "check_every": ("1 or more", lambda v: v >= 1),
    "windows": ("a multiple of 16, at most 1024", lambda v: v > 0 and v % 16 == 0 and v <= 1024),
    "gain_jitter": ("0 to 0.9", lambda v: 0 <= v <= 0.9),
    "noise": ("0 to 1", lambda v: 0 <= v <= 1),
    "augmented": ("0 to 1", lambda v: 0 <= v <= 1),
    "position_weight": ("0 to 1000", lambda v: 0 <= v <= 1000),
    "validation_share": ("0.05 to 0.5", lambda v: 0.05 <= v <= 0.5),
    "threshold": ("0.01 to 0.99", lambda v: 0.01 <= v <= 0.99),
}


def read_recipe(path: str | Path) -> Recipe:
    """Read and check a recipe.

    Raises
    ------
    InputError
        Missing file, bad TOML, an unknown key, or a value of the wrong kind or range.
    """
    path = Path(path)
    try:
        content = tomllib.loads(path.read_text())
    except OSError as error:
        raise InputError(f"{path}: cannot read the recipe ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a TOML file ({error})") from None
    kinds = {f.name: type(getattr(Recipe(), f.name)) for f in fields(Recipe)}
    for key, value in content.items():
        if key not in kinds:
            raise InputError(f"{path}: key {key!r} is unknown, allowed are {', '.join(kinds)}")
        wanted = kinds[key]
        if wanted is tuple and isinstance(value, list):
            content[key] = tuple(value)
        elif wanted is float and type(value) is int:
            content[key] = float(value)
        elif type(value) is not wanted:
            raise InputError(f"{path}: {key} is {value!r}, allowed is {wanted.__name__}")
    for key, (allowed, holds) in LIMITS.items():
        if key in content:
            try:
                fine = holds(content[key])
            except TypeError:
                fine = False
            if not fine:
                raise InputError(f"{path}: {key} is {content[key]!r}, allowed is {allowed}")
    recipe = Recipe(**content)
    if recipe.kind == "recommended" and not 20 <= recipe.look_ahead <= 100:
        raise InputError(
            f"{path}: look_ahead is {recipe.look_ahead}; behind MU filters it is 20 to 100, "
            "since a peak is known 10 samples after it"
        )
    return recipe
