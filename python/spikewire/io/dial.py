"""A TCP connection to an amplifier, or from it, without ever waiting longer than asked."""

from __future__ import annotations

import errno
import select
import socket
from typing import Protocol

from spikewire.io.source import Clock
from spikewire.signals import InputError

AGAIN_S = 0.25  # from one try to the next
ANSWER_S = 0.5  # a box on the same cable answers within milliseconds, or was not there
Address = tuple[str, int]


class Dial(Protocol):
    """Where connections come from.

    Attributes
    ----------
    where : str, for people
    """

    where: str

    def poll(self, wait_s: float) -> list[socket.socket]:
        """Sockets of a new connection, not blocking; none after `wait_s`."""

    def interlopers(self) -> int:
        """Turn away who calls while a connection stands; returns how many did."""

    def trust(self) -> None:
        """Whoever is connected now is the amplifier: nobody else will be answered."""

    def close(self) -> None:
        """Let go of what is not connected."""


def address(uri: str, where: str, host: str, port: int) -> Address:
    """Read HOST:PORT, HOST or nothing.

    Raises
    ------
    InputError
        The port is no port.
    """
    name, colon, number = where.rpartition(":")
    if not colon:
        name, number = where, str(port)
    if not (number.isdecimal() and 0 < int(number) < 1 << 16):
        raise InputError(f"source {uri!r}: port {number!r} came, allowed are 1 to 65535; type "
                         f"{uri.partition(':')[0]}:{host}:{port}")
    return name or host, int(number)


def ready(sock: socket.socket) -> socket.socket:
    """Set a connection up: small packets at once, a dead peer noticed."""
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return sock


class Call:
    """Connections to a box that listens; a box that is away is called again and again.

    Parameters
    ----------
    addresses : one or more; a connection is one socket to each

    Raises
    ------
    InputError
        A name that nobody knows. It is looked up here, once, since that may take its time.
    """

    def __init__(self, uri: str, addresses: tuple[Address, ...], clock: Clock) -> None:
        try:
            self._addresses = [(socket.gethostbyname(host), port) for host, port in addresses]
        except (OSError, UnicodeError) as error:
            raise InputError(f"source {uri!r}: {addresses[0][0]!r} is no machine ({error}); type "
                             "its address") from None
        self._clock = clock
        self._open: list[socket.socket] = []
        self._since, self._next = 0.0, float("-inf")
        self.where = f"{addresses[0][0]}:{addresses[0][1]}"

    def poll(self, wait_s: float) -> list[socket.socket]:
        """See `Dial`."""
        now = self._clock.now()
        if not self._open:
            if now < self._next:
                self._clock.sleep_until(min(self._next, now + max(wait_s, 0.0)))
                return []
            self._begin(now)
        _, writable, _ = select.select([], self._open, [], max(wait_s, 0.0))
        failed = any(s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) for s in writable)
        if failed or self._clock.now() - self._since > ANSWER_S:
            self.close()
        elif len(writable) == len(self._open) > 0:
            made, self._open = self._open, []
            return [ready(s) for s in made]
        return []

    def _begin(self, now: float) -> None:
        """Call every address."""
        self._since, self._next = now, now + AGAIN_S
        for host, port in self._addresses:
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            self._open.append(sock)
            sock.setblocking(False)
            if sock.connect_ex((host, port)) not in (0, errno.EINPROGRESS):
                self.close()
                return

    def interlopers(self) -> int:
        """Nobody calls us."""
        return 0

    def trust(self) -> None:
        """It was we who called."""

    def close(self) -> None:
        """See `Dial`."""
        for sock in self._open:
            sock.close()
        self._open = []


class Answer:
    """Connections from a box that calls us.

    Raises
    ------
    InputError
        The port is taken, or the address is none of this machine.
    """

    def __init__(self, uri: str, own: Address) -> None:
        self.where = f"{own[0]}:{own[1]}"
        self._newest, self._trusted = "", ""
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._sock.setblocking(False)
            self._sock.bind(own)
            self._sock.listen(4)
        except OSError as error:
            self._sock.close()
            raise InputError(
                f"source {uri!r}: {self.where} cannot be listened on ({error.strerror}); allowed "
                "is a free port at an address of this machine; is another mu-run using it?"
            ) from None

    def poll(self, wait_s: float) -> list[socket.socket]:
        """See `Dial`."""
        select.select([self._sock], [], [], max(wait_s, 0.0))
        sock, caller = self._accept()
        if sock and self._trusted in ("", caller):
            self._newest = caller
            return [ready(sock)]
        if sock:
            sock.close()
        return []

    def interlopers(self) -> int:
        """See `Dial`."""
        sock, _ = self._accept()
        if sock:
            sock.close()
        return int(sock is not None)

    def trust(self) -> None:
        """See `Dial`."""
        self._trusted = self._newest

    def _accept(self) -> tuple[socket.socket | None, str]:
        """Whoever called."""
        try:
            sock, (caller, _) = self._sock.accept()
        except OSError:
            return None, ""
        return sock, caller

    def close(self) -> None:
        """See `Dial`."""
        self._sock.close()
