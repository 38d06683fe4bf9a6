"""An emulated Quattrocento: 120 channels, 2048 Hz, MULTIPLE IN 1 from column 32 on.

Not emulated: other numbers of channels and rates, filters, analogue output, the buffer's true size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikewire.emulate.wire import START, STOP, interleave

BUFFER_BYTES = 60000
SIZE = 40


def checksum(data: bytes) -> int:
    """CRC-8/MAXIM-DOW, the long way: bits as sent, low first, divided by x^8 + x^5 + x^4 + 1."""
    bits = [byte >> k & 1 for byte in data for k in range(8)] + [0] * 8
    for at in range(len(bits) - 8):
        if bits[at]:
            for power in (8, 5, 4, 0):
                bits[at + 8 - power] ^= 1
    return sum(bit << k for k, bit in enumerate(bits[-8:]))


class Quattrocento:
    """See `spikewire.emulate.wire.Wire`."""

    name, fs_hz, lsb_uv, channels, packet, words = "quattrocento", 2048.0, 0.508626, 64, 12, 120
    port, calls, ports, whole, bits, restarts = 23456, False, 1, False, 16, True

    def __init__(self) -> None:
        self._heard = b""

    def pack(self, raw: NDArray[np.int64], emg: NDArray[Any], free_bytes: int) -> bytes:
        """IN 1 and 2 are quiet, then the grid, 16 auxiliary and 8 accessory words, low byte first.

        The auxiliary inputs carry a slow ramp: a reader that takes it for the counter shows.
        """
        columns = np.zeros((len(raw), 120), np.int64)
        columns[:, 32:96] = emg
        columns[:, 96:112] = (raw // 16)[:, None] % 32768
        columns[:, 112] = raw
        columns[:, 115] = free_bytes
        return interleave(columns, self.words, "<i2")

    def hear(self, data: bytes) -> tuple[bytes, list[str]]:
        """Obey commands of 40 bytes whose checksum is right."""
        self._heard += data
        orders = []
        while len(self._heard) >= SIZE:
            words, self._heard = self._heard[:SIZE], self._heard[SIZE:]
            if checksum(words[:-1]) != words[-1]:
                orders.append(f"checksum {words[-1]:02x}, expected {checksum(words[:-1]):02x}")
            elif not words[0] & 0x80:
                orders.append(f"first byte {words[0]:02x}")
            elif not words[0] & 1:
                orders.append(STOP)
            elif words[0] & 0x7E != 0x08:  # 2048 Hz, 120 channels, no DECIM, no REC
                orders.append(f"settings {words[0]:02x} are not emulated")
            else:
                orders.append(START)
        return b"", orders
