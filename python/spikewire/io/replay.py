"""A recording, or the log of an earlier run, played as if an amplifier sent it.

Samples become available at the pace of the injected clock. What it does not imitate: jitter of the
network, lost packets, drift of an amplifier's clock. Sample counters are the file's own indices, so
discharge times decoded from a replay count in the recording.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikewire.io import read_recording
from spikewire.io.source import Block, Clock, refuse_unknown
from spikewire.signals import InputError, Recording, parse_spans

BLOCK_SAMPLES = 10


class Replay:
    """A finite source over counts that lie in memory; see `spikewire.io.source.Source`.

    Parameters
    ----------
    counts : int16 (samples, channels)
    first : int
        Counter of the first sample.
    """

    def __init__(
        self, uri: str, counts: NDArray[Any], lsb_uv: float, fs_hz: float, first: int,
        clock: Clock, block_samples: int = BLOCK_SAMPLES,
    ) -> None:
        self.uri, self.lsb_uv, self.fs_hz = uri, lsb_uv, fs_hz
        self.latency_s, self.note = 0.0, ""
        self.channels, self.block_samples = counts.shape[1], block_samples
        self._counts, self._first, self._clock = counts, first, clock
        self._at = 0
        self._start: float | None = None  # the amplifier starts when somebody first reads

    @property
    def ended(self) -> bool:
        """Whether every sample has been handed over."""
        return self._at >= len(self._counts)

    def _due(self) -> float:
        """When the last sample of the next block has been acquired."""
        if self._start is None:
            self._start = self._clock.now()
        stop = min(self._at + self.block_samples, len(self._counts))
        return self._start + stop / self.fs_hz

    def read(self, timeout_s: float) -> list[Block]:
        """Blocks due by now; waits for the first one, at most `timeout_s`."""
        if self.ended:
            return []
        self._clock.sleep_until(min(self._due(), self._clock.now() + timeout_s))
        blocks = []
        while not self.ended and self._due() <= self._clock.now():
            stop = self._at + self.block_samples
            # Stamped when due, as a network card would, so that a late reader does not hide its
            # own delay.
            blocks.append(
                Block(self._first + self._at, self._counts[self._at : stop], self._due())
            )
            self._at = min(stop, len(self._counts))
        return blocks

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


def open_uri(uri: str, where: str, options: dict[str, str], clock: Clock) -> Replay:
    """Open `replay:FILE?span=18:24&any_rms=1`; FILE is a recording or the log of a run.

    Raises
    ------
    InputError
        Unreadable file, unknown option, or a span outside the file.
    """
    refuse_unknown(uri, options, {"span", "any_rms"})
    any_rms = options.get("any_rms") == "1"
    if Path(where).suffix == ".mcap":
        from spikewire.io.runlog import read_log

        log = read_log(where)
        counts, lsb_uv, fs_hz, first = log.counts, log.lsb_uv, log.fs_hz, log.first
        with np.errstate(over="ignore"):  # the check names what overflows
            emg = log.counts.astype(np.float32) * np.float32(lsb_uv)
        Recording(emg, fs_hz, where).check(where, any_rms)
        note = "" if log.complete else (
            f"{where}: the log was cut off after {len(counts) / fs_hz:.2f} s")
    else:
        recording = read_recording(where, any_rms)
        counts, lsb_uv = to_counts(recording)
        fs_hz, first, note = recording.fs_hz, 0, ""
    if "span" in options:
        spans = parse_spans(options["span"], fs_hz)
        if len(spans) != 1 or not first <= spans[0][0] < spans[0][1] <= first + len(counts):
            raise InputError(
                f"source {uri!r}: span {options['span']} s is not one span inside "
                f"{first / fs_hz:g}:{(first + len(counts)) / fs_hz:g} s"
            )
        start, stop = spans[0][0] - first, spans[0][1] - first
        counts, first = counts[start:stop], first + start
    source = Replay(uri, counts, lsb_uv, fs_hz, first, clock)
    source.note = note
    return source
