"""Steps and arm requests to payloads and back; the layout comes from the message table."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from spikewire.link.packing import FrameError, crc8, crc16, pack, unpack
from spikewire.link.table import ARM, BY_TYPE, N_DRIVES, PROTO, SHORT, STEP

__all__ = [
    "Arm",
    "FrameError",
    "Step",
    "crc8",
    "crc16",
    "decode_arm",
    "decode_frame",
    "decode_short",
    "decode_step",
    "encode_arm",
    "encode_short",
    "encode_step",
    "id16",
]

_NOT_AVAILABLE = (math.nan,) * N_DRIVES


@dataclass(frozen=True, eq=False)
class Step:
    """What is sent about one step of one bundle.

    Attributes
    ----------
    slot : int
        Bundle, 0..3; travels in the type byte.
    state : int
        Key of `table.STATES`.
    counter : int
        Of frames; a link puts its own.
    step, sample_time_us : int
        Number of the step and acquisition time of its newest sample; both wrap at 2**32.
    age_ms : float
        Hand-over of the frame minus acquisition of the newest sample; NaN if not known.
    faults : int
        Bits of `table.FAULTS`.
    drive : 4 floats, pulse/s
        Neural drive of every slot; NaN = not available.
    activation : 4 floats, %
        Drive as a share of maximal voluntary contraction; NaN = not available.
    n_mu, good_channels : int
        Motor units of the bundle, electrodes in use.
    model_id16 : int
        `id16` of the model id.
    counts : uint8 (up to 64,)
        Spikes of each motor unit in this step, 0..13; 14 = 14 or more, 15 = not available, as are
        the units past the end.
    """

    slot: int = 0
    state: int = 0
    counter: int = 0
    step: int = 0
    sample_time_us: int = 0
    age_ms: float = math.nan
    faults: int = 0
    drive: Sequence[float] = _NOT_AVAILABLE
    activation: Sequence[float] = _NOT_AVAILABLE
    n_mu: int = 0
    good_channels: int = 0
    model_id16: int = 0
    counts: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, np.uint8))


@dataclass(frozen=True)
class Arm:
    """What a controller asks of the decoder.

    Attributes
    ----------
    request : int
        Key of `table.REQUESTS`.
    model_id : int
        32-bit id of the model that the controller expects.
    counter : int
        Of ARM frames; wraps at 15.
    max_age_ms : float
        Oldest age that the controller accepts; NaN if it has no wish.
    """

    request: int
    model_id: int
    counter: int = 0
    max_age_ms: float = 80.0


def id16(model_id: int) -> int:
    """Return the low 16 bits of a model id, as they travel in STEP and SHORT."""
    return model_id & 0xFFFF


def _slot(slot: int) -> int:
    """Return `slot` if there is such a drive."""
    if not 0 <= slot < N_DRIVES:
        raise FrameError("slot", f"slot {slot} came, 0..{N_DRIVES - 1} is allowed")
    return slot


def _four(name: str, values: Sequence[float]) -> Sequence[float]:
    """Return `values` if there is one for each slot."""
    if len(values) != N_DRIVES:
        raise FrameError("range", f"{name}: {len(values)} values came, {N_DRIVES} are needed")
    return values


def encode_step(step: Step, counter: int | None = None) -> bytes:
    """Encode the full frame, STEP.

    Parameters
    ----------
    step : Step
    counter : int, optional
        Goes out instead of `step.counter`; wraps at 256.

    Returns
    -------
    bytes (64,)

    Raises
    ------
    FrameError
        A value fits into no frame, for instance a slot past 3 or an unknown state.
    """
    return pack(
        STEP,
        {
            "counter": step.counter if counter is None else counter,
            "state": step.state,
            "proto": PROTO,
            "step": step.step,
            "sample_time_us": step.sample_time_us,
            "age_ms": step.age_ms,
            "faults": step.faults,
            "drive": _four("drive", step.drive),
            "activation": _four("activation", step.activation),
            "n_mu": step.n_mu,
            "good_channels": step.good_channels,
            "model_id16": step.model_id16,
            "counts": step.counts,
        },
        _slot(step.slot),
    )


def decode_step(payload: bytes, slot: int = 0) -> Step:
    """Decode a full frame; `slot` comes from its type byte.

    Parameters
    ----------
    payload : bytes (64,)
    slot : int

    Returns
    -------
    Step
        `counts` always has 64 elements.

    Raises
    ------
    FrameError
        `check` is "length", "crc", "proto", "state", "range" or "slot".
    """
    values = unpack(STEP, payload, _slot(slot))
    del values["crc"], values["proto"]
    return Step(slot=slot, **values)


def encode_short(step: Step, counter: int | None = None) -> bytes:
    """Encode the short frame, SHORT: drive and activation of `step.slot`, no counts.

    Parameters
    ----------
    step : Step
    counter : int, optional
        Goes out instead of `step.counter`; wraps at 15.

    Returns
    -------
    bytes (16,)

    Raises
    ------
    FrameError
        A value fits into no frame.
    """
    slot = _slot(step.slot)
    return pack(
        SHORT,
        {
            "step": step.step,
            "drive": _four("drive", step.drive)[slot],
            "activation": _four("activation", step.activation)[slot],
            "counter": step.counter if counter is None else counter,
            "state": step.state,
            "age_ms": step.age_ms,
            "faults": step.faults,
            "model_id16": step.model_id16,
        },
        slot,
    )


def decode_short(payload: bytes, slot: int = 0) -> Step:
    """Decode a short frame; `slot` comes from its type byte.

    Parameters
    ----------
    payload : bytes (16,)
    slot : int

    Returns
    -------
    Step
        What a short frame does not carry has its default: no counts, 0 units, other drives NaN.

    Raises
    ------
    FrameError
        `check` is "length", "state", "range" or "slot"; the CRC-32 is that of the framing.
    """
    values = unpack(SHORT, payload, _slot(slot))
    for name in ("drive", "activation"):
        four = [math.nan] * N_DRIVES
        four[slot] = values[name]
        values[name] = tuple(four)
    return Step(slot=slot, **values)


def encode_arm(arm: Arm) -> bytes:
    """Encode an arm request.

    Returns
    -------
    bytes (8,)

    Raises
    ------
    FrameError
        The request is unknown or the model id has more than 32 bits.
    """
    return pack(ARM, vars(arm))


def decode_arm(payload: bytes) -> Arm:
    """Decode an arm request.

    Raises
    ------
    FrameError
        `check` is "length", "crc", "request" or "range".
    """
    values = unpack(ARM, payload)
    del values["crc"]
    return Arm(**values)


_DECODERS: dict[str, Callable[[bytes, int], Step | Arm]] = {
    STEP.name: decode_step,
    SHORT.name: decode_short,
    ARM.name: lambda payload, slot: decode_arm(payload),
}


def decode_frame(kind: int, payload: bytes) -> Step | Arm:
    """Decode what came over a serial line under type byte `kind`.

    Raises
    ------
    FrameError
        `check` is "type" for an unknown `kind`, else as of the decoder of that message.
    """
    if kind not in BY_TYPE:
        known = ", ".join(f"0x{value:02x}" for value in sorted(BY_TYPE))
        raise FrameError("type", f"frame type 0x{kind:02x} came, known: {known}")
    message, slot = BY_TYPE[kind]
    return _DECODERS[message.name](payload, slot)
