"""What one step is on a wire: which messages of the table go out, and when.

A `Framer` turns what the decoder says of a step into numbered payloads; a link puts them on its
wire. The time of the periodic messages is counted in steps, of which the decoder sends one for
every period whatever happens, so nothing here looks at a clock.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spikewire.link.codec import Step, step_values
from spikewire.link.packing import FrameError, pack
from spikewire.link.table import (
    BASE,
    COUNTS,
    DRIVE,
    INFO,
    INFO2,
    N_DRIVES,
    N_UNITS,
    PROTO,
    SHORT,
    STATUS,
    STEP,
    UNITS_PER_BANK,
    VALID,
    Message,
    table_number,
)

PERIODIC = (INFO, INFO2, VALID, STATUS)
# profile -> messages, in the order in which they go out
PROFILES: dict[str, tuple[Message, ...]] = {
    "full": (STEP, INFO, INFO2, STATUS, VALID),
    "short": (SHORT, INFO, INFO2),
    "classic": (DRIVE, INFO, INFO2, STATUS),
    "counts": (DRIVE, COUNTS, INFO, INFO2, STATUS, VALID),
    "fd": (STEP, INFO, INFO2, STATUS, VALID),
}
REPEATS = 3  # of VALID, when it changes


@dataclass(frozen=True)
class Info:
    """What does not change while a link is open.

    Attributes
    ----------
    model_id : int, 32 bits, what a controller must name to arm
    units : motor units of each bundle
    period_s : float, from one step to the next
    """

    model_id: int = 0
    units: tuple[int, ...] = (0,)
    period_s: float = 20 / 2048


@dataclass(frozen=True)
class Vitals:
    """How the decoder's machine is; NaN where nobody knows."""

    latency_p99_ms: float = math.nan
    temperature_c: float = math.nan


NOBODY, UNKNOWN = Info(), Vitals()


class Payload(NamedTuple):
    """One message, ready for a wire."""

    message: Message
    slot: int
    data: bytes


class Framer:
    """Numbers and encodes the messages of one profile.

    Parameters
    ----------
    profile : str, key of `PROFILES`
    info : Info
    base : int, first CAN identifier

    Raises
    ------
    FrameError
        More bundles, or for "counts" more motor units, than the messages have room for.
    """

    def __init__(self, profile: str, info: Info = NOBODY, base: int = BASE) -> None:
        self.info, self.base = info, base
        self.messages = PROFILES[profile]
        self._hash = table_number()
        if len(info.units) > N_DRIVES:
            raise FrameError("slot", f"{len(info.units)} bundles came, up to {N_DRIVES} fit")
        if COUNTS in self.messages and sum(info.units) > N_UNITS:
            raise FrameError("range", f"{sum(info.units)} motor units came, profile {profile} has "
                             f"room for {N_UNITS}; take another profile, or leave bundles out")
        self._every = [m for m in self.messages if m not in PERIODIC]
        self._periods = [(m, max(1, round(m.every / info.period_s)), phase)
                         for phase, m in enumerate(m for m in self.messages if m in PERIODIC)]
        self._counters: Counter[tuple[str, int]] = Counter()
        self._steps, self._state, self._repeat = 0, -1, 0
        self._muted: list[bytes] = []

    def frames(self, steps: Sequence[Step], vitals: Vitals = UNKNOWN) -> list[Payload]:
        """Payloads of one step, one `Step` of each bundle; refused as a whole if any is.

        Raises
        ------
        FrameError
            A value fits into no message, for instance a slot past 3 or an unknown state.
        """
        made = []
        for message in self._every:
            if message is COUNTS:
                made += [self._payload(COUNTS, bank, {"bank": bank, "counts": counts})
                         for bank, counts in enumerate(self._banks(steps))]
            else:
                made += [self._payload(message, s.slot, step_values(s, message)) for s in steps]
        made += [self._payload(message, 0, self._periodic(message, steps, vitals))
                 for message in self._due(steps)]
        for message, slot, _ in made:
            self._counters[message.name, slot] += 1
        self._steps += 1
        self._state = steps[0].state
        return made

    def _payload(self, message: Message, slot: int, values: dict[str, Any]) -> Payload:
        """One message with this link's own counter."""
        values["counter"] = self._counters[message.name, slot]
        return Payload(message, slot, pack(message, values, slot, self.base))

    def _due(self, steps: Sequence[Step]) -> list[Message]:
        """Periodic messages of this step; a few steps apart, so that they make no burst."""
        muted = [s.muted.tobytes() for s in steps if len(s.muted)]
        if muted != self._muted:
            self._muted, self._repeat = muted, REPEATS
        due = [m for m, every, phase in self._periods
               if self._steps % every == phase % every
               or (m is STATUS and steps[0].state != self._state)
               or (m is VALID and self._repeat > 0)]
        self._repeat -= self._repeat > 0
        return due

    def _periodic(
        self, message: Message, steps: Sequence[Step], vitals: Vitals
    ) -> dict[str, Any]:
        """Values of one periodic message."""
        info, first = self.info, steps[0]
        if message is INFO:
            return {"proto": PROTO, "n_mu": sum(info.units),
                    "step_period_us": round(1e6 * info.period_s), "model_id": info.model_id}
        if message is INFO2:
            return {"table_hash": self._hash}
        if message is VALID:
            return {"units": self._in_use(steps)}
        return {"state": first.state, "faults": first.faults,
                "good_channels": sum(s.good_channels for s in steps), "n_mu": sum(info.units),
                **vars(vitals)}

    def _in_use(self, steps: Sequence[Step]) -> NDArray[np.uint8]:
        """1 for each motor unit that is decoded, all bundles in order."""
        units = [np.ones(n, np.uint8) for n in self.info.units]
        for step, mask in zip(steps, units, strict=False):
            mask[step.muted[step.muted < len(mask)]] = 0
        return np.concatenate(units)[:N_UNITS]

    def _banks(self, steps: Sequence[Step]) -> list[NDArray[np.uint8]]:
        """Counts of all bundles in banks of 24; none if those of any bundle are not known."""
        if any(len(s.counts) < n for s, n in zip(steps, self.info.units, strict=False)):
            return []
        counts = np.concatenate([s.counts[:n] for s, n in zip(steps, self.info.units,
                                                              strict=False)])
        return [counts[k : k + UNITS_PER_BANK] for k in range(0, len(counts), UNITS_PER_BANK)]
