"""A decoder, an adapter and a simulated machine on one clock, for the tests of the adapters.

Torques on the wire are read here from the frames themselves, with arithmetic of their own.
"""

from __future__ import annotations

import math
import struct
from typing import Any

from spikewire.adapters.assist import PERIOD_S, Adapter
from spikewire.adapters.bus import local_pair
from spikewire.adapters.h3 import H3
from spikewire.adapters.limits import Limits
from spikewire.adapters.mit import Mit
from spikewire.adapters.peers import H3Peer, MitPeer
from spikewire.link.codec import Step, encode_step
from spikewire.link.packing import pack
from spikewire.link.receiver import Receiver
from spikewire.link.table import INFO, INFO2, STATES, STEP, table_number

STATE = {name: number for number, name in STATES.items()}
MODEL = 7
# machine -> its class, its peer, its own keys, size of one step on the wire, what zero may be
KINDS: dict[str, tuple[Any, Any, dict[str, Any], float, float]] = {
    "h3": (H3, H3Peer, {"joint": "right_ankle"}, 1.0, 0.0),
    "mit": (Mit, MitPeer, {"can_id": 1, "motor": "AK80-9"}, 36 / 4095, 18 / 4095 + 1e-9),
}
LIMITS = {"sign": 1, "gain_nm_per_pps": 0.1, "threshold_pps": 20.0, "max_nm": 5.0,
          "trip_nm": 9.0, "rate_nm_per_s": 20.0}


def on_wire(kind: str, frames: list[tuple[int, bytes]]) -> float | None:
    """Torque of the newest set-point among frames, N.m; None if there is none."""
    if kind == "h3":
        found = [struct.unpack("6b", data) for identifier, data in frames if identifier == 0x49]
        assert all(len([nm for nm in six if nm]) <= 1 for six in found)
        return float(max(found[-1], key=abs)) if found else None
    raws = [int.from_bytes(data, "big") for _, data in frames if data[:7] != b"\xff" * 7]
    assert all(raw >> 12 & 0xFFFFFF == 0 for raw in raws), "gains are not zero"
    return raws[-1] % 4096 * 36 / 4095 - 18 if raws else None


class World:
    """One simulated machine; time goes on by `tick`.

    Parameters
    ----------
    kind : str, key of `KINDS`
    peer_options : of the simulated machine
    limits : changes of `LIMITS`

    Attributes
    ----------
    wire_nm : float, torque of the last set-point sent
    usable_s : float, when the receiver last had a usable frame
    """

    def __init__(self, kind: str, peer_options: dict[str, Any] | None = None,
                 **limits: Any) -> None:
        machine, peer, own, self.step_nm, self.zero_nm = KINDS[kind]
        self.kind, self.now = kind, 100.0
        self.limits = Limits(**{**LIMITS, **limits}, own=own)
        self.bus, far = local_pair()
        self.peer = peer(far, **(peer_options or {}))
        self.receiver = Receiver(MODEL)
        self.adapter = Adapter(machine(self.limits), self.receiver, self.limits)
        self.wire_nm, self.usable_s = 0.0, -math.inf
        self.sent: list[tuple[int, bytes]] = []  # by the last tick
        self._counter = 0

    def frame(self, drive: float = 100.0, **change: Any) -> None:
        """Let one frame of the decoder arrive."""
        values = {"state": STATE["ACTIVE"], "age_ms": 5.0, "model_id16": MODEL,
                  "drive": (drive, math.nan, math.nan, math.nan)} | change
        info = {"proto": 1, "n_mu": 5, "step_period_us": 9766, "model_id": MODEL}
        hash_ = {"counter": 0, "table_hash": table_number()}
        self.receiver.accept(INFO, 0, pack(INFO, info), self.now)
        self.receiver.accept(INFO2, 0, pack(INFO2, hash_), self.now)
        payload = encode_step(Step(counter=self._counter, **values))
        taken = self.receiver.accept(STEP, 0, payload, self.now)
        self._counter = (self._counter + 1) % 256
        # While a frame is refused the one before it stays usable, and grows old.
        if taken is not None and self.receiver.usable(self.now):
            self.usable_s = self.now

    def lose(self) -> None:
        """Lose one frame on its way."""
        self._counter = (self._counter + 1) % 256

    def tick(self, passed_s: float = PERIOD_S) -> float:
        """One turn of the machine and of the adapter, then time goes on; return the torque sent."""
        self.adapter.machine.hear(self.bus.read(), self.now)
        self.sent = self.adapter.tick(self.now)
        for identifier, data in self.sent:
            self.bus.send(identifier, data)
        found = on_wire(self.kind, self.sent)
        self.wire_nm = self.wire_nm if found is None else found
        self.peer.turn(self.now)
        self.now += passed_s
        return self.wire_nm

    def run(self, n: int, drive: float = 100.0, **change: Any) -> list[float]:
        """A frame and a tick, `n` times; return the torques sent."""
        torques = []
        for _ in range(n):
            self.frame(drive, **change)
            torques.append(self.tick())
        return torques

    def armed(self, drive: float = 100.0, n: int = 60) -> World:
        """Arm, and go on until the torque has settled."""
        self.run(4, drive)
        self.adapter.arm(self.now)
        self.run(n, drive)
        assert self.adapter.state == "on", self.adapter.news()
        return self

    def does(self) -> float:
        """Torque that the machine makes, N.m."""
        torque = self.peer.torque_nm
        return max(torque, key=abs) if isinstance(torque, list) else torque

    def off(self) -> bool:
        """Whether the machine is disabled."""
        return not any(self.peer.types) if self.kind == "h3" else not self.peer.on
