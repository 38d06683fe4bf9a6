"""Who may look: host names, origins, token and rates, decided before anything is answered.

A page of another site must not reach a monitor through the browser of somebody who may: a Host that
is a name of elsewhere is refused (DNS rebinding), and so is an Origin that is not the Host. On
another address than loopback a token is asked for before any data is sent.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from itertools import chain
from urllib.parse import urlsplit

from spikewire.signals import InputError

Headers = Sequence[tuple[bytes, bytes]]

PROTOCOL = "spikewire"  # the WebSocket's; the token travels beside it, as no URL and no log shows
TOKEN = re.compile(r"[A-Za-z0-9_-]{22,128}")
RATE_HZ, BURST = 50.0, 200.0  # requests of one address
MOST_ADDRESSES = 256
LONGEST_TARGET, MOST_HEADERS, LONGEST_HEADERS = 1024, 64, 8192


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_token(word: str | None, host: str) -> str:
    """The token to ask for; "" for none.

    Parameters
    ----------
    word : str or None
        As typed: "auto" for a new one.

    Raises
    ------
    InputError
        None where one is needed, or one that could be guessed.
    """
    if word is None:
        if is_loopback(host):
            return ""
        raise InputError(f"--host {host}: others reach this address, so a token is needed; add "
                         "--token auto, or keep 127.0.0.1 and use ssh -L")
    if word == "auto":
        return secrets.token_urlsafe(24)
    if not TOKEN.fullmatch(word):
        raise InputError("--token: allowed are auto, or 22 to 128 letters, digits, - and _")
    return word


class Bucket:
    """How often each address may ask; remembers the newest few hundred."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, who: str) -> bool:
        """Whether `who` may ask once more."""
        now = self._clock()
        left, then = self._left.pop(who, (BURST, now))
        left = min(BURST, left + RATE_HZ * (now - then))
        if len(self._left) >= MOST_ADDRESSES:
            del self._left[next(iter(self._left))]
        self._left[who] = (left - 1 if left >= 1 else left, now)
        return left >= 1


def one(headers: Headers, name: bytes) -> str | None:
    """The value of a header; None if it is missing; "" if it is there twice or is no ASCII."""
    found = [value for key, value in headers if key.lower() == name]
    if not found:
        return None
    try:
        return found[0].decode("ascii") if len(found) == 1 else ""
    except UnicodeDecodeError:
        return ""


class Access:
    """The rules of one monitor.

    Parameters
    ----------
    host : str, that it listens on
    token : str, "" for none
    """

    def __init__(self, host: str, token: str) -> None:
        self._token = token.encode()
        own = socket.gethostname().lower()
        self._names = {"localhost"} if is_loopback(host) else {
            "localhost", own, f"{own}.local", host.lower()}
        self._loopback_only = is_loopback(host)
        self._bucket = Bucket()

    def refuse(self, who: str, method: str, target: str, headers: Headers
               ) -> tuple[int, str] | None:
        """Status and reason of a refusal, or None.

        Parameters
        ----------
        who : str, address of the client
        method : str, "WEBSOCKET" for one
        target : str, path and query as they came
        """
        if not self._bucket.take(who):
            return 429, "too many requests; wait a second"
        if method not in ("GET", "HEAD", "WEBSOCKET"):
            return 405, "allowed are GET and HEAD"
        if not target.isascii() or not target.isprintable():
            return 400, "the address holds characters that none has"
        if len(target) > LONGEST_TARGET:
            return 414, f"the address is longer than {LONGEST_TARGET} characters"
        if len(headers) > MOST_HEADERS or sum(map(len, chain(*headers))) > LONGEST_HEADERS:
            return 431, f"allowed are {MOST_HEADERS} headers of {LONGEST_HEADERS} bytes in all"
        host = one(headers, b"host")
        if not host or not self.knows(host):
            return 421, "this name is not the monitor's; use the address that mu-monitor printed"
        origin = one(headers, b"origin")
        if origin is not None and (urlsplit_or_none(origin) != host.lower()):
            return 403, "a page of another site may not look"
        site = one(headers, b"sec-fetch-site")
        if method == "WEBSOCKET" and site not in (None, "same-origin", "none"):
            return 403, "a page of another site may not look"
        return None

    def knows(self, host: str) -> bool:
        """Whether a Host header can be meant for this machine: an address, or its own name."""
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return name in self._names
        return address.is_loopback if self._loopback_only else True

    def lets_in(self, headers: Headers) -> bool:
        """Whether a WebSocket bears the token: among its protocols, or as a bearer."""
        if not self._token:
            return True
        offered = one(headers, b"sec-websocket-protocol") or ""
        given = [p.strip() for p in offered.split(",")][:4]
        bearer = one(headers, b"authorization") or ""
        given += [bearer.removeprefix("Bearer ")]
        fits = [hmac.compare_digest(g.encode("ascii", "replace"), self._token) for g in given]
        return any(fits)


def urlsplit_or_none(origin: str) -> str | None:
    """Host and port of an Origin; None for what is none, such as `null`."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return None
    return parts.netloc.lower() if parts.scheme in ("http", "https") and parts.netloc else None
