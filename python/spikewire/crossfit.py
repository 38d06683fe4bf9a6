"""The linear MU filters of a recording, and their outputs as a new recording would give them.

A filter of 24 x 64 weights fits the discharges it was solved from better than any others. Whatever
is chosen or trained on filter outputs (ridge, thresholds, network) therefore uses outputs of
filters that were solved without the part they are applied to (cross-fitting).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import maximum_filter1d

from spikewire import filters
from spikewire.moments import Doubles, Moments, measure, pooled
from spikewire.peaks import judge, maxima
from spikewire.recipe import Recipe
from spikewire.score import TOLERANCE_SAMPLES, nearest
from spikewire.signals import Floats, InputError, Span, SpikeTrains

FOLDS, PARTS = 5, 10
SCALE_PERCENTILE = 99.7  # about the height of a discharge in a filter's output
THRESHOLDS = np.arange(0.2, 0.9, 0.02)
EQUAL_F1 = 0.001
PEAK_REACH = 10  # samples on each side that a local maximum must exceed


@dataclass(frozen=True)
class Front:
    """Filters of all units.

    Attributes
    ----------
    kernels : float32 (delays * channels, n_mu), answering 1 at the mean discharge
    scale : float32 (n_mu,), height of a discharge; the network's input is output / scale
    thresholds : float32 (n_mu,), in units of the scaled output
    height : float64 (n_mu,), median peak of the scaled output at a discharge
    loading : float, the ridge
    f1 : float64 (n_mu,), sample-level F1 of the cross-fitted outputs at the thresholds
    moments : Moments that the kernels were solved from
    """

    kernels: Floats
    scale: Floats
    thresholds: Floats
    height: Doubles
    loading: float
    f1: Doubles
    moments: Moments

    def outputs(self, emg: Floats) -> Floats:
        """Scaled outputs: float32 (samples, n_mu)."""
        return filters.apply(emg, self.kernels) / self.scale


class CrossFit:
    """Second-order statistics of the training spans, kept per part so that any can be left out.

    Filters are solved for channel gains that err by `gain_sd`.
    """

    def __init__(
        self, emg: Floats, trains: SpikeTrains, spans: Sequence[Span], delays: int,
        gain_sd: float = 0.0,
    ) -> None:
        self.emg, self.trains, self.spans, self.delays = emg, trains, spans, delays
        whole = sum(b - a for a, b in spans)
        self.parts: list[Span] = []
        for start, stop in spans:
            edges = np.linspace(start, stop, max(1, round((stop - start) * PARTS / whole)) + 1)
            cuts = edges.astype(int).tolist()
            self.parts += list(itertools.pairwise(cuts))
        self._moments = [
            measure([emg[a:b]], [[t - a for t in trains.between(a, b).times]], delays)
            .varied(gain_sd)
            for a, b in self.parts
        ]

    def moments(self, fold: int | None = None) -> Moments:
        """Moments of all parts, or of those outside a fold."""
        use = [m for k, m in enumerate(self._moments) if fold is None or k % FOLDS != fold]
        made = pooled(use)
        if not made.counts.all():
            silent = np.flatnonzero(made.counts == 0).tolist()
            raise InputError(
                f"motor units {silent} have no discharge in a part of the training data; drop "
                "them or train on a longer recording"
            )
        return made

    def cross_outputs(self, loading: float) -> list[Floats]:
        """Outputs over each span, every sample from filters solved without its own part."""
        out = np.zeros((len(self.emg), len(self.trains)), np.float32)
        for fold in range(min(FOLDS, len(self.parts))):
            bank = self.moments(fold).solve(loading)
            for start, stop in self.parts[fold::FOLDS]:
                before = max(0, start - self.delays + 1)
                out[start:stop] = filters.apply(self.emg[before:stop], bank)[start - before :]
        return [out[a:b] for a, b in self.spans]

    def front(self, loadings: Sequence[float]) -> tuple[Front, list[Floats]]:
        """Choose the ridge by cross-fitted F1; return the filters and the scaled outputs."""
        tried = []
        for loading in sorted(loadings):
            outputs = self.cross_outputs(loading)
            chosen = [self._threshold(outputs, unit) for unit in range(len(self.trains))]
            tried.append((np.array([f for f, _ in chosen]), loading,
                          np.array([t for _, t in chosen], np.float32), outputs))
        # Of ridges that do equally well the largest: it answers least to noise yet unheard.
        most = max(f.mean() for f, *_ in tried)
        f1, loading, thresholds, outputs = [t for t in tried if t[0].mean() >= most - EQUAL_F1][-1]
        together = np.concatenate(outputs)
        scale = np.percentile(together, SCALE_PERCENTILE, axis=0).astype(np.float32)
        moments, height = self.moments(), judge(maxima(together / scale)).height
        front = Front(moments.solve(loading), scale, thresholds / scale,
                      np.where(np.isnan(height), 1.0, height), loading, f1, moments)
        return front, [o / scale for o in outputs]

    def _threshold(self, outputs: Sequence[Floats], unit: int) -> tuple[float, float]:
        """Best F1 of one unit over the thresholds, and the middle of the thresholds reaching it."""
        heights, hits = [], []
        labels = 0
        for x, (start, stop) in zip(outputs, self.spans, strict=True):
            source = x[:, unit]
            peak = source >= maximum_filter1d(source, 2 * PEAK_REACH + 1)
            at = np.flatnonzero(peak & (source > THRESHOLDS[0] / 2))
            times = self.trains.between(start, stop).times[unit] - start
            near = np.abs(nearest(times, at)) <= TOLERANCE_SAMPLES if len(times) else at < 0
            heights.append(source[at])
            hits.append(near)
            labels += len(times)
        height, hit = np.concatenate(heights), np.concatenate(hits)
        above = height[:, None] >= THRESHOLDS
        f1 = 2 * (above & hit[:, None]).sum(0) / (above.sum(0) + labels)
        return float(f1.max()), float(np.mean(THRESHOLDS[f1 >= f1.max() - 1e-9]))


def followed(
    emg: Floats, trains: SpikeTrains, spans: Sequence[Span], recipe: Recipe
) -> tuple[list[int], Doubles]:
    """Units worth decoding: those that filters follow where they have not been solved.

    Returns
    -------
    units : list of int
    f1 : float64 (n_units,), cross-fitted, of all units

    Raises
    ------
    InputError
        None is left.
    """
    front, _ = CrossFit(emg, trains, spans, recipe.delays, recipe.gain_sd).front(recipe.loadings)
    units = np.flatnonzero(front.f1 >= recipe.min_f1).tolist()
    if not units:
        raise InputError(f"no filter follows its motor unit to F1 {recipe.min_f1:g} on training "
                         f"data that it was not solved from, the best reaches "
                         f"{front.f1.max():.3f}; record longer, or set min_f1 in a --recipe")
    return units, front.f1
