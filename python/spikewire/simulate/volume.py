"""The limb as three concentric cylinders: potential on the skin of currents inside the muscle.

Muscle (anisotropic), fat and skin, insulated outside (Farina et al. 2004, IEEE Trans Biomed
Eng 51). Fourier series around the limb (order n), Fourier transform along it (k, rad/mm). Lengths
are mm, conductivities S/m.

On the skin, a unit current at radius r in the muscle leaves `surface(k, n) * I_n(k' r)` with
k' = k sqrt(axial / radial): layers and source separate, so a fibre costs one Bessel function.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Limb:
    """Outer radii of the layers (Wen et al. 2021, section 3.1) and conductivities (Farina 2004)."""

    muscle_mm: float = 10.0
    fat_mm: float = 14.0
    skin_mm: float = 15.0
    muscle_radial: float = 0.09
    muscle_axial: float = 0.4
    fat: float = 0.05
    skin: float = 1.0

    @property
    def stretch(self) -> float:
        """Ratio k' / k: the anisotropic muscle is an isotropic one whose axis is scaled."""
        return float(np.sqrt(self.muscle_axial / self.muscle_radial))


def surface(limb: Limb, k: Doubles, n: Doubles) -> Doubles:
    """Skin potential of a unit line source, without its factor I_n(k' r): (k, n), per S/m.

    The field is built from the outside in. On the insulated skin it is 1 with slope 0; potential
    and radial current go on continuously through each layer; at the muscle's border the solution
    must be the source's plus one that is regular on the axis, which fixes its scale.

    Parameters
    ----------
    k : float64 (n_k,), rad/mm, positive
    n : float64 (n_orders,), 0, 1, 2, ...
    """
    k, n = k[:, None], n[None, :]
    value, slope = np.ones((k.size, n.size)), np.zeros((k.size, n.size))
    outside = [(limb.skin_mm, limb.fat_mm, limb.skin), (limb.fat_mm, limb.muscle_mm, limb.fat)]
    conductivity = limb.skin
    for outer, inner, here in outside:
        # Radial current is conductivity * slope; slopes are per unit of k * radius.
        slope = slope * (conductivity / here)
        x, y = k * outer, k * inner
        growing = x * (slope * special.kv(n, x) - value * special.kvp(n, x))
        falling = x * (value * special.ivp(n, x) - slope * special.iv(n, x))
        value = growing * special.iv(n, y) + falling * special.kv(n, y)
        slope = growing * special.ivp(n, y) + falling * special.kvp(n, y)
        conductivity = here
    z = k * limb.stretch * limb.muscle_mm
    current = slope * limb.fat / (limb.muscle_radial * limb.stretch)
    return np.asarray(1 / (limb.muscle_radial * z * (
        value * special.ivp(n, z) - current * special.iv(n, z))))


def electrode(limb: Limb, k: Doubles, n: Doubles, radius_mm: float) -> Doubles:
    """Average over a round electrode on the skin: (k, n)."""
    x = radius_mm * np.sqrt(k[:, None] ** 2 + (n[None, :] / limb.skin_mm) ** 2)
    return np.asarray(2 * special.j1(x) / x)
