"""The limb against a second solution of its equation, and against what is known in closed form.

Truth: finite volumes over log(radius) with a ring source in the muscle (no Bessel function in
them), the closed form of one insulated cylinder, and a plain average over a disc.
"""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy")

from scipy import special
from scipy.linalg import solveh_banded

from spikewire.simulate.muap import HIGHEST_K, ORDERS, PERIOD_MM, Grid
from spikewire.simulate.volume import Limb, electrode, surface

EQUAL = Limb(muscle_radial=0.3, muscle_axial=0.3, fat=0.3, skin=0.3)
OTHER = Limb(12.0, 13.0, 16.0, 0.2, 0.5, 0.03, 0.4)
STEP = 2 * np.pi / PERIOD_MM
ALL_K = STEP * np.arange(1, int(HIGHEST_K / STEP) + 1)
ALL_N = np.arange(ORDERS, dtype=float)


def ring(limb: Limb, k: float, n: int, r0: float, cells: int = 6000) -> float:
    """Skin potential of a unit ring source at r0, order n, by finite volumes.

    With u = log r, d/du (radial dV/du) - (radial n^2 + axial k^2 r^2) V = -delta(u - u0): the
    radial current is continuous across cells, nothing leaves the skin or the innermost cell.
    Nodes lie on the source and on both borders, so every cell between nodes is of one material.
    """
    borders = np.log([r0 * 1e-3, r0, limb.muscle_mm, limb.fat_mm, limb.skin_mm])
    parts = (np.diff(borders) / (borders[-1] - borders[0]) * cells).astype(int) + 200
    u = np.concatenate([np.linspace(a, b, m, endpoint=False)
                        for a, b, m in zip(borders[:-1], borders[1:], parts, strict=True)]
                       + [borders[-1:]])
    width, middle = np.diff(u), np.exp((u[:-1] + u[1:]) / 2)
    layer = np.searchsorted([limb.muscle_mm, limb.fat_mm], middle)
    radial = np.array([limb.muscle_radial, limb.fat, limb.skin])[layer]
    axial = np.array([limb.muscle_axial, limb.fat, limb.skin])[layer]
    link = radial / width
    lost = (radial * n**2 + axial * (k * middle) ** 2) * width / 2  # half to each node
    diagonal = np.zeros(len(u))
    diagonal[:-1] += link + lost
    diagonal[1:] += link + lost
    source = np.zeros(len(u))
    source[parts[0]] = 1.0
    banded = np.stack([np.concatenate([[0.0], -link]), diagonal])
    return float(solveh_banded(banded, source)[-1])


@pytest.mark.parametrize("limb", [EQUAL, Limb(), OTHER], ids=["equal", "default", "other"])
@pytest.mark.parametrize("r0", [1.3, 6.0, 9.8])
def test_the_skin_potential_equals_a_finite_volume_solution(limb: Limb, r0: float) -> None:
    k, n = np.array([STEP, 0.1, 0.7, 2.2]), np.array([0, 1, 2, 7, 22])
    got = surface(limb, k, n.astype(float)) * special.iv(n, (k * limb.stretch * r0)[:, None])
    true = np.array([[ring(limb, kk, nn, r0) for nn in n] for kk in k])
    np.testing.assert_allclose(got, true, rtol=0.01)


def test_equal_conductivities_are_one_insulated_cylinder() -> None:
    """The closed form: I_n(k r0) / (sigma k c I_n'(k c)) for a unit ring source at r0."""
    x = (ALL_K * EQUAL.skin_mm)[:, None]
    true = 1 / (EQUAL.skin * x * special.ivp(ALL_N, x))
    np.testing.assert_allclose(surface(EQUAL, ALL_K, ALL_N), true, rtol=1e-9)


def test_conductivities_scale_the_potential_down() -> None:
    twice = Limb(muscle_radial=0.18, muscle_axial=0.8, fat=0.1, skin=2.0)
    np.testing.assert_allclose(
        2 * surface(twice, ALL_K, ALL_N), surface(Limb(), ALL_K, ALL_N), rtol=1e-9)


def test_a_stretched_axis_stands_for_anisotropy() -> None:
    """With z scaled by the root of the ratio an all-anisotropic limb would be isotropic.

    Order by order, a muscle that fills the limb almost completely follows the closed form at k'.
    """
    limb = Limb(muscle_mm=14.9998, fat_mm=14.9999, fat=0.09, skin=0.09)
    x = (ALL_K * limb.stretch * limb.skin_mm)[:, None]
    true = 1 / (limb.muscle_radial * x * special.ivp(ALL_N, x))
    np.testing.assert_allclose(surface(limb, ALL_K, ALL_N), true, rtol=2e-3)


def test_a_slow_wave_leaves_its_current_nowhere_to_go() -> None:
    """For k -> 0, order 0: all current of a unit length flows along: V = 1 / (k^2 * sum of s A).

    The series' factor 1 / 2 pi is left out, so areas count without pi: integral of s r dr.
    """
    limb, k = Limb(), np.array([1e-5])
    edges = np.array([0, limb.muscle_mm, limb.fat_mm, limb.skin_mm])
    along = np.diff(edges**2 / 2) @ [limb.muscle_axial, limb.fat, limb.skin]
    got = surface(limb, k, np.array([0.0]))[0, 0]
    assert got * k[0] ** 2 * along == pytest.approx(1, rel=1e-4)


def test_everything_used_is_positive_and_finite() -> None:
    limb = Limb()
    skin = surface(limb, ALL_K, ALL_N)
    seen = skin * special.iv(ALL_N, (ALL_K * limb.stretch * limb.muscle_mm)[:, None])
    assert ALL_K[-1] == pytest.approx(2.2, abs=0.02)
    for values in (skin, seen, electrode(limb, ALL_K, ALL_N, Grid().radius_mm)):
        assert values.shape == (len(ALL_K), ORDERS)
        assert np.isfinite(values).all()
        assert (values > 0).all()
    assert (np.diff(seen, axis=0) < 0).all()  # faster waves reach the skin less
    assert (np.diff(seen, axis=1) < 0).all()


def test_what_is_cut_off_reaches_no_electrode() -> None:
    """The last k and the last order of the outermost fibre; its current grows at most with k^2."""
    limb = Limb()
    outermost = special.iv(ALL_N, (ALL_K * limb.stretch * (limb.muscle_mm - 0.1))[:, None])
    seen = surface(limb, ALL_K, ALL_N) * electrode(limb, ALL_K, ALL_N, 1.0) * outermost
    seen *= ALL_K[:, None] ** 2
    assert seen[-1].sum() < 1e-3 * seen.sum(axis=1).max()
    assert seen[:, -1].sum() < 1e-3 * seen.sum()


def test_a_small_electrode_is_a_point() -> None:
    np.testing.assert_allclose(electrode(Limb(), ALL_K, ALL_N, 1e-4), 1, atol=1e-7)


@pytest.mark.parametrize(("k", "n", "radius_mm"), [
    (0.02, 0, 1.0), (0.7, 3, 1.0), (2.2, 22, 1.0), (0.3, 10, 2.5), (2.2, 0, 3.0),
])
def test_an_electrode_averages_over_its_disc(k: float, n: int, radius_mm: float) -> None:
    """Plain mean of exp(i (k z + n s / R)) over the points of a fine grid inside the disc."""
    limb, edge = Limb(), np.linspace(-radius_mm, radius_mm, 1001)
    z, s = np.meshgrid(edge, edge)
    inside = np.hypot(z, s) <= radius_mm
    true = np.exp(1j * (k * z + n * s / limb.skin_mm))[inside].mean()
    assert abs(true.imag) < 1e-5
    got = electrode(limb, np.array([k]), np.array([float(n)]), radius_mm)[0, 0]
    assert got == pytest.approx(true.real, abs=1e-3)
