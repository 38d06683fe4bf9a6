"""Linear motor-unit filters: lagged covariances, their closed-form solution, their application.

A filter bank is float32 (delays * channels, n_filters); row d * channels + c weighs the sample of
channel c that is d samples old. The same rows are used by decomposition, training and the board.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from spikewire.signals import Floats, Times

Doubles = NDArray[np.float64]
CHUNK = 4096  # samples extended at a time: bounds memory to CHUNK x delays x channels floats


def extended_covariance(pieces: Sequence[Floats], delays: int) -> Doubles:
    """Uncentred covariance of the delayed copies of several pieces of one recording.

    Block Toeplitz, so only `delays` channel covariances are computed.

    Parameters
    ----------
    pieces : list of float32 (samples, channels)
    delays : int

    Returns
    -------
    float64 (delays * channels, delays * channels)
    """
    channels = pieces[0].shape[1]
    total = sum(len(x) for x in pieces)
    lagged = np.zeros((delays, channels, channels))
    for x in pieces:
        for d in range(delays):
            lagged[d] += x[d:].T @ x[: max(len(x) - d, 0)] / total
    out = np.empty((delays, channels, delays, channels))
    for i in range(delays):
        for j in range(delays):
            out[i, :, j] = lagged[j - i] if j >= i else lagged[i - j].T
    return out.reshape(delays * channels, delays * channels)


def triggered_mean(x: Floats, times: Times, delays: int) -> tuple[Doubles, int]:
    """Sum of the extended vectors at `times`, and how many of them fitted into `x`.

    Returns
    -------
    sum : float64 (delays * channels,)
    count : int
    """
    times = times[(times >= delays - 1) & (times < len(x))]
    newest_first = times[:, None] - np.arange(delays)
    return x[newest_first].sum(axis=0, dtype=np.float64).ravel(), len(times)


def apply(x: Floats, bank: Floats) -> Floats:
    """Filter outputs of a whole stretch: float32 (samples, n_filters), zeros before its start.

    Parameters
    ----------
    x : float32 (samples, channels)
    bank : float32 (delays * channels, n_filters)
    """
    channels = x.shape[1]
    delays = len(bank) // channels
    padded = np.zeros((len(x) + delays - 1, channels), np.float32)
    padded[delays - 1 :] = x
    # Oldest sample first, so that one row of the extended matrix is one contiguous run.
    kernel = bank.reshape(delays, channels, -1)[::-1].reshape(delays * channels, -1)
    kernel = np.ascontiguousarray(kernel, np.float32)
    out = np.empty((len(x), bank.shape[1]), np.float32)
    for start in range(0, len(x), CHUNK):
        stop = min(start + CHUNK, len(x))
        view = np.lib.stride_tricks.sliding_window_view(
            padded[start : stop + delays - 1].reshape(-1), delays * channels
        )[::channels]
        out[start:stop] = view @ kernel
    return out


def solve(covariance: Doubles, means: Doubles, loading: float) -> Doubles:
    """Minimum-mean-square filters that answer 1 at the mean extended vectors.

    Parameters
    ----------
    covariance : float64 (n, n), from `extended_covariance`
    means : float64 (n, n_units), mean extended vector of each unit at its discharges
    loading : float
        Ridge, as a share of the mean eigenvalue.

    Returns
    -------
    float64 (n, n_units)
    """
    loaded = covariance.copy()
    loaded[np.diag_indices(len(loaded))] += loading * np.trace(loaded) / len(loaded)
    bank = np.linalg.solve(loaded, means)
    return bank / np.einsum("nk,nk->k", bank, means)
