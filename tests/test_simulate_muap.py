"""Action potentials against numerical integrals, a slow second implementation, and symmetries.

Truth: scipy's quadrature, second differences of the intracellular potential on a fine line, the
closed form of one insulated cylinder, and physics: what is mirrored, moved or slowed down must come
out mirrored, moved or slowed down.
"""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy")

from scipy import integrate, interpolate, special

from spikewire.simulate import muap
from spikewire.simulate.anatomy import Pool, make_pool
from spikewire.simulate.muap import Anatomy, Grid
from spikewire.simulate.volume import Limb

RATE = 4 * 2.048  # samples per ms of an action potential
ROWS, COLUMNS = 13, 5
STEP_MM = 0.01  # of the fine line along a fibre


@pytest.fixture(scope="module")
def muscle() -> tuple[Pool, np.ndarray]:
    """20 motor units: their anatomy, and action potentials (unit, time, column, row)."""
    anatomy = Anatomy(n_mu=20)
    return anatomy.pool(), muap.compute(anatomy).reshape(20, -1, COLUMNS, ROWS)


def computed(
    monkeypatch: pytest.MonkeyPatch, pool: Pool, anatomy: Anatomy, highest_k: float = 1.1
) -> np.ndarray:
    """What `compute` gives for this pool, as `muscle`, faster: on fewer radii and waves."""
    monkeypatch.setattr(muap, "RADIUS_STEP_MM", 0.5)
    monkeypatch.setattr(muap, "HIGHEST_K", highest_k)
    monkeypatch.setattr(muap, "make_pool", lambda *_: pool)
    return muap.compute(replace(anatomy, n_mu=len(pool))).reshape(len(pool), -1, COLUMNS, ROWS)


def few(count: int = 2) -> Pool:
    """Some motor units of a muscle of 20, small to large."""
    pool = make_pool(0, 20)
    chosen = np.linspace(3, 19, count).astype(int)
    return Pool(*(x if len(x) == 40 and x.ndim == 1 else x[chosen]
                  for x in (getattr(pool, name) for name in Pool.__dataclass_fields__)))


def close(a: np.ndarray, b: np.ndarray, share: float) -> None:
    """Equal up to a share of each unit's peak."""
    for x, y in zip(a, b, strict=True):
        assert np.abs(x - y).max() < share * np.abs(y).max()


def current_on_a_line(
    k: np.ndarray, way: list[float], half_mm: tuple[float, float]
) -> np.ndarray:
    """Fourier integral of d/dz (dVm/dz) by second differences: (way, k).

    Behind each front, s mm away from it, Vm is s^3 exp(-s); the fronts run both ways from z = 0.
    Where the fibre ends dVm/dz drops to zero, and the difference there is the tendon's current.
    """
    z = STEP_MM * np.arange(round(-half_mm[1] / STEP_MM), round(half_mm[0] / STEP_MM) + 1)
    behind = np.maximum(np.array(way)[:, None] - np.abs(z), 0)
    slope = np.diff(behind**3 * np.exp(-behind), axis=1) / STEP_MM
    return np.diff(np.pad(slope, ((0, 0), (1, 1))), axis=1) @ np.exp(-1j * np.outer(z, k))


@pytest.mark.parametrize("k", [0.012, 0.3, 1.0, 2.2])
def test_the_integral_along_a_fibre_equals_quadrature(k: float) -> None:
    x = np.array([-1.0, 0.0, 0.01, 0.7, 3.0, 12.0, 60.0, 250.0])
    got = muap.potential_integral(np.array([k]), x)[0]

    def part(s: float, wave: np.ufunc) -> float:
        return (3 * s**2 - s**3) * np.exp(-s) * wave(k * s)

    true = [complex(*(integrate.quad(part, 0, np.clip(stop, 0, 70), (wave,), limit=200)[0]
                      for wave in (np.cos, np.sin))) for stop in x]
    np.testing.assert_allclose(got, true, atol=1e-7)


@pytest.mark.parametrize(("way", "stage"), [
    (0.4, "generation"), (9.0, "both run"), (55.0, "both run"), (62.5, "one meets its tendon"),
    (80.0, "one runs"), (98.5, "the other meets its tendon"), (106.0, "tails"),
])
def test_the_current_equals_second_differences_of_the_potential(way: float, stage: str) -> None:
    k = np.array([0.0123, 0.1, 0.5, 1.1, 2.2])
    got = muap.fibre_current(k, np.array([way / 4.1]), 4.1, np.array([97.0, 61.0]))[:, 0]
    true = current_on_a_line(k, [way], (97.0, 61.0))[0]
    assert np.abs(got - true).max() < 1e-3 * np.abs(true).max(), stage


def test_no_current_flows_before_and_long_after() -> None:
    k = np.array([0.0123, 0.5, 2.2])
    t = np.array([0.0, 20.0, 60.0])
    start, running, over = np.abs(muap.fibre_current(k, t, 4.0, np.array([97.0, 61.0]))).T
    assert (start == 0).all()
    assert (over < 1e-9 * running).all()


def test_the_net_current_of_a_fibre_is_zero() -> None:
    """What goes in comes out: the Fourier transform vanishes with k, in every stage."""
    t = np.array([0.3, 2.0, 10.0, 15.5, 20.0, 24.3])
    half = np.array([97.0, 61.0])
    at = [np.abs(muap.fibre_current(np.array([k]), t, 4.0, half)[0]) for k in (0.5, 1e-3, 1e-6)]
    assert (at[1] < 0.05 * at[0].max()).all()
    np.testing.assert_allclose(at[2], at[1] / 1e3, rtol=0.01, atol=1e-7)


HALF_MM, END_PLATE_MM, SPEED, SIGMA = (90.0, 104.0), 2.0, 4.0, 0.25
CYLINDER = Limb(muscle_radial=SIGMA, muscle_axial=SIGMA, fat=SIGMA, skin=SIGMA)
TIMES = [20, 60, 100, 170, 190, 200, 217, 300]  # both run, one does, the other ends, nothing
EVEN = [0, 1, 2, 3, 7]  # of these: no end of one side alone


def one_fibre(radius: float, angle: float) -> Pool:
    """A motor unit whose 700 fibres lie on each other."""
    return Pool(np.array([700.0]), np.array([1.0]), np.array([SPEED]), np.full((1, 40), radius),
                np.full((1, 40), angle), np.arange(40) % 6, np.full((1, 6), END_PLATE_MM),
                np.array(HALF_MM)[None, :, None] * np.ones((1, 1, 6)))


def computed_slowly(radius: float, angle: float) -> np.ndarray:
    """The same unit in one insulated cylinder: closed form times numerical current, in uV.

    The integral over k is a sum over the middles of steps of its own: its period is 1800 mm, and
    k = 0, where a pole meets a zero, is not touched.
    """
    step = 2 * np.pi / 900
    k, n = step * (np.arange(int(2.2 / step)) + 0.5), np.arange(30)[:, None]
    current = current_on_a_line(k, [SPEED * i / RATE for i in TIMES], HALF_MM)
    c = CYLINDER.skin_mm
    response = special.iv(n, k * radius) / (SIGMA * k * c * special.ivp(n, k * c))
    x = 1.0 * np.hypot(k, n / c)  # radius of an electrode: 1 mm
    response *= 2 * special.j1(x) / x
    strength = 1.01 * np.pi / 4 * 0.055**2 * 96e3 * 700 / (2 * np.pi) ** 2
    out = np.empty((len(TIMES), COLUMNS, ROWS))
    for column in range(COLUMNS):
        around = np.cos(n * (8.0 * (column - 2) / c - angle)) * np.where(n > 0, 2, 1)
        for row in range(ROWS):
            wave = np.exp(1j * k * (8.0 * (row - 6) - END_PLATE_MM))
            seen = (response * around).sum(axis=0) * wave
            out[:, column, row] = 2 * step * strength * (current @ seen).real
    return out


@pytest.mark.parametrize(("radius", "angle"), [(0.0, 0.0), (6.0, 0.0), (8.5, 0.4)])
def test_differences_equal_a_slow_second_computation(
    monkeypatch: pytest.MonkeyPatch, radius: float, angle: float
) -> None:
    got = computed(monkeypatch, one_fibre(radius, angle), Anatomy(limb=CYLINDER), 2.2)[0]
    true = np.diff(computed_slowly(radius, angle), axis=2)[EVEN]
    difference = np.diff(got[TIMES], axis=2)[EVEN] - true
    assert np.abs(difference).max() < 1e-3 * np.abs(true).max()


def test_monopolar_potentials_equal_a_slow_second_computation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Against a reference far away: what all electrodes have in common is part of the potential.

    While one side alone ends there is a dipole, whose potential changes evenly along the skin.
    """
    got = computed(monkeypatch, one_fibre(6.0, 0.0), Anatomy(limb=CYLINDER), 2.2)[0]
    true = computed_slowly(6.0, 0.0)
    assert np.abs(got[TIMES] - true).max() < 2e-3 * np.abs(true).max()


def delay_ms(a: np.ndarray, b: np.ndarray) -> float:
    """By how much b comes after a: top of the cross-correlation, refined by a parabola."""
    c = np.correlate(b, a, "full")
    top = int(c.argmax())
    left, middle, right = c[top - 1 : top + 2]
    return (top - len(a) + 1 + (left - right) / (left - 2 * middle + right) / 2) / RATE


def test_a_potential_travels_with_its_conduction_velocity(muscle) -> None:
    """Between end-plate and tendon, both ways; superficial units, of little standing field."""
    pool, shapes = muscle
    differences = np.diff(shapes, axis=3)
    strong = np.flatnonzero(pool.radius_mm.mean(axis=1) > 6)
    assert len(strong) >= 8
    for unit in strong:
        column = int(np.ptp(differences[unit], axis=0).max(axis=1).argmax())
        d = differences[unit, :, column].T
        for row in (9, 10):
            expected = 8.0 / pool.velocity[unit]
            assert delay_ms(d[row], d[row + 1]) == pytest.approx(expected, rel=0.05)
            assert delay_ms(d[11 - row], d[10 - row]) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("factor", [0.85, 1.3])
def test_slower_conduction_stretches_time(monkeypatch, factor: float) -> None:
    """A wave in a fibre of half the speed takes twice as long and looks the same."""
    normal = computed(monkeypatch, few(), Anatomy())
    slow = computed(monkeypatch, few(), Anatomy(velocity_scale=factor))
    spline = interpolate.CubicSpline(np.arange(normal.shape[1]), normal, axis=1)
    known = np.arange(int((normal.shape[1] - 1) / factor) + 1)[: normal.shape[1]]
    close(slow[:, known], spline(known * factor), 0.01)


def test_mirrored_fibres_swap_the_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = few()
    straight = computed(monkeypatch, pool, Anatomy())
    mirrored = computed(monkeypatch, replace(pool, angle=-pool.angle), Anatomy())
    close(mirrored, straight[:, :, ::-1], 1e-4)
    assert np.abs(mirrored - straight).max() > 0.1 * np.abs(straight).max()


def test_fibres_the_other_way_round_swap_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = few()
    straight = computed(monkeypatch, pool, Anatomy())
    turned = replace(pool, end_plate_mm=-pool.end_plate_mm, half_mm=pool.half_mm[:, ::-1])
    mirrored = computed(monkeypatch, turned, Anatomy())
    close(mirrored, straight[:, :, :, ::-1], 1e-4)
    assert np.abs(mirrored - straight).max() > 0.1 * np.abs(straight).max()


def test_a_turned_muscle_equals_a_moved_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = few()
    moved = computed(monkeypatch, pool, Anatomy(grid=Grid(around_mm=5.0)))
    turned = replace(pool, angle=pool.angle - 5.0 / Limb().skin_mm)
    close(moved, computed(monkeypatch, turned, Anatomy()), 1e-4)


def test_a_grid_moved_by_one_electrode_sees_the_next_row(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = few()
    straight = computed(monkeypatch, pool, Anatomy())
    along = computed(monkeypatch, pool, Anatomy(grid=Grid(along_mm=8.0)))
    close(along[..., :-1], straight[..., 1:], 1e-4)
    around = computed(monkeypatch, pool, Anatomy(grid=Grid(around_mm=-8.0)))
    close(around[:, :, 1:], straight[:, :, :-1], 1e-4)


def test_a_turned_grid_is_rigid_and_turns_by_its_angle() -> None:
    flat, turned = (np.stack(Grid(rotation_deg=a).places()) for a in (0, 30))
    pairs = [np.hypot(*(x[:, :, None] - x[:, None])) for x in (flat, turned)]
    np.testing.assert_allclose(*pairs, atol=1e-12)
    column = turned[:, 12] - turned[:, 0]
    assert np.degrees(np.arctan2(column[1], column[0])) == pytest.approx(30)
    np.testing.assert_allclose(flat[:, 13] - flat[:, 0], [0, 8])  # the next column


def test_strength_follows_the_number_of_fibres(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = few()
    once = computed(monkeypatch, pool, Anatomy())
    close(computed(monkeypatch, replace(pool, fibres=3 * pool.fibres), Anatomy()), 3 * once, 1e-4)


def test_amplitudes_durations_and_spectra_are_those_of_surface_emg(muscle) -> None:
    """10 uV to 10 mV, 5 to 40 ms (above 5 % of the peak), most power at 40 to 200 Hz."""
    _, shapes = muscle
    differences = np.diff(shapes, axis=3).reshape(20, shapes.shape[1], -1)
    for unit in range(10, 20):
        best = differences[unit][:, np.ptp(differences[unit], axis=0).argmax()]
        assert 10 < np.ptp(best) < 10_000
        loud = np.flatnonzero(np.abs(best) > 0.05 * np.abs(best).max())
        assert 5 < (loud[-1] - loud[0]) / RATE < 40
        power = np.abs(np.fft.rfft(best)) ** 2
        hz = np.fft.rfftfreq(len(best), 1e-3 / RATE)
        assert 40 < (hz * power).sum() / power.sum() < 200
        assert power[hz > 1024].sum() < 1e-3 * power.sum()  # fit for 2048 Hz


def test_every_potential_starts_and_ends_inside_its_window(muscle) -> None:
    _, shapes = muscle
    peak = np.abs(shapes).max(axis=(1, 2, 3))
    assert (np.abs(shapes[:, 0]).max(axis=(1, 2)) < 1e-6 * peak).all()
    assert (np.abs(shapes[:, -1]).max(axis=(1, 2)) < 1e-3 * peak).all()


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Anatomy]:
    """`compute` replaced by random numbers; the list of its calls."""
    calls: list[Anatomy] = []

    def fake(anatomy: Anatomy, progress: object = None) -> np.ndarray:
        calls.append(anatomy)
        rng = np.random.default_rng(anatomy.seed)
        return rng.standard_normal((anatomy.n_mu, 528, ROWS * COLUMNS)).astype(np.float32)

    monkeypatch.setattr(muap, "compute", fake)
    return calls


def test_a_second_call_reads_what_the_first_one_wrote(tmp_path: Path, monkeypatch) -> None:
    """With the real computation, to the bit."""
    monkeypatch.setattr(muap, "RADIUS_STEP_MM", 0.5)
    monkeypatch.setattr(muap, "HIGHEST_K", 0.5)
    anatomy = Anatomy(n_mu=6)
    first = muap.cached(anatomy, tmp_path / "new" / "folder")
    (path,) = (tmp_path / "new" / "folder").iterdir()
    stamp = path.stat().st_mtime_ns
    second = muap.cached(anatomy, tmp_path / "new" / "folder")
    assert second.dtype == np.float32
    assert second.tobytes() == first.tobytes() == muap.compute(anatomy).tobytes()
    assert path.stat().st_mtime_ns == stamp


def test_without_a_folder_nothing_is_kept(tmp_path: Path, counted, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        muap.cached(Anatomy(n_mu=6), None)
    assert len(counted) == 2
    assert list(tmp_path.iterdir()) == []


def written(save: object, *arrays: object, **named: object) -> bytes:
    """The bytes that numpy would write."""
    file = BytesIO()
    save(file, *arrays, **named)
    return file.getvalue()


GOOD = np.zeros((6, 528, 65), np.float32)


@pytest.mark.parametrize("damage", [
    b"", b"no numpy file at all", written(np.save, GOOD)[:5000], written(np.save, GOOD[:5]),
    written(np.save, GOOD.astype(float)), written(np.save, np.full_like(GOOD, np.nan)),
], ids=["empty", "text", "cut off", "shape", "type", "nan"])
def test_a_damaged_cache_is_computed_again(tmp_path: Path, counted, damage: bytes) -> None:
    anatomy = Anatomy(n_mu=6)
    first = muap.cached(anatomy, tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage)
    again = muap.cached(anatomy, tmp_path)
    assert len(counted) == 2
    assert again.tobytes() == first.tobytes()
    assert muap.cached(anatomy, tmp_path).tobytes() == first.tobytes()
    assert len(counted) == 2  # the file is good again
    assert list(tmp_path.iterdir()) == [path]


def test_every_detail_of_the_anatomy_has_its_own_file(tmp_path: Path, counted) -> None:
    plain = Anatomy(n_mu=6)
    others = [
        replace(plain, seed=1), replace(plain, n_mu=7), replace(plain, fs_hz=2000.0),
        replace(plain, velocity_scale=0.9), replace(plain, limb=Limb(fat=0.04)),
        replace(plain, limb=Limb(fat_mm=13.0)), replace(plain, grid=Grid(along_mm=1.0)),
        replace(plain, grid=Grid(rotation_deg=1.0)), replace(plain, grid=Grid(radius_mm=0.5)),
    ]
    for anatomy in [plain, *others]:
        muap.cached(anatomy, tmp_path)
    assert len(list(tmp_path.iterdir())) == len(counted) == 1 + len(others)


def test_another_version_of_the_physics_is_another_file(
    tmp_path: Path, counted, monkeypatch
) -> None:
    muap.cached(Anatomy(n_mu=6), tmp_path)
    monkeypatch.setattr(muap, "VERSION", muap.VERSION + 1)
    muap.cached(Anatomy(n_mu=6), tmp_path)
    assert len(list(tmp_path.iterdir())) == len(counted) == 2
