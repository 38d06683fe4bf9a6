"""An emulated Muovi (32 channels) or Muovi+ (64): 2000 Hz, 16 bits.

Not emulated: modes other than 0, the rate of EEG, losses of Wi-Fi but by script.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikewire.emulate.wire import START, STOP, interleave

PACKETS = {32: 18, 64: 10}


class Muovi:
    """See `spikewire.emulate.wire.Wire`."""

    fs_hz, lsb_uv, port, calls, ports, whole, bits = 2000.0, 0.286102, 54321, True, 1, False, 16
    restarts = False

    def __init__(self, channels: int) -> None:
        self.channels, self.packet, self.words = channels, PACKETS[channels], channels + 6
        self.name = "muovi" if channels == 32 else "muovi+"

    def pack(self, raw: NDArray[np.int64], emg: NDArray[Any], free_bytes: int) -> bytes:
        """High byte first: EMG, quaternion, buffer and trigger; last, at any width, the counter."""
        columns = np.zeros((len(raw), max(self.words, self.channels + 6)), np.int64)
        columns[:, : self.channels] = emg
        columns[:, self.channels] = 16384
        columns[:, self.words - 1] = raw
        return interleave(columns, self.words, ">i2")

    def hear(self, data: bytes) -> tuple[bytes, list[str]]:
        """Obey commands of a byte: EMG or EEG, mode, GO."""
        words = {0x09: START, 0x08: STOP}
        return b"", [words.get(byte, f"settings {byte:02x} are not emulated") for byte in data]
