"""What a shift of the grid makes of a record: taps and mixes of its channels.

Along the fibres the signal is a travelling wave, so it is interpolated along the wave's path: four
rows, each delayed by the wave's travel to the wanted place. Between columns it is interpolated by
the correlation that the columns have. Both assume fibres parallel to the columns and tissue that is
alike everywhere: pennate muscle, a tilted grid or monopolar end-of-fibre potentials break them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from spikewire.moments import MARGIN, Moments, Places, between_samples

Doubles = NDArray[np.float64]

REACH = MARGIN // 2  # samples of travel that an interpolated row may need
MIN_CORRELATION = 0.5  # of two rows with a common wave
NUGGET = 1e-3  # of the columns' correlation, so that near columns do not cancel
# Variance missed at a distance of `gap` rows, as a share of what a left-out row's neighbours miss.
GAP_ERROR = 3.0


def sub_sample_peak(values: Doubles) -> tuple[float, float]:
    """Position and height of the largest value, by a parabola through it and its neighbours."""
    k = int(np.argmax(values))
    if not 0 < k < len(values) - 1:
        return float(k), float(values[k])
    a, b, c = values[k - 1 : k + 2]
    shift = 0.5 * (a - c) / (a - 2 * b + c) if a - 2 * b + c < 0 else 0.0
    return k + shift, float(b - 0.25 * (a - c) * shift)


def travel(moments: Moments, places: Places) -> tuple[Doubles, NDArray[np.bool_]]:
    """Samples that the wave takes from each row to the next, and whether there is one wave.

    Returns
    -------
    lag : float64 (rows - 1,), positive towards higher rows
    clear : bool (rows - 1,)
    """
    rows = int(places.row.max()) + 1
    lags, clear = np.zeros(rows - 1), np.zeros(rows - 1, bool)
    noise = moments.noise()
    power = np.einsum("cc->c", moments.lagged[0]) - noise
    for row in range(rows - 1):
        total, weight = np.zeros(2 * MARGIN + 1), 0.0
        for a in np.flatnonzero(places.row == row):
            for b in np.flatnonzero((places.row == row + 1) & (places.column == places.column[a])):
                later = moments.lagged[: MARGIN + 1, b, a]  # E[b(t) a(t - lag)]: b comes later
                earlier = moments.lagged[1 : MARGIN + 1, a, b]
                total += np.concatenate([earlier[::-1], later])
                weight += float(np.sqrt(max(power[a] * power[b], 0)))
        if weight:
            at, height = sub_sample_peak(total / weight)
            lags[row], clear[row] = at - MARGIN, height > MIN_CORRELATION
    return lags, clear


def lagrange(at: float, nodes: Doubles) -> Doubles:
    """Weights of values at `nodes` for the value at `at`."""
    out = np.ones(len(nodes))
    for k, node in enumerate(nodes):
        others = np.delete(nodes, k)
        out[k] = np.prod((at - others) / (node - others))
    return out


def support(at: float, rows: int, sides: Doubles, without: float = -1) -> list[int]:
    """Up to four rows around a place, all on its side of the end-plates; beyond the grid, the last.

    The row `without` is not used: what the others say in its place tells how far to trust them.
    """
    if not 0 <= at <= rows - 1:
        return [0 if at < 0 else rows - 1]
    low = int(np.clip(np.floor(at), 0, rows - 2))
    below, above = low, low + 1
    if without >= 0:
        below, above = int(without) - 1, int(without) + 1
    chosen = [r for r in (below, above) if 0 <= r < rows]
    for wanted, pair in ((below - 1, below - 1), (above + 1, above)):
        if 0 <= wanted < rows and sides[pair] == sides[low] and sides[low] != 0:
            chosen.append(wanted)
    return sorted(chosen)


def row_taps(at: float, use: Sequence[int], arrival: Doubles, slope: Doubles) -> Doubles:
    """Taps on rows `use` for the signal at a fractional row: (2 REACH + 1, rows)."""
    rows = len(arrival)
    time = float(np.interp(at, np.arange(rows), arrival))
    time += min(at, 0) * slope[0] + max(at - (rows - 1), 0) * slope[-1]
    weights = lagrange(at, np.array(use, float))
    out = np.zeros((2 * REACH + 1, rows))
    for row, weight in zip(use, weights, strict=True):
        delay = np.clip(time - arrival[row], -REACH, REACH)
        out[:, row] = weight * between_samples(np.array([delay + REACH]), 2 * REACH + 1)[0]
    return out


def along_taps(moments: Moments, places: Places, shift_mm: float) -> tuple[Doubles, Doubles]:
    """Taps that turn the record into one of a grid moved along the fibres, and their trust.

    Returns
    -------
    taps : float64 (13, channels, channels), for Moments.filtered
    error : float64 (channels,), expected variance of what they miss
    """
    rows = int(places.row.max()) + 1
    lags, clear = travel(moments, places)
    sides, slope = np.sign(lags) * clear, lags * clear
    arrival = np.concatenate([[0.0], np.cumsum(slope)])
    taps = np.zeros((2 * REACH + 1, moments.channels, moments.channels))
    alone = taps.copy()
    gap = np.zeros(moments.channels)
    for c in range(moments.channels):
        here = {int(places.row[k]): k for k in np.flatnonzero(places.column == places.column[c])}
        at = places.row[c] + shift_mm / places.ied_mm
        cells = np.array([here.get(r, -1) for r in range(rows)])
        for out, place, skip in ((taps, at, -1), (alone, places.row[c], places.row[c])):
            use = [r for r in support(place, rows, sides, skip) if r in here]
            out[:, c, cells[use]] = row_taps(place, use, arrival, slope)[:, use]
        gap[c] = min(abs(at - r) for r in here)
    return taps, GAP_ERROR * gap**2 * missed(moments, alone)


def missed(moments: Moments, taps: Doubles) -> Doubles:
    """Variance of each channel that taps on the others do not explain, without the noise."""
    made = moments.filtered(taps)
    reach = len(taps) // 2
    both = np.concatenate([moments.lagged[reach:0:-1].transpose(0, 2, 1),
                           moments.lagged[: reach + 1]])
    # E[x(t) y(t)] with y = sum over a of A x(t - a).
    cross = np.einsum("kcd,kcd->c", both, taps)
    power = np.diag(moments.lagged[0])
    noise = moments.noise()
    left = np.einsum("kab,b,kab->a", taps, noise, taps)
    explained = np.diag(made.lagged[0]) - np.maximum(noise - left, 0) - left
    return np.asarray(np.maximum(power - noise - 2 * cross + explained, 0))


def around_mix(moments: Moments, places: Places, shift_mm: float) -> Doubles:
    """Mix of channels (channels, channels) for a grid moved around the limb; see Moments.mixed."""
    columns = int(places.column.max()) + 1
    power = np.diag(moments.lagged[0]) - moments.noise()
    found: list[list[float]] = [[] for _ in range(columns)]
    for a in range(moments.channels):
        for b in np.flatnonzero(places.row == places.row[a]):
            apart = abs(int(places.column[b] - places.column[a]))
            size = float(np.sqrt(max(power[a] * power[b], 1e-30)))
            found[apart].append(float(moments.lagged[0, a, b]) / size if apart else 1.0)
    known = np.array([np.mean(f) if f else 0.0 for f in found]).clip(1e-3, 1)
    # One Gaussian: its width from the nearest columns, whose correlation is the surest.
    width = places.ied_mm / np.sqrt(-2 * np.log(min(known[1], 0.999)))
    mix = np.zeros((moments.channels, moments.channels))
    for c in range(moments.channels):
        here = np.flatnonzero(places.row == places.row[c])
        at = places.column[here] * places.ied_mm
        gram = np.exp(-0.5 * (np.subtract.outer(at, at) / width) ** 2) + NUGGET * np.eye(len(at))
        goal = np.exp(-0.5 * ((places.column[c] * places.ied_mm + shift_mm - at) / width) ** 2)
        mix[c, here] = np.linalg.solve(gram, goal)
    return mix
