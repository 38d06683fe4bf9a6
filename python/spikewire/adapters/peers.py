"""Machines that are not there: an H3 and an AK motor that answer as documented, traps included.

They stand at the other end of a bus in tests and on a desk. What they do not simulate: mechanics,
the wearer, time on the wire, and everything of the protocols that an adapter does not use.
"""

from __future__ import annotations

import math
import struct
from typing import Protocol

from spikewire.adapters import h3, mit
from spikewire.adapters.bus import Bus


class Peer(Protocol):
    """A simulated machine; `turn` is called every few milliseconds."""

    def turn(self, now: float) -> None:
        """Take what came on the bus, and answer."""
        ...

    def __str__(self) -> str:
        """What it does, for people."""
        ...


class H3Peer:
    """An Exo-H3: reports every 10 ms once its mode is set; has no time-out in torque mode.

    Attributes
    ----------
    types : list of int
        Control type of each joint.
    state, app : int
        What it says of itself.
    silent : bool
        While set it hears and says nothing, but goes on with what it was told.
    """

    EVERY_S = 0.010

    def __init__(self, bus: Bus) -> None:
        self.types = [h3.DISABLED] * 6
        self.state = self.app = 0
        self.silent = False
        self._bus, self._set_nm = bus, [0] * 6
        self._mode, self._said_s = 0, -math.inf

    @property
    def torque_nm(self) -> list[float]:
        """Torque of each joint: the last set-point, for as long as its type is torque control."""
        return [max(-h3.RANGE_NM, min(h3.RANGE_NM, float(nm)))
                if kind == h3.TORQUE_CONTROL else 0.0
                for nm, kind in zip(self._set_nm, self.types, strict=True)]

    def turn(self, now: float) -> None:
        for identifier, data in self._bus.read():
            if self.silent or len(data) != 6:
                continue
            if identifier == h3.CONTROL_TYPE:
                self.types = list(data)
            elif identifier == h3.SET_TORQUE:
                self._set_nm = list(struct.unpack("6b", data))
            elif identifier == h3.MODE:
                self._mode = data[0]
        due = now - self._said_s >= self.EVERY_S - 1e-9
        if due and self._mode == h3.LOW_RESOLUTION and not self.silent:
            self._said_s = now
            self._bus.send(h3.TORQUE, struct.pack("6b", *(int(nm) for nm in self.torque_nm)))
            self._bus.send(h3.STATE, bytes((self.state, self.app, 0, 0, 0, 0)))

    def __str__(self) -> str:
        return ", ".join(f"{name} {nm:g} N.m" for name, nm, kind in
                         zip(h3.JOINTS, self.torque_nm, self.types, strict=True) if kind) or "off"


class MitPeer:
    """An AK motor: answers each frame; keeps the last command unless it has a time-out.

    Parameters
    ----------
    bus : Bus
    can_id : int
    timeout_s : float
        Silence after which it lets go by itself; infinite as of the AK60 v3, which never does.

    Attributes
    ----------
    on : bool
        In motor mode.
    error : int
        What it says of itself.
    silent : bool
        While set it hears and says nothing, but goes on with what it was told.
    """

    def __init__(self, bus: Bus, can_id: int = 1, timeout_s: float = math.inf) -> None:
        self.on = self.silent = False
        self.error = 0
        self._bus, self._id, self._timeout_s = bus, can_id, timeout_s
        self._raw, self._heard_s = 0x800, math.inf  # of the last command's torque

    @property
    def torque_nm(self) -> float:
        """Torque: the last command, for as long as it is in motor mode."""
        return mit.RANGE_NM * (2 * self._raw / 0xFFF - 1) if self.on else 0.0

    def turn(self, now: float) -> None:
        for identifier, data in self._bus.read():
            if self.silent or identifier != self._id or len(data) != 8:
                continue
            self._heard_s = now
            if data in (mit.ENTER, mit.EXIT):
                self.on, self._raw = data == mit.ENTER, 0x800
            elif self.on:
                self._raw = int.from_bytes(data[6:], "big") & 0xFFF
            self._bus.send(0, bytes((self._id, 0x80, 0, 0x80, self._raw >> 8, self._raw & 0xFF,
                                     25, self.error)))
        if now - self._heard_s >= self._timeout_s:
            self.on = False

    def __str__(self) -> str:
        return f"{self.torque_nm:.2f} N.m" if self.on else "off"


PEERS = {"h3": H3Peer, "mit": MitPeer}
