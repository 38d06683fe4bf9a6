"""A simulated muscle that contracts for as long as it is asked to, as a live source.

The muscle of a seed is that of `mu-simulate --seed`, so a decoder trained on its recordings decodes
it here. Every sample is made when it is due: nothing repeats, and nothing is kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikewire.io.source import Block, Clock, refuse_unknown
from spikewire.signals import InputError
from spikewire.simulate.discharge import COV_ISI, SHORTEST_ISI_S
from spikewire.simulate.emg import MONTAGES, montage_of, place
from spikewire.simulate.muap import LENGTH, Anatomy, cached

BLOCK_SAMPLES = 10
LSB_UV = 0.05
WARM_S = 2.0  # heard before the first sample, to know how loud the muscle is
CACHE = "~/.cache/spikewire"
# option -> default, allowed
OPTIONS = {"level": (25.0, 1.0, 100.0), "snr": (20.0, -10.0, 80.0), "seconds": (0.0, 0.0, 86400.0),
           "units": (150.0, 1.0, 150.0)}


class Muscle:
    """EMG at a constant excitation, block by block.

    Parameters
    ----------
    anatomy : Anatomy
    shapes : float32 (n_mu, 4 * 132, leads), microvolt
    level : float, % of maximal excitation
    snr_db : float
    montage : "sd" or "mono"

    Attributes
    ----------
    channels : int
    """

    def __init__(
        self, anatomy: Anatomy, shapes: NDArray[np.float32], level: float, snr_db: float,
        montage: str, contraction: int = 0,
    ) -> None:
        self._grid, self._shapes, self._montage = anatomy.grid, shapes, montage
        draw = [anatomy.seed, 5, contraction]
        pool, excitation = anatomy.pool(), np.array([level])
        rates = np.array([pool.rate_hz(excitation, unit)[0] for unit in range(len(pool))])
        self._units = np.flatnonzero(rates)
        self._interval = anatomy.fs_hz / rates[self._units]
        self._shortest = SHORTEST_ISI_S * anatomy.fs_hz
        # Each unit and the noise draw for themselves: blocks of any length make the same signal.
        self._draws = [np.random.default_rng([*draw, 1 + int(k)]) for k in self._units]
        self._due = self._interval * np.array([rng.random() for rng in self._draws])
        self._hiss = np.random.default_rng([*draw, 0])
        self._at = 0
        self._ahead = np.zeros((LENGTH, anatomy.grid.rows * anatomy.grid.columns), np.float32)
        self._noise = 0.0
        warm = self.next(round(WARM_S * anatomy.fs_hz))[LENGTH:]
        self.channels = warm.shape[1]
        power = float(np.mean(np.square(warm, dtype=np.float64)))
        self._noise = np.sqrt(power / 10 ** (snr_db / 10))

    def next(self, samples: int) -> NDArray[np.float32]:
        """Make the next samples: float32 (samples, channels), microvolt."""
        leads = np.concatenate([self._ahead, np.zeros((samples, self._ahead.shape[1]), np.float32)])
        for k in np.flatnonzero(self._due < self._at + samples):
            times = []
            while self._due[k] < self._at + samples:
                times.append(self._due[k] - self._at)
                interval = max(0.4, self._draws[k].normal(1, COV_ISI)) * self._interval[k]
                self._due[k] += max(interval, self._shortest)
            place(leads, np.array(times), self._shapes[self._units[k]])
        self._ahead = leads[samples:].copy()
        self._at += samples
        rows, columns = self._grid.rows, self._grid.columns
        emg, _ = montage_of(leads[:samples], rows, columns, self._montage)
        if self._noise:
            noise = self._hiss.standard_normal(emg.shape, np.float32)
            emg = emg + np.float32(self._noise) * noise
        return np.asarray(emg, np.float32)


class Simulated:
    """A muscle as a source; see `spikewire.io.source.Source`."""

    latency_s, lsb_uv, block_samples = 0.0, LSB_UV, BLOCK_SAMPLES

    def __init__(self, uri: str, muscle: Muscle, fs_hz: float, seconds: float, clock: Clock
                 ) -> None:
        self.uri, self.fs_hz, self.channels, self.note = uri, fs_hz, muscle.channels, ""
        self._muscle, self._clock, self._at = muscle, clock, 0
        self._samples = round(seconds * fs_hz) or None
        self._start: float | None = None  # as for a replay: nothing is due before the first reading

    @property
    def ended(self) -> bool:
        """Whether the contraction is over."""
        return self._samples is not None and self._at >= self._samples

    def _stop(self) -> int:
        """Where the next block ends."""
        stop = self._at + self.block_samples
        return stop if self._samples is None else min(stop, self._samples)

    def read(self, timeout_s: float) -> list[Block]:
        """Blocks due by now; waits for the first one, at most `timeout_s`."""
        if self.ended:
            return []
        if self._start is None:
            self._start = self._clock.now()
        due = self._start + self._stop() / self.fs_hz
        self._clock.sleep_until(min(due, self._clock.now() + max(timeout_s, 0.0)))
        blocks = []
        while not self.ended and due <= self._clock.now():
            counts = np.rint(self._muscle.next(self._stop() - self._at) / np.float32(LSB_UV))
            clipped: NDArray[Any] = counts.clip(-32768, 32767).astype(np.int16)
            blocks.append(Block(self._at, clipped, due))
            self._at = self._stop()
            due = self._start + self._stop() / self.fs_hz
        return blocks

    def close(self) -> None:
        """Nothing to let go of."""


def open_uri(uri: str, where: str, options: dict[str, str], clock: Clock) -> Simulated:
    """Open `simulate:SEED?level=25&snr=20&seconds=0&montage=sd|mono`; 0 seconds have no end.

    Raises
    ------
    InputError
        A seed that is none, or an option out of its range.
    """
    refuse_unknown(uri, options, {*OPTIONS, "montage", "cache", "contraction"})
    contraction = options.get("contraction", "0")
    for name, number in (("seed", where or "0"), ("contraction", contraction)):
        if not (number.isdecimal() and int(number) < 1 << 32):
            raise InputError(f"source {uri!r}: {name} {number!r} came, allowed is a whole number; "
                             "type simulate:4")
    value = {}
    for name, (default, low, high) in OPTIONS.items():
        try:
            value[name] = float(options.get(name, default))
        except ValueError:
            value[name] = float("nan")
        if not low <= value[name] <= high:
            raise InputError(f"source {uri!r}: {name}={options[name]} came, allowed is {low:g} to "
                             f"{high:g}")
    montage = options.get("montage", MONTAGES[0])
    if montage not in MONTAGES:
        raise InputError(f"source {uri!r}: montage={montage} came, allowed are "
                         f"{', '.join(MONTAGES)}")
    anatomy = Anatomy(int(where or "0"), n_mu=int(value["units"]))
    shapes = cached(anatomy, Path(options.get("cache", CACHE)).expanduser())
    muscle = Muscle(anatomy, shapes, value["level"], value["snr"], montage, int(contraction))
    return Simulated(uri, muscle, anatomy.fs_hz, value["seconds"], clock)
