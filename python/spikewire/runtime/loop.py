"""The real-time loop: source -> window -> decoders (engine, decide, drive) -> guard -> link.

The newest step wins: steps that are overdue when the loop comes back are consumed, so that the
engine's state stays whole, but never decoded, and counted. Nothing queues and nothing grows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from spikewire.bundle import arm_id
from spikewire.io.runlog import RunLog
from spikewire.io.source import Block, Clock, Source
from spikewire.link.codec import Step, id16
from spikewire.link.profile import Vitals
from spikewire.link.table import N_DRIVES, STATES
from spikewire.link.transport import Link, LinkError
from spikewire.runtime.clock import Acquisition
from spikewire.runtime.decoder import Decoder
from spikewire.runtime.engine import EngineError
from spikewire.runtime.guard import DEGRADED, VALID, Guard, Health
from spikewire.runtime.meter import Meter
from spikewire.runtime.notify import Notifier
from spikewire.runtime.publish import Publisher
from spikewire.runtime.spool import Spool
from spikewire.runtime.thermal import Thermometer
from spikewire.runtime.window import Cut, Window
from spikewire.signals import STEP

LAST_FRAMES, LAST_PAUSE_S = 3, 0.002  # the slowest line carries a short frame in 2 ms
LATE_S = 0.030
VITALS_EVERY = 51  # steps; half a second
BACKLOG_RESET = 6  # overdue steps after which the stream counts as interrupted
NONE_FIRED = np.zeros(0, np.uint8)
NO_FAULTS: frozenset[str] = frozenset()


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
    """Decoders on one source, sending to any number of links; decoder k owns drive slot k.

    Parameters
    ----------
    source, decoders, links, clock
        Opened already, all on the same clock; one to four decoders.
    log : RunLog or None
    spool : Spool or None
        Units count on from one decoder to the next.
    thermometer : Thermometer or None
    notifier : Notifier
    publisher : Publisher or None

    Attributes
    ----------
    end : int, the amplifier's counter after the newest sample
    faults : int, of the last frame
    age_s, compute_s : float, of the last frame; NaN where nothing was computed
    drives : list of float, pulse/s, whether or not a controller was told
    """

    def __init__(
        self, source: Source, decoders: list[Decoder], links: list[Link], clock: Clock,
        log: RunLog | None = None, spool: Spool | None = None,
        thermometer: Thermometer | None = None, notifier: Notifier | None = None,
        publisher: Publisher | None = None,
    ) -> None:
        self.source, self.decoders, self.links, self.clock = source, decoders, links, clock
        self.log, self.spool, self.tally = log, spool, Tally()
        self.thermometer, self.notifier = thermometer, notifier or Notifier()
        self.publisher = publisher
        self.end = self.faults = 0
        self.age_s = self.compute_s = math.nan
        self.drives: list[float] = []
        identity = arm_id([d.bundle for d in decoders], [d.channels for d in decoders])
        self._identity16 = id16(identity)  # a controller knows the id that it arms
        self.guard = Guard(identity, source.block_samples <= STEP
                           and all(d.engine.for_control for d in decoders))
        self._window = Window(source.channels, source.lsb_uv)
        self._acquisition = Acquisition(source.fs_hz, source.latency_s)
        self._period_s = STEP / source.fs_hz
        self._heard = clock.now()  # when the last frame was due
        self._gap_s, self._skipped = 0.0, 0
        self._busy_s, self._returned = 0.0, clock.now()
        self._vitals = Vitals()
        # shares of the last ten seconds and of the last second, forgotten exponentially
        self._late = self._again = 0.0
        self._duplicates = 0
        self._failed = False

    def run(self, stop: Callable[[], bool]) -> Tally:
        """Until `stop` says so or the source ends; the last frame is SAFE."""
        try:
            while not stop() and not self.source.ended:
                blocks = self._read()
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
        except EngineError:
            self._failed = True
            raise
        finally:
            self.notifier.stopping()
            self._ended()
        return self.tally

    def _read(self) -> list[Block]:
        """What the source has; and for how long the loop was not waiting for it."""
        began = self.clock.now()
        wait_s = self._heard + 2 * self._period_s - began
        blocks = self.source.read(wait_s)
        now = self.clock.now()
        self._busy_s = now - self._returned - min(now - began, max(wait_s, 0.0))
        self._returned = now
        return blocks

    def _ended(self) -> None:
        """The last frames, three so that one may be lost: SAFE or FAULT, nothing counted."""
        self._silent_decoders()
        for _ in range(LAST_FRAMES):
            health = Health(self._age_s(), ended=True, engine_failed=self._failed)
            self._send(health, self.clock.now())
            self._publish()
            self.clock.sleep_until(self.clock.now() + LAST_PAUSE_S)

    def _silent_decoders(self) -> None:
        """No counts of this step."""
        for decoder in self.decoders:
            decoder.counts = None

    def _skip(self, overdue: list[Cut]) -> None:
        """Consume steps that a newer one has overtaken."""
        for cut in overdue:
            self._consume(cut)
            self.tally.missed += 1
        # A source that was late and catches up is old EMG, no overrun of ours.
        self._skipped += min(len(overdue), math.ceil(self._busy_s / self._period_s))
        if len(overdue) > BACKLOG_RESET:
            self._interrupted(len(overdue) * self._period_s)

    def _consume(self, cut: Cut) -> None:
        """Feed the decoders; a gap before the samples starts it afresh."""
        if cut.gap:
            self.tally.gaps += 1
            self._interrupted(cut.gap / self.source.fs_hz)
        for decoder in self.decoders:
            decoder.consume(cut.emg)
        self.end = cut.end
        self.tally.steps += 1
        again = self._window.duplicates - self._duplicates
        self._duplicates += again
        self._again += (again / STEP - self._again) / 102

    def _interrupted(self, gap_s: float) -> None:
        """Forget what lies before a hole in the stream."""
        for decoder in self.decoders:
            decoder.interrupted()
        self._gap_s = gap_s

    @property
    def _ready(self) -> bool:
        """Whether every engine has enough samples."""
        return all(d.engine.ready for d in self.decoders)

    def _step(self, cut: Cut) -> None:
        """Decode the newest window, decide, and send."""
        started = self.clock.now()
        self._consume(cut)
        for decoder in self.decoders:
            decoder.decode(cut.end)
        if not self._ready:  # nothing that one decoder says is sent, nor counted
            self._silent_decoders()
        else:
            self.tally.decoded += 1
            if not cut.gap:  # a step right after a gap says so, whatever the engine
                self._gap_s = 0.0
        self._note()
        health = self._health(self._ready)
        self._skipped = 0
        self._send(health, started)
        age_s = self._age_s()
        self.tally.age.add(age_s)
        self._late += ((age_s > LATE_S) - self._late) / 1024
        self.compute_s = self.clock.now() - started
        self.tally.compute.add(self.compute_s)
        self._prepare()
        self._publish()
        if self.tally.steps % VITALS_EVERY == 0:
            celsius = self.thermometer.celsius if self.thermometer else math.nan
            self._vitals = Vitals(self.tally.age.percentile(99), celsius)

    def _note(self) -> None:
        """Count the step's spikes and spool them."""
        first = 0
        for decoder in self.decoders:
            if decoder.counts is not None and decoder.counts.any():
                fired = np.flatnonzero(decoder.counts)
                self.tally.spikes += len(fired)
                if self.spool:
                    self.spool.add(first + fired, decoder.times[fired])
            first += decoder.manifest.n_mu

    def _prepare(self) -> None:
        """What can be done before the next samples, after the frames have left."""
        for decoder in self.decoders:
            decoder.engine.prepare()

    def _publish(self) -> None:
        """Tell the monitors, after all else."""
        if self.publisher:
            self.publisher.publish(self)
        self.compute_s = math.nan  # until something is computed again

    def _silence(self) -> None:
        """No new samples for two periods: say so, with the true age, once a period."""
        self.tally.silent += 1
        ready = self._ready and self.tally.steps > 0
        health = self._health(ready)
        self._silent_decoders()
        self._send(health, self.clock.now() - self._period_s)
        self._prepare()
        self._publish()

    def _health(self, ready: bool) -> Health:
        """Everything that the guard looks at."""
        decoders = self.decoders
        faults = getattr(self.source, "faults", NO_FAULTS)
        return Health(
            self._age_s(), ready, self._gap_s, self._again,
            min(d.good_channels / len(d.manifest.channel_map) for d in decoders),
            sum(d.samples.at_end for d in decoders),
            any(d.samples.artefact for d in decoders),
            any(d.firing.implausible for d in decoders), self._skipped,
            self._late, all(d.finite for d in decoders),
            link_trouble=any(k.trouble for k in self.links if k.may_arm),
            clock_fault=self._acquisition.fault, temperature_c=self._vitals.temperature_c,
            drifted=any(len(d.muted) for d in decoders),
            buffer_full="buffer" in faults, wrong_rate="rate" in faults,
        )

    def _age_s(self) -> float:
        """Age of the newest sample that the engine has; 0 before there is one."""
        if not self.tally.steps:
            return 0.0
        return self.clock.now() - self._acquisition.acquired(self.end - 1)

    def _send(self, health: Health, started: float) -> None:
        """Judge, frame, hand over to every link and listen to them; then log."""
        now = self.clock.now()
        state, faults = self.guard.judge(now, health)
        self.faults, self.age_s = faults, health.age_s
        self.tally.states[STATES[state]] = self.tally.states.get(STATES[state], 0) + 1
        valid = state in VALID and (health.ready or state != DEGRADED)
        true = [d.drive.value if valid else math.nan for d in self.decoders]
        self.drives = true
        ramp = self.guard.ramp(now) if self.guard.drives(now) else math.nan
        drive = [ramp * value for value in true] + [math.nan] * (N_DRIVES - len(true))
        steps = [Step(
            slot=slot, state=state, step=self.tally.steps, faults=faults,
            sample_time_us=int(1e6 * (now - health.age_s)), age_ms=1e3 * max(health.age_s, 0.0),
            drive=tuple(drive), n_mu=d.manifest.n_mu, good_channels=d.good_channels,
            model_id16=self._identity16,
            counts=d.counts if valid and d.counts is not None else NONE_FIRED,
            muted=d.muted,
        ) for slot, d in enumerate(self.decoders)]
        lost = self._exchange(steps, now)
        self._heard = started
        if self.log:
            self._log(steps[0], true, now)
        if lost:
            raise lost
        if self.links:
            self.notifier.handed_over(now)

    def _log(self, step: Step, true: list[float], now: float) -> None:
        """One line of the log for all decoders; units count on from one to the next.

        `true` are the drives, whether or not a controller was told.
        """
        first, units, decoded = 0, [], False
        for d in self.decoders:
            if d.counts is not None:
                decoded = True
                units += (first + np.flatnonzero(d.counts)).tolist()
            first += d.manifest.n_mu
        drives = [None if v != v else round(v, 1) for v in true]
        assert self.log is not None
        self.log.step(now, {
            "step": step.step, "end": self.end, "now": now, "state": STATES[step.state],
            "faults": step.faults, "age_ms": round(step.age_ms, 3), "drive": drives[0],
            "drives": drives, "units": units if decoded else None,
        })

    def _exchange(self, steps: list[Step], now: float) -> LinkError | None:
        """Send to every link, then hear them; a lost link keeps no frame from the others."""
        lost = None
        for link in self.links:
            try:
                link.send(steps, self._vitals)
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
        t, each = self.tally, [d.summary() for d in self.decoders]
        look_ahead = max(d.manifest.look_ahead + max(d.manifest.label_lag) for d in self.decoders)
        return {
            "engine": ", ".join(dict.fromkeys(d["engine"] for d in each)),
            "decoder": ", ".join(dict.fromkeys(d["decoder"] for d in each)),
            "n_mu": sum(d["n_mu"] for d in each), "bundles": each,
            "steps": t.steps, "decoded": t.decoded, "missed": t.missed, "gaps": t.gaps,
            "silent": t.silent, "spikes": t.spikes, "states": t.states,
            "age_ms": t.age.summary(),
            "decode_delay_ms": t.age.summary(1e3 * look_ahead / self.source.fs_hz),
            "compute_ms": t.compute.summary(),
            "drive_delay_ms": 1e3 * self.decoders[0].drive.delay_s,
            "links": [{"uri": k.uri, "sent": k.sent, "dropped": k.dropped,
                       "recovered": k.recovered} for k in self.links],
            "arm_id": f"{self.guard.arm_id:08x}", "upkeep": each[0]["upkeep"],
            "troubles": dict(getattr(self.source, "troubles", {})),
        }
