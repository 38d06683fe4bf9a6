"""A link over a CAN bus of any kind: whole steps or none, and a bus that is repaired in passing.

What kind of bus it is, `Bus` hides: SocketCAN in `canbus`, an adapter on a serial line in `slcan`.
"""

from __future__ import annotations

import errno
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Thread
from typing import Protocol

from spikewire.link.codec import Arm, FrameError, Step, decode
from spikewire.link.profile import NOBODY, UNKNOWN, Framer, Info, Vitals
from spikewire.link.table import ARM, BASE, BY_CAN_ID, COUNTS, UNITS_PER_BANK, Message
from spikewire.link.transport import CanFrame, Counted, LinkError, Options, Span, on_can

# the largest identifier on top of the base must have 11 bits
OPTIONS: Options = {"base": Span(hex(BASE), 0, 0x7FF - max(BY_CAN_ID) + BASE)}
BACK_OFF_S = 0.1  # before a repair and between two: a driver with restart-ms 100 may be quicker
# Classes of error frames that are asked for: changes of state. Lost arbitration is what a sender of
# low priority must expect, and single bus errors come by the thousand where nobody acknowledges.
BUS_OFF, RESTARTED, REFUSED = 0x040, 0x100, 1 << 28
ERRORS = {
    0x001: "tx-timeout",
    0x004: "controller",
    0x010: "transceiver",
    BUS_OFF: "bus-off",
    RESTARTED: "restarted",
    REFUSED: "refused",  # not of the kernel: an slcan adapter's "no"
}
ERROR_MASK = sum(ERRORS) - REFUSED
CANNOT_SEND = 0x001 | BUS_OFF | REFUSED


class Bus(Protocol):
    """Frames in both directions. Nothing but `recover` may block.

    Every method raises LinkError on a bus that has gone away, and OSError on one that cannot at
    present.
    """

    def send(self, frames: Sequence[CanFrame]) -> bool:
        """Send the frames of one step; False if they were dropped since more are still queued."""
        ...

    def receive(self) -> list[CanFrame]:
        """Return what has come, not too much at a time."""
        ...

    def recover(self) -> None:
        """Bring a bus back that does not send; in a thread of its own, while nobody else calls."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class Recovery:
    """Repairs in a thread of its own, since a driver may take a second and a step may not wait.

    Parameters
    ----------
    repair : callable
        May block and may raise OSError.
    clock : callable, s

    Attributes
    ----------
    tries : int
        Repairs begun.
    """

    def __init__(self, repair: Callable[[], None], clock: Callable[[], float]) -> None:
        self.tries = 0
        self._repair, self._clock = repair, clock
        self._due_s: float | None = None
        self._thread: Thread | None = None

    @property
    def running(self) -> bool:
        """Whether a repair is going on; the bus is not to be touched then."""
        return self._thread is not None and self._thread.is_alive()

    def well(self) -> None:
        """Note that the bus sends."""
        self._due_s = None

    def failed(self) -> bool:
        """Note that it does not; tell whether a repair has just begun."""
        if self.running:
            self._due_s = None  # the wait begins anew when it ends
            return False
        now = self._clock()
        if self._due_s is None:
            self._due_s = now + BACK_OFF_S
        if now < self._due_s:
            return False
        self.tries, self._due_s = self.tries + 1, None
        self._thread = Thread(target=self._run, name="can-recovery", daemon=True)
        self._thread.start()
        return True

    def _run(self) -> None:
        """Repair once; what is still broken shows at the next step."""
        with suppress(OSError):
            self._repair()


def every_step(profile_messages: Sequence[Message], units: Sequence[int]) -> int:
    """Frames that go out with every step: of each bundle, and the banks of counts."""
    banks = -(-sum(units) // UNITS_PER_BANK) if COUNTS in profile_messages else 0
    return len(units) + banks


class CanLink(Counted):
    """A link over a CAN bus; see `transport.Link`.

    A step that does not fit is dropped before its first frame goes out. Should the bus refuse in
    the middle of one all the same, what went stands for itself, and the step counts as dropped.

    Parameters
    ----------
    bus : Bus
    uri, profile, may_arm, info, base
        As for any link, and the first identifier.
    clock : callable, s

    Attributes
    ----------
    errors : counter of str
        What kept frames from the bus: names of the operating system's errors, "backlog", and
        classes of error frames.
    rejected : int
        Frames with the identifier of ARM that are none.
    """

    def __init__(
        self, bus: Bus, uri: str, profile: str = "classic", may_arm: bool = False,
        info: Info = NOBODY, base: int = BASE, clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.uri = uri
        self.may_arm = may_arm
        self.errors: Counter[str] = Counter()
        self.rejected = 0
        self._bus = bus
        self._framer = Framer(profile, info, base)
        self._arm_id = ARM.data_id(base=base)
        self._recovery = Recovery(bus.recover, clock)
        self._is_off = self._closed = False

    @property
    def recoveries(self) -> int:
        """Repairs of the bus that were begun."""
        return self._recovery.tries

    def send(self, steps: Sequence[Step], vitals: Vitals = UNKNOWN) -> bool:
        """Send one step, or drop it while the bus takes none."""
        self._check_open()
        frames = on_can(self._framer.frames(steps, vitals), self._framer.base)
        went = self.count(self._hand_over(frames))
        if not went:
            self._repair()
        elif not self.trouble:
            self._recovery.well()
        return went

    def fail(self) -> None:
        """Note a failure that no step shows."""
        super().fail()
        self._repair()

    def _repair(self) -> None:
        """After a failure, begin a repair if it is time."""
        if self._recovery.failed():
            self._is_off = False  # until the repaired bus says so again

    def _hand_over(self, frames: Sequence[CanFrame]) -> bool:
        """Give frames to the bus; False and an error counted if it does not take them."""
        if self._is_off or self._recovery.running:
            return False
        try:
            whole = self._bus.send(frames)
        except LinkError:
            raise
        except OSError as error:
            self._note(error)
            return False
        if not whole:
            self.errors["backlog"] += 1
        return whole

    def poll(self) -> list[Arm]:
        """Return the arm requests that came; frames of others are passed over."""
        self._check_open()
        if self._recovery.running:
            return []
        try:
            frames = self._bus.receive()
        except LinkError:
            raise
        except OSError as error:
            self._note(error)
            self.fail()
            return []
        arms = [self._heard(frame) for frame in frames]
        return [arm for arm in arms if arm is not None]

    def _heard(self, frame: CanFrame) -> Arm | None:
        """Return the request of one frame, if it is one."""
        if frame.error:
            self._bus_says(frame.identifier)
        elif frame.identifier == self._arm_id:
            with suppress(FrameError):
                found = decode(ARM, 0, frame.data, self._framer.base)
                assert isinstance(found, Arm)
                return found
            self.rejected += 1
        return None

    def _bus_says(self, classes: int) -> None:
        """Count an error frame; after bus-off nothing is sent until the bus is restarted."""
        self.errors.update(name for bit, name in ERRORS.items() if classes & bit)
        self._is_off = bool(classes & BUS_OFF) or (self._is_off and not classes & RESTARTED)
        if classes & CANNOT_SEND:
            self.fail()

    def _note(self, error: OSError) -> None:
        """Count an error by its name."""
        self.errors[errno.errorcode.get(error.errno or 0, "other")] += 1

    def close(self) -> None:
        """Let go of the bus."""
        self._closed = True
        self._bus.close()

    def _check_open(self) -> None:
        """Raise LinkError on a link that was closed."""
        if self._closed:
            raise LinkError(f"link {self.uri!r} is closed; open it again with open_link")
