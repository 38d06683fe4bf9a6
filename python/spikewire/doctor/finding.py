"""What a person asks the doctor, and what comes back: a state, its evidence, and what to type."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spikewire.link.transport import LINKS, LinkError, Uri, parse_uri
from spikewire.signals import InputError

OK, WARN, FAIL, NONE = "ok", "warn", "fail", "n/a"
STATES = (OK, NONE, WARN, FAIL)  # from good to bad
LONGEST_S = 3600.0
# scheme -> how it is reached, where it is if nobody says, what to look at if it is not there
AMPLIFIERS: dict[str, tuple[str, str, int, str]] = {
    "quattrocento": ("call", "169.254.1.10", 23456,
                     "switch it on, and give the cable's port an address beside it: "
                     "sudo ip addr add 169.254.1.1/24 dev eth0"),
    "syncstation": ("call", "192.168.76.1", 54320, "join its Wi-Fi or plug its cable in"),
    "intan": ("call", "127.0.0.1", 5000,
              "in RHX: Network, Remote TCP Control, Connect; allow the port in its firewall"),
    "muovi": ("listen", "0.0.0.0", 54321, ""),
    "sessantaquattro": ("listen", "0.0.0.0", 45454, ""),
}
OTHER_SOURCES = ("replay", "simulate", "lsl")


@dataclass(frozen=True)
class Finding:
    """One line of the table.

    Attributes
    ----------
    step : str, what was looked at
    state : str, "ok", "warn" (it runs, but), "fail" (it will not), "n/a" (nothing to look at)
    evidence : str
    remedy : str, what to type or do, or nothing
    figures : dict or None, the evidence in numbers
    """

    step: str
    state: str
    evidence: str
    remedy: str = ""
    figures: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """The same, ready for JSON."""
        return {k: v for k, v in asdict(self).items() if v is not None}


def judged(step: str, evidence: str, rows: list[tuple[bool, str, str]]) -> Finding:
    """A finding whose state is the worst row that holds: (holds, state, remedy)."""
    held = [(state, remedy) for holds, state, remedy in rows if holds]
    worst = max((state for state, _ in held), key=STATES.index, default=OK)
    return Finding(step, worst, evidence, "; ".join(dict.fromkeys(r for _, r in held if r)))


@dataclass(frozen=True)
class Place:
    """Where an amplifier is."""

    scheme: str
    host: str
    port: int


@dataclass(frozen=True)
class Asked:
    """What the doctor is asked.

    Attributes
    ----------
    bundle : str or None
    self_test : bool, golden windows, then a paced run of `seconds` (none for 0)
    links : tuple of str, URIs as mu-run takes them
    source : str or None, a URI
    engine, precisions : as mu-run takes them
    """

    bundle: str | None = None
    self_test: bool = False
    seconds: float = 10.0
    links: tuple[str, ...] = ()
    source: str | None = None
    engine: str = "auto"
    precisions: tuple[str, ...] = ("fp32",)

    def refuse(self) -> None:
        """Say what cannot be answered; see `spikewire.doctor.examine`."""
        if self.bundle and not Path(self.bundle).is_file():
            raise InputError(f"{self.bundle}: no such bundle")
        if self.self_test and not self.bundle:
            raise InputError("--self-test came without a bundle; type mu-doctor X.mub --self-test")
        if not 0 <= self.seconds <= LONGEST_S:  # NaN is in no range
            raise InputError(f"--seconds is {self.seconds:g}, allowed is 0 (golden windows only) "
                             f"to {LONGEST_S:g}")
        self.uris()
        self.place()

    def uris(self) -> list[Uri]:
        """The links, taken apart."""
        uris = [parse_uri(text) for text in self.links]
        for uri in uris:
            if uri.scheme not in LINKS:
                raise LinkError(f"link {uri.text!r}: unknown scheme {uri.scheme!r}; allowed: "
                                f"{', '.join(f'{name}:' for name in sorted(LINKS))}")
        return uris

    @property
    def scheme(self) -> str:
        """Of the source, or nothing."""
        return (self.source or "").partition(":")[0]

    def place(self) -> Place | None:
        """The amplifier of the source; None if it is none that is reached over a network."""
        if self.source is None:
            return None
        scheme, colon, rest = self.source.partition(":")
        if not colon or scheme not in (*AMPLIFIERS, *OTHER_SOURCES):
            names = ", ".join(f"{name}:" for name in (*AMPLIFIERS, *OTHER_SOURCES))
            raise InputError(f"source {self.source!r}: allowed are {names}, e.g. quattrocento:"
                             "169.254.1.10")
        if scheme not in AMPLIFIERS:
            return None
        where, _, query = rest.partition("?")
        options = dict(part.partition("=")[::2] for part in query.split("&"))
        host, _, port = where.strip("/").partition(":")
        _, usual_host, usual_port, _ = AMPLIFIERS[scheme]
        port = port or options.get("port", "") or str(usual_port)
        # so that no digit of another alphabet and no endless number comes through
        if not (port.isascii() and port.isdecimal() and len(port) < 6 and 0 < int(port) < 1 << 16):
            raise InputError(f"source {self.source!r}: port {port} came, allowed is 1 to 65535; "
                             f"type for instance {scheme}:{usual_host}:{usual_port}")
        return Place(scheme, host or options.get("host", "") or usual_host, int(port))


def shown(value: float, unit: str) -> str:
    """A number with its unit; a question mark if nobody knows it."""
    return f"? {unit}" if math.isnan(value) else f"{value:g} {unit}"
