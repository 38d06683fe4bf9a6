"""Interpolation against analytic travelling waves."""

from __future__ import annotations

import numpy as np
import pytest

from spikewire.moments import Moments, Places, measure
from spikewire.shift import along_taps, around_mix, lagrange, support, travel

ROWS, COLUMNS, IED = 8, 3, 8.0
FS_HZ = 2048.0
PLACES = Places(np.tile(np.arange(ROWS), COLUMNS), np.repeat(np.arange(COLUMNS), ROWS), IED)


def waves(shift_mm: float = 0.0, around_mm: float = 0.0, samples: int = 20_000) -> np.ndarray:
    """Sum of pulses of several speeds that travel to higher rows and fade around the limb."""
    rng = np.random.default_rng(0)
    z = PLACES.row * IED + shift_mm
    s = PLACES.column * IED + around_mm
    t = np.arange(samples) / FS_HZ * 1e3
    out = np.zeros((samples, len(z)))
    for _ in range(600):
        speed, start = rng.normal(4, 0.3), rng.uniform(50, t[-1] - 50)
        place, width = rng.uniform(-10, 26), rng.uniform(1.2, 2.0)
        here = slice(int((start - 20) * 2.048), int((start + 40) * 2.048))
        x = (t[here, None] - start - z / speed) / width
        out[here] += -x * np.exp(-0.5 * x**2) * np.exp(-0.5 * ((s - place) / 9) ** 2)
    noise = np.random.default_rng(1).normal(size=out.shape)
    return (100 * out + noise).astype(np.float32)


def shifted(x: np.ndarray, taps: np.ndarray) -> np.ndarray:
    reach = len(taps) // 2
    return sum(np.roll(x, k - reach, axis=0) @ tap.T for k, tap in enumerate(taps))


@pytest.fixture(scope="module")
def still() -> np.ndarray:
    return waves()


@pytest.fixture(scope="module")
def moments(still: np.ndarray) -> Moments:
    return measure([still], [[np.arange(100, 19_000, 150)]], 24)


def test_travel_is_distance_over_speed(moments: Moments) -> None:
    lag, clear = travel(moments, PLACES)
    assert clear.all()
    assert lag == pytest.approx(IED / 4 * FS_HZ / 1e3, rel=0.03)


@pytest.mark.parametrize("shift", [-6.0, -3.0, 2.0, 4.0, 8.0])
def test_a_moved_wave_is_interpolated(moments: Moments, still: np.ndarray, shift: float) -> None:
    """Residual power below 1 % of the wave, where leaving it in place misses 10 % and more."""
    taps, _ = along_taps(moments, PLACES, shift)
    wanted = waves(shift)
    inside = slice(100, -100)
    power = np.square(wanted).mean()
    assert np.square(shifted(still, taps) - wanted)[inside].mean() < 0.01 * power
    assert np.square(still - wanted)[inside].mean() > 0.1 * power


def test_a_turned_grid_is_interpolated(moments: Moments, still: np.ndarray) -> None:
    mix = around_mix(moments, PLACES, 3.0)
    wanted = waves(0.0, 3.0)
    missed = np.square(still @ mix.T - wanted).mean()
    assert missed < 0.25 * np.square(still - wanted).mean()
    assert missed < 0.02 * np.square(wanted).mean()


def test_lagrange_is_exact_for_a_cubic() -> None:
    nodes = np.array([0.0, 1, 2, 3])
    assert lagrange(1.3, nodes) @ (nodes**3 - 2 * nodes) == pytest.approx(1.3**3 - 2.6)


def test_support_stays_on_its_side_of_the_end_plates() -> None:
    sides = np.array([-1.0, -1, -1, 0, 1, 1, 1])  # 8 rows, end-plates between rows 3 and 4
    assert support(1.4, 8, sides) == [0, 1, 2, 3]
    assert support(5.5, 8, sides) == [4, 5, 6, 7]
    assert support(2.5, 8, sides) == [1, 2, 3]
    assert support(3.5, 8, sides) == [3, 4]
    assert support(-0.4, 8, sides) == [0]
    assert support(7.2, 8, sides) == [7]
