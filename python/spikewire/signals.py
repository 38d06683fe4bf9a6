"""Recordings, spike trains, windows and bins: the one definition that training and runtime share.

EMG arrays are (samples, channels), float32, microvolt. Discharge times are int64 sample indices.
The window of a step is samples [end - 120, end); step k of a stream ends at 120 + 20 k.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

WINDOW = 120  # samples of one window (Wen et al. 2021, section 2.2)
STEP = 20  # samples between two windows, and the width of a label's bin
POOLED = (WINDOW // 2 - 6) // 2  # columns of a window that the networks' F1 sees
UNITS_UV = {"uV": 1.0, "mV": 1e3, "V": 1e6}
PLAUSIBLE_FS_HZ = (1024.0, 20480.0)
FLAT_SHARE = 0.05  # of the median channel's amplitude
PLAUSIBLE_RMS_UV = (1.0, 2000.0)
LONGEST_SAMPLES = 1 << 31  # 12 days at 2048 Hz: indices beyond it are damage, not data

Floats = NDArray[np.float32]
Times = NDArray[np.int64]
Span = tuple[int, int]  # samples [start, stop)


class InputError(ValueError):
    """What came from outside cannot be used.

    The message says what came, what was allowed, and what to type next.

    Commands print it as one line and exit with code 2.
    """


@dataclass(frozen=True)
class Recording:
    """A stretch of multi-channel EMG.

    Attributes
    ----------
    emg : float32 (samples, channels), microvolt
    fs_hz : float
        Sampling rate.
    grid_row, grid_col : int (channels,) or None
        Place of each electrode in its grid.
    ied_mm : float or None
        Inter-electrode distance.
    force : float32 (samples,) or None
        Reference force in `force_unit`.
    segments : int64 (n, 2) or None
        Sample ranges of contractions.
    bad : tuple of int
        Channels marked as not to be used; `masked` silences them.
    stored, lsb_uv, ignored
        What a file says of itself: how its values were stored, microvolts per count (None if it
        does not say), and what in it was not read.
    """

    emg: Floats
    fs_hz: float
    name: str = ""
    grid_row: NDArray[np.int64] | None = None
    grid_col: NDArray[np.int64] | None = None
    ied_mm: float | None = None
    force: Floats | None = None
    force_unit: str = ""
    segments: Times | None = None
    bad: tuple[int, ...] = ()
    stored: str = ""
    lsb_uv: float | None = None
    ignored: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Length of the recording."""
        return len(self.emg) / self.fs_hz

    @property
    def rms_uv(self) -> float:
        """Root mean square over all samples and channels."""
        return float(np.sqrt(np.mean(np.square(self.emg, dtype=np.float64))))

    def masked(self) -> Recording:
        """The recording with its bad channels at zero, as the runtime masks them."""
        if not self.bad:
            return self
        emg = self.emg.copy()
        emg[:, list(self.bad)] = 0
        return replace(self, emg=emg)

    def summary(self) -> str:
        """Rate, shape, unit, RMS, and what was not read, in one line."""
        samples, channels = self.emg.shape
        rms = self.emg.std(axis=0)
        flat = np.flatnonzero(rms < FLAT_SHARE * np.median(rms)).tolist()
        flat = [k for k in flat if k not in self.bad]
        note = f"; channels {flat} are flat" if flat else ""
        note += f"; channels {list(self.bad)} are marked bad" if self.bad else ""
        note += f"; not read: {', '.join(self.ignored)[:80]}" if self.ignored else ""
        lsb = f", LSB {self.lsb_uv:.4g} uV" if self.lsb_uv else ""
        return (
            f"{self.name or 'recording'}: {self.seconds:.1f} s, {channels} channels, "
            f"{self.fs_hz:g} Hz, uV, RMS {self.rms_uv:.1f} uV{lsb} ({samples} samples){note}"
        )

    def check(self, where: str, any_rms: bool = False) -> Recording:
        """Refuse what cannot be EMG; return self.

        Parameters
        ----------
        where : str
            The file or source named in the message.
        any_rms : bool
            Accept an RMS outside 1..2000 uV.

        Raises
        ------
        InputError
            Wrong shape, NaN or infinity, implausible rate or RMS.
        """
        if self.emg.ndim != 2 or not 0 < self.emg.shape[1] < len(self.emg):
            raise InputError(
                f"{where}: emg has shape {self.emg.shape}, allowed is (samples, channels) with "
                "more samples than channels; transpose it?"
            )
        bad = np.count_nonzero(~np.isfinite(self.emg).all(axis=1))
        if bad:
            raise InputError(f"{where}: {bad} samples hold NaN or infinity; cut them out")
        low, high = PLAUSIBLE_FS_HZ
        if not low <= self.fs_hz <= high:
            raise InputError(
                f"{where}: fs_hz is {self.fs_hz:g}, allowed is {low:g} to {high:g}; "
                "spikewire needs surface EMG at 2000 or 2048 Hz"
            )
        low, high = PLAUSIBLE_RMS_UV
        if not any_rms and not low <= self.rms_uv <= high:
            raise InputError(
                f"{where}: RMS is {self.rms_uv:.3g} uV, plausible is {low:g} to {high:g} uV; "
                "is the unit right? (accepted with --any-rms, or ?any_rms=1 of a replay)"
            )
        return self


@dataclass(frozen=True)
class SpikeTrains:
    """Discharge times of several motor units, and how good their decomposition is.

    Attributes
    ----------
    times : list of int64 (discharges,)
        Sorted sample indices, one array per motor unit.
    fs_hz : float
        Rate the indices count in.
    sil, pnr_db, cov_isi : float (n_units,) or None
        Silhouette, pulse-to-noise ratio, coefficient of variation of the inter-spike interval.
    method : str
        What made them.
    """

    times: list[Times]
    fs_hz: float
    sil: NDArray[np.float64] | None = None
    pnr_db: NDArray[np.float64] | None = None
    cov_isi: NDArray[np.float64] | None = None
    method: str = ""

    def __len__(self) -> int:
        return len(self.times)

    def only(self, units: Sequence[int]) -> SpikeTrains:
        """Some of the motor units, in the order given."""
        chosen = list(units)
        sil, pnr_db, cov_isi = (None if q is None else q[chosen]
                                for q in (self.sil, self.pnr_db, self.cov_isi))
        return SpikeTrains([self.times[k] for k in chosen], self.fs_hz, sil, pnr_db, cov_isi,
                           self.method)

    def between(self, start: int, stop: int) -> SpikeTrains:
        """Only the discharges in [start, stop), still counted from the recording's start."""
        return SpikeTrains([t[(t >= start) & (t < stop)] for t in self.times], self.fs_hz,
                           self.sil, self.pnr_db, self.cov_isi, self.method)


@dataclass(frozen=True)
class Labels:
    """Where the label's bin lies in a window of 120 samples.

    The bin of the window that ends at `end` (exclusive) is
    [end - look_ahead - 10, end - look_ahead + 10); the paper's look-ahead is 60, ours 20.
    """

    look_ahead: int = 20
    bin_start: int = field(init=False)

    def __post_init__(self) -> None:
        """Derive the first sample of the bin, counted from the window's start."""
        if not STEP // 2 <= self.look_ahead <= WINDOW - STEP // 2:
            raise InputError(
                f"look-ahead is {self.look_ahead} samples, allowed is {STEP // 2} to "
                f"{WINDOW - STEP // 2}: the label's bin must lie inside the window"
            )
        object.__setattr__(self, "bin_start", WINDOW - self.look_ahead - STEP // 2)


def parse_spans(text: str, fs_hz: float, samples: int | None = None) -> list[Span]:
    """Read "18:24,30:32" (seconds) as sample spans; an empty text gives none.

    Raises
    ------
    InputError
        Not START:STOP, or outside a recording of `samples`.
    """
    spans = []
    samples = LONGEST_SAMPLES if samples is None else samples
    for part in filter(None, text.split(",")):
        try:
            start, stop = (round(float(s) * fs_hz) for s in part.split(":"))
        except (ValueError, OverflowError):
            raise InputError(f"span {part!r} is not START:STOP in seconds, e.g. 18:24") from None
        if not 0 <= start < stop <= samples:
            raise InputError(
                f"span {part} s: START must come before STOP inside 0:{samples / fs_hz:g} s"
            )
        spans.append((start, stop))
    return spans


def counts(trains: Sequence[Times], first: int, steps: int) -> NDArray[np.uint8]:
    """Spikes per bin: uint8 (steps, n_units), bin k being [first + 20 k, first + 20 (k + 1))."""
    out = np.zeros((steps, len(trains)), np.uint8)
    for unit, times in enumerate(trains):
        bins = (np.asarray(times, np.int64) - first) // STEP
        np.add.at(out[:, unit], bins[(bins >= 0) & (bins < steps)], 1)
    return out
