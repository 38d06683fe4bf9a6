"""Technaid Exo-H3: torque control of one joint over CAN, 1 Mbit/s.

Layout and identifiers are those of Technaid's public ROS driver; six bytes in the order of
`JOINTS`. The H3 documents no time-out in torque mode: what was sent last may go on for ever, so
every stop is sent, torque 0 first and control type 0 then.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

from spikewire.adapters.bus import Frame
from spikewire.adapters.limits import Limits, Row, bounded, choice, torques

JOINTS = ("right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle")
CONTROL_TYPE, SET_TORQUE, MODE = 0x47, 0x49, 0x55  # to the H3
TORQUE, STATE = 0x78, 0x96  # from it, every 10 ms
COMMANDS = range(0x46, 0x56)  # all that a host sends
DISABLED, TORQUE_CONTROL = 0, 3  # control types
LOW_RESOLUTION = 1  # mode in which it sends TORQUE and STATE
RANGE_NM = 50.0  # its own controller takes no more
CEILING_NM = RANGE_NM / 2
# states of its task controller in which it does nothing by itself, and the others
REST = {0: "standing", 11: "passive", 12: "compliant", 16: "seated"}
BUSY = {
    **dict.fromkeys(range(1, 11), "walking"), 13: "stopping", 14: "standing up",
    15: "sitting down", 17: "stepping left", 18: "stepping right", 19: "joints blocked",
    **{21 + n: f"failure of {joint}" for n, joint in enumerate(JOINTS)},
}  # fmt: skip

ROWS: dict[str, Row] = {
    "joint": choice("right_ankle", *JOINTS),
    **torques(max_nm=10.0, trip_nm=20.0, rate=20.0,
              ceiling=CEILING_NM, reported=RANGE_NM, fastest=100.0),
}


def six(joint: int, value: int) -> bytes:
    """Return a command of the H3: `value` for one joint, 0 for the others; never wraps."""
    return struct.pack("6b", *(value if n == joint else 0 for n in range(len(JOINTS))))


class H3:
    """The H3 as an adapter sees it; see `assist.Machine`."""

    name = "the H3"

    def __init__(self, limits: Limits) -> None:
        self._joint = JOINTS.index(limits.own["joint"])
        self._trip_nm = limits.trip_nm
        self._heard = {TORQUE: -math.inf, STATE: -math.inf}
        self._told: tuple[int, int] | None = None  # state and app command
        self._app: int | None = None  # the first of these
        self._felt_nm = 0
        self._other: int | None = None  # a command that somebody else sent

    @property
    def heard_s(self) -> float:
        """Time of the older of the two messages that must keep coming."""
        return min(self._heard.values())

    def hear(self, frames: Sequence[Frame], now: float) -> None:
        """Take what came on the bus."""
        for identifier, data in frames:
            if identifier in COMMANDS:
                self._other = identifier
            if identifier not in self._heard or len(data) < len(JOINTS):
                continue
            self._heard[identifier] = now
            if identifier == STATE:
                self._told = data[0], data[1]
                self._app = data[1] if self._app is None else self._app
            else:
                self._felt_nm = struct.unpack_from("6b", data)[self._joint]

    def fault(self) -> str:
        """Return what speaks against going on, or nothing."""
        if self._other is not None:
            return f"somebody else commands the H3 (0x{self._other:02x} came)"
        state, app = self._told or (next(iter(REST)), self._app)
        if state not in REST:
            rest = ", ".join(f"{key} {name}" for key, name in REST.items())
            return f"the H3 says {state} {BUSY.get(state, 'unknown')}; allowed: {rest}"
        if app != self._app:
            return f"the H3's app gave command {app}"
        if abs(self._felt_nm) > self._trip_nm:
            return f"the H3 reports {self._felt_nm} N.m, trip_nm is {self._trip_nm:g}"
        return ""

    def forget(self) -> None:
        """Forget what was heard, since an operator arms again."""
        self._heard = dict.fromkeys(self._heard, -math.inf)
        self._told = self._app = self._other = None
        self._felt_nm = 0

    def start(self) -> list[Frame]:
        """Return what makes it talk, and hold zero torque."""
        return [(MODE, six(0, LOW_RESOLUTION)), (SET_TORQUE, six(0, 0)),
                (CONTROL_TYPE, six(self._joint, TORQUE_CONTROL))]

    def torque(self, nm: float) -> list[Frame]:
        """Return one set-point, in whole N.m towards zero."""
        return [(SET_TORQUE, six(self._joint, int(bounded(nm, CEILING_NM))))]

    def stop(self) -> list[Frame]:
        """Return torque 0, then control type 0."""
        return [(SET_TORQUE, six(0, 0)), (CONTROL_TYPE, six(0, DISABLED))]
