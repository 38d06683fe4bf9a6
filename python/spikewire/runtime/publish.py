"""Tell monitors what the loop does: one datagram a step, sent without waiting, or dropped.

The loop does not know who listens, and nobody who listens can make it wait: what a socket does not
take at once is dropped and counted. Everything is written into one buffer that is there from the
start. See `monitor/layout.py` for the bytes.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from spikewire.monitor.layout import (
    ABOUT,
    CHANNELS,
    EMG,
    LINKS,
    MAP_BYTES,
    MOST_CHANNELS,
    RUN,
    STEP,
    UNITS,
    put,
)
from spikewire.runtime.audience import Udp, Unix
from spikewire.signals import STEP as STEP_SAMPLES

if TYPE_CHECKING:
    from spikewire.runtime.loop import Loop

LISTEN_EVERY, EMG_EVERY, SLOW_EVERY, ABOUT_EVERY = 25, 10, 50, 100  # steps
LONGEST_ABOUT = 8192
U32 = 0xFFFFFFFF


class Publisher:
    """Publishes one loop, over any number of ways.

    Parameters
    ----------
    ways : list of Unix or Udp

    Attributes
    ----------
    published : int
        Datagrams made so far, whether or not anybody listened.
    failed : str
        Why nothing more is told; "" while all is well.
    """

    def __init__(self, ways: list[Unix | Udp]) -> None:
        self.ways, self.published, self.failed = ways, 0, ""
        self._buffer: bytearray | None = None

    def begin(self, loop: Loop) -> None:
        """Set everything aside that a step needs."""
        channels = min(loop.source.channels, MOST_CHANNELS)
        self._about = json.dumps(about(loop)).encode()[:LONGEST_ABOUT]
        self._rms = np.full(channels, np.nan, "<f4")
        n_mu = sum(d.manifest.n_mu for d in loop.decoders)
        self._confidence = np.full(n_mu, np.nan, "<f4")
        self._counts = np.zeros((len(loop.links), 3), "<u4")
        self._flags = np.zeros(8 * MAP_BYTES, np.uint8)
        self._buffer = bytearray(1024 + 4 * channels + 5 * n_mu + 12 * len(loop.links)
                                 + channels // 8 + len(self._about))

    def publish(self, loop: Loop) -> None:
        """Tell the step that the loop has just sent.

        Whatever goes wrong here ends the telling, never the loop: a leg may hang on it.
        """
        if self.failed:
            return
        try:
            self._publish(loop)
        except Exception as error:
            self.failed = f"{type(error).__name__}: {error}"
            self.close()

    def _publish(self, loop: Loop) -> None:
        if self._buffer is None:
            self.begin(loop)
        assert self._buffer is not None
        now = loop.clock.now()
        if self.published % LISTEN_EVERY == 0:
            for way in self.ways:
                way.listen(now)
        self.published += 1
        if not any(map(len, self.ways)):
            return
        end = self._step(loop, now, self._buffer)
        if self.published % EMG_EVERY == 0:
            end = self._loudness(loop, self._buffer, end)
        if self.published % SLOW_EVERY == 0:
            end = self._slow(loop, self._buffer, end)
        if self.published % ABOUT_EVERY == 1:
            end = put(ABOUT, self._buffer, end, rest=self._about)
        view = memoryview(self._buffer)[:end]
        for way in self.ways:
            way.send(view)

    def _step(self, loop: Loop, now: float, into: bytearray) -> int:
        """The record of every step; few calls, since after 10 ms of others each one is slow."""
        first, decoded, fired, t = 0, False, 0, loop.tally
        for d in loop.decoders:
            if d.counts is not None:
                decoded = True
                for unit in np.flatnonzero(d.counts).tolist():
                    fired |= 1 << (first + unit)
            first += d.manifest.n_mu
        drives = [*loop.drives, np.nan, np.nan, np.nan, np.nan][:4]
        return put(STEP, into, 0, self.published & U32, t.steps & U32, now, float(loop.end),
                   loop.guard.state, decoded, loop.faults, 1e3 * loop.age_s,
                   1e3 * loop.compute_s, *drives, t.spikes & U32, t.missed & U32, t.gaps & U32,
                   t.silent & U32, fired.to_bytes(MAP_BYTES, "little"))

    def _loudness(self, loop: Loop, into: bytearray, at: int) -> int:
        """What the decoders have measured anyway; channels that none reads are not known."""
        for d in loop.decoders:
            here = d.read_channels < len(self._rms)
            self._rms[d.read_channels[here]] = d.samples.amplitude[here]
        return put(EMG, into, at, rest=self._rms)

    def _slow(self, loop: Loop, into: bytearray, at: int) -> int:
        """What changes slowly."""
        first, muted = 0, self._flags
        muted[:] = 0
        bad = np.zeros(loop.source.channels, bool)
        for d in loop.decoders:
            n_mu = d.manifest.n_mu
            muted[first + d.muted] = 1
            if d.upkeep and len(d.upkeep.now.sil) == n_mu:
                self._confidence[first : first + n_mu] = d.upkeep.now.sil
            bad[d.bad_channels] = True
            first += n_mu
        at = put(UNITS, into, at, np.packbits(muted, bitorder="little").tobytes(),
                 rest=self._confidence)
        at = put(CHANNELS, into, at, rest=np.packbits(bad, bitorder="little"))
        for k, link in enumerate(loop.links):
            self._counts[k] = link.sent, link.dropped, link.recovered
        at = put(LINKS, into, at, rest=self._counts)
        t = loop.tally
        figures = [m.percentile(q) for m in (t.age, t.compute) for q in (50, 99, 100)]
        celsius = loop.thermometer.celsius if loop.thermometer else np.nan
        return put(RUN, into, at, *figures, celsius, sum(w.dropped for w in self.ways),
                   sum(map(len, self.ways)))

    def close(self) -> None:
        """Let everybody go."""
        for way in self.ways:
            way.close()


def about(loop: Loop) -> dict[str, Any]:
    """What runs, ready for JSON."""
    names = ", ".join(dict.fromkeys(d.engine.name for d in loop.decoders))
    return {
        "pid": os.getpid(), "source": loop.source.uri[:200], "fs_hz": loop.source.fs_hz,
        "step_samples": STEP_SAMPLES, "channels": loop.source.channels, "engine": names,
        "arm_id": f"{loop.guard.arm_id:08x}", "links": [link.uri[:100] for link in loop.links],
        "bundles": [{"name": d.manifest.name[:60], "n_mu": d.manifest.n_mu,
                     "channels": d.channels or [0, loop.source.channels]} for d in loop.decoders],
        "drive_delay_ms": 1e3 * loop.decoders[0].drive.delay_s,
    }
