"""The manifest of a bundle: what a runtime must know of a decoder, and which values can be."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from spikewire.signals import PLAUSIBLE_FS_HZ, STEP, WINDOW, InputError

SCHEMA = 2
WIDEST_TOLERANCE = 0.05  # of a presence


@dataclass(frozen=True)
class Manifest:
    """What a runtime must know of a decoder.

    Attributes
    ----------
    decoder : str
        "network" or "linear": which of the two the graph is.
    channels, channel_map : int, list of int
        Channels the source must have, and which of them the decoder reads, in order.
    inputs : int
        Columns of the graph's input: front outputs, or channels if there is no front.
    look_ahead, label_lag, refractory : samples
    thresholds : list of float
        Presence probability above which each unit fires.
    history_samples : int
        Samples before the window that the front needs (0 without a front).
    input_scale : float
        Factor on the EMG in microvolts before the front.
    networks : dict of precision -> file name
    hashes : dict of file name -> sha256
    loading : float
        Ridge that the filters are solved with (0 without a front).
    golden_lsb_uv : float
        Microvolts per count of the golden excerpt.
    tolerance : dict of precision -> float
        Largest difference of a golden presence that an engine may show.
    training : dict
        Metrics, seeds, versions: for people, not read by the runtime.
    """

    name: str
    decoder: str
    fs_hz: float
    channels: int
    channel_map: list[int]
    n_mu: int
    inputs: int
    look_ahead: int
    history_samples: int
    input_scale: float
    label_lag: list[int]
    thresholds: list[float]
    refractory: int
    networks: dict[str, str]
    golden_lsb_uv: float
    tolerance: dict[str, float]
    loading: float = 0.0
    montage: str = "mono"
    unit: str = "uV"
    window: int = WINDOW
    step: int = STEP
    schema: int = SCHEMA
    hashes: dict[str, str] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)


def read_manifest(path: Path, text: bytes) -> Manifest:
    """Parse a manifest: the right schema, exactly the known keys.

    Raises
    ------
    InputError
        Not readable, of another version, or with other keys.
    """
    try:
        content = json.loads(text)
        schema = content["schema"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError(f"{path}: manifest.json is not readable; export it again") from None
    if type(schema) is not int or schema != SCHEMA:
        raise InputError(
            f"{path}: bundle schema is {schema!r}, this version reads {SCHEMA}; export it again "
            "with this version, or install the version that wrote it"
        )
    names = {f.name for f in fields(Manifest)}
    if set(content) != names:
        raise InputError(
            f"{path}: manifest.json lacks {sorted(names - set(content))} and has unknown "
            f"{sorted(set(content) - names)}; export the bundle again"
        )
    return Manifest(**content)


def _whole(low: int, high: int) -> tuple[str, Callable[[Any], bool]]:
    """A row of LIMITS: an integer."""
    return f"{low} to {high}", lambda v: type(v) is int and low <= v <= high


def _number(low: float, high: float) -> tuple[str, Callable[[Any], bool]]:
    """A row of LIMITS: a number; NaN is in no range."""
    return f"{low:g} to {high:g}", lambda v: type(v) in (int, float) and low <= v <= high


def _each(row: tuple[str, Callable[[Any], bool]]) -> tuple[str, Callable[[Any], bool]]:
    """A row of LIMITS: a list of values under another row."""
    words, holds = row
    return f"each {words}", lambda v: isinstance(v, list) and all(holds(x) for x in v)


# manifest key -> what is allowed, in words and as a test
LIMITS = {
    "name": ("text", lambda v: isinstance(v, str)),
    "training": ("a table", lambda v: isinstance(v, dict)),
    "window": (f"{WINDOW}", lambda v: type(v) is int and v == WINDOW),
    "step": (f"{STEP}", lambda v: type(v) is int and v == STEP),
    "networks": ("a file name per precision", lambda v: isinstance(v, dict)
                 and all(isinstance(x, str) for x in v.values())),
    "decoder": ("network or linear", lambda v: v in ("network", "linear")),
    "montage": ("mono", lambda v: v == "mono"),
    "unit": ("uV", lambda v: v == "uV"),
    "fs_hz": _number(*PLAUSIBLE_FS_HZ),
    "channels": _whole(1, 1024),
    "channel_map": _each(_whole(0, 1023)),
    "n_mu": _whole(1, 64),
    "inputs": _whole(1, 1024),
    "look_ahead": _whole(STEP // 2, WINDOW - STEP // 2),
    "history_samples": _whole(0, 255),
    "input_scale": _number(1e-9, 1e9),
    "label_lag": _each(_whole(-WINDOW, WINDOW)),
    "thresholds": _each(_number(0.01, 0.99)),
    "refractory": _whole(STEP // 2, 2048),
    "loading": _number(0, 1),
    "golden_lsb_uv": _number(1e-9, 1e3),
    # Golden windows prove an engine only if they may differ by little.
    "tolerance": (f"at most {WIDEST_TOLERANCE:g} per precision", lambda v: isinstance(v, dict)
                  and all(type(x) is float and 0 <= x <= WIDEST_TOLERANCE for x in v.values())),
}


def check_manifest(path: Path, m: Manifest) -> None:
    """Refuse values that cannot be, or do not fit each other.

    Raises
    ------
    InputError
        Names the key, the value and what is allowed.
    """
    for key, (words, holds) in LIMITS.items():
        if not holds(getattr(m, key)):
            raise InputError(f"{path}: {key} is {getattr(m, key)!r}, allowed is {words}; export "
                             "it again")
    lengths = {
        "number of thresholds": (len(m.thresholds), m.n_mu),
        "number of label_lag": (len(m.label_lag), m.n_mu),
        "inputs": (m.inputs, m.inputs if m.history_samples else len(m.channel_map)),
    }
    for what, (came, allowed) in lengths.items():
        if came != allowed:
            raise InputError(f"{path}: {what} is {came}, must be {allowed}; export it again")
    if not all(0 <= c < m.channels for c in m.channel_map):
        raise InputError(f"{path}: channel_map points outside the {m.channels} channels")
