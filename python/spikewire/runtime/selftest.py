"""Whether this machine decodes right and in time: golden windows, then a paced run into nothing."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from spikewire.bundle import Bundle
from spikewire.io.replay import open_uri
from spikewire.link.transport import open_link
from spikewire.runtime.clock import MonotonicClock
from spikewire.runtime.decoder import Decoder
from spikewire.runtime.engine import Engine, proven_engine
from spikewire.runtime.loop import Loop
from spikewire.signals import InputError


@dataclass(frozen=True)
class Proof:
    """One engine in one precision on the 200 golden windows.

    Attributes
    ----------
    engine : Engine or None, if it does not run or differs too much
    difference, allowed : float, of a presence
    reason : str, why there is none
    """

    precision: str
    engine: Engine | None
    difference: float = 0.0
    allowed: float = 0.0
    reason: str = ""


def golden(bundle: Bundle, name: str, precisions: Sequence[str]) -> list[Proof]:
    """Open an engine in every precision asked, on the windows and tolerance of the bundle."""
    proofs = []
    for precision in precisions:
        try:
            proofs.append(Proof(precision, *proven_engine(bundle, name, precision)))
        except InputError as error:
            proofs.append(Proof(precision, None, reason=str(error)))
    return proofs


def paced(bundle: Bundle, engine: Engine, seconds: float) -> dict[str, Any]:
    """Decode the golden excerpt, again and again, as fast as an amplifier would send it.

    No upkeep runs beside it. Between two steps the machine idles as in a run, so that clocks that
    fall asleep show.

    Returns
    -------
    dict
        `steps`, `missed`, and p50, p99, max of `compute_ms`, `age_ms` and `decode_delay_ms`.
    """
    clock, link = MonotonicClock(), open_link("null:")
    source: Any = open_uri(f"replay:{bundle.path}?loop=1", bundle.path, {"loop": "1"}, clock)
    loop = Loop(source, [Decoder(bundle, engine, source.fs_hz)], [link], clock)
    gc.collect()
    gc.freeze()  # as mu-run does: collections stay short
    end = clock.now() + seconds
    try:
        loop.run(lambda: clock.now() >= end)
    finally:
        gc.unfreeze()
        source.close()
        link.close()
    summary = loop.summary()
    return {k: summary[k] for k in ("engine", "steps", "decoded", "missed", "compute_ms",
                                    "age_ms", "decode_delay_ms")}
