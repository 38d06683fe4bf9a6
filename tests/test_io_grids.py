"""Electrode grids. Truth: the vendor's drawing of the 13 x 5 grid, as a recording confirms it."""

from __future__ import annotations

import numpy as np
import pytest

from spikewire.io.grids import GRIDS, grid_of
from spikewire.signals import InputError


def test_the_serpentine_of_the_13_by_5_grid() -> None:
    grid = grid_of("GR08MM1305", 64)
    where = list(zip(grid.row.tolist(), grid.col.tolist(), strict=True))
    # Channels 1 to 12 lie in the first column whose first corner is empty; 13 lies beside 12.
    assert where[0] == (1, 0)
    assert where[11] == (12, 0)
    assert where[12] == (12, 1)
    assert where[24] == (0, 1)
    assert where[25] == (0, 2)
    assert where[63] == (12, 4)
    assert len(set(where)) == 64
    assert grid.ied_mm == 8.0
    steps = np.abs(np.diff(grid.row)) + np.abs(np.diff(grid.col))
    assert (steps == 1).all()  # neighbours in number are neighbours on the skin


def test_a_plain_grid_runs_in_one_direction() -> None:
    grid = grid_of("3x2@4.5", 6)
    assert grid.row.tolist() == [0, 1, 2, 0, 1, 2]
    assert grid.col.tolist() == [0, 0, 0, 1, 1, 1]
    assert grid.ied_mm == 4.5


def test_the_first_corner_may_be_empty() -> None:
    grid = grid_of("13x5@8", 64)
    assert (grid.row[0], grid.row[11], grid.row[12], grid.row[63]) == (1, 12, 0, 12)
    assert (grid.col[11], grid.col[12]) == (0, 1)


@pytest.mark.parametrize("word", ["", "GR", "12x5", "0x5@8", "axb@c", "12x5@0", "999x999@8",
                                  "12x5@8; rm", "1e3x5@8"])
def test_other_words_are_refused(word: str) -> None:
    with pytest.raises(InputError, match="grid"):
        grid_of(word, 60)


@pytest.mark.parametrize("name", GRIDS)
def test_a_grid_of_another_size_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="the source 32 channels"):
        grid_of(name, 32)
