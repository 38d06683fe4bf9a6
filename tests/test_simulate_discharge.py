"""The muscle's size principle and its discharges against the paper and against counting.

Truth: Wen et al. 2021, section 3.1 (150 motor units of 52 to 3191 fibres, 110 of them recruited at
25 %), the rate that was asked for, and statistics of intervals.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("scipy")

from spikewire.simulate.anatomy import Pool, make_pool
from spikewire.simulate.discharge import Contraction, discharge_times, fluctuation

FS_HZ = 2048.0


def spikes(pool: Pool, excitation: np.ndarray, seed: int = 0) -> list[np.ndarray]:
    return discharge_times(pool, excitation, FS_HZ, np.random.default_rng(seed))


def steady(level: float, seconds: float) -> np.ndarray:
    return np.full(round(seconds * FS_HZ), level)


@pytest.fixture(scope="module")
def muscle() -> Pool:
    return make_pool(0)


def test_fibres_and_thresholds_grow_with_the_order_of_recruitment(muscle: Pool) -> None:
    assert len(muscle) == 150
    assert muscle.fibres[[0, -1]] == pytest.approx([52, 3191])
    assert (np.diff(muscle.fibres) > 0).all()
    assert np.ptp(muscle.fibres[1:] / muscle.fibres[:-1]) < 1e-9  # evenly in the logarithm
    assert muscle.fibres.sum() == pytest.approx(125_664, rel=0.1)
    assert (np.diff(muscle.threshold) > 0).all()
    assert muscle.threshold[-1] == pytest.approx(75)
    assert muscle.threshold[0] < 0.1


def test_110_of_150_units_are_recruited_at_a_quarter(muscle: Pool) -> None:
    assert np.sum(muscle.threshold < 25) == 110
    found = spikes(muscle, steady(25, 3))
    assert [len(t) > 0 for t in found] == [True] * 110 + [False] * 40


def test_every_fibre_lies_inside_the_muscle_and_its_territory(muscle: Pool) -> None:
    assert muscle.radius_mm.max() < 10
    places = muscle.radius_mm * np.exp(1j * muscle.angle)
    reach = np.sqrt(muscle.fibres / 20 / np.pi)
    apart = np.abs(places[:, :, None] - places[:, None]).max(axis=(1, 2))
    assert (apart <= 2 * reach).all()
    assert (apart > 0.5 * reach).all()


def test_end_plates_move_and_tendons_stay(muscle: Pool) -> None:
    """A tendon is 100 +- 5 mm from the middle, wherever the end-plate is."""
    ends = np.stack([muscle.half_mm[:, 0] + muscle.end_plate_mm,
                     muscle.half_mm[:, 1] - muscle.end_plate_mm])
    assert ends.mean() == pytest.approx(100, abs=1)
    assert ends.std() == pytest.approx(5, abs=0.5)
    for end in ends:
        assert abs(np.corrcoef(end.ravel(), muscle.end_plate_mm.ravel())[0, 1]) < 0.15
    assert muscle.end_plate_mm.std() == pytest.approx(np.hypot(2.5, 2), rel=0.15)


def test_velocities_are_those_of_muscle_and_rise_loosely_with_size(muscle: Pool) -> None:
    assert 2.5 <= muscle.velocity.min() < muscle.velocity.max() <= 5.2
    assert muscle.velocity.mean() == pytest.approx(3.8, abs=0.15)
    rank = np.argsort(np.argsort(muscle.velocity))
    assert 0.3 < np.corrcoef(rank, np.arange(150))[0, 1] < 0.95


def test_the_same_seed_is_the_same_muscle() -> None:
    first, again, other = make_pool(3, 20), make_pool(3, 20), make_pool(4, 20)
    for name in Pool.__dataclass_fields__:
        assert np.array_equal(getattr(first, name), getattr(again, name))
    assert not np.array_equal(first.angle, other.angle)


def test_rates_start_at_5_to_10_hz_and_end_at_40_to_30(muscle: Pool) -> None:
    for unit, low, high in ((0, 5, 40), (149, 10, 30)):
        just = muscle.threshold[unit] * (1 + 1e-9)
        rates = muscle.rate_hz(np.array([0, muscle.threshold[unit], just, 100.0]), unit)
        assert rates == pytest.approx([0, 0, low, high])


@pytest.mark.parametrize("level", [10.0, 25.0, 50.0])
def test_mean_rates_are_those_asked_for(muscle: Pool, level: float) -> None:
    units = np.flatnonzero(muscle.threshold < level)[::12]
    found = spikes(muscle, steady(level, 60))
    for unit in units:
        rate = (len(found[unit]) - 1) / np.ptp(found[unit]) * FS_HZ
        assert rate == pytest.approx(muscle.rate_hz(np.array([level]), unit)[0], rel=0.03)


def test_intervals_vary_by_15_percent_and_never_fall_below_20_ms(muscle: Pool) -> None:
    for t in spikes(muscle, steady(25, 60))[:105:8]:
        intervals = np.diff(t)
        assert intervals.std() / intervals.mean() == pytest.approx(0.15, abs=0.02)
    for t in spikes(muscle, steady(100, 10)):
        assert np.diff(t).min() >= 0.02 * FS_HZ


def test_intervals_do_not_depend_on_each_other(muscle: Pool) -> None:
    t = spikes(muscle, steady(25, 120))[5]
    assert abs(np.corrcoef(np.diff(t)[:-1], np.diff(t)[1:])[0, 1]) < 0.1


def test_nothing_discharges_without_a_drive(muscle: Pool) -> None:
    assert [len(t) for t in spikes(muscle, steady(0, 2))] == [0] * 150
    assert [len(t) for t in spikes(muscle, np.zeros(0))] == [0] * 150


def test_a_resting_unit_never_discharges(muscle: Pool) -> None:
    """Half a second of drive, half a second of rest, 40 times; also 1 sample after is at rest."""
    half = round(FS_HZ / 2)
    found = spikes(muscle, np.tile(np.repeat([30.0, 0.0], half), 40))
    assert sum(len(t) for t in found) > 20_000
    at_rest = [(unit, float(x)) for unit, t in enumerate(found)
               for x in t[t % (2 * half) > half + 1]]
    assert at_rest == []


def test_each_unit_joins_the_ramp_at_its_threshold(muscle: Pool) -> None:
    """Within about one interval of 5 to 10 Hz; and leaves it on the way down."""
    c = Contraction(level=30, plateau_s=1, ramp_s_per_level=1, rest_s=0.5)
    profile = c.profile(FS_HZ)
    found = spikes(muscle, profile)
    for unit in range(0, 115, 6):
        on = np.flatnonzero(profile > muscle.threshold[unit])[[0, -1]]
        assert on[0] <= found[unit][0] <= on[0] + 0.5 * FS_HZ
        assert on[1] - 0.5 * FS_HZ <= found[unit][-1] <= on[1] + 1


def smooth_rate(times: np.ndarray, samples: int) -> np.ndarray:
    train = np.bincount(times.astype(int) // 8, minlength=samples // 8)
    window = np.hanning(round(0.4 * FS_HZ / 8))
    return np.convolve(train, window, mode="valid")


def test_common_drive_makes_rates_rise_and_fall_together(muscle: Pool) -> None:
    """Correlation between smoothed rates of two units: about 0 without, and it rises."""
    seen = []
    for share in (0.0, 0.1, 0.3):
        samples = round(60 * FS_HZ)
        wobble = 1 + share * fluctuation(samples, FS_HZ, np.random.default_rng(3))
        found = spikes(muscle, 25 * wobble)
        rates = np.corrcoef([smooth_rate(found[u], samples) for u in range(0, 90, 10)])
        seen.append(rates[np.triu_indices(9, 1)].mean())
    assert abs(seen[0]) < 0.1
    assert seen[0] + 0.1 < seen[1] < seen[2] - 0.1
    assert seen[2] > 0.6


def test_the_common_fluctuation_is_slow_and_of_unit_size() -> None:
    x = fluctuation(round(120 * FS_HZ), FS_HZ, np.random.default_rng(0))
    assert x.std() == pytest.approx(1)
    assert abs(x.mean()) < 0.1
    power = np.abs(np.fft.rfft(x)) ** 2
    hz = np.fft.rfftfreq(len(x), 1 / FS_HZ)
    assert power[hz < 2.5].sum() > 0.7 * power.sum()
    assert power[hz > 10].sum() < 0.01 * power.sum()


def test_the_same_seed_gives_the_same_times(muscle: Pool) -> None:
    drive = Contraction(level=20, plateau_s=2).profile(FS_HZ)
    first, again, other = (spikes(muscle, drive, seed) for seed in (1, 1, 2))
    for a, b, c in zip(first, again, other, strict=True):
        assert a.tobytes() == b.tobytes()
        assert len(a) == 0 or a.tobytes() != c.tobytes()


def test_times_are_sorted_lie_inside_and_between_samples(muscle: Pool) -> None:
    found = spikes(muscle, steady(25, 5))
    for t in found:
        assert (np.diff(t) > 0).all()
        assert ((t >= 0) & (t <= 5 * FS_HZ)).all()
    fractions = np.concatenate(found) % 1
    assert np.histogram(fractions, 4, (0, 1))[0] == pytest.approx(len(fractions) / 4, rel=0.1)


def test_a_trapezoid_rests_rises_holds_and_falls() -> None:
    c = Contraction(level=20, plateau_s=3, ramp_s_per_level=0.1, rest_s=0.5)
    profile = c.profile(1000.0)
    assert len(profile) == 500 + 2000 + 3000 + 2000 + 500
    assert (profile[:500] == 0).all()
    assert profile[1500] == pytest.approx(10, abs=0.02)
    assert (profile[2500:5500] == 20).all()
    np.testing.assert_array_equal(profile, profile[::-1])


def test_a_sine_swings_around_the_level() -> None:
    c = Contraction(level=20.0, plateau_s=4, ramp_s_per_level=0.1, rest_s=0.5, shape="sine")
    plateau = replace(c, sine_hz=0.5, sine_depth=0.4).profile(1000.0)[2500:6500]
    assert plateau.mean() == pytest.approx(20)
    assert [plateau.min(), plateau.max()] == pytest.approx([12, 28], abs=1e-3)
    assert int(np.argmax(plateau[:2000])) == 500  # the top of a sine of 2 s


def test_a_level_without_a_decimal_point_is_a_level() -> None:
    """25, as mu-simulate's default, and 25.0 are one contraction."""
    for shape in ("trapezoid", "sine"):
        whole, real = (Contraction(level=v, plateau_s=1, shape=shape) for v in (25, 25.0))
        np.testing.assert_array_equal(whole.profile(FS_HZ), real.profile(FS_HZ))
