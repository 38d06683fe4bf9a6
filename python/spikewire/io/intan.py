"""Intan RHX: 64 channels of the controller's software over TCP, thinned out to 2000 Hz.

The software listens at two ports: commands are lines of text, samples come in blocks of 128 that
begin with a magic number. By default it sends ten blocks at a time, so it is set to one. At its own
lowest rates even one block takes 64 ms: it must sample at 20 kHz (a block is 6.4 ms), and every
tenth sample is kept behind a causal low-pass. Source: Intan-RHX 3.4, its TCP output.
"""

from __future__ import annotations

import re
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikewire.io.amplifier import Amplifier
from spikewire.io.dial import address
from spikewire.io.source import Clock, chosen, refuse_unknown
from spikewire.io.stream import Stream
from spikewire.io.words import Samples

HOST, PORT = "127.0.0.1", 5000  # commands; samples come at the next port
MAGIC = struct.pack("<I", 0x2EF07A08)
FRAMES = 128  # samples of a block
CHANNELS = 64
LSB_UV = 0.195
MIDDLE = 32768  # counts of 0 V
REACH = 4  # the low-pass reaches over so many samples of the lower rate to both sides
CUT = 0.4  # of the lower rate: where the low-pass has fallen to a half
RATES = {"20": 20000, "10": 10000, "30": 30000}
OUT_HZ = 2000.0
PAUSE_S = 0.1  # its own clients leave it so much between commands


class Blocks:
    """Decoder of blocks; see `spikewire.io.words.Decoder`.

    A block counts if its 128 timestamps run, and, where the stream begins or was lost, if another
    magic number follows at the right distance. Its last frame, which nothing follows, waits for
    that number always.
    """

    def __init__(self) -> None:
        self._kind = np.dtype([("time", "<i4"), ("emg", "<u2", (CHANNELS,))])
        self._size = len(MAGIC) + FRAMES * self._kind.itemsize
        self._data = bytearray()
        self._held = np.zeros(0, self._kind)
        self._found, self.framing = False, 0

    def feed(self, data: bytes) -> Samples:
        """Take bytes; return the samples of the blocks that they complete."""
        self._data += data
        whole = [self._held[:0]]
        while len(self._data) >= self._size and (self._found or self._find()):
            frames = np.frombuffer(bytes(self._data[4 : self._size]), self._kind)
            steps = np.diff(frames["time"].astype(np.int64))
            if not self._data.startswith(MAGIC) or (steps != 1).any():
                self._found, self.framing, self._held = False, self.framing + 1, self._held[:0]
                del self._data[:1]  # this magic number was none
                continue
            whole += [self._held, frames[:-1]]
            self._held = frames[-1:]
            del self._data[: self._size]
        made = np.concatenate(whole)
        counts = (made["emg"].astype(np.int32) - MIDDLE).astype(np.int16)
        return Samples(made["time"].astype(np.int64) % (1 << 32), counts)

    def _find(self) -> bool:
        """Look for two magic numbers at the distance of a block."""
        while (at := self._data.find(MAGIC)) >= 0:
            del self._data[:at]
            if len(self._data) < self._size + len(MAGIC):
                return False
            if self._data[self._size : self._size + len(MAGIC)] == MAGIC:
                self._found = True
                return True
            del self._data[:1]
        del self._data[: -len(MAGIC)]
        return False

    def strangeness(self) -> str:
        """What was looked for."""
        return (f"no two blocks of {self._size} bytes followed each other, allowed are blocks of "
                f"{CHANNELS} channels")


def low_pass(factor: int) -> NDArray[np.float64]:
    """A Hamming-windowed sinc of 2 * 4 * factor + 1 taps: half at 0.4 of the lower rate."""
    n = np.arange(-REACH * factor, REACH * factor + 1)
    taps = np.sinc(2 * CUT * n / factor) * np.hamming(len(n))
    return np.asarray(taps / taps.sum())


class Thin:
    """Keep the samples whose index is a multiple of `factor`, behind a causal low-pass.

    The low-pass delays by 4 samples of the lower rate. After a gap it begins anew, so that nothing
    is made of what lies on both sides.

    Parameters
    ----------
    factor : int
    """

    def __init__(self, factor: int) -> None:
        self._factor, self._taps = factor, low_pass(factor)
        self._past: NDArray[Any] | None = None
        self._next = 0

    def push(self, first: int, counts: NDArray[Any]) -> tuple[int, NDArray[Any]]:
        """Take successive samples from index `first`; return index and samples at the lower rate.

        An index of the lower rate is that of the higher one divided by `factor`.
        """
        if self._past is None or first != self._next:
            self._past = counts[:0]
        self._next = first + len(counts)
        held = np.concatenate([self._past, counts])
        start, reach = self._next - len(held), len(self._taps) - 1
        kept = -(-(start + reach) // self._factor)  # first index of the lower rate that is whole
        ends = np.arange(kept * self._factor - start, len(held), self._factor)
        windows = np.stack([held[end - reach : end + 1] for end in ends]) if len(ends) else None
        self._past = held[-reach:]
        if windows is None:
            return kept, counts[:0]
        smooth = np.einsum("t,ktc->kc", self._taps, windows, optimize=True)
        return kept, np.clip(np.rint(smooth), -MIDDLE, MIDDLE - 1).astype(np.int16)


def script(port: str) -> tuple[tuple[bytes, float], ...]:
    """What the software is told, and how long it is left alone after each."""
    wide = "".join(f"set {port}-{n:03d}.tcpdataoutputenabled true;" for n in range(CHANNELS))
    return (
        (b"set runmode stop;", PAUSE_S),
        (b"get sampleratehertz;execute clearalldataoutputs;", PAUSE_S),
        (b"set tcpnumberdatablocksperwrite 1;", PAUSE_S),
        (wide.encode(), PAUSE_S),
        (b"set runmode run;", 0.0),
    )


def complaint(rate_hz: int, answers: bytes) -> str:
    """What is wrong by the software's answers."""
    text = answers.decode("ascii", "replace")
    rate = re.search(r"SampleRateHertz (\d+)", text)
    if rate and int(rate[1]) != rate_hz:
        return (f"the controller samples at {rate[1]} Hz, {rate_hz} came with the address; set it "
                f"to {rate_hz} Hz in RHX, or type another ?khz= of {', '.join(RATES)}")
    bad = re.search(r"(Error|Unrecognized)[^;\n]{0,80}", text)
    return f"RHX answers {bad[0]!r}; are 64 channels of that port there?" if bad else ""


def open_uri(uri: str, where: str, options: dict[str, str], clock: Clock) -> Stream:
    """Open `intan:127.0.0.1?khz=20&port=a`: every tenth sample of 20 kHz, causally filtered.

    Raises
    ------
    InputError
        Unknown option, other settings of the software, or no samples at their pace.
    """
    refuse_unknown(uri, options, {"khz", "port"})
    rate_hz = chosen(uri, options, "khz", "20", RATES)
    chosen(uri, options, "port", "a", dict.fromkeys("abcdefgh", 0))
    host, port = address(uri, where, HOST, PORT)
    factor = round(rate_hz / OUT_HZ)
    source = Stream(uri, Amplifier(
        "Intan RHX", OUT_HZ, LSB_UV, CHANNELS, -(-FRAMES // factor),
        script(options.get("port", "a")), b"set runmode stop;", Blocks,
        calls=((host, port + 1), (host, port)), latency_s=REACH / OUT_HZ, sent_hz=float(rate_hz),
        bits=32, thinner=lambda: Thin(factor),
        complaint=lambda answers: complaint(rate_hz, answers),
        advice="is RHX running, with both ports of its Remote TCP Control set to Connect?",
    ), clock).open()
    source.note = (f"every {factor}th of {rate_hz} Hz, behind a causal low-pass that delays by "
                   f"{1e3 * source.latency_s:g} ms")
    return source
