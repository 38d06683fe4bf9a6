"""Whether a runtime lives: ready, beating, without fault, and the same process all the time.

Steps stand still while an amplifier is off, so frames count as a beat, too: a release is not bad
because nobody wears the electrodes.
"""

from __future__ import annotations

import time
from typing import Any

from spikewire.onboard import facts, services
from spikewire.onboard.place import Place
from spikewire.onboard.say import OK, Line, Stop

EVERY_S = 0.25
FIRST_S, BEAT_S = 10.0, 2.0  # a first word, and the longest between two beats
REMEDY = "read mu-flash logs HOST"


def pause(seconds: float) -> None:
    """Wait; tests do not."""
    time.sleep(seconds)


def now() -> float:
    """Return seconds on the clock that status.json uses."""
    return time.monotonic()


def watch(place: Place, since: float, seconds: float) -> Line:
    """Look at the runtime for a while.

    Parameters
    ----------
    place : Place
    since : float
        When it was started, on `now`'s clock; what was said before is another process's.
    seconds : float
        How long it must live, counted from its first word.

    Raises
    ------
    Stop
        It is not active, was restarted, says FAULT, or says nothing new.
    """
    first = _first(place, since)
    beats = _beats(first)
    began = beaten = now()
    # However short the watch: a word that has not come yet is missing after BEAT_S, not before.
    while now() - began < seconds or beats == _beats(first):
        pause(min(EVERY_S, seconds))
        said, heard = facts.runtime(place.status), now()
        _alive()  # takes its time on a slow board, which is no silence of the runtime
        if said and said.get("pid") != first.get("pid"):
            raise Stop("watch", f"the runtime died and was restarted after {now() - began:.0f} s: "
                       f"{services.log_line()}", REMEDY)
        if said.get("state") == "FAULT":
            raise Stop("watch", "the runtime is in FAULT: "
                       f"{', '.join(map(str, said.get('faults', []))) or 'no fault named'}", REMEDY)
        if said and _beats(said) != beats:
            beats, beaten = _beats(said), heard
        if heard - beaten > BEAT_S:
            raise Stop("watch", "no heartbeat: steps and frames have stood still for "
                       f"{BEAT_S:g} s", REMEDY)
    said = facts.runtime(place.status)
    return Line("watch", OK, f"{said.get('state')}, {beats[0]} steps, {beats[1]} frames, engine "
                f"{said.get('engine')}, {seconds:g} s without fault")


def _first(place: Place, since: float) -> dict[str, Any]:
    """Return the first thing that the new process says."""
    began = now()
    while now() - began < FIRST_S:
        _alive()
        said = facts.runtime(place.status)
        if said and said["monotonic_s"] >= since:
            return said
        pause(EVERY_S / 2)
    raise Stop("watch", f"no heartbeat: the runtime wrote no status.json within {FIRST_S:g} s",
               REMEDY)


def _alive() -> None:
    """Stop where systemd says that the runtime is not there."""
    state = services.is_active()
    if state != "active":
        raise Stop("watch", f"the runtime is {state}: {services.log_line() or 'nothing logged'}",
                   REMEDY)


def _beats(said: dict[str, Any]) -> tuple[object, object]:
    """Return the two counters that move while the loop does."""
    return said.get("steps"), said.get("frames")
