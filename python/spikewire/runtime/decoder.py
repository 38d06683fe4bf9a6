"""One bundle in motion, on some channels of the source: engine, upkeep, decision and drive."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikewire.bundle import Bundle
from spikewire.decide import Decide
from spikewire.runtime.drive import Drive
from spikewire.runtime.engine import Engine
from spikewire.runtime.quality import Firing, Samples
from spikewire.runtime.upkeep import Upkeep
from spikewire.signals import STEP, Floats, InputError, Span, Times

Counts = NDArray[np.uint8]
NONE_MUTED = np.zeros(0, np.int64)


class Decoder:
    """What one bundle says of every step.

    Parameters
    ----------
    bundle : Bundle
    engine : Engine, opened on it
    fs_hz : float, of the source
    channels : Span or None
        Channels of the source [first, stop) that the bundle decodes; None is all.
    upkeep : Upkeep or None
    lsb_uv, rail_uv : float, of the source: a count, and the converter's end

    Attributes
    ----------
    counts : uint8 (n_mu,) or None
        Spikes of the newest step; None if it was not decoded.
    times : int64 (n_mu,), of those that count
    finite : bool, whether the engine's answer was made of numbers
    samples : Samples, what the channels say about themselves
    firing : Firing
    read_channels : int64 (channels,), of the source, in the bundle's order
    """

    def __init__(
        self, bundle: Bundle, engine: Engine, fs_hz: float, channels: Span | None = None,
        upkeep: Upkeep | None = None, lsb_uv: float = 0.0, rail_uv: float = float("inf"),
    ) -> None:
        m = bundle.manifest
        self.bundle, self.manifest, self.engine, self.upkeep = bundle, m, engine, upkeep
        self.channels = channels
        self.drive = Drive(fs_hz)
        self._decide = Decide(np.array(m.thresholds, np.float32), np.array(m.label_lag, np.int64),
                              bundle.labels, m.refractory)
        self._channels = slice(*channels) if channels else slice(None)
        self.read_channels = np.array(m.channel_map) + (channels[0] if channels else 0)
        self.counts: Counts | None = None
        self.times: Times = np.zeros(m.n_mu, np.int64)
        self.finite = True
        self._map = np.array(m.channel_map)
        self.samples = Samples(len(self._map), fs_hz, lsb_uv, rail_uv)
        self.firing = Firing(m.n_mu, STEP / fs_hz)
        self._whole = m.channel_map == list(range(m.channels))
        self._bad = self._masked = self.samples.bad

    def consume(self, emg: Floats) -> None:
        """Take 20 samples of all channels of the source."""
        mine = emg[:, self._channels]
        self.engine.advance(mine)
        looked = self.samples.step(mine if self._whole else mine[:, self._map])
        if looked:
            self._bad = self.samples.bad
        if self.upkeep:
            self.upkeep.step(mine, self._bad)
        elif looked and (self._bad != self._masked).any():
            self._masked = self._bad
            self.engine.mask(~self._bad)
        self.counts = None

    def decode(self, end: int) -> None:
        """Decode and decide the newest window, which ends before sample `end`; move the drive."""
        self.finite = True
        if self.engine.ready:
            presence, position = self.engine.decode()
            self.finite = bool(np.isfinite(presence).all())
            if self.upkeep:  # a source that has lost its unit says nothing
                presence[self.upkeep.muted] = 0
            self.counts, self.times = self._decide.step(end, presence, position)
        self.firing.step(self.counts)
        if not self.samples.artefact:  # else the drive stays as it was
            self.drive.step(None if self.counts is None else int(self.counts.sum()))

    def interrupted(self) -> None:
        """Forget what lies before a hole in the stream."""
        self.engine.reset()
        self.samples.reset()
        if self.upkeep:
            self.upkeep.reset()
        self._decide.reset()
        self.drive.reset()

    @property
    def good_channels(self) -> int:
        """Channels in use."""
        return self.upkeep.good_channels if self.upkeep else int((~self._masked).sum())

    @property
    def bad_channels(self) -> NDArray[np.int64]:
        """Channels of the source that are not used at present."""
        bad = ~self.upkeep.electrodes.good if self.upkeep else self._masked
        return self.read_channels[np.flatnonzero(bad)]

    @property
    def muted(self) -> NDArray[np.int64]:
        """Units that are not decoded at present."""
        return np.flatnonzero(self.upkeep.muted) if self.upkeep else NONE_MUTED

    def summary(self) -> dict[str, Any]:
        """What ran, ready for JSON."""
        m = self.manifest
        return {"bundle": self.bundle.path, "engine": self.engine.name, "decoder": m.decoder,
                "n_mu": m.n_mu, "upkeep": self.upkeep.summary() if self.upkeep else None}


def check_channels(bundle: Bundle, channels: Span | None, source: str, available: int) -> None:
    """Refuse channels that the source has not, or more or fewer than the bundle was trained on.

    Raises
    ------
    InputError
    """
    m = bundle.manifest
    first, stop = channels or (0, available)
    if stop > available:
        raise InputError(f"{bundle.path}@{first}-{stop - 1}: source {source} has channels 0-"
                         f"{available - 1}; name some of these")
    if stop - first != m.channels:
        part = f", or name its part of the channels: {bundle.path}@0-{m.channels - 1}" \
            if m.channels < available else ""
        raise InputError(f"source {source}: channels {stop - first:g}, the bundle was trained on "
                         f"{m.channels:g}; use a bundle made for this source{part}")
