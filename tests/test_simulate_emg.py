"""Simulated recordings: what was asked for is what is in them.

Truth: waves that are known between samples, recordings of the same scene almost without noise, and
spikes put together again by hand from the true times.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy")

from spikewire.simulate import emg as work
from spikewire.simulate import muap
from spikewire.simulate.discharge import Contraction
from spikewire.simulate.emg import Scene, place, simulate
from spikewire.simulate.faults import FAULTS, Draw, rms
from spikewire.simulate.muap import Anatomy, Grid, cached

FS_HZ = 2048.0
SHORT = Contraction(level=20.0, plateau_s=2.0, ramp_s_per_level=0.025, rest_s=0.25)
SCENE = Scene(Anatomy(n_mu=8), SHORT)
CLEAN = replace(SCENE, snr_db=80.0)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the potentials of two muscles of 8 motor units, from few radii and waves."""
    folder = tmp_path_factory.mktemp("muscles")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(muap, "RADIUS_STEP_MM", 0.25)
        patch.setattr(muap, "HIGHEST_K", 1.1)
        for seed in (0, 1):
            cached(replace(SCENE.anatomy, seed=seed), folder)
    return folder


@pytest.fixture(scope="module")
def clean(cache: Path) -> tuple[work.Recording, work.SpikeTrains]:
    return simulate(CLEAN, cache)


def wave(t: np.ndarray) -> np.ndarray:
    """A smooth wave of two leads at t EMG samples after the discharge; nothing above 700 Hz."""
    x = (np.asarray(t)[:, None] - np.array([40.0, 52.3])) / np.array([2.6, 4.0])
    return (x * np.exp(-0.5 * x**2)).astype(np.float32)


WAVE = wave(np.arange(4 * 132) / 4)


@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.5, 0.75, 0.1, 0.63, 0.999])
def test_a_discharge_between_samples_is_placed_between_samples(fraction: float) -> None:
    got = np.zeros((400, 2), np.float32)
    place(got, np.array([100 + fraction]), WAVE)
    true = wave(np.arange(400) - 100 - fraction)
    assert np.abs(got - true).max() < 0.02 * np.abs(true).max()


def test_a_quarter_of_a_sample_is_a_quarter_turn_in_frequency() -> None:
    """The same against a shift by FFT of the wave that was placed on a sample."""
    on, later = np.zeros((400, 2), np.float32), np.zeros((400, 2), np.float32)
    place(on, np.array([100.0]), WAVE)
    place(later, np.array([100.25]), WAVE)
    turn = np.exp(-2j * np.pi * np.fft.rfftfreq(400) * 0.25)[:, None]
    true = np.fft.irfft(np.fft.rfft(on, axis=0) * turn, 400, axis=0)
    assert np.abs(later - true).max() < 0.02 * np.abs(true).max()
    assert np.abs(later - on).max() > 0.05 * np.abs(true).max()


def test_discharges_add_up_also_over_each_other_and_over_the_end() -> None:
    times = np.array([3.2, 40.7, 41.9, 180.5, 199.4])
    got = np.zeros((200, 2), np.float32)
    place(got, times, WAVE)
    true = sum(wave(np.arange(200) - t) * (np.arange(200) >= t)[:, None] for t in times)
    assert np.abs(got - true).max() < 0.02 * np.abs(true).max()


def test_a_slow_discharge_is_a_longer_one() -> None:
    got = np.zeros((400, 2), np.float32)
    place(got, np.array([10.25, 200.5]), WAVE, np.array([1.0, 1.25]))
    n = np.arange(400)
    true = wave(n - 10.25) + wave((n - 200.5) / 1.25)
    assert np.abs(got - true).max() < 0.02 * np.abs(true).max()


def test_the_recording_is_the_sum_of_potentials_at_the_true_times(cache: Path, clean) -> None:
    """Put together by hand at whole samples: at most half a sample off, nothing else."""
    recording, trains = clean
    shapes = cached(SCENE.anatomy, cache)[:, ::4].reshape(8, 132, 5, 13)
    shapes = np.diff(shapes, axis=3).reshape(8, 132, 60)
    made = np.zeros((len(recording.emg) + 132, 60))
    for t, shape in zip(trains.times, shapes, strict=True):
        for at in t:
            made[at : at + 132] += shape
    made = made[: len(recording.emg)]
    assert np.corrcoef(made.ravel(), recording.emg.ravel())[0, 1] > 0.98
    assert rms(recording.emg) == pytest.approx(rms(made), rel=0.02)


def test_trains_are_sorted_indices_of_all_units_in_the_order_of_size(clean) -> None:
    recording, trains = clean
    assert len(trains) == 8
    assert (trains.fs_hz, trains.method) == (FS_HZ, "simulated")
    for t in trains.times:
        assert t.dtype == np.int64
        assert (np.diff(t) > 0).all()
        assert ((t >= 0) & (t < len(recording.emg))).all()
    active = np.array([len(t) > 0 for t in trains.times])
    assert active.tolist() == (SCENE.anatomy.pool().threshold < 20).tolist()
    assert 0 < active.sum() < 8


@pytest.mark.parametrize("noise", work.NOISES)
@pytest.mark.parametrize("montage", work.MONTAGES)
def test_noise_has_the_stated_power(cache: Path, noise: str, montage: str) -> None:
    """Against the recording of the same scene at 80 dB; over its active part, to 0.2 dB."""
    scene = replace(SCENE, noise=noise, montage=montage, snr_db=10.0)
    loud, quiet = (simulate(replace(scene, snr_db=s), cache)[0] for s in (10.0, 80.0))
    active = quiet.force > 0
    noise_uv = (loud.emg - quiet.emg)[active]
    assert 20 * np.log10(rms(quiet.emg[active]) / rms(noise_uv)) == pytest.approx(10, abs=0.2)
    rest = loud.emg[~active][:400]
    assert rms(rest) == pytest.approx(rms(noise_uv), rel=0.1)  # noise knows no rest
    assert rms(quiet.emg[:400]) < 1e-3 * rms(loud.emg)


def noise_of(cache: Path, **changes: object) -> np.ndarray:
    """Correlation between the channels' noise of a scene."""
    scene = replace(SCENE, **changes)
    loud, quiet = (simulate(replace(scene, snr_db=s), cache)[0].emg for s in (-10.0, 80.0))
    return np.corrcoef((loud - quiet).T)


def test_channel_noise_is_independent(cache: Path) -> None:
    for montage in work.MONTAGES:
        r = noise_of(cache, noise="channel", montage=montage)
        assert np.abs(r - np.eye(len(r))).max() < 0.1


def test_lead_noise_is_shared_by_neighbouring_differences(cache: Path) -> None:
    """Two differences have one lead in common, with opposite signs: r = -0.5."""
    r = noise_of(cache, noise="lead", montage="sd")
    row, column = np.arange(60) % 12, np.arange(60) // 12
    neighbours = (np.abs(np.subtract.outer(row, row)) == 1) & np.equal.outer(column, column)
    assert np.abs(r[neighbours] + 0.5).max() < 0.1
    assert np.abs(r[~neighbours & ~np.eye(60, dtype=bool)]).max() < 0.1


def test_spatial_noise_falls_with_distance(cache: Path) -> None:
    """To 1/e over 15 mm: r = exp(-8 k / 15) between leads that are k electrodes apart."""
    r = noise_of(cache, noise="spatial", montage="mono")
    column = np.arange(12, 25)  # the second column: the first lacks its corner
    for k in (1, 2, 4):
        assert r[column[:-k], column[k:]] == pytest.approx(np.exp(-8 * k / 15), abs=0.07)
    assert r[12, 25] == pytest.approx(np.exp(-8 / 15), abs=0.07)  # across columns


def test_channels_know_their_places(cache: Path, clean) -> None:
    differences, _ = clean
    leads, _ = simulate(replace(CLEAN, montage="mono"), cache)
    assert differences.emg.shape == (len(leads.emg), 60)
    assert leads.emg.shape[1] == 64
    places = list(zip(differences.grid_row, differences.grid_col, strict=True))
    assert places == [(r, c) for c in range(5) for r in range(12)]
    places = list(zip(leads.grid_row, leads.grid_col, strict=True))
    assert places == [(r, c) for c in range(5) for r in range(13) if (r, c) != (0, 0)]
    assert differences.ied_mm == leads.ied_mm == 8.0


def test_a_difference_is_what_its_two_leads_differ_by(cache: Path, clean) -> None:
    differences, trains = clean
    leads, same = simulate(replace(CLEAN, montage="mono"), cache)
    assert [a.tolist() for a in trains.times] == [b.tolist() for b in same.times]
    of = {(int(r), int(c)): leads.emg[:, k].astype(float)
          for k, (r, c) in enumerate(zip(leads.grid_row, leads.grid_col, strict=True))}
    known = 0
    for k, (r, c) in enumerate(zip(differences.grid_row, differences.grid_col, strict=True)):
        if (r, c) in of:
            error = of[r + 1, c] - of[r, c] - differences.emg[:, k]
            assert np.abs(error).max() < 2e-3 * np.abs(differences.emg).max()
            known += 1
    assert known == 59


def test_another_grid_has_all_its_channels() -> None:
    """Only the 13 x 5 grid lacks a corner."""
    leads = np.arange(12, dtype=np.float32)[None] ** 2
    emg, (row, column) = work.montage_of(leads, 4, 3, "mono")
    assert emg.tolist() == leads.tolist()
    assert (row.tolist(), column.tolist()) == ([0, 1, 2, 3] * 3, [0] * 4 + [1] * 4 + [2] * 4)
    emg, (row, column) = work.montage_of(leads, 4, 3, "sd")
    assert emg.tolist() == [[1, 3, 5, 9, 11, 13, 17, 19, 21]]
    assert (row.tolist(), column.tolist()) == ([0, 1, 2] * 3, [0] * 3 + [1] * 3 + [2] * 3)


def test_the_recording_says_what_it_is(clean) -> None:
    recording, _ = clean
    assert recording.emg.dtype == np.float32
    assert recording.fs_hz == FS_HZ
    np.testing.assert_array_equal(recording.force, SHORT.profile(FS_HZ).astype(np.float32))
    assert recording.force_unit == "% excitation"
    assert recording.segments.tolist() == [[512, len(recording.emg) - 512]]
    assert recording.check("here") is recording


def test_two_contractions_are_two_segments_of_one_muscle(cache: Path, clean) -> None:
    """The second of two is the one that `first` = 1 makes alone."""
    one, trains = clean
    both, all_trains = simulate(replace(CLEAN, contractions=2), cache)
    second, second_trains = simulate(replace(CLEAN, first=1), cache)
    n = len(one.emg)
    assert len(both.emg) == 2 * n
    assert both.segments.tolist() == [[512, n - 512], [n + 512, 2 * n - 512]]
    np.testing.assert_array_equal(both.force, np.tile(one.force, 2))
    for a, b, ab in zip(trains.times, second_trains.times, all_trains.times, strict=True):
        assert ab.tolist() == [*a.tolist(), *(b + n).tolist()]
    assert np.abs(both.emg - np.concatenate([one.emg, second.emg])).max() < 0.01 * one.emg.max()


def test_another_first_contraction_has_other_spikes_and_noise_of_the_same_muscle(
    cache: Path, clean
) -> None:
    recording, trains = clean
    files = sorted(p.name for p in cache.iterdir())
    other, other_trains = simulate(replace(CLEAN, first=5), cache)
    assert sorted(p.name for p in cache.iterdir()) == files
    for a, b in zip(trains.times, other_trains.times, strict=True):
        assert len(a) == len(b) == 0 or a.tolist() != b.tolist()
    assert abs(np.corrcoef(recording.emg[:400].ravel(), other.emg[:400].ravel())[0, 1]) < 0.05


def test_another_seed_is_another_muscle(cache: Path, clean) -> None:
    other, trains = simulate(replace(CLEAN, anatomy=Anatomy(seed=1, n_mu=8)), cache)
    assert np.abs(other.emg - clean[0].emg).max() > 0.1 * clean[0].emg.max()
    assert trains.times[0].tolist() != clean[1].times[0].tolist()


@pytest.mark.parametrize("scene", [
    SCENE,
    replace(SCENE, montage="mono", noise="spatial", contractions=2, velocity_drift=0.1, first=3,
            contraction=replace(SHORT, common_drive=0.2, plateau_s=1.0),
            faults=tuple((name, 1.5) for name in FAULTS)),
], ids=["plain", "everything"])
def test_the_same_scene_gives_the_same_bytes(cache: Path, scene: Scene) -> None:
    (a, x), (b, y) = (simulate(scene, cache) for _ in range(2))
    assert a.emg.tobytes() == b.emg.tobytes()
    assert [t.tobytes() for t in x.times] == [t.tobytes() for t in y.times]


def test_noise_montage_and_faults_leave_the_spikes_alone(cache: Path, clean) -> None:
    _, trains = clean
    for changes in ({"noise": "lead"}, {"faults": (("dead", 3.0),)}, {"velocity_drift": 0.1},
                    {"snr_db": 5.0}):
        _, same = simulate(replace(CLEAN, **changes), cache)
        assert [t.tolist() for t in same.times] == [t.tolist() for t in trains.times]


def test_a_common_drive_changes_the_spikes_but_not_the_intended_excitation(
    cache: Path, clean
) -> None:
    driven, trains = simulate(replace(CLEAN, contraction=replace(SHORT, common_drive=0.2)), cache)
    np.testing.assert_array_equal(driven.force, clean[0].force)
    assert trains.times[0].tolist() != clean[1].times[0].tolist()


@pytest.fixture
def one_wave(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every lead sees one wave of the first motor unit, 40 samples after its discharge."""
    def fake(anatomy: Anatomy, progress: object = None) -> np.ndarray:
        shapes = np.zeros((anatomy.n_mu, 4 * 132, 65), np.float32)
        shapes[0] = WAVE[:, :1] * np.float32(100)
        return shapes

    monkeypatch.setattr(muap, "compute", fake)


@pytest.mark.parametrize("drift", [0.0, 0.15])
def test_drift_of_velocity_stretches_late_potentials(one_wave, drift: float) -> None:
    """The rising zero of the wave, 40 samples after a discharge, moves to 40 / (1 - drift)."""
    slow = replace(SHORT, level=1.5, plateau_s=20.0)  # 5 Hz
    scene = Scene(Anatomy(n_mu=6), slow, montage="mono", snr_db=80.0, velocity_drift=drift)
    recording, trains = simulate(scene)
    times = trains.times[0]
    x = recording.emg.mean(axis=1)
    apart = np.flatnonzero((np.diff(times) > 200) & (np.diff(times, prepend=0)[:-1] > 200))
    assert len(apart) > 20
    late = []
    for t in times[apart]:
        part = x[t : t + 132].astype(float)
        a, b = int(part.argmin()), int(part.argmax())
        late.append(np.interp(0, part[a : b + 1], np.arange(a, b + 1)))
    expected = 40 / (1 - drift * times[apart] / len(x))
    np.testing.assert_allclose(late, expected, atol=0.6)  # times are rounded to samples
    assert np.mean(late - expected) == pytest.approx(0, abs=0.15)


def test_a_stretched_potential_ends_inside_its_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """The slowest and rather long fibres, at the lowest --velocity and the most drift."""
    slow = replace(muap.make_pool(0, 6), velocity=np.full(6, 2.5), half_mm=np.full((6, 2, 6), 104))
    monkeypatch.setattr(muap, "make_pool", lambda *_: slow)
    monkeypatch.setattr(muap, "RADIUS_STEP_MM", 0.5)
    monkeypatch.setattr(muap, "HIGHEST_K", 1.1)
    shapes = muap.compute(Anatomy(n_mu=6, velocity_scale=0.85))
    out = np.zeros((232, 65), np.float32)
    place(out, np.array([100.0]), shapes[5], np.array([1 / 0.85]))
    assert np.abs(out[-1]).max() < 0.02 * np.abs(out).max()
    differences = np.diff(out.reshape(232, 5, 13), axis=2)
    assert np.abs(differences[-1]).max() < 1e-3 * np.abs(differences).max()


def test_progress_runs_from_nothing_to_nearly_all(cache: Path) -> None:
    shares: list[float] = []
    simulate(replace(CLEAN, contractions=2), cache, lambda share, _: shares.append(share))
    assert shares == sorted(shares)
    assert 0 <= shares[0] < shares[-1] <= 1


GIVEN = np.random.default_rng(7).normal(0, 50, (4096, 20)).astype(np.float32)


def faulty(name: str, amount: float, seed: int = 0) -> np.ndarray:
    """The same EMG with one fault."""
    x = GIVEN.copy()
    draw = Draw(x.shape[1], np.random.default_rng(seed))
    assert FAULTS[name](x, amount, FS_HZ, draw) is None
    return x


def changed(x: np.ndarray) -> np.ndarray:
    """Channels that are not as given."""
    return np.flatnonzero((x != GIVEN).any(axis=0))


def test_dead_channels_are_zero_and_the_others_as_they_were() -> None:
    x = faulty("dead", 3)
    assert len(changed(x)) == 3
    assert (x[:, changed(x)] == 0).all()
    assert (faulty("dead", 64) == 0).all()  # more than there are: all
    assert changed(faulty("dead", 3, seed=1)).tolist() != changed(x).tolist()


def test_noisy_channels_carry_five_times_the_rms_beside_their_emg() -> None:
    x = faulty("noisy", 4)
    bad = changed(x)
    assert len(bad) == 4
    added = (x - GIVEN)[:, bad]
    assert added.std(axis=0) == pytest.approx(5 * rms(GIVEN), rel=0.05)
    assert np.abs(np.corrcoef(added.T) - np.eye(4)).max() < 0.1
    assert np.abs([np.corrcoef(added[:, k], GIVEN[:, c])[0, 1] for k, c in enumerate(bad)]
                  ).max() < 0.1


def test_saturated_channels_stay_between_rails() -> None:
    x = faulty("saturated", 2)
    bad = changed(x)
    assert len(bad) == 2
    for c in bad:
        rail = 1.5 * GIVEN[:, c].std()
        assert np.abs(x[:, c]).max() == pytest.approx(rail, rel=1e-5)
        inside = np.abs(GIVEN[:, c]) < rail * 0.999
        np.testing.assert_array_equal(x[inside, c], GIVEN[inside, c])


def test_a_gain_is_one_factor() -> None:
    np.testing.assert_allclose(faulty("gain", 0.25), GIVEN / 4)


def test_gains_spread_over_the_channels_and_hold_still() -> None:
    ratio = np.concatenate([faulty("gain_sd", 0.2, seed) / GIVEN for seed in range(20)], axis=1)
    assert (np.ptp(ratio, axis=0) < 1e-4).all()
    assert ratio[0].mean() == pytest.approx(1, abs=0.03)
    assert ratio[0].std() == pytest.approx(0.2, rel=0.15)


def test_a_gain_drifts_evenly_to_its_last_value() -> None:
    ratio = faulty("gain_drift", 3.0) / GIVEN
    np.testing.assert_allclose(ratio, np.linspace(1, 3, 4096)[:, None] * np.ones(20), rtol=1e-4)


def test_mains_are_50_hz_of_one_phase_and_of_the_stated_size() -> None:
    added = faulty("mains", 0.5) - GIVEN
    assert np.ptp(added, axis=1).max() < 1e-3
    power = np.abs(np.fft.rfft(added[:, 0].astype(float))) ** 2
    assert np.fft.rfftfreq(4096, 1 / FS_HZ)[power.argmax()] == 50
    assert power.max() > 0.999 * power.sum()
    assert np.abs(added).max() == pytest.approx(0.5 * rms(GIVEN), rel=0.01)
    phases = {float(faulty("mains", 0.5, seed)[0, 0]) for seed in range(3)}
    assert len(phases) == 3


def test_faults_come_in_the_stated_order(cache: Path) -> None:
    """Mains that come before a drifting gain drift with it; those after it do not."""
    drift, hum = ("gain_drift", 5.0), ("mains", 10.0)
    before, after = (simulate(replace(SCENE, faults=f), cache)[0].emg
                     for f in ((hum, drift), (drift, hum)))
    assert rms(before[-82:]) / rms(before[:82]) == pytest.approx(5, rel=0.1)
    assert rms(after[-82:]) / rms(after[:82]) == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("order", [("dead", "noisy"), ("noisy", "dead"), ("dead", "saturated")])
def test_two_faults_hit_different_channels(cache: Path, order: tuple[str, str]) -> None:
    """Two dead channels and two others that are noisy or saturated, whatever comes first."""
    plain, _ = simulate(SCENE, cache)
    broken, _ = simulate(replace(SCENE, faults=tuple((name, 2.0) for name in order)), cache)
    is_changed = (broken.emg != plain.emg).any(axis=0)
    is_dead = (broken.emg == 0).all(axis=0)
    assert (is_dead.sum(), is_changed.sum()) == (2, 4)


def test_a_grid_of_another_size_is_simulated_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(muap, "RADIUS_STEP_MM", 0.5)
    monkeypatch.setattr(muap, "HIGHEST_K", 1.1)
    grid = Grid(rows=4, columns=3)
    recording, _ = simulate(Scene(Anatomy(n_mu=6, grid=grid), SHORT, montage="mono",
                                  noise="spatial"))
    assert recording.emg.shape[1] == 12
    assert np.isfinite(recording.emg).all()
