"""An emulated Intan RHX: 64 channels of port A at 20 kHz, blocks of 128, commands as text.

Not emulated: other signals than the wide band of port A, spikes, other rates, the software's own
hiccups.
"""

from __future__ import annotations

import re
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikewire.emulate.wire import START, STOP

CHANNELS = 64
FIXED = {"type": "ControllerRecordUSB3", "sampleratehertz": "20000"}
SPELT = {"type": "Type", "sampleratehertz": "SampleRateHertz", "runmode": "RunMode",
         "tcpnumberdatablocksperwrite": "TCPNumberDataBlocksPerWrite"}


class Intan:
    """See `spikewire.emulate.wire.Wire`."""

    name, fs_hz, lsb_uv, channels, packet = "intan", 20000.0, 0.195, CHANNELS, 128
    port, calls, ports, whole, bits, restarts = 5000, False, 2, True, 32, True

    def __init__(self) -> None:
        self._heard = ""
        self.blocks, self.running = 10, False  # ten blocks at a time, until told otherwise
        self.words = CHANNELS  # how many of the channels there are on the wire
        self._enabled: set[int] = set()
        self.packet = 128 * self.blocks

    def pack(self, raw: NDArray[np.int64], emg: NDArray[Any], free_bytes: int) -> bytes:
        """Blocks of 128 frames, each a time stamp and the channels that were switched on."""
        on = [c for c in sorted(self._enabled) if c < self.words]
        wide = np.zeros((len(raw), 2 + len(on)), "<u2")
        wide[:, 0], wide[:, 1] = raw % 65536, raw // 65536 % 65536
        wide[:, 2:] = emg[:, on].astype(np.int32) + 32768
        magic = struct.pack("<I", 0x2EF07A08)
        return b"".join(magic + wide[k : k + 128].tobytes() for k in range(0, len(raw), 128))

    def hear(self, data: bytes) -> tuple[bytes, list[str]]:
        """Obey commands that end with a semicolon or a line."""
        self._heard += data.decode("ascii", "replace").lower()
        *lines, self._heard = re.split(r"[;\n]", self._heard)
        answer, orders = "", []
        for line in lines:
            words = line.split()
            if words[:1] == ["get"] and len(words) == 2:
                answer += self._get(words[1])
            elif words == ["execute", "clearalldataoutputs"]:
                self._enabled.clear()
            elif words[:2] == ["set", "runmode"]:
                self.running = words[2:] == ["run"]
                orders.append(START if self.running else STOP)
            elif words[:1] == ["set"] and len(words) == 3:
                answer += self._set(*words[1:])
            elif words:
                answer += f"Unrecognized command: {line}\n"
        return answer.encode(), orders

    def _get(self, name: str) -> str:
        known = FIXED | {"runmode": "Run" if self.running else "Stop",
                         "tcpnumberdatablocksperwrite": str(self.blocks)}
        if name not in known:
            return "Unrecognized parameter\n"
        return f"Return: {SPELT[name]} {known[name]}\n"

    def _set(self, name: str, value: str) -> str:
        if self.running:
            return f"Error: {name} cannot be set while the controller is running\n"
        channel = re.fullmatch(r"a-(\d{3})\.tcpdataoutputenabled", name)
        if channel and int(channel[1]) < CHANNELS and value in ("true", "false"):
            (self._enabled.add if value == "true" else self._enabled.discard)(int(channel[1]))
        elif name == "tcpnumberdatablocksperwrite" and value.isdecimal() and 1 <= int(value) <= 100:
            self.blocks = int(value)
            self.packet = 128 * self.blocks
        else:
            return "Unrecognized parameter\n"
        return ""
