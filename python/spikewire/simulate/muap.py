"""Motor-unit action potentials at every electrode, from the currents of their fibres.

The current of a fibre in which an action potential runs both ways from its end-plate has a closed
form in (k, t), with generation at the end-plate and extinction at the tendons in it (Rosenfalck's
intracellular potential; Farina & Merletti 2001). No grid in space is needed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import special

from spikewire.durable import write_durably
from spikewire.simulate.anatomy import GROUPS, SAMPLED_FIBRES, Pool, make_pool
from spikewire.simulate.volume import Limb, electrode, surface

Doubles = NDArray[np.float64]
Complexes = NDArray[np.complex128]
Floats = NDArray[np.float32]

OVERSAMPLING = 4  # action potentials are kept at 4 x the EMG's rate and placed between samples
LENGTH = 132  # EMG samples of one action potential, 64 ms at 2048 Hz: 200 mm at 2.2 m/s and a tail
PERIOD_MM = 512.0  # of the Fourier series along the limb
HIGHEST_K = 2.2  # rad/mm; beyond it the 1 mm electrode and the fat leave nothing
ORDERS = 23
RADIUS_STEP_MM = 0.05  # fibres lie on this grid of radii: Bessel functions come from a table
INSIDE_CONDUCTIVITY = 1.01  # S/m, intracellular
FIBRE_DIAMETER_MM = 0.055
AMPLITUDE_MV = 96.0
VERSION = 2  # part of the cache's key: raise it when the physics changes


@dataclass(frozen=True)
class Grid:
    """Electrodes on the skin, rows along the fibres.

    Attributes
    ----------
    along_mm, around_mm : shift of the grid from its place over the muscle's middle
    rotation_deg : turn against the fibres
    """

    rows: int = 13
    columns: int = 5
    ied_mm: float = 8.0
    radius_mm: float = 1.0
    along_mm: float = 0.0
    around_mm: float = 0.0
    rotation_deg: float = 0.0

    def places(self) -> tuple[Doubles, Doubles]:
        """Position of every electrode, mm along and around, column by column: (rows * columns,)."""
        row, column = np.meshgrid(np.arange(self.rows), np.arange(self.columns), indexing="xy")
        z = self.ied_mm * (row.ravel() - (self.rows - 1) / 2)
        s = self.ied_mm * (column.ravel() - (self.columns - 1) / 2)
        turn = np.radians(self.rotation_deg)
        return (z * np.cos(turn) - s * np.sin(turn) + self.along_mm,
                z * np.sin(turn) + s * np.cos(turn) + self.around_mm)


@dataclass(frozen=True)
class Anatomy:
    """Everything that a set of action potentials depends on."""

    seed: int = 0
    n_mu: int = 150
    fs_hz: float = 2048.0
    velocity_scale: float = 1.0  # below 1: fatigued fibres
    limb: Limb = field(default_factory=Limb)
    grid: Grid = field(default_factory=Grid)

    def pool(self) -> Pool:
        """The motor units."""
        return make_pool(self.seed, self.n_mu, self.limb.muscle_mm)


def potential_integral(k: Doubles, x: Doubles) -> Complexes:
    """Integral of psi(s) exp(i k s) from 0 to x, psi = d/ds (s^3 exp(-s)): (k, x); 0 for x < 0."""
    a = (1j * k - 1)[:, None]
    x = x.clip(0, 60)[None]  # exp(-60) is nothing: beyond it the integral is complete
    powers = -(x**3) / a + x**2 * (3 / a + 3 / a**2) - x * (6 / a**2 + 6 / a**3)
    rest = 6 / a**3 + 6 / a**4
    return np.asarray(np.exp(a * x) * (powers + rest) - rest)


def fibre_current(k: Doubles, t_ms: Doubles, velocity: float, half_mm: Doubles) -> Complexes:
    """Current per length of one end-plate's fibres, Fourier transformed along z: (k, t).

    Parameters
    ----------
    half_mm : (2,), from the end-plate to the tendons at larger and smaller z
    """
    way = velocity * t_ms
    turn = np.exp(-1j * k[:, None] * way)
    begun = potential_integral(k, way)
    runs = []
    for half in half_mm:
        run, late = turn * begun, way > half
        run[:, late] -= turn[:, late] * potential_integral(k, way[late] - half)
        runs.append(run)
    return np.asarray(-1j * k[:, None] * (runs[0] - runs[1].conj()))


def compute(anatomy: Anatomy, progress: Callable[[float], None] = lambda share: None) -> Floats:
    """Action potentials at 4 x the EMG's rate, from the discharge on.

    Returns
    -------
    float32 (n_mu, 4 * 132, electrodes), microvolt
    """
    pool, limb, grid = anatomy.pool(), anatomy.limb, anatomy.grid
    step = 2 * np.pi / PERIOD_MM
    # Half steps: k = 0 is singular, and leaving it out would tie potentials to the period.
    k: Doubles = step * (np.arange(int(HIGHEST_K / step), dtype=np.float64) + 0.5)
    n = np.arange(ORDERS, dtype=np.float64)
    t_ms = np.arange(OVERSAMPLING * LENGTH, dtype=np.float64)
    t_ms *= 1e3 / (OVERSAMPLING * anatomy.fs_hz)
    skin = surface(limb, k, n) * electrode(limb, k, n, grid.radius_mm)
    skin[:, 1:] *= 2  # orders n and -n
    radii = np.arange(0, limb.muscle_mm + RADIUS_STEP_MM, RADIUS_STEP_MM)
    table = special.iv(n[None, :, None], (k * limb.stretch)[:, None, None] * radii)
    seen = skin[:, :, None] * table  # (k, n, radius)
    along, around = grid.places()
    wave = np.exp(1j * np.outer(along, k))
    section = np.pi / 4 * FIBRE_DIAMETER_MM**2
    # mV of the fibre, since conductivities cancel; then both halves of the k axis, in uV.
    scale = 1e3 * INSIDE_CONDUCTIVITY * section * AMPLITUDE_MV / (4 * np.pi**2) * 2 * step
    out = np.empty((len(pool), len(t_ms), len(along)), np.float32)
    for unit in range(len(pool)):
        progress(unit / len(pool))
        index = np.rint(pool.radius_mm[unit] / RADIUS_STEP_MM).astype(int)
        angles = around[:, None] / limb.skin_mm - pool.angle[unit]
        weights, currents = [], []
        for g in range(GROUPS):
            mine = pool.group == g
            turned = np.cos(n[:, None, None] * angles[:, mine].T)  # (n, fibre, electrode)
            strength = np.tensordot(seen[:, :, index[mine]], turned, 2).T  # (electrode, k)
            weights.append(strength * wave * np.exp(-1j * k * pool.end_plate_mm[unit, g]))
            currents.append(fibre_current(k, t_ms, pool.velocity[unit] * anatomy.velocity_scale,
                                          pool.half_mm[unit, :, g]))
        left = np.concatenate(weights, 1).astype(np.complex64)
        right = np.concatenate(currents, 0).astype(np.complex64)
        out[unit] = (left @ right).real.T * (scale * pool.fibres[unit] / SAMPLED_FIBRES)
    return out


def cached(
    anatomy: Anatomy, folder: Path | None, progress: Callable[[float], None] = lambda share: None
) -> Floats:
    """`compute`, or what an earlier call left in `folder`."""
    if folder is None:
        return compute(anatomy, progress)
    key = json.dumps(asdict(anatomy) | {"version": VERSION}, sort_keys=True)
    path = folder / f"muap-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npy"
    samples = OVERSAMPLING * LENGTH
    shape = (anatomy.n_mu, samples, anatomy.grid.rows * anatomy.grid.columns)
    try:
        found: Floats = np.load(path, allow_pickle=False)
        if found.shape == shape and found.dtype == np.float32 and np.isfinite(found).all():
            return found
    except (OSError, ValueError, EOFError, AttributeError):
        pass  # none, or a damaged one
    made = compute(anatomy, progress)
    folder.mkdir(parents=True, exist_ok=True)
    write_durably(path, lambda file: np.save(file, made))
    return made
