"""Where samples come from: the amplifier, and the networks on the way."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

from spikewire.doctor.board import version_of
from spikewire.doctor.finding import (
    AMPLIFIERS,
    FAIL,
    NONE,
    OK,
    WARN,
    Asked,
    Finding,
    Place,
    judged,
)
from spikewire.doctor.machine import Machine
from spikewire.io.source import open_source
from spikewire.runtime.clock import VirtualClock
from spikewire.signals import InputError

PATIENCE_S = 2.0


# what a host that is none is worth to Python, beside what the system says
NO_CALL = (OSError, UnicodeError, TypeError, ValueError)


def _why(error: Exception) -> str:
    """The reason of a failed connection in a few words."""
    if isinstance(error, TimeoutError):
        return "no answer"
    return getattr(error, "strerror", None) or "no name of a host"


def call(place: Place) -> Finding:
    """Connect to an amplifier that waits for us, and hang up."""
    where = f"{place.scheme} at {place.host}:{place.port}"
    try:
        socket.create_connection((place.host, place.port), PATIENCE_S).close()
    except NO_CALL as error:
        return Finding("amplifier", FAIL, f"{where}: {_why(error)} (waited up to {PATIENCE_S:g} s)",
                       AMPLIFIERS[place.scheme][3])
    return Finding("amplifier", OK, f"{where} takes connections")


def listen(place: Place) -> Finding:
    """See whether an amplifier that calls us would find the port free."""
    where = f"{place.scheme} calls us on port {place.port}"
    try:
        with socket.socket() as waiting:
            waiting.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            waiting.bind((place.host, place.port))
    except NO_CALL as error:
        number = getattr(error, "errno", None)
        remedy = f"if that is not mu-run, end it: sudo ss -ltnp 'sport = :{place.port}'" \
            if number == errno.EADDRINUSE else "ip -brief address: give one of this machine's own"
        return Finding("amplifier", FAIL, f"{where}: {_why(error)}", remedy)
    return Finding("amplifier", OK, f"{where}, which is free; it must be told this machine's "
                   "address")


def amplifier(machine: Machine, asked: Asked) -> Iterator[Finding]:
    """Whether the source can be reached."""
    place = asked.place()
    if place:
        yield (call if AMPLIFIERS[place.scheme][0] == "call" else listen)(place)
    elif asked.source and asked.scheme == "replay":
        try:
            source = open_source(asked.source, VirtualClock())
        except InputError as error:
            yield Finding("source", FAIL, str(error), "give a recording, a log or a bundle")
            return
        yield Finding("source", OK, f"{asked.source}: {source.channels} channels at "
                      f"{source.fs_hz:g} Hz")
    else:
        yield Finding("amplifier", NONE, "nothing to reach" if asked.source else
                      "not asked for", "" if asked.source else
                      "--source quattrocento:169.254.1.10, as for mu-run")


def wifi(machine: Machine, asked: Asked) -> Iterator[Finding]:
    """Power save lets a radio sleep for 100 ms and more: samples then come in lumps."""
    names = sorted({p.parent.name for kind in ("wireless", "phy80211")
                    for p in machine.glob(f"sys/class/net/*/{kind}")})
    for name in names:
        said = (machine.program("iw", "dev", name, "get", "power_save") or "").lower()
        state = "on" if "save: on" in said else "off" if "save: off" in said else "unknown"
        yield judged(f"Wi-Fi {name}"[:40], f"power save {state}", [
            (state == "on", WARN, f"sudo iw dev {name} set power_save off"),
            (state == "unknown", WARN, f"sudo apt install iw; iw dev {name} get power_save"),
        ])
    if not names:
        yield Finding("Wi-Fi", NONE, "no Wi-Fi interface")


def lsl(machine: Machine, asked: Asked) -> Iterator[Finding]:
    """The library of the Lab Streaming Layer."""
    places = [p for pattern in ("usr/lib/liblsl.so*", "usr/lib/*/liblsl.so*",
                                "usr/local/lib/liblsl.so*") for p in machine.glob(pattern)]
    binding = version_of("pylsl", "pylsl")
    words = [*map(str, places), *([f"pylsl {binding}"] if binding else [])]
    if words:
        yield Finding("liblsl", OK, ", ".join(words))
    elif asked.scheme == "lsl":
        yield Finding("liblsl", FAIL, "not found, and the source needs it",
                      "pip install 'spikewire[lsl]'")
    else:
        yield Finding("liblsl", NONE, "not installed; only lsl: sources need it")
