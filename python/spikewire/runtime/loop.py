"""The real-time loop: source -> window -> engine -> decide -> drive -> guard -> link.

The newest step wins: steps that are overdue when the loop comes back are consumed, so that the
engine's state stays whole, but never decoded, and counted. Nothing queues and nothing grows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from spikewire.bundle import Bundle, arm_id
from spikewire.decide import Decide
from spikewire.io.runlog import RunLog
from spikewire.io.source import Clock, Source
from spikewire.link.codec import Step, id16
from spikewire.link.table import STATES
from spikewire.link.transport import Link, LinkError
from spikewire.runtime.clock import Acquisition
from spikewire.runtime.drive import Drive
from spikewire.runtime.engine import Engine
from spikewire.runtime.guard import DEGRADED, VALID, Guard, Health
from spikewire.runtime.meter import Meter
from spikewire.runtime.spool import Spool
from spikewire.runtime.upkeep import Upkeep
from spikewire.runtime.window import Cut, Window
from spikewire.signals import STEP

BACKLOG_RESET = 6  # overdue steps after which the stream counts as interrupted
NONE_FIRED = np.zeros(0, np.uint8)


@dataclass
class Tally:
    """What a run counts; of constant size."""

    steps: int = 0
    decoded: int = 0
    missed: int = 0
    gaps: int = 0
    silent: int = 0
    spikes: int = 0
    states: dict[str, int] = field(default_factory=dict)
    age: Meter = field(default_factory=Meter)
    compute: Meter = field(default_factory=Meter)


class Loop:
    """One bundle on one source, sending to any number of links.

    Parameters
    ----------
    source, engine, links, clock
        Opened already, all on the same clock.
    bundle : Bundle
    log : RunLog or None
    spool : Spool or None
    upkeep : Upkeep or None
    """

    def __init__(
        self, source: Source, bundle: Bundle, engine: Engine, links: list[Link], clock: Clock,
        log: RunLog | None = None, spool: Spool | None = None, upkeep: Upkeep | None = None,
    ) -> None:
        m = bundle.manifest
        self.source, self.engine, self.links, self.clock = source, engine, links, clock
        self.log, self.spool, self.upkeep, self.tally = log, spool, upkeep, Tally()
        self.drive = Drive(source.fs_hz)
        self.guard = Guard(arm_id([bundle]),
                           source.block_samples <= STEP and engine.for_control)
        self._window = Window(source.channels, source.lsb_uv)
        self._acquisition = Acquisition(source.fs_hz, source.latency_s)
        self._decide = Decide(np.array(m.thresholds, np.float32), np.array(m.label_lag, np.int64),
                              bundle.labels, m.refractory)
        self._manifest, self._model_id16 = m, id16(arm_id([bundle]))
        self._period_s = STEP / source.fs_hz
        self._heard = clock.now()  # when the last frame was due
        self._end = 0
        self._gap_s, self._skipped = 0.0, 0

    def run(self, stop: Callable[[], bool]) -> Tally:
        """Until `stop` says so or the source ends; the last frame is SAFE."""
        try:
            while not stop() and not self.source.ended:
                blocks = self.source.read(self._heard + 2 * self._period_s - self.clock.now())
                due: list[list[Cut]] = []
                for block in blocks:
                    self._acquisition.update(block.first + len(block.counts), block.arrival_s)
                    if self.log:
                        self.log.block(block)
                    due.append(list(self._window.push(block)))
                due = [cuts for cuts in due if cuts]
                self._skip([cut for cuts in due[:-1] for cut in cuts])
                for cut in due[-1] if due else ():
                    self._step(cut)
                if not due and self.clock.now() >= self._heard + 2 * self._period_s:
                    self._silence()
        finally:
            self._send(Health(self._age_s(), ended=True), None, self.clock.now())
        return self.tally

    def _skip(self, overdue: list[Cut]) -> None:
        """Consume steps that a newer one has overtaken."""
        for cut in overdue:
            self._consume(cut)
            self.tally.missed += 1
            self._skipped += 1
        if len(overdue) > BACKLOG_RESET:
            self._interrupted(len(overdue) * self._period_s)

    def _consume(self, cut: Cut) -> None:
        """Feed the engine; a gap before the samples starts it afresh."""
        if cut.gap:
            self.tally.gaps += 1
            self._interrupted(cut.gap / self.source.fs_hz)
        self.engine.advance(cut.emg)
        if self.upkeep:
            self.upkeep.step(cut.emg)
        self._end = cut.end
        self.tally.steps += 1

    def _interrupted(self, gap_s: float) -> None:
        """Forget what lies before a hole in the stream."""
        self.engine.reset()
        if self.upkeep:
            self.upkeep.reset()
        self._decide.reset()
        self.drive.reset()
        self._gap_s = gap_s

    def _step(self, cut: Cut) -> None:
        """Decode the newest window, decide, and send."""
        started = self.clock.now()
        self._consume(cut)
        counts, finite = None, True
        if self.engine.ready:
            presence, position = self.engine.decode()
            finite = bool(np.isfinite(presence).all())
            if self.upkeep:  # a source that has lost its unit says nothing
                presence[self.upkeep.muted] = 0
            counts, times = self._decide.step(cut.end, presence, position)
            self.tally.decoded += 1
            if not cut.gap:  # a step right after a gap says so, whatever the engine
                self._gap_s = 0.0
            if self.spool and counts.any():
                fired = np.flatnonzero(counts)
                self.spool.add(fired, times[fired])
        spikes = None if counts is None else int(counts.sum())
        self.tally.spikes += spikes or 0
        self.drive.step(spikes)
        health = Health(self._age_s(), self.engine.ready, self._gap_s, self._skipped, finite,
                        self._acquisition.fault)
        self._skipped = 0
        self._send(health, counts, started)
        self.tally.age.add(self._age_s())
        self.tally.compute.add(self.clock.now() - started)
        self.engine.prepare()

    def _silence(self) -> None:
        """No new samples for two periods: say so, with the true age, once a period."""
        self.tally.silent += 1
        ready = self.engine.ready and self.tally.steps > 0
        health = Health(self._age_s(), ready, self._gap_s, clock_fault=self._acquisition.fault)
        self._send(health, None, self.clock.now() - self._period_s)
        self.engine.prepare()

    def _age_s(self) -> float:
        """Age of the newest sample that the engine has; 0 before there is one."""
        if not self.tally.steps:
            return 0.0
        return self.clock.now() - self._acquisition.acquired(self._end - 1)

    def _send(self, health: Health, counts: Any, started: float) -> None:
        """Judge, frame, hand over to every link and listen to them; then log."""
        now = self.clock.now()
        state, faults = self.guard.judge(now, health)
        self.tally.states[STATES[state]] = self.tally.states.get(STATES[state], 0) + 1
        valid = state in VALID and (health.ready or state != DEGRADED)
        drive = self.drive.value if valid else float("nan")
        step = Step(
            state=state, step=self.tally.steps, sample_time_us=int(1e6 * (now - health.age_s)),
            age_ms=1e3 * max(health.age_s, 0.0), faults=faults, drive=(drive, *3 * (float("nan"),)),
            n_mu=self._manifest.n_mu, good_channels=self._good_channels(),
            model_id16=self._model_id16,
            counts=counts if valid and counts is not None else NONE_FIRED,
        )
        lost = self._exchange(step, now)
        self._heard = started
        if self.log:
            self.log.step(now, {
                "step": step.step, "end": self._end, "now": now, "state": STATES[state],
                "faults": faults, "age_ms": round(step.age_ms, 3),
                "drive": None if drive != drive else round(drive, 1),
                "units": np.flatnonzero(counts).tolist() if counts is not None else None,
            })
        if lost:
            raise lost

    def _good_channels(self) -> int:
        """Channels in use."""
        return self.upkeep.good_channels if self.upkeep else len(self._manifest.channel_map)

    def _exchange(self, step: Step, now: float) -> LinkError | None:
        """Send to every link, then hear them; a lost link keeps no frame from the others."""
        lost = None
        for link in self.links:
            try:
                link.send(step)
            except LinkError as error:
                lost = lost or error
        for link in self.links:
            try:
                requests = link.poll()
            except LinkError as error:
                lost = lost or error
                continue
            for request in requests if link.may_arm else ():
                self.guard.arm(now, request)
        return lost

    def summary(self) -> dict[str, Any]:
        """Figures of the run, ready for JSON."""
        t, m = self.tally, self._manifest
        look_ahead_ms = 1e3 * (m.look_ahead + max(m.label_lag)) / self.source.fs_hz
        return {
            "engine": self.engine.name, "decoder": m.decoder, "n_mu": m.n_mu,
            "steps": t.steps, "decoded": t.decoded, "missed": t.missed, "gaps": t.gaps,
            "silent": t.silent, "spikes": t.spikes, "states": t.states,
            "age_ms": t.age.summary(), "decode_delay_ms": t.age.summary(look_ahead_ms),
            "compute_ms": t.compute.summary(), "drive_delay_ms": 1e3 * self.drive.delay_s,
            "links": [{"uri": k.uri, "sent": k.sent, "dropped": k.dropped} for k in self.links],
            "arm_id": f"{self.guard.arm_id:08x}",
            "upkeep": self.upkeep.summary() if self.upkeep else None,
        }
