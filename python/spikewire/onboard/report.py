"""What a board says of itself: its release, what was done last, how its runtime does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from spikewire.onboard import facts, services, states
from spikewire.onboard.place import Place
from spikewire.onboard.releases import is_whole
from spikewire.onboard.say import FAIL, OK, WARN, Line, say
from spikewire.onboard.states import State

TOLD = ("state", "steps", "frames", "engine", "age_p99_ms", "missed")  # of status.json


def status(place: Place) -> int:
    """Print the state of a board, the last line with all of it as data; 0 if a good one runs."""
    state, here = states.read_or_guess(place), place.named(place.current)
    whole = here is not None and is_whole(place.release(here), here)
    board = services.read_board(place.current) if whole else {}
    said, active = facts.runtime(place.status), services.is_active()
    for line in _lines(place, state, here, whole):
        say(line)
    alive = active == "active"
    say(Line("runtime", OK if alive else FAIL, f"{active}, " + ", ".join(
        f"{key} {said[key]}" for key in TOLD if key in said) if said else f"{active}, says nothing",
        "" if alive else "read mu-flash logs HOST"))
    data: dict[str, Any] = {
        "current": here, "good": state.good, "trial": state.trial, "whole": whole,
        "active": alive, "proven": state.proven, "failed": state.failed, "last": state.last,
        "board": board.get("id"), "verified": board.get("verified"), "runtime": said}
    say(Line("board", OK, f"{board.get('id', 'unknown')}, "
             f"verified = {board.get('verified', 'unknown')!r}"),
        data=data)
    return 0 if alive and whole and here == state.good and state.trial is None else 1


def _lines(place: Place, state: State, here: str | None, whole: bool) -> Iterator[Line]:
    """Yield what is known of the releases."""
    if here is None:
        yield Line("release", FAIL, "none", "mu-flash deploy HOST RELEASE")
    elif not whole:
        yield Line("release", FAIL, f"{here} is damaged", "mu-flash rollback HOST, or deploy again")
    elif here != state.good:
        yield Line("release", WARN, f"{here} has not proven itself", "mu-flash rollback HOST")
    else:
        yield Line("release", OK, here)
    yield Line("previous", OK, place.named(place.previous) or "none")
    if state.trial:
        yield Line("trial", WARN, f"a change to {state.trial} is running, or was cut off",
                   "wait; the next deploy, rollback or boot undoes it")
    if state.last:
        yield Line("last", OK if state.last.get("ok") else WARN, f"{state.last.get('verb')} "
                   f"{state.last.get('release')}: {state.last.get('reason') or 'good'}")
