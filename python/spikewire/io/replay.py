"""A recording, a run's log, or a bundle's golden excerpt, played as if an amplifier sent it.

Samples become available at the pace of the injected clock. What it does not imitate: jitter of the
network, lost packets, drift of an amplifier's clock. The log of a run is played with all of these,
read by read, so that the same steps are decoded and missed as then. Sample counters are the file's
own indices, so discharge times decoded from a replay count in the recording. In a loop they run on;
at the seam the signal jumps, and no gap says so.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikewire.io import read_recording
from spikewire.io.runlog import Played, read_log, read_played
from spikewire.io.source import Block, Clock, refuse_unknown
from spikewire.signals import InputError, Recording, parse_spans

BLOCK_SAMPLES = 10


class Replay:
    """A source over counts that lie in memory; see `spikewire.io.source.Source`.

    Parameters
    ----------
    counts : int16 (samples, channels)
    first : int
        Counter of the first sample.
    endless : bool
        Begin again after the last sample.
    """

    def __init__(
        self, uri: str, counts: NDArray[Any], lsb_uv: float, fs_hz: float, first: int,
        clock: Clock, block_samples: int = BLOCK_SAMPLES, endless: bool = False,
    ) -> None:
        self.uri, self.lsb_uv, self.fs_hz = uri, lsb_uv, fs_hz
        self.latency_s, self.note = 0.0, ""
        self.channels, self.block_samples = counts.shape[1], block_samples
        self._counts, self._first, self._clock = counts, first, clock
        self._endless = endless
        self._at = 0
        self._start: float | None = None  # the amplifier starts when somebody first reads

    @property
    def ended(self) -> bool:
        """Whether every sample has been handed over."""
        return not self._endless and self._at >= len(self._counts)

    def _stop(self) -> int:
        """Where the next block ends: none spans the seam, and steps keep ending with a block."""
        following, seam = (self._at - self._at % size + size
                           for size in (self.block_samples, len(self._counts)))
        return min(following, seam)

    def _due(self) -> float:
        """When the last sample of the next block has been acquired."""
        if self._start is None:
            self._start = self._clock.now()
        return self._start + self._stop() / self.fs_hz

    def read(self, timeout_s: float) -> list[Block]:
        """Blocks due by now; waits for the first one, at most `timeout_s`."""
        if self.ended:
            return []
        self._clock.sleep_until(min(self._due(), self._clock.now() + timeout_s))
        blocks = []
        while not self.ended and self._due() <= self._clock.now():
            stop, at = self._stop(), self._at % len(self._counts)
            # Stamped when due, as a network card would, so that a late reader does not hide its
            # own delay.
            counts = self._counts[at : at + stop - self._at]
            blocks.append(Block(self._first + self._at, counts, self._due()))
            self._at = stop
        return blocks

    def close(self) -> None:
        """Nothing to let go of."""


class PlayedAgain:
    """The log of a run, in the very portions that its loop read.

    A part of a log (`span=`) or its loop is played as a recording instead.
    """

    def __init__(self, uri: str, played: Played, clock: Clock) -> None:
        self.uri, self.lsb_uv, self.fs_hz = uri, played.lsb_uv, played.fs_hz
        self._reads, self._clock, self._at = played.reads, clock, 0
        self._began = played.reads[0][0].arrival_s
        self._start: float | None = None
        self.note = ""
        self.channels = played.reads[0][0].counts.shape[1]
        longest = max(len(b.counts) for blocks in played.reads for b in blocks)
        self.block_samples = int(self._fact(played, "block_samples", longest))
        self.latency_s = self._fact(played, "latency_s", 0.0)
        self.rail_uv = self._fact(played, "rail_uv", 32767 * played.lsb_uv)

    @staticmethod
    def _fact(played: Played, name: str, otherwise: float) -> float:
        """A number that the log may know of its source."""
        try:
            value = float(played.about.get(name, "nan"))
        except ValueError:
            value = math.nan
        return value if 0 <= value < math.inf else otherwise

    @property
    def ended(self) -> bool:
        """Whether every sample has been handed over."""
        return self._at >= len(self._reads)

    def _moment(self, block: Block) -> float:
        """When a block arrives this time."""
        assert self._start is not None
        return self._start + block.arrival_s - self._began

    def read(self, timeout_s: float) -> list[Block]:
        """The next portion once its last block is due; waits for it, at most `timeout_s`."""
        if self.ended:
            return []
        if self._start is None:
            self._start = self._clock.now()
        blocks = self._reads[self._at]
        due = max(self._moment(b) for b in blocks)
        self._clock.sleep_until(min(due, self._clock.now() + timeout_s))
        if self._clock.now() < due:
            return []
        self._at += 1
        return [Block(b.first, b.counts, self._moment(b)) for b in blocks]

    def close(self) -> None:
        """Nothing to let go of."""


def to_counts(recording: Recording) -> tuple[NDArray[np.int16], float]:
    """Quantise a recording as a 16-bit converter whose range is its largest value.

    Returns
    -------
    counts : int16 (samples, channels)
    lsb_uv : float
        Far below an amplifier's own step: 1.5 mV full scale gives 0.05 uV.
    """
    lsb_uv = float(np.abs(recording.emg).max()) / 32767 or 1.0
    return np.round(recording.emg / np.float32(lsb_uv)).astype(np.int16), lsb_uv


def _opened(where: str, any_rms: bool) -> tuple[NDArray[Any], float, float, int, str]:
    """Counts, microvolts per count, rate, counter of the first sample, and a note."""
    suffix = Path(where).suffix
    if suffix == ".mub":
        from spikewire.bundle import read_bundle

        bundle = read_bundle(where)
        m = bundle.manifest
        return bundle.array("golden/emg.npy"), m.golden_lsb_uv, m.fs_hz, 0, ""
    if suffix == ".mcap":
        log = read_log(where)
        with np.errstate(over="ignore"):  # the check names what overflows
            emg = log.counts.astype(np.float32) * np.float32(log.lsb_uv)
        Recording(emg, log.fs_hz, where).check(where, any_rms)
        note = "" if log.complete else (
            f"{where}: the log was cut off after {len(log.counts) / log.fs_hz:.2f} s")
        return log.counts, log.lsb_uv, log.fs_hz, log.first, note
    recording = read_recording(where, any_rms)
    return *to_counts(recording), recording.fs_hz, 0, ""


def open_log(uri: str, where: str, any_rms: bool, clock: Clock) -> PlayedAgain:
    """Open the log of a run; raises InputError if it cannot be played."""
    played = read_played(where)
    counts = np.concatenate([b.counts for blocks in played.reads for b in blocks])
    with np.errstate(over="ignore"):  # the check names what overflows
        emg = counts.astype(np.float32) * np.float32(played.lsb_uv)
    Recording(emg, played.fs_hz, where).check(where, any_rms)
    source = PlayedAgain(uri, played, clock)
    if not played.complete:
        source.note = f"{where}: the log was cut off after {len(counts) / played.fs_hz:.2f} s"
    return source


def open_uri(
    uri: str, where: str, options: dict[str, str], clock: Clock
) -> Replay | PlayedAgain:
    """Open `replay:FILE?span=18:24&loop=1&any_rms=1`.

    FILE is a recording, the log of a run, or a bundle: then its golden excerpt is played.

    Raises
    ------
    InputError
        Unreadable file, unknown option, or a span outside the file.
    """
    refuse_unknown(uri, options, {"span", "loop", "any_rms"})
    endless = options.get("loop", "0")
    if endless not in ("0", "1"):
        raise InputError(f"source {uri!r}: loop={endless} came, allowed are 0 and 1")
    any_rms = options.get("any_rms") == "1"
    if Path(where).suffix == ".mcap" and endless == "0" and "span" not in options:
        return open_log(uri, where, any_rms, clock)
    counts, lsb_uv, fs_hz, first, note = _opened(where, any_rms)
    if "span" in options:
        spans = parse_spans(options["span"], fs_hz)
        if len(spans) != 1 or not first <= spans[0][0] < spans[0][1] <= first + len(counts):
            raise InputError(
                f"source {uri!r}: span {options['span']} s is not one span inside "
                f"{first / fs_hz:g}:{(first + len(counts)) / fs_hz:g} s"
            )
        start, stop = spans[0][0] - first, spans[0][1] - first
        counts, first = counts[start:stop], first + start
    if endless == "1":
        note += "; " * bool(note) + (
            f"played again and again: the signal jumps every {len(counts) / fs_hz:.2f} s")
    source = Replay(uri, counts, lsb_uv, fs_hz, first, clock, endless=endless == "1")
    source.note = note
    return source
