"""Everything in which one amplifier on a TCP connection differs from another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from spikewire.io.dial import Address
from spikewire.io.words import Decoder


class Thinner(Protocol):
    """A causal filter that leaves one sample in so many."""

    def push(self, first: int, counts: NDArray[Any]) -> tuple[int, NDArray[Any]]:
        """Index and samples at the lower rate."""


@dataclass(frozen=True)
class Amplifier:
    """Everything in which one amplifier differs from another.

    Attributes
    ----------
    name : str
    fs_hz, lsb_uv, latency_s : float, as the decoder gets them; see `spikewire.io.source.Source`
    channels, packet_samples : int, likewise; what the amplifier sends at a time
    script : tuple of (bytes, float)
        What is sent to begin, and how long to wait after each; what comes meanwhile is thrown away.
    stop : bytes
    decoder : callable -> Decoder, for each connection
    calls : tuple of Address
        What to call, the first for samples and the last for commands; empty if it calls us.
    own : Address, where it calls us
    advice : str, what to check if nothing comes
    sent_hz, bits : float, int; rate on the wire, and of its counter
    thinner : callable -> Thinner, or None
    complaint : callable (bytes) -> str
        What is wrong by the amplifier's answers, or nothing.
    montage : str
    """

    name: str
    fs_hz: float
    lsb_uv: float
    channels: int
    packet_samples: int
    script: tuple[tuple[bytes, float], ...]
    stop: bytes
    decoder: Callable[[], Decoder]
    advice: str
    calls: tuple[Address, ...] = ()
    own: Address = ("", 0)
    latency_s: float = 0.0
    sent_hz: float = 0.0
    bits: int = 16
    thinner: Callable[[], Thinner] | None = None
    complaint: Callable[[bytes], str] = lambda answers: ""
    montage: str = "mono"
