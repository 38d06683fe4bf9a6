"""What a controller makes of the frames: which to believe, and how much assistance they allow.

The rules in short. A frame is accepted if it decodes, is of the expected model, and its counter
went up by 1 to 3. It is usable if INFO and INFO2 say that the decoder speaks this very table, the
decoder is ACTIVE, the drive is there and the EMG behind it is at most 80 ms old by now. Assistance
ends 100 ms after the last usable frame and does not come back by itself. Time is whatever clock the
caller reads; it is passed in, in seconds. `runtime/receiver/spikewire_rx.c` does the same in C99.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from spikewire.link.codec import (
    Arm,
    FrameError,
    Notice,
    Step,
    decode,
    id16,
    of_type,
)
from spikewire.link.table import (
    BASE,
    BY_CAN_ID,
    COUNT_NA,
    INFO,
    INFO2,
    N_UNITS,
    STATES,
    STEP,
    Message,
    table_number,
)

AGE_MAX_MS = 80.0
HOLD_S = 0.030  # three steps without a usable frame change nothing
LATCH_S = 0.100  # as long as moteus and ODrive wait by default before they stop a motor
MAX_DELTA = 3  # of the counter
TRUST = 3  # frames in a row after a jump; also repeats in a row that make a value stale
LOSS_MAX = 0.05  # share of frames lost in LOSS_S
LOSS_S = 1.0
INFO_S = 2.0  # INFO and INFO2 come once a second
DRIFT = 200e-6  # two quartz clocks of 100 ppm each
OTHER_CLOCK_S = 10.0
_HALF_US = float(1 << 31)  # sample times wrap at 2**32 us

ACTIVE = next(key for key, name in STATES.items() if name == "ACTIVE")
STOPPED = tuple(key for key, name in STATES.items() if name in ("SAFE", "FAULT"))

class Ages:
    """Histogram of ages in bins of 0.1 ms: percentiles of any number of frames in fixed memory."""

    BIN_MS = 0.1

    def __init__(self) -> None:
        largest_ms = STEP.field("age_ms").largest * STEP.field("age_ms").scale
        self.bins: NDArray[np.int64] = np.zeros(math.ceil(largest_ms / self.BIN_MS) + 2, np.int64)
        self.max_ms = math.nan

    def add(self, age_ms: float) -> None:
        """Count one age; NaN is left out."""
        if not math.isnan(age_ms):
            self.bins[min(int(age_ms / self.BIN_MS), len(self.bins) - 1)] += 1
            self.max_ms = age_ms if math.isnan(self.max_ms) else max(age_ms, self.max_ms)

    def percentile(self, q: float) -> float:
        """Return the age in ms that q % of the frames do not exceed, up to a bin; NaN if none."""
        total = int(self.bins.sum())
        if total == 0:
            return math.nan
        rank = max(1, math.ceil(total * q / 100.0))
        place = int(np.searchsorted(np.cumsum(self.bins), rank))
        return min((place + 1) * self.BIN_MS, self.max_ms)


@dataclass
class Statistics:
    """What came, counted.

    Attributes
    ----------
    accepted, usable : int
        Frames.
    rejected : counter of str
        Frames by reason: the `check` of a FrameError, "model", "slot", "repeated" or "jump".
    gaps : int
        Frames that the counter says are missing.
    stale_marked_valid : int
        Accepted frames that say ACTIVE with an age above 80 ms: an error of the decoder.
    late : int
        Accepted frames that were older than the limit on arrival, by age and transit.
    states : counter of str
        Accepted frames by state.
    ages : Ages
        Of accepted frames, as sent.
    spikes : int64 (64,)
        Spikes of each motor unit.
    first, last : Step or None
        Accepted frames.
    """

    accepted: int = 0
    usable: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    gaps: int = 0
    stale_marked_valid: int = 0
    late: int = 0
    states: Counter[str] = field(default_factory=Counter)
    ages: Ages = field(default_factory=Ages)
    spikes: NDArray[np.int64] = field(default_factory=lambda: np.zeros(N_UNITS, np.int64))
    first: Step | None = None
    last: Step | None = None

    def add(self, step: Step, usable: bool) -> None:
        """Count an accepted frame."""
        self.accepted += 1
        self.usable += usable
        self.states[STATES[step.state]] += 1
        self.stale_marked_valid += step.state == ACTIVE and step.age_ms > AGE_MAX_MS
        self.ages.add(step.age_ms)
        self.spikes[: len(step.counts)] += np.where(step.counts == COUNT_NA, 0, step.counts)
        self.first = self.first or step
        self.last = step


class Receiver:
    """Judges the frames of one slot.

    Parameters
    ----------
    model_id : int, optional
        Of 32 bits; frames of another model are rejected. None takes any.
    slot : int
        The bundle to listen to.
    age_max_ms : float
        Oldest EMG to act on.
    wire_ms : float
        What one frame takes on the wire; it is added to every age.
    base : int
        First CAN identifier.

    Attributes
    ----------
    latched : bool
        Assistance is off until `rearm`.
    held : Step or None
        The last usable one: what a controller acts on, times `assist`. The last accepted one may
        be READY, or say that its drive is not available.
    stats : Statistics
    notices : message name -> Notice, the newest of each kind
    """

    def __init__(
        self, model_id: int | None = None, slot: int = 0, age_max_ms: float = AGE_MAX_MS,
        wire_ms: float = 0.0, base: int = BASE,
    ) -> None:
        self.model_id, self.slot, self.base = model_id, slot, base
        self.age_max_ms, self.wire_ms = age_max_ms, wire_ms
        self.notices: dict[str, Notice] = {}
        self._hash = table_number()
        self.held: Step | None = None
        # until when INFO and INFO2 hold
        self._known_until = {INFO.name: -math.inf, INFO2.name: -math.inf}
        self.latched = False
        self.stats = Statistics()
        self._received_at = -math.inf  # last accepted frame
        self._late_ms = 0.0  # what it lost on its way
        self._least_us: float | None = None  # receiver's clock minus decoder's, by the quickest
        self._step: int | None = None  # number of the last one
        self._counted, self._period_us = 0, 0.0  # the same without wrapping; how long each takes
        self._usable_at: float | None = None  # last usable one
        self._counter: int | None = None
        self._repeats = 0
        self._streak = 0  # good frames in a row, up to TRUST
        self._loss_from = -math.inf  # begin of the second in which losses are counted
        self._came = self._lost = 0

    def serial(self, kind: int, payload: bytes, now: float) -> Step | None:
        """Take one frame off a serial line, type byte and payload; see `accept`."""
        try:
            message, slot = of_type(kind)
        except FrameError as error:
            self._refuse(error)
            return None
        return self.accept(message, slot, payload, now)

    def can(self, identifier: int, payload: bytes, now: float) -> Step | None:
        """Take one frame off a CAN bus; see `accept`. Identifiers of others are passed over."""
        found = BY_CAN_ID.get(identifier - self.base + BASE)
        return None if found is None else self.accept(*found, payload, now)

    def accept(self, message: Message, slot: int, payload: bytes, now: float) -> Step | None:
        """Take one frame.

        Parameters
        ----------
        message, slot : Message, int
        payload : bytes
        now : float
            Time of reception, s.

        Returns
        -------
        Step or None
            None if the frame was rejected, in which case `stats.rejected` has the reason, or was
            none of a step.
        """
        self._expire(now)
        try:
            step = self._judge(message, slot, payload, now)
        except FrameError as error:
            self._refuse(error)
            return None
        if step is not None:
            timed = any(row.name == "sample_time_us" for row in message.fields)
            self._take(step, 0 if timed else message.field("step").width, now)
        return step

    def _refuse(self, error: FrameError) -> None:
        """Count what was rejected; before there is trust it breaks a row of good frames."""
        self.stats.rejected[error.check] += 1
        if not self._trusted and error.check != "slot":  # another slot says nothing about ours
            self._streak = 0

    def usable(self, now: float) -> bool:
        """Tell whether the last frame may be acted on at `now`; `assist` says how much."""
        last = self.stats.last
        if last is None or not self._trusted or self._repeats >= TRUST:
            return False
        if now > min(self._known_until.values()):
            return False
        age_ms = last.age_ms + self._late_ms + self.wire_ms + (now - self._received_at) * 1e3
        drive_known = not math.isnan(last.drive[self.slot])
        return last.state == ACTIVE and age_ms <= self.age_max_ms and drive_known

    def assist(self, now: float) -> float:
        """Return the share of assistance that may be given, 0..1.

        1 up to 30 ms after the last usable frame, then down to 0 at 100 ms, and 0 from there until
        `rearm`. SAFE, FAULT and more than 5 % of lost frames in a second end it at once.
        """
        self._expire(now)
        if self.latched or self._usable_at is None:
            return 0.0
        silent = now - self._usable_at
        return min(1.0, max(0.0, (LATCH_S - silent) / (LATCH_S - HOLD_S)))

    def rearm(self, now: float) -> bool:
        """Allow assistance again, if what comes is usable now; tell whether it is allowed."""
        self._expire(now)
        if self.usable(now):
            self.latched = False
            # what was lost before it counts no longer: else it would latch a second later
            self._loss_from, self._came, self._lost = now, 0, 0
        return not self.latched

    @property
    def _trusted(self) -> bool:
        """Enough good frames in a row have come since the start or the last jump."""
        return self._streak >= TRUST

    def _judge(self, message: Message, slot: int, payload: bytes, now: float) -> Step | None:
        """Return the step of a frame that may be accepted; FrameError for any other."""
        found = decode(message, slot, payload, self.base)
        if isinstance(found, Arm):
            raise FrameError("type", f"{message.name} is nothing that a decoder sends")
        if isinstance(found, Notice):
            self._note(found, now)
            return None
        if slot != self.slot:
            raise FrameError("slot", f"slot {slot} came, {self.slot} is listened to")
        # Whoever sent it: two senders on one slot must never look like one.
        self._follow(message, found.counter, now)
        bears_model = any(row.name == "model_id16" for row in message.fields)
        if self.model_id is not None and bears_model and found.model_id16 != id16(self.model_id):
            wanted = f"{id16(self.model_id):04x}"
            raise FrameError("model", f"model {found.model_id16:04x} came, {wanted} is expected")
        self._advance(found, message.field("step").width)
        return found

    def _advance(self, step: Step, bits: int) -> None:
        """Follow the step number; FrameError for one that goes back: a frame from the past.

        A decoder that starts anew also begins to count anew, but is not ACTIVE at first; trust
        begins anew with it.
        """
        delta = 0 if self._step is None else (step.step - self._step) % (1 << bits)
        if delta >> (bits - 1) and step.state == ACTIVE:
            raise FrameError("old", f"step {step.step} came after {self._step}")
        if delta >> (bits - 1):
            self._streak = 0
        self._step = step.step
        self._counted += delta

    def _note(self, notice: Notice, now: float) -> None:
        """Keep what is not a step; INFO and INFO2 that do not fit end what they had allowed."""
        name, values = notice.message.name, notice.values
        self.notices[name] = notice
        if name == INFO.name:
            fits = self.model_id is None or values["model_id"] == self.model_id
            self._period_us = values["step_period_us"]
        elif name == INFO2.name:
            fits = values["table_hash"] == self._hash
        else:
            return
        self._known_until[name] = now + INFO_S if fits else -math.inf
        if not fits:
            raise FrameError("model" if name == INFO.name else "table",
                             f"{name} says another {'model' if name == INFO.name else 'table'}")

    def _follow(self, message: Message, counter: int, now: float) -> None:
        """Compare the counter with the one before; FrameError for a repeat or a jump."""
        modulus = message.field("counter").modulus or 1
        last, self._counter = self._counter, counter
        delta = 1 if last is None else (counter - last) % modulus
        if delta == 0:
            self._repeats += 1
            raise FrameError("repeated", f"counter {counter} came again")
        self._repeats = 0
        self._count_loss(delta - 1, now)
        if delta > MAX_DELTA:
            self._streak = 0
            raise FrameError("jump", f"counter {counter} came after {last}")
        self._streak = min(self._streak + 1, TRUST) if delta == 1 or self._trusted else 1

    def _take(self, step: Step, bits: int, now: float) -> None:
        """Make an accepted frame the current one; `bits` of its step number are its only clock."""
        self._late_ms = self._transit(step, bits, now)
        self.stats.late += step.age_ms + self._late_ms > self.age_max_ms
        self._received_at = now
        self.stats.last = step
        usable = self.usable(now)
        self.stats.add(step, usable)
        if step.state in STOPPED:
            self.latched = True
        if usable:
            self._usable_at, self.held = now, step

    def _transit(self, step: Step, bits: int, now: float) -> float:
        """Milliseconds that a frame took longer than the quickest lately.

        A frame says when it left, on the decoder's clock: time of its newest sample plus age. The
        quickest way is the reference, which may rise as two quartz clocks may drift apart, so
        frames that waited in a buffer on their way show, though their own age is young. A step of
        more than 10 s is another clock. Frames without a time tell it by the number of their step,
        as long as the decoder is ACTIVE: lost samples do not count as steps, but it is DEGRADED
        for half a second after any.
        """
        if math.isnan(step.age_ms) or (not bits and not step.sample_time_us):
            return 0.0
        if bits:
            left_us = self._counted * self._period_us
            if step.state != ACTIVE:
                self._least_us = None
        else:
            left_us = float(step.sample_time_us)
        offset_us = now * 1e6 - (left_us + step.age_ms * 1e3)
        if self._least_us is None:
            self._least_us = offset_us
        late_us = (offset_us - self._least_us + _HALF_US) % (2 * _HALF_US) - _HALF_US
        if late_us < 0 or late_us > OTHER_CLOCK_S * 1e6:
            self._least_us, late_us = offset_us, 0.0
        rise_us = DRIFT * 1e6 * max(0.0, now - max(self._received_at, now - 1.0))
        self._least_us += min(rise_us, late_us)
        return late_us / 1e3

    def _expire(self, now: float) -> None:
        """Latch if nothing usable has come for too long."""
        if self._usable_at is not None and now - self._usable_at >= LATCH_S:
            self.latched = True

    def _count_loss(self, lost: int, now: float) -> None:
        """Judge the losses of each second. A bad frame shows as a gap in the counter, too."""
        self.stats.gaps += lost
        if now - self._loss_from >= LOSS_S:
            if self._lost > LOSS_MAX * (self._came + self._lost):
                self.latched = True
            self._loss_from, self._came, self._lost = now, 0, 0
        self._came += 1
        self._lost += lost
