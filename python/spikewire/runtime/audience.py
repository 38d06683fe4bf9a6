"""Who listens to a run: sockets that take a datagram at once, or do without.

On a Unix socket a monitor connects and is known by that; over UDP it says HELLO once a second, and
is forgotten after seconds of silence. Either way a monitor that does not listen loses what was said
meanwhile, and nobody waits for it.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import stat
from typing import Any

from spikewire.signals import InputError

HELLO = b"spikewire monitor 1\n"
MOST_MONITORS = 8
FORGET_S = 3.0
EXAMPLES = "allowed are unix:/path/of/socket and udp:127.0.0.1:8766"


class Unix:
    """Monitors that connect to a path, or hold the other end of a pair.

    Attributes
    ----------
    dropped : int
    """

    def __init__(self, path: str = "", first: socket.socket | None = None) -> None:
        self.dropped, self._path = 0, path
        self._monitors: list[socket.socket] = []
        self._socket: socket.socket | None = None
        if first:
            first.setblocking(False)
            self._monitors.append(first)
        if path:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            try:
                _bind(self._socket, path)
            except BaseException:
                self._socket.close()
                raise

    def __len__(self) -> int:
        return len(self._monitors)

    def listen(self, now: float) -> None:
        """Take in who has come; more than there is room for are let go again."""
        for _ in range(MOST_MONITORS if self._socket else 0):
            assert self._socket is not None
            try:
                came, _who = self._socket.accept()
            except OSError:
                return
            if len(self._monitors) >= MOST_MONITORS:
                came.close()
                continue
            came.setblocking(False)
            self._monitors.append(came)

    def send(self, view: memoryview) -> None:
        """To every monitor, or not."""
        for monitor in self._monitors[:]:
            try:
                monitor.send(view, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except BlockingIOError:
                self.dropped += 1
            except OSError:
                monitor.close()
                self._monitors.remove(monitor)

    def close(self) -> None:
        """Let everybody go; the path with them."""
        for monitor in self._monitors:
            monitor.close()
        self._monitors.clear()
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            os.unlink(self._path)


def _bind(made: socket.socket, path: str) -> None:
    """Listen at a path; what a run left there that was killed is replaced, nothing else is."""
    made.setblocking(False)
    try:
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
                if probe.connect_ex(path) == 0:
                    raise InputError(f"--monitor unix:{path}: another run publishes there; choose "
                                     "another path, or end that run")
            os.unlink(path)
    except FileNotFoundError:
        pass
    try:
        made.bind(path)
        os.chmod(path, 0o660)
        made.listen(MOST_MONITORS)
    except OSError as error:
        raise InputError(f"--monitor unix:{path}: {error.strerror or error}; the path must not "
                         "exist, in a folder that does, and have 107 characters at most") from None


class Udp:
    """Monitors that say HELLO to a port of this machine."""

    def __init__(self, host: str, port: int) -> None:
        self.dropped = 0
        self._monitors: dict[Any, float] = {}
        kind = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(kind, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        try:
            self._socket.bind((host, port))
        except OSError as error:
            self._socket.close()
            raise InputError(f"--monitor udp:{host}:{port}: {error.strerror}; name a free port of "
                             "this machine") from None

    def __len__(self) -> int:
        return len(self._monitors)

    def listen(self, now: float) -> None:
        """Hear at most a few, forget who fell silent."""
        for _ in range(MOST_MONITORS):
            try:
                said, who = self._socket.recvfrom(len(HELLO) + 1)
            except OSError:
                break
            known = who in self._monitors
            if said == HELLO and (known or len(self._monitors) < MOST_MONITORS):
                self._monitors[who] = now
        for who, heard in list(self._monitors.items()):
            if now - heard > FORGET_S:
                del self._monitors[who]

    def send(self, view: memoryview) -> None:
        """To every monitor, or not."""
        for who in self._monitors:
            try:
                self._socket.sendto(view, socket.MSG_DONTWAIT, who)
            except OSError:
                self.dropped += 1

    def close(self) -> None:
        """Let go of the port."""
        self._socket.close()


def parse_udp(where: str, uri: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`; only this machine's own addresses.

    Raises
    ------
    InputError
    """
    host, _, port = where.rpartition(":")
    host = "127.0.0.1" if host == "localhost" else host.strip("[]")
    try:
        fits = ipaddress.ip_address(host).is_loopback
    except ValueError:
        fits = False
    if not fits or not port.isascii() or not port.isdecimal() or not 0 < int(port) < 65536:
        raise InputError(f"{uri}: what a run publishes stays on its machine; {EXAMPLES}")
    return host, int(port)


def open_way(uri: str) -> Unix | Udp:
    """Where monitors find this run: `unix:PATH` or `udp:HOST:PORT`.

    Raises
    ------
    InputError
    """
    scheme, _, where = uri.partition(":")
    if scheme == "unix" and where and "\0" not in where:
        return Unix(where)
    if scheme == "udp":
        return Udp(*parse_udp(where, f"--monitor {uri}"))
    raise InputError(f"--monitor {uri}: {EXAMPLES}")
