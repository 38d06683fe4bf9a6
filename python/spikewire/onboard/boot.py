"""Before the runtime starts: `current` is put to a whole release that has proven itself."""

from __future__ import annotations

from dataclasses import replace

from spikewire.onboard import change, disk, health, services, states
from spikewire.onboard.place import Place
from spikewire.onboard.releases import is_whole
from spikewire.onboard.say import OK, WARN, Line, Stop, say

TRIES = 3  # boots that a release may have while none has proven itself


def check(place: Place) -> None:
    """Undo what a cut has left half done; nothing is written where nothing was cut.

    Raises
    ------
    Stop
        There is no release that may run; `current` is then gone.
    """
    state, here = states.read_or_guess(place), place.named(place.current)
    good = change.newest_whole(place, state.proven)
    trial = state.trial
    if good is None and trial and state.tries < TRIES and is_whole(place.release(trial), trial):
        _try(place, state)
        return
    if trial is None and good is not None and good == state.good == here:
        change.settle(place, state)
        say(Line("boot-check", OK, f"{good} is whole"))
        return
    if trial:
        say(Line("boot-check", WARN, f"a change to {trial} was cut off"))
        state = replace(state, last={"verb": "boot-check", "release": trial, "ok": False,
                                     "reason": "cut off"})
    if change.go_back(place, state) is None:
        raise Stop("boot-check", f"no release may run: {', '.join(state.proven) or 'none'} proven, "
                   f"{trial or 'none'} on trial after {state.tries} boots",
                   "deploy a release: mu-flash deploy HOST RELEASE")
    say(Line("boot-check", OK, f"back to {good}"))


def confirm(place: Place, watch_s: float) -> None:
    """After the runtime has started: a first release that lives has proven itself.

    Raises
    ------
    Stop
        It does not live; it stays on trial.
    """
    state = states.read_or_guess(place)
    if state.trial is None or state.proven or state.trial != place.named(place.current):
        say(Line("confirm", OK, "nothing is on its first trial"))
        return
    say(health.watch(place, 0.0, watch_s))
    change.settle(place, state.with_good(state.trial))
    say(Line("confirm", OK, f"{state.trial} is good"))


def _try(place: Place, state: states.State) -> None:
    """Let a first release run, counted."""
    trial = str(state.trial)
    states.write(place, replace(state, tries=state.tries + 1))
    services.install(place, place.release(trial), None)
    if place.named(place.current) != trial:
        disk.point(place.current, f"releases/{trial}")
    say(Line("boot-check", WARN, f"nothing has proven itself yet; {trial}, boot {state.tries + 1} "
             f"of {TRIES}", "deploy it again: mu-flash deploy HOST RELEASE"))
