"""UDP, for the laboratory: one datagram per step, the frames of a serial line one after the other.

Nobody else can join in: the socket is bound to this machine or tied to one named peer, and the
kernel throws away what comes from anybody else.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from typing import Any

from spikewire.link.codec import Arm, Step
from spikewire.link.framing import DELIMITER
from spikewire.link.profile import NOBODY, UNKNOWN, Framer, Info, Vitals
from spikewire.link.transport import (
    ArmReader,
    Counted,
    LinkError,
    Options,
    Uri,
    on_serial,
    options,
)

OPTIONS: Options = {"lab": ("0", "1")}
LARGEST = 1 << 16  # bytes of a datagram
MOST = 64  # datagrams of one `poll`
EXAMPLE = "udp:127.0.0.1:9000"


class UdpLink(Counted):
    """A link to one peer; see `transport.Link`. A peer that is not there yet is no error.

    Parameters
    ----------
    sock : socket, connected to the peer, not blocking
    uri, profile, may_arm, info
        As for any link.
    """

    def __init__(
        self, sock: socket.socket, uri: str, profile: str = "full", may_arm: bool = False,
        info: Info = NOBODY,
    ) -> None:
        super().__init__()
        self.uri = uri
        self.may_arm = may_arm
        self._sock = sock
        self._framer = Framer(profile, info)
        self._reader = ArmReader()

    def send(self, steps: Sequence[Step], vitals: Vitals = UNKNOWN) -> bool:
        """Send one step, or drop it if the network takes none or the peer refused the last."""
        self._check_open()
        datagram = on_serial(self._framer.frames(steps, vitals))
        try:
            return self.count(self._sock.send(datagram) == len(datagram))
        except OSError:
            return self.count(False)

    def poll(self) -> list[Arm]:
        """Return the arm requests that came from the peer."""
        self._check_open()
        arms: list[Arm] = []
        for _ in range(MOST):
            try:
                datagram = self._sock.recv(LARGEST)
            except BlockingIOError:
                break
            except OSError:  # the peer refused a step: nobody listens there
                self.fail()
                break
            arms += self._reader.feed(DELIMITER + datagram)  # whatever the one before ended with
        return arms

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    def _check_open(self) -> None:
        """Raise LinkError on a link that was closed."""
        if self._sock.fileno() < 0:
            raise LinkError(f"link {self.uri!r} is closed; open it again with open_link")


class UdpPort:
    """The controller's end: a bound socket that hears and answers whoever sends first.

    See `uart.Port`; a datagram is never queued, it goes or does not.

    Parameters
    ----------
    uri : Uri
        The address to bind, one of this machine.

    Raises
    ------
    LinkError
        It cannot be bound.
    """

    def __init__(self, uri: Uri) -> None:
        self._sock = _socket(uri, bind=True)
        self._peer: tuple[object, ...] | None = None

    def read(self) -> bytes:
        """Return what has come from the decoder."""
        heard = b""
        for _ in range(MOST):
            try:
                datagram, peer = self._sock.recvfrom(LARGEST)
            except OSError:
                break
            self._peer = self._peer or peer
            heard += datagram if peer == self._peer else b""
        return heard

    def write(self, data: bytes) -> int:
        """Answer the decoder; 0 bytes while none has been heard."""
        try:
            return self._sock.sendto(data, self._peer) if self._peer else 0
        except OSError:
            return 0

    def queued(self) -> int:
        """Return 0."""
        return 0

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


def _address(uri: Uri) -> tuple[Any, ...]:
    """Look up the one machine that a URI names."""
    host, _, port = uri.path.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise LinkError(f"link {uri.text!r}: {uri.path!r} came; allowed: HOST:PORT, port 1 to "
                        f"65535; type for instance {EXAMPLE}")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)[0]
    except OSError as error:
        raise _unusable(uri, error) from error
    address = ipaddress.ip_address(found[4][0])
    if address.is_unspecified or address.is_multicast:
        raise LinkError(f"link {uri.text!r}: {host} is nobody in particular; allowed: one machine; "
                        f"type for instance {EXAMPLE}")
    return found


def _unusable(uri: Uri, error: OSError) -> LinkError:
    """What to say of an address that the network refuses, a broadcast one among them."""
    return LinkError(f"link {uri.text!r}: {uri.path} cannot be used ({error.strerror}); type for "
                     f"instance {EXAMPLE}")


def _socket(uri: Uri, bind: bool) -> socket.socket:
    """Bind a socket to what a URI names, or tie it to that."""
    family, kind, proto, _, address = _address(uri)
    sock = socket.socket(family, kind, proto)
    sock.setblocking(False)
    try:
        (sock.bind if bind else sock.connect)(address)
    except OSError as error:
        sock.close()
        raise _unusable(uri, error) from error
    return sock


def open_udp(uri: Uri, info: Info) -> UdpLink:
    """Open `udp:HOST:PORT?profile=full|short&lab=0|1&arm=0|1`.

    UDP has neither a wire of its own nor a key, so it arms in the laboratory only, said by
    `lab=1`.
    """
    chosen = options(uri, OPTIONS)
    if chosen["arm"] == "1" and chosen["lab"] != "1":
        raise LinkError(f"link {uri.text!r}: arm=1 over UDP is for the laboratory only; leave arm=1"
                        f" out, or type udp:{uri.path}?arm=1&lab=1")
    sock = _socket(uri, bind=False)
    return UdpLink(sock, uri.text, chosen["profile"], chosen["arm"] == "1", info)
