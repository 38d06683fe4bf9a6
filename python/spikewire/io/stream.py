"""What all amplifiers on a TCP connection have in common; `Stream` is the source made of it.

The connection is made, set up, drained, read, watched, and made again when it is lost. Nothing here
ever waits longer than `read` was asked to, so the loop goes on telling the age of the data while an
amplifier is away.
"""

from __future__ import annotations

import select
import socket
from contextlib import suppress
from typing import Any

from numpy.typing import NDArray

from spikewire.io.amplifier import Amplifier
from spikewire.io.dial import Answer, Call, Dial
from spikewire.io.source import Block, Clock
from spikewire.io.timeline import Timeline
from spikewire.io.words import Samples
from spikewire.signals import InputError

PACE_S, PACE_SHARE = 0.25, 0.2  # samples are paced if so many came in so long, within a fifth
SILENCE_S = 1.0  # without a sample a connection counts as dead
WAIT_S = 20.0  # for an amplifier that has not been switched on yet
TURN_S = 0.1  # of waiting while it is opened
ENOUGH_S = 4.0  # of bytes that are no samples, or samples at no pace
LARGEST = 1 << 18  # bytes of one reading
NEAR_FULL = 1 / 8  # of the largest free buffer that the amplifier has told


class Pace:
    """Whether samples come as fast as they are acquired; before that, what comes is a backlog."""

    def __init__(self, fs_hz: float) -> None:
        self._fs_hz = fs_hz
        self._since: float | None = None
        self._count = 0
        self.measured_hz = 0.0

    def take(self, samples: int, now: float) -> bool:
        """Count what came."""
        if self._since is None:
            self._since = now if samples else None
            return False
        self._count += samples
        passed = now - self._since
        if passed < PACE_S or not samples:
            return False
        self.measured_hz = self._count / passed
        self._since, self._count = now, 0
        return abs(self.measured_hz / self._fs_hz - 1) <= PACE_SHARE


class Stream:
    """A live amplifier; see `spikewire.io.source.Source`.

    Attributes
    ----------
    troubles : dict of str to int
        What went wrong so far, by name: see docs/amplifiers.md.
    """

    ended = False

    def __init__(self, uri: str, amplifier: Amplifier, clock: Clock) -> None:
        a = amplifier
        self.uri, self.note, self.montage = uri, "", a.montage
        self.fs_hz, self.lsb_uv, self.latency_s = a.fs_hz, a.lsb_uv, a.latency_s
        self.channels, self.block_samples = a.channels, a.packet_samples
        self._amplifier, self._clock = a, clock
        self._sent_hz = a.sent_hz or a.fs_hz
        self._dial: Dial = Call(uri, a.calls, clock) if a.calls else Answer(uri, a.own)
        self._line = Timeline(self._sent_hz, a.bits)
        self._thinner = a.thinner() if a.thinner else None
        self._sockets: list[socket.socket] = []
        self._counted = dict.fromkeys(
            ("disconnects", "silences", "framing", "near_full", "refused_callers"), 0)
        self._free, self._most_free = 0, 0
        self._buffer_full, self._strange = False, ""
        self._answers, self._complaint = b"", ""
        self._step, self._due, self._heard = 0, 0.0, 0.0
        self._read_before = False
        self._begin(False)

    @property
    def troubles(self) -> dict[str, int]:
        """What went wrong so far, by name."""
        counted = self._counted | {"framing": self._counted["framing"] + self._decoder.framing}
        return counted | self._line.troubles

    @property
    def faults(self) -> frozenset[str]:
        """What is wrong now: the amplifier's "buffer" is nearly full, the "rate" is another."""
        return frozenset(["buffer"] * self._buffer_full + ["rate"] * (self._line.rate_error != 0))

    def open(self, wait_s: float = WAIT_S) -> Stream:
        """Wait until samples come at their pace.

        Raises
        ------
        InputError
            They do not within `wait_s`, or the amplifier says that it is set otherwise.
        """
        until, heard = self._clock.now() + wait_s, False
        try:
            while not self._paced:
                self._turn(min(until, self._clock.now() + TURN_S))
                if self._complaint:
                    raise InputError(f"source {self.uri!r}: {self._complaint}")
                if self._heard_bytes and not heard:
                    heard, until = True, min(until, self._clock.now() + ENOUGH_S)
                if self._clock.now() >= until and not self._paced:
                    raise InputError(f"source {self.uri!r}: {self._why_not(wait_s)}")
        except BaseException:
            self.close()
            raise
        return self

    def read(self, timeout_s: float) -> list[Block]:
        """Blocks that have arrived; waits for the first one, at most `timeout_s`.

        What came before the first call is of the time in which the decoder was made ready; it is
        thrown away, like any backlog.
        """
        until = self._clock.now() + max(timeout_s, 0.0)
        if not self._read_before:
            self._read_before = True
            self._skip_backlog()
        while True:
            blocks = self._turn(until)
            if blocks or self._clock.now() >= until:
                return blocks

    def _skip_backlog(self) -> None:
        """Be at the newest sample, and paced from here on."""
        while self._sockets and (data := self._receive(self._sockets[0])):
            self._decoder.feed(data)
        self._pace, self._paced, self._heard = Pace(self._sent_hz), False, self._clock.now()

    def close(self) -> None:
        """Stop the amplifier and hang up."""
        if self._sockets:
            self._send(self._amplifier.stop)
        self._hang_up()
        self._dial.close()

    def _why_not(self, wait_s: float) -> str:
        """What kept samples from coming."""
        a = self._amplifier
        if self._pace.measured_hz:
            return (f"{self._pace.measured_hz:.0f} samples a second came, allowed is "
                    f"{self._sent_hz:g} within {100 * PACE_SHARE:.0f} %; {a.advice}")
        if self._strange or self._heard_bytes:
            return f"{self._strange or self._decoder.strangeness()}; {a.advice}"
        if self._ever:
            return f"connected, but nothing came for {wait_s:g} s; {a.advice}"
        verb = "no answer from" if a.calls else "nobody called"
        return f"{verb} {self._dial.where} for {wait_s:g} s; {a.advice}"

    def _turn(self, until: float) -> list[Block]:
        """One event of the connection, at most: go on with it, and hand over the blocks."""
        if not self._sockets:
            self._sockets = self._dial.poll(until - self._clock.now())
            if self._sockets:
                self._begin(True)
            return []
        setting_up = self._set_up()
        next_s = self._due if setting_up else self._heard + SILENCE_S
        wait_s = max(0.0, min(until, next_s) - self._clock.now())
        readable, _, _ = select.select(self._sockets, [], [], wait_s)
        now = self._clock.now()
        self._counted["refused_callers"] += self._dial.interlopers()
        came = [self._receive(s) if s in readable else b"" for s in self._sockets]
        if None in came:
            self._lost("disconnects")
            return []
        if len(came) > 1 and came[-1]:
            self._answers = (self._answers + came[-1])[-LARGEST:]
            self._complaint = self._amplifier.complaint(self._answers)
        if setting_up:
            self._heard = now
            return []  # whatever came was sent before
        blocks = self._take(came[0], now) if came[0] else []
        if now - self._heard >= SILENCE_S or self._complaint:
            self._lost("silences")
        return blocks

    def _begin(self, ever: bool) -> None:
        """Know nothing of a new connection."""
        self._ever = ever
        self._decoder, self._pace = self._amplifier.decoder(), Pace(self._sent_hz)
        self._paced = self._heard_bytes = False
        self._line.lost_touch()
        self._step, self._due = 0, self._clock.now()
        self._heard = self._due
        self._answers, self._complaint = b"", ""

    def _set_up(self) -> bool:
        """Send what is due of the script; whether there is more to do or to wait for."""
        script = self._amplifier.script
        while self._step < len(script) and self._clock.now() >= self._due:
            words, pause_s = script[self._step]
            self._send(words)
            self._step, self._due = self._step + 1, self._clock.now() + pause_s
        return self._step < len(script) or self._clock.now() < self._due

    def _take(self, data: bytes, now: float) -> list[Block]:
        """Decode what came; nothing is handed over before it is paced."""
        self._heard_bytes = True
        samples = self._decoder.feed(data)
        if not len(samples.raw):
            return []
        self._heard = now
        if not self._paced:
            self._paced = self._pace.take(len(samples.raw), now)
            if self._paced:
                self._dial.trust()
            return []
        self._watch_buffer(samples)
        return [block for first, part in self._line.place(samples, now)
                for block in self._blocks(first, samples.counts[part], now)]

    def _blocks(self, first: int, counts: NDArray[Any], now: float) -> list[Block]:
        """A run of samples in pieces of a packet, so that a backlog is seen as one."""
        if self._thinner:
            first, counts = self._thinner.push(first, counts)
        size = self.block_samples
        return [Block(first + at, counts[at : at + size], now)
                for at in range(0, len(counts), size)]

    def _watch_buffer(self, samples: Samples) -> None:
        """See the amplifier's own buffer fill, which is the last thing before a loss."""
        if samples.free_bytes is None:
            return
        self._most_free = max(self._most_free, samples.free_bytes)
        full = samples.free_bytes < NEAR_FULL * self._most_free
        self._counted["near_full"] += full and not self._buffer_full
        self._buffer_full = full

    def _send(self, words: bytes) -> None:
        """Give a command; if the line is dead, reading it will show."""
        with suppress(OSError):
            self._sockets[-1].send(words)

    def _receive(self, sock: socket.socket) -> bytes | None:
        """What has come; None if the other end has hung up."""
        try:
            return sock.recv(LARGEST) or None
        except BlockingIOError:
            return b""
        except OSError:
            return None

    def _lost(self, how: str) -> None:
        """Hang up, to be connected again; before the first sample that is no trouble yet."""
        if how == "silences":
            self._send(self._amplifier.stop)
        if self._paced:
            self._counted[how] += 1
        self._counted["framing"] += self._decoder.framing
        self._strange = self._decoder.strangeness() if self._heard_bytes else self._strange
        self._decoder = self._amplifier.decoder()
        self._buffer_full = False
        self._hang_up()

    def _hang_up(self) -> None:
        """Close the connection."""
        for sock in self._sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        self._sockets = []
