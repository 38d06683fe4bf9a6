"""An emulated Sessantaquattro+: 64 channels and 8 more words, 2000 Hz, 16 bits.

GO = 0 makes it hang up, as the real one does. Not emulated: other rates, numbers of channels and
modes, 24 bits, the SD card, its slow Wi-Fi.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikewire.emulate.wire import HANG_UP, START, interleave

# 64 channels, 2 AUX, 4 of the quaternion, buffer and trigger, ramp
GET = {0x00: bytes(13), 0x01: bytes([5, 24]), 0x02: bytes([87])}  # settings, firmware, battery


class Sessantaquattro:
    """See `spikewire.emulate.wire.Wire`."""

    name, fs_hz, lsb_uv, channels, packet, words = "sessantaquattro", 2000.0, 0.286102, 64, 4, 72
    port, calls, ports, whole, bits, restarts = 45454, True, 1, False, 16, False

    def __init__(self) -> None:
        self._heard = b""

    def pack(self, raw: NDArray[np.int64], emg: NDArray[Any], free_bytes: int) -> bytes:
        """High byte first; the ramp is the last word whatever the width."""
        columns = np.zeros((len(raw), max(self.words, 72)), np.int64)
        columns[:, :64] = emg
        columns[:, 66:70] = 16384, 0, 0, 0
        columns[:, self.words - 1] = raw
        return interleave(columns, self.words, ">i2")

    def hear(self, data: bytes) -> tuple[bytes, list[str]]:
        """Obey commands of two bytes."""
        self._heard += data
        answer, orders = b"", []
        while len(self._heard) >= 2:
            (first, second), self._heard = self._heard[:2], self._heard[2:]
            if first & 0x80:
                answer += GET.get(second, b"")
            elif not second & 1:
                orders.append(HANG_UP)
            elif first != 0b0_10_11_000 or second & 0x8E:
                orders.append(f"settings {first:02x} {second:02x} are not emulated")
            else:
                orders.append(START)
        return answer, orders
