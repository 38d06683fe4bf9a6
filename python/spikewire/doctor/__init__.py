"""What may keep this machine from decoding in time: a table of checks, each a state with evidence.

Checks only look: nothing is set, opened for use, or sent but one connection to an amplifier. What a
check cannot read it says; no check ends the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from spikewire.doctor import board, decoder, ports, wires
from spikewire.doctor.finding import Asked, Finding
from spikewire.doctor.machine import Machine

# in the order in which things go wrong: what the rest stands on comes first
CHECKS: tuple[Callable[[Machine, Asked], Iterable[Finding]], ...] = (
    board.jetpack, board.python, board.packages, board.tensorrt, board.power, board.clocks,
    board.rights, board.heat, board.disk, board.time_source,
    ports.can, ports.serial,
    wires.amplifier, wires.wifi, wires.lsl,
    decoder.engines, decoder.bundle, decoder.selftest,
)


def examine(asked: Asked, machine: Machine | None = None) -> Iterator[Finding]:
    """Run every check; findings come as they are made.

    Raises
    ------
    InputError, LinkError
        What was asked cannot be: no such bundle, an unknown source or link.
    """
    asked.refuse()
    machine = machine or Machine()
    for check in CHECKS:
        yield from check(machine, asked)
