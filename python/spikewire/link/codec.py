"""Steps and arm requests to payloads and back; the layout comes from the message table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikewire.link.packing import FrameError, crc8, crc16, pack, unpack
from spikewire.link.table import (
    ARM,
    BASE,
    BY_TYPE,
    DRIVE,
    N_DRIVES,
    PROTO,
    SHORT,
    STEP,
    Message,
)

__all__ = [
    "Arm",
    "FrameError",
    "Notice",
    "Step",
    "crc8",
    "crc16",
    "decode",
    "decode_frame",
    "encode_arm",
    "encode_short",
    "encode_step",
    "id16",
    "of_type",
    "step_values",
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
    muted : int64 (k,)
        Motor units that are not decoded at present; not part of STEP, see VALID.
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
    muted: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))


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


def step_values(step: Step, message: Message) -> dict[str, Any]:
    """Values of one step for any message that bears a drive, its own counter among them.

    Raises
    ------
    FrameError
        A slot past 3, or not four drives and activations.
    """
    slot, drive = _slot(step.slot), _four("drive", step.drive)
    activation = _four("activation", step.activation)
    if message is not STEP:
        drive, activation = drive[slot], activation[slot]  # type: ignore[assignment]
    return {
        "counter": step.counter, "state": step.state, "proto": PROTO, "step": step.step,
        "sample_time_us": step.sample_time_us, "age_ms": step.age_ms, "faults": step.faults,
        "drive": drive, "activation": activation, "n_mu": step.n_mu,
        "good_channels": step.good_channels, "model_id16": step.model_id16, "counts": step.counts,
    }


def encode_step(step: Step) -> bytes:
    """Encode the full frame, STEP.

    Returns
    -------
    bytes (64,)

    Raises
    ------
    FrameError
        A value fits into no frame, for instance a slot past 3 or an unknown state.
    """
    return pack(STEP, step_values(step, STEP), step.slot)


def encode_short(step: Step) -> bytes:
    """Encode the short frame, SHORT: drive and activation of `step.slot`, no counts.

    Returns
    -------
    bytes (16,)

    Raises
    ------
    FrameError
        A value fits into no frame.
    """
    return pack(SHORT, step_values(step, SHORT), step.slot)


def encode_arm(arm: Arm, base: int = BASE) -> bytes:
    """Encode an arm request.

    Returns
    -------
    bytes (8,)

    Raises
    ------
    FrameError
        The request is unknown or the model id has more than 32 bits.
    """
    return pack(ARM, vars(arm), base=base)


@dataclass(frozen=True)
class Notice:
    """A message that is neither a step nor a request: INFO, INFO2, STATUS, VALID, COUNTS.

    Attributes
    ----------
    message : Message
    slot : int
    values : field name -> value
    """

    message: Message
    slot: int
    values: dict[str, Any]


def decode(message: Message, slot: int, payload: bytes, base: int = BASE) -> Step | Arm | Notice:
    """Decode any message of the table.

    Raises
    ------
    FrameError
        `check` is "length", "crc", "range", or the name of a field that has fixed choices.
    """
    values = unpack(message, payload, _slot(slot), base)
    values.pop("crc", None)
    if message is ARM:
        return Arm(**values)
    if message is STEP:
        del values["proto"]
        return Step(slot=slot, **values)
    if message in (SHORT, DRIVE):
        for name in ("drive", "activation"):
            four = [math.nan] * N_DRIVES
            four[slot] = values[name]
            values[name] = tuple(four)
        return Step(slot=slot, **values)
    return Notice(message, slot, values)


def decode_frame(kind: int, payload: bytes) -> Step | Arm | Notice:
    """Decode what came over a serial line under type byte `kind`.

    Raises
    ------
    FrameError
        `check` is "type" for an unknown `kind`, else as of `decode`.
    """
    return decode(*of_type(kind), payload)


def of_type(kind: int) -> tuple[Message, int]:
    """Return message and slot of a serial type byte; FrameError if there is none."""
    if kind not in BY_TYPE:
        known = ", ".join(f"0x{value:02x}" for value in sorted(BY_TYPE))
        raise FrameError("type", f"frame type 0x{kind:02x} came, known: {known}")
    return BY_TYPE[kind]
