"""Second-order moments of a training record, from which its MU filters follow in closed form.

Whatever changes at the electrodes changes these moments in a known way: a lost or a noisy channel,
a gain, slower conduction, a shifted grid. So the filters are solved again for the new situation,
on the board or off it, without the record and without training. Runs on numpy alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikewire.signals import Floats, Recording, Times

Doubles = NDArray[np.float64]

MARGIN = 12  # samples kept on both sides of what the filters need, for moves and stretches
HALF_WIDTH = 8  # of the windowed sinc that interpolates between samples
# Fourth difference: passes white noise, leaves 1e-3 of EMG (below 200 Hz at 2048 Hz).
HIGH_PASS = np.array([1.0, -4.0, 6.0, -4.0, 1.0])


@dataclass(frozen=True)
class Places:
    """Where the channels lie on the grid: row and column of each, and the distance between them."""

    row: NDArray[np.int64]
    column: NDArray[np.int64]
    ied_mm: float


def places_of(recording: Recording) -> Places | None:
    """Places of a recording's channels; None if it does not know them, or they are no grid."""
    row, column, ied = recording.grid_row, recording.grid_col, recording.ied_mm
    if row is None or column is None or not ied or min(row.min(), column.min()) < 0:
        return None
    if row.max() < 2 or column.max() < 1 or len(set(zip(row, column, strict=True))) != len(row):
        return None
    return Places(row, column, ied)


@dataclass(frozen=True)
class Moments:
    """Lagged covariances and discharge-triggered means of several channels.

    Attributes
    ----------
    lagged : float64 (delays + 2 MARGIN, channels, channels)
        E[x(t) x(t - lag)'], uncentred.
    means : float64 (n_mu, delays + 2 MARGIN, channels)
        Mean of x(t - d) at the labels t, d = -MARGIN ... delays + MARGIN - 1.
    samples, counts : how much went into them
    """

    lagged: Doubles
    means: Doubles
    samples: float
    counts: Doubles

    @property
    def delays(self) -> int:
        """Length of the filters."""
        return len(self.lagged) - 2 * MARGIN

    @property
    def channels(self) -> int:
        """Of the record."""
        return int(self.lagged.shape[1])

    def covariance(self) -> Doubles:
        """Block-Toeplitz covariance of the delayed channels: (delays * channels, same)."""
        d, c = self.delays, self.channels
        out = np.empty((d, c, d, c))
        for i in range(d):
            for j in range(d):
                out[i, :, j] = self.lagged[j - i] if j >= i else self.lagged[i - j].T
        return out.reshape(d * c, d * c)

    def noise(self) -> Doubles:
        """Variance of white noise per channel, from what lies above the EMG's band: (channels,)."""
        weights = np.correlate(HIGH_PASS, HIGH_PASS, "full")[len(HIGH_PASS) - 1 :]
        power = np.einsum("lcc->lc", self.lagged[: len(weights)])
        total = weights[0] * power[0] + 2 * weights[1:] @ power[1:]
        return np.asarray(np.maximum(total / weights[0], 0))

    def solve(self, loading: float, good: NDArray[np.bool_] | None = None) -> Floats:
        """Minimum-mean-square filters that answer 1 at the mean discharge.

        Parameters
        ----------
        loading : float
            Ridge, as a share of the mean eigenvalue.
        good : bool (channels,), optional
            Channels to use; the others' weights are zero.

        Returns
        -------
        float32 (delays * channels, n_mu)
        """
        d, c = self.delays, self.channels
        covariance = self.covariance()
        covariance[np.diag_indices(d * c)] += loading * np.trace(covariance) / (d * c)
        target = self.means[:, MARGIN : MARGIN + d].reshape(len(self.means), d * c).T
        use = np.tile(np.ones(c, bool) if good is None else good, d)
        bank = np.zeros_like(target)
        bank[use] = np.linalg.solve(covariance[np.ix_(use, use)], target[use])
        return (bank / np.einsum("nk,nk->k", bank, target)).astype(np.float32)

    def noisier(self, extra: Doubles) -> Moments:
        """For white noise of variance `extra` (channels,) that has come on top."""
        lagged = self.lagged.copy()
        lagged[0] += np.diag(extra)
        return replace(self, lagged=lagged)

    def varied(self, sd: float) -> Moments:
        """For channel gains that err independently: filters then lean on no few channels."""
        return replace(self, lagged=self.lagged * (1 + sd**2 * np.eye(self.channels)))

    def mixed(self, mix: Doubles) -> Moments:
        """For channels that became mix @ channels: a gain, or a shift around the limb."""
        return replace(self, lagged=mix @ self.lagged @ mix.T, means=self.means @ mix.T)

    def slowed(self, velocity: float) -> Moments:
        """For conduction velocities times `velocity`: potentials stretch, noise does not."""
        if velocity == 1:
            return self
        n = len(self.lagged)
        noise = np.diag(self.noise())
        signal = self.lagged.copy()
        signal[0] -= noise
        both = np.concatenate([signal[:0:-1].transpose(0, 2, 1), signal])
        weights = between_samples(velocity * np.arange(n) + n - 1, len(both))
        lagged = np.tensordot(weights, both, 1)
        lagged[0] += noise
        at = velocity * (np.arange(n) - MARGIN) + MARGIN
        means = np.tensordot(self.means, between_samples(at, n), (1, 1)).transpose(0, 2, 1)
        return replace(self, lagged=lagged, means=means)

    def filtered(self, taps: Doubles) -> Moments:
        """For a record that became sum over k of taps[k] @ x(t - (k - reach)).

        Parameters
        ----------
        taps : float64 (2 reach + 1, channels, channels), reach <= MARGIN / 2
            Fresh white noise replaces what the taps leave of the old.
        """
        n, reach = len(self.lagged), len(taps) // 2
        both = np.concatenate([self.lagged[:0:-1].transpose(0, 2, 1), self.lagged,
                               np.zeros((2 * reach, self.channels, self.channels))])
        # right(m) = sum over b of R(m + b) B', m = -reach ...; then sum over a of A right(lag - a).
        first = n - 1 - reach
        right = sum(both[first + b : first + b + n + 2 * reach] @ tap.T
                    for b, tap in enumerate(taps, -reach))
        lagged = sum(tap @ right[reach - a : reach - a + n] for a, tap in enumerate(taps, -reach))
        padded = np.pad(self.means, ((0, 0), (reach, reach), (0, 0)))
        means = sum(padded[:, reach + a : reach + a + n] @ tap.T
                    for a, tap in enumerate(taps, -reach))
        noise = self.noise()
        left = np.einsum("kab,b,kab->a", taps, noise, taps)
        lagged[0] += np.diag(np.maximum(noise - left, 0))
        return replace(self, lagged=np.asarray(lagged), means=np.asarray(means))


def between_samples(at: NDArray[np.floating[Any]], n: int) -> Doubles:
    """Weights of n samples for values at fractional positions: (len(at), n), a windowed sinc."""
    apart = np.asarray(at)[:, None] - np.arange(n)
    window = np.where(np.abs(apart) < HALF_WIDTH, np.cos(np.pi / 2 * apart / HALF_WIDTH) ** 2, 0)
    return np.asarray(np.sinc(apart) * window)


def measure(pieces: Sequence[Floats], trains: Sequence[Sequence[Times]], delays: int) -> Moments:
    """Moments of several stretches of one recording.

    Parameters
    ----------
    pieces : list of float32 (samples, channels)
    trains : for each piece the labels of every unit, counted from the piece's start
    """
    n, channels, units = delays + 2 * MARGIN, pieces[0].shape[1], len(trains[0])
    lagged, means = np.zeros((n, channels, channels)), np.zeros((units, n, channels))
    counts, samples = np.zeros(units), 0.0
    for x, labels in zip(pieces, trains, strict=True):
        for lag in range(n):
            lagged[lag] += x[lag:].T @ x[: max(len(x) - lag, 0)]
        samples += len(x)
        for unit, times in enumerate(labels):
            inside = times[(times >= delays + MARGIN - 1) & (times < len(x) - MARGIN)]
            window = inside[:, None] - np.arange(-MARGIN, delays + MARGIN)
            means[unit] += x[window].sum(axis=0, dtype=np.float64)
            counts[unit] += len(inside)
    return Moments(lagged / samples, means / np.maximum(counts, 1)[:, None, None], samples, counts)


def pooled(parts: Sequence[Moments]) -> Moments:
    """Moments of all parts together."""
    samples = sum(p.samples for p in parts)
    counts = np.sum([p.counts for p in parts], axis=0)
    lagged = np.sum([p.lagged * (p.samples / samples) for p in parts], axis=0)
    share = [p.counts / np.maximum(counts, 1) for p in parts]
    means = np.sum([p.means * s[:, None, None] for p, s in zip(parts, share, strict=True)], axis=0)
    return Moments(lagged, means, samples, counts)
