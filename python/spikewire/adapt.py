"""A bundle for electrodes that were placed again, from seconds of signal and no labels.

The network stays; only the front's filters are solved again from the bundle's moments, for the
shift and conduction velocity that make its units' sources most spike-like on the new recording.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from spikewire import filters
from spikewire.bundle import Bundle, front_files, save_array, write_bundle
from spikewire.golden import golden_counts, golden_windows, run_onnx
from spikewire.moments import Moments, Places, measure, places_of
from spikewire.peaks import judge, maxima
from spikewire.register import Found, search
from spikewire.signals import STEP, WINDOW, Floats, InputError, Recording, SpikeTrains

LISTEN_S = 10.0  # of signal that the search looks at
SHORTEST_S = 5.0
MIN_PEAKS = 10  # from which on a unit's height is believed


@dataclass(frozen=True)
class Adapted:
    """What was found, and the filters that come of it."""

    found: Found
    scale: Floats
    excerpt: Recording


def check_fit(bundle: Bundle, recording: Recording) -> None:
    """Refuse a recording that is not from this bundle's kind of electrodes.

    Raises
    ------
    InputError
        A bundle without a front, another rate or another number of channels, too little signal.
    """
    m = bundle.manifest
    if not m.history_samples:
        raise InputError(f"{bundle.path}: has no MU filters in front of its network, so nothing "
                         "can be solved again; train with the recommended recipe")
    for what, came, allowed in (("rate", recording.fs_hz, m.fs_hz),
                                ("channels", recording.emg.shape[1], m.channels)):
        if came != allowed:
            raise InputError(f"{recording.name}: {what} {came:g}, the bundle was trained on "
                             f"{allowed:g}; record with the same grid and rate")
    if recording.seconds < SHORTEST_S:
        raise InputError(f"{recording.name}: {recording.seconds:.1f} s are too short to register, "
                         f"allowed are {SHORTEST_S:g} s and more ({LISTEN_S:g} s are used)")


def most_active(recording: Recording, seconds: float) -> Recording:
    """The stretch of so many seconds that has the most power."""
    length = min(int(seconds * recording.fs_hz), len(recording.emg))
    power = np.square(recording.emg, dtype=np.float64).sum(axis=1).cumsum()
    start = int(np.argmax(power[length - 1 :] - np.r_[0, power[:-length]]))
    return replace(recording, emg=recording.emg[start : start + length], force=None, segments=None)


def training_moments(recording: Recording, trains: SpikeTrains, delays: int) -> Moments:
    """Moments of a training record, for a bundle that does not carry them."""
    return measure([recording.emg], [trains.times], delays)


def adapt(
    bundle: Bundle, recording: Recording, moments: Moments | None = None,
    places: Places | None = None,
    progress: Callable[[float, str], None] = lambda share, words: None,
) -> Adapted:
    """Search what has changed since training and solve the filters for it.

    Parameters
    ----------
    bundle : Bundle
    recording : Recording
        With the electrodes as they are now, any contraction.
    moments, places : optional
        Of the training record, if the bundle carries none.
    """
    check_fit(bundle, recording)
    m = bundle.manifest
    moments = moments or bundle.moments()
    if moments is None:
        raise InputError(f"{bundle.path}: carries no moments of its training record; add "
                         "--training REC0 --labels TRAINS")
    places = places or bundle.places() or places_of(recording)
    kernels, scale = bundle.array("front/kernels.npy"), bundle.array("front/scale.npy")
    emg = np.ascontiguousarray(most_active(recording, LISTEN_S).emg[:, m.channel_map])
    emg *= np.float32(m.input_scale)
    heard = measure([emg], [[]], moments.delays)
    found = search(emg, heard, moments, m.loading or 1e-3, places, kernels, progress)
    peaks = judge(maxima(filters.apply(emg, found.kernels / scale)))
    known = (peaks.count >= MIN_PEAKS) & (peaks.height > 0)
    factor = np.where(known, np.where(known, peaks.height, 1) / bundle.height(), 1)
    length = moments.delays - 1 + WINDOW + STEP * 199
    excerpt = most_active(recording, length / recording.fs_hz)
    return Adapted(found, (scale * factor).astype(np.float32), excerpt)


def write_adapted(bundle: Bundle, made: Adapted, path: Path) -> dict[str, Any]:
    """Write the new bundle; the old one stays. Return what was found, for people."""
    m, found = bundle.manifest, made.found
    excerpt = made.excerpt
    length = m.history_samples + WINDOW + STEP * 199
    if len(excerpt.emg) < length:
        raise InputError(f"{excerpt.name}: {length / excerpt.fs_hz:.1f} s are needed for the "
                         "golden windows")
    counts, lsb_uv = golden_counts(excerpt, m.history_samples)
    facts = {"adapted_from": bundle.sha256, "recording": excerpt.name,
             "setting": asdict(found.setting), "gains": found.gains,
             "bad_channels": np.flatnonzero(~found.good).tolist(),
             "quality": [round(found.before, 4), round(found.after, 4)]}
    manifest = replace(m, name=path.stem, golden_lsb_uv=lsb_uv,
                       training=m.training | {"adaptation": facts})
    mapped = counts[:, m.channel_map]
    windows = golden_windows(mapped, lsb_uv, manifest, found.kernels / made.scale)
    files = {name: data for name, data in bundle.files.items()
             if not name.startswith(("front/", "moments/", "golden/"))}
    files |= front_files(found.kernels, made.scale, bundle.height(), found.moments,
                         bundle.places())
    files["golden/emg.npy"] = save_array(counts)
    for precision, name in m.networks.items():
        presence = run_onnx(bundle.files[name], windows)
        files[f"golden/presence.{precision}.npy"] = save_array(presence)
    write_bundle(path, manifest, files)
    return facts
