"""A Lab Streaming Layer stream as a source; liblsl is looked for when somebody asks for it.

Channels are chosen by their own type, not by the stream's, and their unit must be said. A channel
that counts samples tells losses; without one the source is not fit for control. liblsl would by
default wait for a lost stream of that name and go on with whatever comes: here it says that it was
lost, and the new one is checked like the first.
"""

from __future__ import annotations

from concurrent.futures import Future
from threading import Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikewire.io.source import Block, Clock, refuse_unknown
from spikewire.io.timeline import Timeline
from spikewire.io.words import Samples
from spikewire.signals import InputError

WAIT_S, TURN_S, OPEN_S = 10.0, 0.2, 0.5
LSB_UV = 0.01  # of the counts that values in floating point are made to
BLOCK_SAMPLES, UNFIT = 20, 4096  # samples of a block; what is told where losses cannot be seen
FORGET_S = 1.0  # after which a stream that is not announced any more is gone
KEEP_S = 2  # what liblsl holds for a reader that is late
EMG_TYPES = ("emg", "exg")
UNITS_UV = {
    "v": 1e6, "volt": 1e6, "volts": 1e6, "mv": 1e3, "millivolt": 1e3, "millivolts": 1e3,
    "uv": 1.0, "µv": 1.0, "μv": 1.0, "microvolt": 1.0, "microvolts": 1.0,
    "0": 1e6, "-3": 1e3, "-6": 1.0,
}  # fmt: skip
Facts = tuple[float, tuple[list[int], float, int]]  # rate, and what `choose` says


def library(uri: str) -> Any:
    """The module pylsl, and through it liblsl.

    Raises
    ------
    InputError
        It is not installed, or finds no library.
    """
    try:
        import pylsl
    except (ImportError, RuntimeError, OSError):
        raise InputError(
            f"source {uri!r}: liblsl is not there; type pip install 'spikewire[lsl]', and on "
            "aarch64 install liblsl's own package (github.com/sccn/liblsl/releases)") from None
    return pylsl


def channels_of(info: Any) -> list[dict[str, str]]:
    """Label, type and unit of every channel, in lower case."""
    found, channel = [], info.desc().child("channels").child("channel")
    for _ in range(info.channel_count()):
        found.append({k: str(channel.child_value(k)).strip().lower()
                      for k in ("label", "type", "unit")})
        channel = channel.next_sibling("channel")
    return found


def choose(uri: str, channels: list[dict[str, str]], counter: str) -> tuple[list[int], float, int]:
    """EMG channels, their microvolts per unit, and which channel counts (-1 for none).

    Raises
    ------
    InputError
        No EMG, several units or one that is not known, or no counter of that label.
    """
    labels = [c["label"] for c in channels]
    if counter and labels.count(counter.lower()) != 1:
        raise InputError(f"source {uri!r}: counter={counter} came, the stream has channels "
                         f"{', '.join(labels)[:200]}")
    count = labels.index(counter.lower()) if counter else -1
    emg = [k for k, c in enumerate(channels) if c["type"] in EMG_TYPES and k != count]
    units = {channels[k]["unit"] for k in emg}
    if not emg:
        types = ", ".join(sorted({c["type"] or "none" for c in channels}))
        raise InputError(f"source {uri!r}: channels of type {types} came, allowed is EMG; set the "
                         "type of each channel at the sender")
    if len(units) != 1 or not units <= UNITS_UV.keys():
        raise InputError(f"source {uri!r}: units {', '.join(sorted(u or 'none' for u in units))} "
                         f"came, allowed is one of {', '.join(UNITS_UV)}")
    return emg, UNITS_UV[units.pop()], count


class Lsl:
    """An inlet; see `spikewire.io.source.Source` and `spikewire.io.stream.Stream`."""

    latency_s, lsb_uv, montage, ended = 0.0, LSB_UV, "mono", False
    rail_uv = float("inf")  # a stream of floating-point numbers does not tell

    def __init__(self, uri: str, name: str, counter: str, clock: Clock) -> None:
        self._pylsl = library(uri)
        self.uri, self._counter, self._clock = uri, counter, clock
        self._resolver = self._pylsl.ContinuousResolver(
            prop="name", value=name, forget_after=FORGET_S)
        self._lost, self._next = 0, 0
        self._helper: Future[tuple[Any, Facts] | None] | None = None
        until, found = clock.now() + WAIT_S, None
        while found is None:
            if clock.now() >= until:
                raise InputError(f"source {uri!r}: no stream of that name for {WAIT_S:g} s; is the "
                                 "sender on, in this network, and its name spelt so?")
            found = self._reach()
            clock.sleep_until(clock.now() + TURN_S)
        self._inlet, self._facts = found
        self.fs_hz, (self._emg, self._unit_uv, self._count) = self._facts
        self.channels = len(self._emg)
        self._line = Timeline(self.fs_hz)
        self.block_samples = BLOCK_SAMPLES if counter else UNFIT
        self.note = "" if counter else (
            "no counter channel is named, so losses cannot be seen and nobody may arm; name it: "
            "?counter=LABEL")

    def _reach(self) -> tuple[Any, Facts] | None:
        """Open the stream and read what it says of itself, if it is there."""
        found = self._resolver.results()
        if not found:
            return None
        if len(found) > 1:
            raise InputError(f"source {self.uri!r}: {len(found)} streams of that name came, "
                             "allowed is one; rename the others")
        inlet = self._pylsl.StreamInlet(found[0], max_buflen=KEEP_S, recover=False)
        try:
            info = inlet.info(OPEN_S)
            inlet.open_stream(OPEN_S)
        except (self._pylsl.util.TimeoutError, self._pylsl.util.LostError):
            return None
        if not info.nominal_srate() > 0:
            raise InputError(f"source {self.uri!r}: no rate came, allowed is a regular one")
        chosen = choose(self.uri, channels_of(info), self._counter)
        return inlet, (float(info.nominal_srate()), chosen)

    def _reach_again(self) -> None:
        """Look for the lost stream beside the loop; one that is not as it was is not taken."""
        if self._helper is None:
            self._helper = Future()
            Thread(target=self._help, args=(self._helper,), daemon=True).start()
        elif self._helper.done():
            found, self._helper = self._helper.result(), None
            if found and found[1] == self._facts:
                self._inlet = found[0]
                self._line.lost_touch()

    def _help(self, answer: Future[tuple[Any, Facts] | None]) -> None:
        """Opening waits for the sender."""
        try:
            answer.set_result(self._reach())
        except Exception:  # whatever came, it is not the stream that was lost
            answer.set_result(None)

    @property
    def troubles(self) -> dict[str, int]:
        """What went wrong so far, by name."""
        return {"disconnects": self._lost} | self._line.troubles

    @property
    def faults(self) -> frozenset[str]:
        """What is wrong now."""
        return frozenset(["rate"] * (self._line.rate_error != 0))

    def read(self, timeout_s: float) -> list[Block]:
        """Blocks that have arrived; waits for the first one, at most `timeout_s`."""
        until = self._clock.now() + max(timeout_s, 0.0)
        if self._inlet is None:
            self._reach_again()
            self._clock.sleep_until(until)
            return []
        try:
            first, _ = self._inlet.pull_sample(timeout=max(timeout_s, 0.0))
            more, _ = self._inlet.pull_chunk(timeout=0.0)
        except self._pylsl.util.LostError:
            self._lost, self._inlet = self._lost + 1, None
            return []
        if first is None:
            return []
        now = self._clock.now()
        samples = self._samples(np.array([first, *more], np.float64))
        return [Block(index + k, samples.counts[part][k : k + BLOCK_SAMPLES], now)
                for index, part in self._line.place(samples, now)
                for k in range(0, part.stop - part.start, BLOCK_SAMPLES)]

    def _samples(self, values: NDArray[np.float64]) -> Samples:
        """Counts; a sample that is no number is as good as lost."""
        index = self._next + np.arange(len(values))
        self._next += len(values)
        emg = values[:, self._emg] * (self._unit_uv / LSB_UV)
        fine = np.isfinite(values).all(axis=1) & (np.abs(emg) < 1 << 31).all(axis=1)
        raw = index if self._count < 0 else np.where(fine, values[:, self._count], 0)
        return Samples(raw[fine].astype(np.int64) % (1 << 16),
                       np.rint(emg[fine]).astype(np.int32))

    def close(self) -> None:
        """Let go of the stream."""
        if self._inlet is not None:
            self._inlet.close_stream()
            self._inlet = None


def open_uri(uri: str, where: str, options: dict[str, str], clock: Clock) -> Lsl:
    """Open `lsl:NAME?counter=LABEL`.

    Raises
    ------
    InputError
        No liblsl, no such stream, or one whose channels, unit or rate cannot be used.
    """
    refuse_unknown(uri, options, {"counter"})
    if not where:
        raise InputError(f"source {uri!r}: no name came; type lsl:NAME")
    return Lsl(uri, where, options.get("counter", ""), clock)
