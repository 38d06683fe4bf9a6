"""Simulated amplifiers: the bytes of the real ones over loopback, with faults by script."""

from __future__ import annotations

from collections.abc import Callable

from spikewire.emulate.intan import Intan
from spikewire.emulate.muovi import Muovi
from spikewire.emulate.quattrocento import Quattrocento
from spikewire.emulate.sessantaquattro import Sessantaquattro
from spikewire.emulate.wire import Wire

AMPLIFIERS: dict[str, Callable[[], Wire]] = {
    "quattrocento": Quattrocento, "sessantaquattro": Sessantaquattro,
    "muovi": lambda: Muovi(32), "muovi+": lambda: Muovi(64), "intan": Intan,
}  # fmt: skip
