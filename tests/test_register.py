"""Interpolation against analytic travelling waves; the search against a simulated, shifted grid."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy")

from spikewire.moments import Moments, Places, measure
from spikewire.register import (
    MIN_RISE,
    Setting,
    along_taps,
    around_mix,
    gains,
    lagrange,
    moments_at,
    quality,
    refitted,
    search,
    support,
    travel,
)
from spikewire.signals import SpikeTrains
from spikewire.simulate.discharge import Contraction
from spikewire.simulate.emg import Scene, simulate
from spikewire.simulate.muap import Anatomy, Grid

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


def test_gains_and_dead_channels_are_seen(moments: Moments, still: np.ndarray) -> None:
    factors = np.random.default_rng(2).uniform(0.6, 1.6, still.shape[1])
    now = still * factors.astype(np.float32)
    now[:, 5] = 0
    heard = measure([now], [[]], 24)
    found, good = gains(moments, heard)
    assert np.flatnonzero(~good).tolist() == [5]
    expected = factors / np.median(factors)
    assert found[good] == pytest.approx(expected[good], rel=0.1)


def test_a_noisy_channel_is_bad(moments: Moments, still: np.ndarray) -> None:
    now = still.copy()
    now[:, 7] += 5 * still.std() * np.random.default_rng(3).normal(size=len(now)).astype(np.float32)
    _, good = gains(moments, measure([now], [[]], 24))
    assert np.flatnonzero(~good).tolist() == [7]


def test_nothing_changed_leaves_the_moments(moments: Moments) -> None:
    assert moments_at(moments, PLACES, Setting()) is moments
    made = refitted(moments, moments, False, np.ones(moments.channels, bool))
    assert np.allclose(made.lagged, moments.lagged)


@pytest.fixture(scope="module")
def muscle() -> tuple[Moments, np.ndarray, SpikeTrains]:
    """Moments of a small simulated muscle, and its filters."""
    recording, truth = simulate(scene(0))
    times = [t + 15 for t in truth.times]
    use = [k for k, t in enumerate(times) if len(t) > 60]
    moments = measure([recording.emg], [[times[k] for k in use]], 24)
    kernels = moments.solve(1e-3)
    # Only units that the filters can tell apart.
    from spikewire import filters
    from spikewire.peaks import judge, maxima

    clear = judge(maxima(filters.apply(recording.emg, kernels))).sil > 0.9
    keep = [k for k, c in zip(use, clear, strict=True) if c]
    moments = measure([recording.emg], [[times[k] for k in keep]], 24)
    places = Places(recording.grid_row, recording.grid_col, 8.0)
    return moments, places, keep


def scene(first: int, **changes: object) -> Scene:
    velocity = changes.pop("velocity_scale", 1.0)
    anatomy = Anatomy(3, n_mu=24, velocity_scale=velocity, grid=Grid(11, 3, **changes))
    return Scene(anatomy, Contraction(60.0, 12.0, 0.0, 0.0), first=first)


def test_a_shift_along_the_fibres_is_found(muscle) -> None:
    moments, places, keep = muscle
    assert len(keep) >= 4
    recording, _ = simulate(scene(1, along_mm=4.0))
    emg, heard = recording.emg, measure([recording.emg], [[]], 24)
    before = moments.solve(1e-3)
    found = search(emg, heard, moments, 1e-3, places, before)
    assert found.better
    assert found.setting.along_mm == pytest.approx(4, abs=1)
    assert abs(found.setting.around_mm) <= 1
    assert quality(emg, found.kernels) > quality(emg, before) + MIN_RISE


def test_slow_conduction_is_found_without_places(muscle) -> None:
    moments, _, _ = muscle
    recording, _ = simulate(scene(1, velocity_scale=0.9))
    heard = measure([recording.emg], [[]], 24)
    found = search(recording.emg, heard, moments, 1e-3, None, moments.solve(1e-3))
    assert found.better
    assert found.setting.velocity == pytest.approx(0.9, abs=0.03)
    assert (found.setting.along_mm, found.setting.around_mm) == (0, 0)


def test_where_nothing_changed_nothing_is_better(muscle) -> None:
    moments, places, _ = muscle
    recording, _ = simulate(scene(2))
    heard = measure([recording.emg], [[]], 24)
    found = search(recording.emg, heard, moments, 1e-3, places, moments.solve(1e-3))
    if found.better:  # a little more silhouette on the very signal it was solved on
        assert found.setting.changed <= 1
        assert abs(found.setting.along_mm) <= 1
