"""NOTIFY_SOCKET: what a service says of itself, as sd_notify(3) describes it."""

from __future__ import annotations

import asyncio
import socket
import time
import uuid
from collections.abc import Callable


class Notes:
    """The socket of one life. Abstract: the emulator translates no path given to sendto().

    Parameters
    ----------
    status : function
        Gets the words of every STATUS=.
    """

    def __init__(self, status: Callable[[str], object]) -> None:
        self.status, self.ready, self.fed = status, asyncio.Event(), time.monotonic()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.address = f"@standin/{uuid.uuid4().hex}"
        self.socket.bind("\0" + self.address[1:])
        asyncio.get_running_loop().add_reader(self.socket, self._hear)

    def _hear(self) -> None:
        for line in self.socket.recv(4096).decode(errors="replace").splitlines():
            key, _, value = line.partition("=")
            if line in ("READY=1", "WATCHDOG=1"):
                self.fed = time.monotonic()
            if line == "READY=1":
                self.ready.set()
            elif key == "STATUS":
                self.status(value)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.socket)
        self.socket.close()
