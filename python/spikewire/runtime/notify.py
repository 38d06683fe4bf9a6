"""Telling the service manager that frames go out: one datagram a message, as sd_notify(3) does.

READY comes with the first frame that a link took over, whatever its state: an amplifier that is off
must not look like a bad release. The watchdog is fed by frames alone, so that a loop that hangs, or
runs without sending, is started again. A link that took a frame and finds nobody on its wire mends
that itself: a controller that is off must not look like a hanging loop.
"""

from __future__ import annotations

import math
import os
import socket

VARIABLE = "NOTIFY_SOCKET"
FEED_EVERY_S = 0.2  # of a WatchdogSec=1


class Notifier:
    """The manager that started this process; without one everything here does nothing.

    Nothing waits: what the manager's queue has no room for is counted, and said again.

    Parameters
    ----------
    address : str
        Of $NOTIFY_SOCKET: a path, or @NAME in the abstract space; "" if there is no manager.

    Attributes
    ----------
    failed : int
        Messages that could not be sent.
    """

    def __init__(self, address: str = "") -> None:
        self.failed = 0
        self._to = os.fsencode(address)
        if self._to.startswith(b"@"):
            self._to = b"\0" + self._to[1:]
        # Not connected: a manager that is restarted binds another socket at the same path.
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if address else None
        self._ready = self._ending = False
        self._fed = -math.inf

    @property
    def listens(self) -> bool:
        """Whether there is a manager."""
        return self._socket is not None

    def tell(self, words: bytes) -> bool:
        """Send one message; whether it went."""
        if self._socket is None:
            return False
        try:
            self._socket.sendto(words, socket.MSG_DONTWAIT, self._to)
        except OSError:
            self.failed += 1
            return False
        return True

    def handed_over(self, now: float) -> None:
        """Every link has taken over a frame, `now` on the loop's clock."""
        if self._socket is None or self._ending or now - self._fed < FEED_EVERY_S:
            return
        if self.tell(b"WATCHDOG=1" if self._ready else b"READY=1\nWATCHDOG=1"):
            self._ready, self._fed = True, now

    def stopping(self) -> None:
        """The last frames follow; they neither make ready nor feed the watchdog."""
        self._ending = True
        self.tell(b"STOPPING=1")

    def close(self) -> None:
        """Let go of the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
