"""What an emulated amplifier is: how it packs samples, and what it makes of commands.

Written from the protocol sheets beside the sources, not from them: the two share no table, so that
a mistake in one shows.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

START, STOP, HANG_UP = "start", "stop", "hang up"


class Wire(Protocol):
    """One amplifier's side of the wire.

    Attributes
    ----------
    name : str
    fs_hz, lsb_uv : float
    channels, packet, words : int
        EMG channels; samples sent at a time; 16-bit words of a sample.
    port : int
        Where it listens, or whom it calls.
    calls : bool
        It calls the computer.
    ports : int, sockets of a connection: the last takes commands
    whole : bool
        It can send whole packets only.
    bits : int, of its counter
    restarts : bool
        Its counter begins anew at every start.
    """

    name: str
    fs_hz: float
    lsb_uv: float
    channels: int
    packet: int
    words: int
    port: int
    calls: bool
    ports: int
    whole: bool
    bits: int
    restarts: bool

    def pack(self, raw: NDArray[np.int64], emg: NDArray[Any], free_bytes: int) -> bytes:
        """Bytes of successive samples; `emg` is int16 (samples, channels)."""

    def hear(self, data: bytes) -> tuple[bytes, list[str]]:
        """Take what the computer says; return the answer and orders, any others being refusals."""


def interleave(columns: NDArray[Any], words: int, order: str) -> bytes:
    """Samples as words one after the other, cut or filled up to a width."""
    samples, wide = columns.shape
    out = np.zeros((samples, words), order)
    low = columns[:, :words].astype(np.int64).astype(np.uint16)
    out[:, : min(words, wide)] = low.view(np.int16)
    return out.tobytes()
