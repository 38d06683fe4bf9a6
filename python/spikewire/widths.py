"""How much a recipe's network computes, and how narrow it must be to compute less."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from spikewire.recipe import Recipe
from spikewire.signals import POOLED, STEP, WINDOW, InputError

NARROWEST, MULTIPLE = 4, 4  # channels; SIMD and integer kernels like multiples of four


@dataclass(frozen=True)
class Operations:
    """Multiply-accumulates.

    Attributes
    ----------
    window : int, of the network for one whole window
    step : int, of the network for the 20 new samples of a step, if earlier columns are kept
    front : int, of the MU filters for the 20 new samples; no pruning touches them
    """

    window: int
    step: int
    front: int


def operations(recipe: Recipe, channels: int, n_mu: int) -> Operations:
    """Count the products of a recipe's network.

    Only C1 to C4 gain from keeping columns (20, 20, 10 and 10 of them are new in a step): F1 sees
    all of its 27 columns at another place in the next window.
    """
    (t1, t2), (c3, c4, f1) = recipe.trunk, recipe.heads
    front = recipe.kind == "recommended"
    inputs, own, out = (n_mu, 6, 1 + STEP) if front else (channels, 0, 1)
    a_column = {"c1": 3 * inputs * t1, "c2": 3 * t1 * t2, "c3": n_mu * (3 * t2 + own) * c3,
                "c4": n_mu * 3 * c3 * c4}
    dense = n_mu * (POOLED * c4 * f1 + f1 * out)
    columns = {"c1": WINDOW - 2, "c2": WINDOW - 4, "c3": WINDOW // 2 - 4, "c4": WINDOW // 2 - 6}
    new = {"c1": STEP, "c2": STEP, "c3": STEP // 2, "c4": STEP // 2}
    return Operations(
        dense + sum(n * columns[k] for k, n in a_column.items()),
        dense + sum(n * new[k] for k, n in a_column.items()),
        STEP * recipe.delays * channels * n_mu if front else 0)


def narrowed(recipe: Recipe, share: float) -> Recipe:
    """The recipe with about this share of the channels in every layer."""

    def width(full: int) -> int:
        wanted = round(full * share)
        if wanted > 2 * MULTIPLE:
            wanted = MULTIPLE * round(full * share / MULTIPLE)
        return min(full, max(NARROWEST, wanted))

    if share >= 1:
        return recipe
    return replace(recipe, trunk=tuple(map(width, recipe.trunk)),
                   heads=tuple(map(width, recipe.heads)))


def narrow(recipe: Recipe, channels: int, n_mu: int, keep: float) -> Recipe:
    """The widest network with one share of channels in all layers and no more operations.

    Parameters
    ----------
    keep : float, share of the multiply-accumulates of a window

    Raises
    ------
    InputError
        Not a share, or less than the narrowest network needs.
    """
    full = operations(recipe, channels, n_mu).window
    least = operations(narrowed(recipe, 0.0), channels, n_mu).window / full
    if not least <= keep <= 1:
        raise InputError(
            f"--keep is {keep:g}, allowed is {math.ceil(1000 * least) / 1000:g} to 1 (of the "
            f"operations; every layer keeps {NARROWEST} channels)"
        )
    low, high = 0.0, 1.0
    if keep == 1:
        return recipe
    for _ in range(30):
        middle = (low + high) / 2
        found = narrowed(recipe, middle)
        fits = operations(found, channels, n_mu).window <= keep * full
        low, high = (middle, high) if fits else (low, middle)
    return narrowed(recipe, low)
