"""Recipes: every shipped one parses, every mistake is named."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("tomllib")

from spikewire.recipe import Recipe, read_recipe
from spikewire.signals import InputError

MODELS = Path(__file__).parent.parent / "models"


def test_the_default_is_the_recommended_recipe() -> None:
    assert read_recipe(MODELS / "recommended.toml") == Recipe()


@pytest.mark.parametrize("path", sorted(MODELS.glob("*.toml")), ids=lambda p: p.stem)
def test_shipped_recipes_parse_and_bear_their_name(path: Path) -> None:
    assert read_recipe(path).name == path.stem


def test_the_papers_recipe_is_the_papers() -> None:
    """Wen et al. 2021, 2.2 and 2.3: widths, dropout 50 %, RMSprop, window centre."""
    r = read_recipe(MODELS / "paper.toml")
    assert (r.trunk, r.heads, r.dropout) == ((128, 128), (128, 64, 256), 0.5)
    assert (r.optimizer, r.look_ahead, r.windows) == ("rmsprop", 60, 64)


@pytest.mark.parametrize(("text", "words"), [
    ("colour = 1", "key 'colour' is unknown, allowed are name"),
    ('steps = "many"', "steps is 'many', allowed is int"),
    ("steps = 1.5", "steps is 1.5"),
    ("steps = true", "steps is True"),
    ("steps = 0", "steps is 0, allowed is 1 to"),
    ("trunk = [48]", "trunk is"),
    ('trunk = ["a", "b"]', "trunk is"),
    ("trunk = [1.5, 2]", "trunk is"),
    ("trunk = [true, true]", "trunk is"),
    ("heads = [1, 2, 3.0]", "heads is"),
    ("delays = 1", "delays is 1, allowed is 2 to 64"),
    ("clip_norm = inf", "clip_norm is inf"),
    ("position_weight = inf", "position_weight is inf"),
    ("loadings = []", "loadings is"),
    ("loadings = [1e-3, nan]", "loadings is"),
    ("dropout = 1.0", "dropout is 1.0"),
    ("dropout = nan", "dropout is nan"),
    ("look_ahead = 15", "20 to 100"),
    ("windows = 60", "windows is 60"),
    ("kind = \"cnn\"", "kind is 'cnn', allowed is one of recommended"),
    ("steps = [", "not a TOML file"),
])
def test_mistakes_are_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "r.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        read_recipe(path)


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the recipe"):
        read_recipe(tmp_path / "no.toml")
