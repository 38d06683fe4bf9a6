"""What a participant is shown: a plan that the address of the page describes."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from spikewire.guide import Plan
from spikewire.signals import InputError

# query of /feedback -> field of the plan
PLAN = {"level": "level", "contractions": "contractions", "hold": "hold_s", "ramp": "ramp_s",
        "rest": "rest_s", "maximum": "maximum_s"}
FULL_HZ = (1.0, 1e5)


def describe(query: str) -> dict[str, Any]:
    """A plan for the feedback page.

    Parameters
    ----------
    query : str
        Such as `level=20&hold=15&full=400`; `full` is the drive, in pulse/s, of a full effort.

    Raises
    ------
    InputError
    """
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query),
                          max_num_fields=16)
        given = {key: float(value) for key, value in pairs}
    except ValueError:
        raise InputError("the address: after ? stand names and numbers, as in "
                         "/feedback?level=20&hold=15") from None
    allowed = [*PLAN, "full", "slot"]
    unknown = [key for key in given if key not in allowed]
    if unknown or len(given) < len(pairs):
        raise InputError(f"the address: allowed are {', '.join(allowed)}, each once")
    full, slot = given.pop("full", None), given.pop("slot", 0.0)
    if full is not None and not FULL_HZ[0] <= full <= FULL_HZ[1]:
        raise InputError(f"full is {full:g}, allowed is {FULL_HZ[0]:g} to {FULL_HZ[1]:g} pulse/s")
    if slot not in (0, 1, 2, 3):
        raise InputError(f"slot is {slot:g}, allowed is 0 to 3: the bundle whose drive is shown")
    if full is not None:
        given.setdefault("maximum", 0.0)  # it is known already
    if given.get("contractions", 1.0) % 1:
        raise InputError("contractions is no whole number")
    if full is None and given.get("maximum", 1.0) < 1:
        raise InputError("maximum is below 1 s: then say full, the drive of a full effort")
    contractions = int(given.pop("contractions", 1.0))
    made = {PLAN[key]: value for key, value in given.items()}
    try:
        return _drawn(Plan(contractions=contractions, **made), full, int(slot))
    except InputError as error:  # which names the option of a command
        raise InputError(str(error).removeprefix("--")) from None


def _drawn(chosen: Plan, full: float | None, slot: int) -> dict[str, Any]:
    """A plan as the page draws it; between two corners the target is a straight line."""
    corners: list[list[float]] = []
    for stage in chosen.stages():
        inside = 1e-6 * (stage.stop_s - stage.start_s)
        corners += [[t, chosen.target(t)] for t in (stage.start_s, stage.stop_s - inside)]
    return {
        "level": chosen.level, "seconds": chosen.seconds, "full": full, "slot": slot,
        "corners": corners, "stages": [[s.kind, s.start_s, s.stop_s] for s in chosen.stages()],
        "words": {s.kind: chosen.words(s.start_s).rpartition("   ")[0] for s in chosen.stages()},
    }
