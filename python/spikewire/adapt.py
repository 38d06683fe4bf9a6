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
from spikewire.bundle import KERNELS, SCALE, Bundle, front_files, save_array, write_bundle
from spikewire.golden import (
    golden_counts,
    golden_samples,
    golden_windows,
    most_active,
    run_onnx,
)
from spikewire.moments import Moments, Places, measure, places_of
from spikewire.peaks import judge, maxima
from spikewire.register import Found, gains, search
from spikewire.signals import Floats, InputError, Recording, SpikeTrains

LISTEN_S = 10.0  # of signal that the search looks at
SHORTEST_S = 5.0
FEWEST_GOOD = 0.5  # share of the channels


@dataclass(frozen=True)
class Adapted:
    """What was found, the front that comes of it, and what its bundle's golden windows show.

    Attributes
    ----------
    scale : float32 (n_mu,), height of a discharge in the new filters' output
    places : Places of the channels, if they are known
    excerpt : Recording, long enough for the golden windows
    """

    found: Found
    scale: Floats
    places: Places | None
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


def as_decoded(bundle: Bundle, recording: Recording) -> Floats:
    """EMG as the bundle's front sees it: its channels, in order and scaled."""
    m = bundle.manifest
    return np.ascontiguousarray(recording.emg[:, m.channel_map]) * np.float32(m.input_scale)


def training_moments(bundle: Bundle, recording: Recording, trains: SpikeTrains) -> Moments:
    """Moments of the training record, for a bundle that does not carry them.

    Raises
    ------
    InputError
        Another kind of recording, or labels of other units than the bundle decodes.
    """
    check_fit(bundle, recording)
    m = bundle.manifest
    if trains.fs_hz != m.fs_hz or len(trains) != m.n_mu:
        raise InputError(f"the labels hold {len(trains)} units at {trains.fs_hz:g} Hz, the bundle "
                         f"{m.n_mu} at {m.fs_hz:g} Hz; give those that it was trained on")
    made = measure([as_decoded(bundle, recording)], [trains.times], m.history_samples + 1)
    if not made.counts.all():
        raise InputError(f"units {np.flatnonzero(made.counts == 0).tolist()} have no discharge in "
                         f"{recording.name}; give the labels of this very recording")
    return made


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

    Raises
    ------
    InputError
        What does not fit the bundle, no moments, or too few living channels.
    """
    check_fit(bundle, recording)
    m = bundle.manifest
    moments = moments or bundle.moments()
    if moments is None:
        raise InputError(f"{bundle.path}: carries no moments of its training record; add "
                         "--training REC0 --labels TRAINS")
    places = places or bundle.places() or places_of(recording)
    listened = most_active(recording, round(LISTEN_S * recording.fs_hz))
    emg = as_decoded(bundle, listened)
    heard = measure([emg], [[]], moments.delays)
    _, good = gains(moments, heard)
    if good.mean() < FEWEST_GOOD:
        raise InputError(f"{recording.name}: {np.count_nonzero(~good)} of {len(good)} channels are "
                         "dead or only noise; check the electrodes and record again")
    kernels, scale = bundle.array(KERNELS), bundle.array(SCALE)
    found = search(emg, heard, moments, m.loading or 1e-3, places, kernels, progress)
    peaks = judge(maxima(filters.apply(emg, found.kernels / scale)))
    factor = peaks.height_ratio(bundle.height())
    return Adapted(found, (scale * factor).astype(np.float32), places,
                   most_active(recording, golden_samples(m.history_samples)))


def write_adapted(bundle: Bundle, made: Adapted, path: Path) -> dict[str, Any]:
    """Write the new bundle; the old one stays. Return what was found, for people."""
    m, found = bundle.manifest, made.found
    counts, lsb_uv = golden_counts(made.excerpt, m.history_samples)
    facts = {"adapted_from": bundle.sha256, "recording": made.excerpt.name,
             "setting": asdict(found.setting), "gains": found.trust.gains,
             "bad_channels": np.flatnonzero(~found.good).tolist(),
             "quality": [round(found.before, 4), round(found.after, 4)]}
    manifest = replace(m, name=path.stem, golden_lsb_uv=lsb_uv,
                       training=m.training | {"adaptation": facts})
    windows = golden_windows(counts[:, m.channel_map], lsb_uv, manifest,
                             found.kernels / made.scale)
    files = {name: data for name, data in bundle.files.items()
             if not name.startswith(("front/", "moments/", "golden/"))}
    files |= front_files(found.kernels, made.scale, bundle.height(), found.moments,
                         made.places)
    files["golden/emg.npy"] = save_array(counts)
    for precision, name in m.networks.items():
        presence = run_onnx(bundle.files[name], windows)
        files[f"golden/presence.{precision}.npy"] = save_array(presence)
    write_bundle(path, manifest, files)
    return facts
