"""Run an exported graph on the workstation: its outputs, the F1 of its decisions, its time."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikewire import filters
from spikewire.decide import Decide, decide_all
from spikewire.golden import open_session
from spikewire.manifest import Manifest
from spikewire.score import score, table
from spikewire.signals import STEP, WINDOW, Floats, InputError, Labels, Recording, SpikeTrains

TIMED, WARM_UP = 300, 30  # windows


def inputs_of(recording: Recording, manifest: Manifest, bank: Floats | None) -> Floats:
    """Network inputs of a record: float32 (samples, inputs).

    Raises
    ------
    InputError
        A record of another rate or number of channels, or shorter than a window.
    """
    samples, channels = recording.emg.shape
    for what, came, allowed in (("rate", recording.fs_hz, manifest.fs_hz),
                                ("number of channels", channels, manifest.channels)):
        if came != allowed:
            raise InputError(f"{recording.name}: {what} is {came:g}, the model was trained on "
                             f"{allowed:g}; give a recording of the same electrodes")
    if samples < WINDOW:
        raise InputError(f"{recording.name}: {samples} samples, a window has {WINDOW}")
    if bank is None:
        return recording.emg * np.float32(manifest.input_scale)
    return filters.apply(recording.emg, bank)


def windows_of(x: Floats) -> Floats:
    """All windows of network inputs (samples, inputs): a view, float32 (windows, 120, inputs)."""
    every = np.lib.stride_tricks.sliding_window_view(x, WINDOW, axis=0)
    return every[::STEP].transpose(0, 2, 1)


def evaluate(graph: bytes, windows: Floats, manifest: Manifest, trains: SpikeTrains
             ) -> dict[str, Any]:
    """Score the causal decisions over successive windows, the first of which starts at sample 0.

    Returns
    -------
    dict
        The table of `spikewire.score.table`: mean F1 and the rest.

    Raises
    ------
    InputError
        Labels of another rate or number of units.
    """
    for what, came, allowed in (("rate", trains.fs_hz, manifest.fs_hz),
                                ("number of motor units", len(trains), manifest.n_mu)):
        if came != allowed:
            raise InputError(f"the labels' {what} is {came:g}, the model's {allowed:g}; name the "
                             "labels of this recording, and its --units")
    session = open_session(graph)
    names = [o.name for o in session.get_outputs()]
    n_mu, labels = manifest.n_mu, Labels(manifest.look_ahead)
    presence = np.zeros((len(windows), n_mu), np.float32)
    position: NDArray[np.int64] = np.full((len(windows), n_mu), STEP // 2, np.int64)
    for k, window in enumerate(windows):
        out = dict(zip(names, session.run(names, {"x": np.ascontiguousarray(window)[None]}),
                       strict=True))
        presence[k] = out["presence"][0]
        if "position" in out:
            position[k] = out["position"][0].argmax(axis=-1)
    decide = Decide(np.array(manifest.thresholds, np.float32), np.array(manifest.label_lag),
                    labels, manifest.refractory)
    times = decide_all(decide, WINDOW, presence, position)
    first = labels.bin_start
    return table(score(SpikeTrains(times, trains.fs_hz), trains, first,
                       first + STEP * len(windows)))


def milliseconds(graph: bytes) -> float:
    """Median time of one window on one thread of this machine."""
    session = open_session(graph)
    (x,) = session.get_inputs()
    window = np.random.default_rng(0).normal(0, 0.3, x.shape).astype(np.float32)
    taken = []
    for _ in range(WARM_UP + TIMED):
        started = time.perf_counter()
        session.run(None, {"x": window})
        taken.append(time.perf_counter() - started)
    return 1e3 * float(np.median(taken[WARM_UP:]))
