"""Multiply-accumulates against hand-counted figures and against the layers' own shapes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("tomllib")

from spikewire.recipe import Recipe
from spikewire.signals import InputError
from spikewire.widths import NARROWEST, narrow, narrowed, operations

PAPER = Recipe(kind="mo_dcnn", trunk=(128, 128), heads=(128, 64, 256))
SHAPES = [Recipe(), PAPER, Recipe(trunk=(12, 20), heads=(5, 7, 9))]


@pytest.mark.parametrize("units", [1, 10, 17])
def test_the_papers_network_by_hand(units: int) -> None:
    """64 channels; columns x (3 x inputs) x outputs of each layer, 27 of them flattened for F1.

    A step has 20 new columns of C1 and C2, and 10 of C3 and C4.
    """
    found = operations(PAPER, 64, units)
    assert found.window == 118 * 192 * 128 + 116 * 384 * 128 + units * (
        56 * 384 * 128 + 54 * 384 * 64 + 27 * 64 * 256 + 256)
    assert found.step == 20 * (192 + 384) * 128 + units * (
        10 * 384 * 128 + 10 * 384 * 64 + 27 * 64 * 256 + 256)
    assert found.front == 0


def test_the_recommended_network_by_hand() -> None:
    """Four units: inputs are 4 filter outputs; C3 also sees 6 samples of its own, F2 has 21."""
    found = operations(Recipe(), 60, 4)
    assert found.window == 118 * 12 * 48 + 116 * 144 * 48 + 4 * (
        56 * 150 * 16 + 54 * 48 * 16 + 27 * 16 * 32 + 32 * 21)
    assert found.front == 20 * 24 * 60 * 4


@pytest.mark.parametrize("recipe", SHAPES)
def test_the_count_of_the_layers_shapes(recipe: Recipe) -> None:
    """A second count: products of each layer = its kernel's size x the columns it puts out."""
    pytest.importorskip("tensorflow")
    import keras

    from spikewire import network
    from spikewire.network import POOLED

    if recipe.kind == "recommended":
        net = network.recommended([0.5] * 4, 90, recipe.trunk, recipe.heads)
        heads = net.get_layer("heads")
        products = sum(np.prod(getattr(heads, k).shape) * columns for k, columns in
                       (("c3", 56), ("own", 56), ("c4", 54), ("f1", 1), ("f2", 1)))
    else:
        net, products = network.mo_dcnn(10, 4, recipe.trunk, recipe.heads), 0
        assert net.get_layer("p2_0").output.shape[1] == POOLED
    for layer in net.layers:
        if isinstance(layer, keras.layers.Conv1D):
            products += np.prod(layer.kernel.shape) * layer.output.shape[1]
        elif isinstance(layer, keras.layers.Dense):
            products += np.prod(layer.kernel.shape)
    assert operations(recipe, 10, 4).window == products


@pytest.mark.parametrize("recipe", SHAPES)
@pytest.mark.parametrize("keep", [0.9, 0.5, 0.3])
def test_the_widest_shape_within_the_share(recipe: Recipe, keep: float) -> None:
    found = narrow(recipe, 60, 11, keep)
    share = operations(found, 60, 11).window / operations(recipe, 60, 11).window
    assert keep - 0.2 < share <= keep  # widths are whole numbers or multiples of four
    for full, width in zip(recipe.trunk + recipe.heads, found.trunk + found.heads, strict=True):
        assert min(full, NARROWEST) <= width <= full
        assert width <= 8 or width % 4 == 0 or width == full
    assert replace(found, trunk=recipe.trunk, heads=recipe.heads) == recipe


def test_all_is_all_and_narrower_shapes_are_nested() -> None:
    odd = Recipe(trunk=(10, 3), heads=(2, 50, 7))
    assert narrow(odd, 16, 4, 1.0) == odd
    assert narrowed(odd, 0.0).heads == (2, 4, 4)
    shapes = [narrowed(PAPER, s) for s in np.linspace(0, 1, 200)]
    widths = np.array([s.trunk + s.heads for s in shapes])
    assert (np.diff(widths, axis=0) >= 0).all()


@pytest.mark.parametrize("keep", [0.0, -1.0, 1.01, 1e-3, float("nan")])
def test_a_share_that_cannot_be_is_named(keep: float) -> None:
    with pytest.raises(InputError, match=r"--keep is .*allowed is 0\.0\d+ to 1"):
        narrow(Recipe(), 60, 11, keep)
