"""Motors that speak the packet of MIT's Mini Cheetah: T-Motor / CubeMars AK, 1 Mbit/s.

Eight bytes, big endian: position 16 bits, speed 12, kp 12, kd 12, torque 12; only the torque is
used, kp = kd = 0. Drives of generation V3 speak another packet under extended identifiers, in which
"enter" would read as full gains: they are not for this adapter. Some drives hold the last command
when frames stop, so every stop is sent: torque 0, then exit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from spikewire.adapters.bus import Frame
from spikewire.adapters.limits import Limits, Row, bounded, choice, torques, whole

ENTER, EXIT = b"\xff" * 7 + b"\xfc", b"\xff" * 7 + b"\xfd"
# motor -> what the ends of the packet's ranges mean: rad, rad/s, N.m; CubeMars' manual V1.0.8
MOTORS: dict[str, tuple[float, float, float]] = {"AK80-9": (12.5, 50.0, 18.0)}
RANGE_NM = MOTORS["AK80-9"][2]
CEILING_NM = RANGE_NM / 2
NOTHING = 0x8000, 0x800  # raws of position and speed zero
ERRORS = {1: "too hot", 2: "current too high", 3: "voltage too high", 4: "voltage too low",
          5: "encoder", 6: "phase currents differ"}

ROWS: dict[str, Row] = {
    "motor": choice("AK80-9", *MOTORS),
    "can_id": whole(1, 1, 127),
    **torques(max_nm=3.0, trip_nm=6.0, rate=10.0,
              ceiling=CEILING_NM, reported=17.0, fastest=50.0),  # a motor reports no more than 18
}


class Feedback(NamedTuple):
    """What a motor says: its id, rad, rad/s, N.m, and a key of `ERRORS` or 0."""

    can_id: int
    position_rad: float
    speed_rad_s: float
    torque_nm: float
    error: int


def torque_raw(nm: float, most: float) -> int:
    """Return the 12 bits of a torque, rounded towards zero; `most` is where the range ends.

    4096 raws have no middle: the smallest torques are half a step to either side of zero, 0.0044
    N.m of 18. Zero is the upper one, which drives that divide by 4096 take as exactly 0.
    """
    nm = bounded(nm, most)
    steps = max(0, int(abs(nm) * 4095 / (2 * most) - 0.5))
    return min(0x800 + steps, 0xFFF) if nm >= 0 else max(0x7FF - steps, 0)


def command(nm: float, motor: str = "AK80-9") -> bytes:
    """Return the packet of one torque, everything else zero.

    Parameters
    ----------
    nm : float
        N.m; beyond `CEILING_NM` it is cut, NaN is zero.
    motor : str
        Key of `MOTORS`.

    Returns
    -------
    bytes (8,)
    """
    position, speed = NOTHING
    torque = torque_raw(bounded(nm, CEILING_NM), MOTORS[motor][2])
    return (position << 48 | speed << 36 | torque).to_bytes(8, "big")


ZERO = command(0.0)


def feedback(data: bytes, motor: str = "AK80-9") -> Feedback | None:
    """Return what a feedback frame says, or None if it is none (6 bytes, or 8 with an error)."""
    if len(data) not in (6, 8):
        return None
    bits = int.from_bytes(data[1:6], "big")
    position, speed, torque = MOTORS[motor]
    return Feedback(
        data[0], position * (2 * (bits >> 24) / 0xFFFF - 1),
        speed * (2 * (bits >> 12 & 0xFFF) / 0xFFF - 1), torque * (2 * (bits & 0xFFF) / 0xFFF - 1),
        data[7] if len(data) == 8 else 0,
    )


class Mit:
    """One motor as an adapter sees it; see `assist.Machine`."""

    def __init__(self, limits: Limits) -> None:
        self._id, self._motor = limits.own["can_id"], limits.own["motor"]
        self._trip_nm = limits.trip_nm
        self.name = f"motor {self._id}"
        self.heard_s = -math.inf
        self._said: Feedback | None = None
        self._other = False  # somebody else commands it

    def hear(self, frames: Sequence[Frame], now: float) -> None:
        """Take what came on the bus; drives answer under identifier 0 or their own."""
        for identifier, data in frames:
            if identifier not in (0, self._id):
                continue
            said = feedback(data, self._motor)
            if said is not None and said.can_id == self._id:
                self._said, self.heard_s = said, now
            elif identifier == self._id:
                self._other = True

    def fault(self) -> str:
        """Return what speaks against going on, or nothing."""
        if self._other:
            return f"somebody else commands {self.name}"
        if self._said is None:
            return ""
        if self._said.error:
            name = ERRORS.get(self._said.error, "unknown")
            return f"{self.name} reports error {self._said.error}, {name}"
        if abs(self._said.torque_nm) > self._trip_nm:
            return (f"{self.name} reports {self._said.torque_nm:.1f} N.m, trip_nm is "
                    f"{self._trip_nm:g}")
        return ""

    def forget(self) -> None:
        """Forget what was heard, since an operator arms again."""
        self._said, self._other, self.heard_s = None, False, -math.inf

    def start(self) -> list[Frame]:
        """Return what makes it talk, and hold zero torque."""
        return [(self._id, ENTER), (self._id, ZERO)]

    def torque(self, nm: float) -> list[Frame]:
        """Return one command."""
        return [(self._id, command(nm, self._motor))]

    def stop(self) -> list[Frame]:
        """Return torque 0, then exit."""
        return [(self._id, ZERO), (self._id, EXIT)]
