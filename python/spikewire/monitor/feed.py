"""Where a monitor's datagrams come from: a run that publishes, or the log of one.

Both answer to `poll`, which waits a little and returns what has come; neither ends by itself, since
a run may begin later, or again.
"""

from __future__ import annotations

import math
import select
import socket
import time
from pathlib import Path
from typing import Protocol

from spikewire.runtime.audience import HELLO, parse_udp
from spikewire.signals import InputError

AGAIN_S, HELLO_S, SILENT_S = 1.0, 1.0, 1.0
LONGEST_BYTES, MOST_AT_ONCE = 1 << 16, 256


class Feed(Protocol):
    """A source of datagrams.

    Attributes
    ----------
    name : str, for people
    live, ended : bool, whether the run is heard at present, and whether nothing can come any more
    """

    name: str
    live: bool
    ended: bool

    def poll(self, timeout_s: float) -> list[bytes]:
        """What has come; waits for the first one."""

    def close(self) -> None:
        """Let go."""


class Attached:
    """A run's `--monitor`, asked again once a second while it is not there.

    Parameters
    ----------
    uri : str, unix:PATH or udp:HOST:PORT
    ready : socket or None, connected already
    """

    def __init__(self, uri: str, ready: socket.socket | None = None) -> None:
        self.name, self.live, self.ended = uri, False, False
        scheme, _, where = uri.partition(":")
        self._udp = parse_udp(where, uri) if scheme == "udp" else None
        self._path = where if scheme == "unix" else ""
        if not (self._udp or self._path or ready):
            raise InputError(f"{uri}: allowed are unix:PATH, udp:HOST:PORT as in mu-run --monitor, "
                             "or a log whose name ends in .mcap")
        self._socket, self._again = ready, not ready
        self._tried = self._said = self._heard = -math.inf

    def poll(self, timeout_s: float) -> list[bytes]:
        """See Feed."""
        now = time.monotonic()
        self.live = now - self._heard < SILENT_S
        if self._socket is None and not self._connect(now):
            time.sleep(timeout_s)
            return []
        assert self._socket is not None
        if self._udp and now - self._said >= HELLO_S:
            self._said = now
            self._send_hello()
        if not select.select([self._socket], [], [], timeout_s)[0]:
            return []
        return self._take()

    def _take(self) -> list[bytes]:
        """Everything that has come."""
        assert self._socket is not None
        came: list[bytes] = []
        try:
            while len(came) < MOST_AT_ONCE:
                data = self._socket.recv(LONGEST_BYTES, socket.MSG_DONTWAIT)
                if not data and not self._udp:
                    self._lost()
                    break
                came.append(data)
        except BlockingIOError:
            pass
        except ConnectionRefusedError:  # an answer to HELLO: nobody publishes there yet
            pass
        except OSError:
            self._lost()
        if came:
            self._heard, self.live = time.monotonic(), True
        return came

    def _connect(self, now: float) -> bool:
        """Try, at most once a second; whether it worked."""
        if not self._again or now - self._tried < AGAIN_S:
            return False
        self._tried = now
        if self._udp:
            kind = socket.AF_INET6 if ":" in self._udp[0] else socket.AF_INET
            made = socket.socket(kind, socket.SOCK_DGRAM)
        else:
            made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        made.settimeout(AGAIN_S)  # the door of a run that hangs may be full
        try:
            made.connect(self._udp or self._path)  # from then on the system lets nobody else in
        except OSError:
            made.close()
            return False
        made.settimeout(None)
        self._socket = made
        return True

    def _send_hello(self) -> None:
        assert self._socket is not None
        try:
            self._socket.send(HELLO, socket.MSG_DONTWAIT)
        except OSError:
            return

    def _lost(self) -> None:
        """The run has gone."""
        assert self._socket is not None
        self._socket.close()
        self._socket, self.ended = None, not self._again

    def close(self) -> None:
        """See Feed."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def open_feed(word: str) -> Feed:
    """The feed that a word names.

    Raises
    ------
    InputError
    """
    if Path(word).suffix == ".mcap":
        from spikewire.monitor.played import Log

        return Log(word)
    return Attached(word)
