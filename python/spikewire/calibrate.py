"""Whether a recording is fit to make a decoder of, and whether the decoder is fit to be used."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from spikewire.guide import Plan
from spikewire.signals import FLAT_SHARE, InputError, Recording

MAINS_MUCH = 0.10  # of the power in the hold
FEW_GOOD = 0.75  # of the channels
EFFORT = 1.5  # of the amplitude at rest, below which nobody has contracted
FOLLOWED = 0.90  # held-out F1 from which a unit counts
GOOD_UNITS, USABLE_UNITS = 5, 3


def cut(recording: Recording, plan: Plan) -> Recording:
    """The contractions with the rest around them, without the pull at full strength before.

    Parameters
    ----------
    recording : Recording
        From the first sample of the plan on.

    Raises
    ------
    InputError
        It ends before the last contraction does.
    """
    spans = plan.contractions_s()
    end = spans[-1][1]
    if recording.seconds < end - 0.1:
        raise InputError(f"{recording.name}: {recording.seconds:.1f} s came of {end:.1f}; the "
                         "source ended before the last contraction did")
    start = round(max(spans[0][0] - plan.rest_s, 0.0) * recording.fs_hz)
    return replace(recording, emg=recording.emg[start:],
                   segments=np.array([[round(s * recording.fs_hz) - start for s in span]
                                      for span in spans], np.int64))


def hold_out_s(recording: Recording, plan: Plan) -> tuple[float, float]:
    """The plan's held-out seconds, counted from the start of the cut recording."""
    assert recording.segments is not None
    a, b = plan.hold_out_s()
    shift = recording.segments[-1][0] / recording.fs_hz - plan.contractions_s()[-1][0]
    return round(a + shift, 2), round(min(b + shift, recording.seconds), 2)


@dataclass(frozen=True)
class Finding:
    """Something about the electrodes or the effort, and what to do about it."""

    what: str
    remedy: str
    fatal: bool = False


def examine(recording: Recording, plan: Plan) -> list[Finding]:
    """What is wrong with a recording of `cut`, gravest first; an empty list is good."""
    assert recording.segments is not None
    a, b = recording.segments[-1]
    hold, fs = recording.emg[a:b].astype(np.float64), recording.fs_hz
    power = hold.var(axis=0) + 1e-12
    rms = np.sqrt(power)
    flat = np.flatnonzero(rms < FLAT_SHARE * np.median(rms))
    wave = np.exp(-2j * np.pi * np.outer((50.0, 60.0), np.arange(len(hold))) / fs)
    mains = float(np.median(2 * np.square(np.abs(wave @ hold).max(axis=0) / len(hold)) / power))
    found = []
    if len(flat) > (1 - FEW_GOOD) * len(rms):
        found.append(Finding(f"{len(flat)} of {len(rms)} channels are flat",
                             "press the grid on, look at its plug and at the gel", True))
    elif len(flat):
        found.append(Finding(f"channels {', '.join(map(str, flat))} are flat",
                             "the decoder does without them; better press the grid on"))
    if plan.rest_s >= 1:
        rest = recording.emg[: round(0.8 * plan.rest_s * fs)].std(axis=0)
        if float(np.median(rms)) < EFFORT * float(np.median(rest)):
            found.append(Finding(
                f"the EMG of the hold ({np.median(rms):.0f} uV) is that of rest "
                f"({np.median(rest):.0f} uV)",
                "follow the target with the muscle under the grid, or raise --level", True))
    if mains > MAINS_MUCH:
        found.append(Finding(f"{mains:.0%} of the power is 50 or 60 Hz",
                             "wet the ground strap, move chargers and cables away"))
    return sorted(found, key=lambda f: not f.fatal)


def verdict(f1: list[float]) -> tuple[str, str]:
    """Whether a decoder may be used, from the held-out F1 of its units: a word and a sentence.

    Returns
    -------
    word : "good", "usable" or "poor"
    sentence : str
    """
    followed = [v for v in f1 if v >= FOLLOWED]
    said = (f"{len(followed)} of {len(f1)} motor units are followed to F1 {FOLLOWED:g} or better "
            "on the part that was held out")
    if len(followed) >= GOOD_UNITS:
        return "good", f"Good enough to use: {said}."
    if len(followed) >= USABLE_UNITS:
        return "usable", (f"Usable with care: {said}. The neural drive of so few units is coarse; "
                          "a longer hold (--hold 60) or a second contraction (--contractions 2) "
                          "finds more.")
    return "poor", (f"Not good enough to use: {said}. Hold longer (--hold 60) and steadier, try "
                    "another --level, or move the grid over the muscle's middle, along its fibres.")


def per_unit(scores: dict[str, Any]) -> list[float]:
    """F1 of each unit of a `mu-score --json`; a unit never found has 0."""
    return [float(unit["f1"] or 0.0) for unit in scores["per_unit"]]
