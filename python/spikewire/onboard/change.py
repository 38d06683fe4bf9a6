"""From one release to another, or back: state.json first, then units and link, then state.json.

While `trial` is set something may be half done; whoever finds it set puts `current` and the units
back to the last release that has proven itself.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from spikewire.onboard import admit, disk, health, power, preflight, programs, services, states
from spikewire.onboard.place import Place
from spikewire.onboard.releases import BUNDLE, ReleaseError, is_whole, read_list
from spikewire.onboard.say import FAIL, OK, WARN, Line, Stop, say
from spikewire.onboard.states import State

SELF_TEST_S = 1800.0  # TensorRT may take its time over a plan
BEAT_S = 0.5  # of a release that has proven itself before


def install(place: Place, name: str, watch_s: float, signer: str | None = None) -> None:
    """Take a staged release in and switch to it; or leave, or bring back, what was there.

    Raises
    ------
    Stop
        It does not pass. What was good before runs again.
    """
    state = recover(place, name)
    if state.trial is None and state.good == name == place.named(place.current) and is_whole(
            place.release(name), name) and services.is_active() == "active":
        say(Line("install", OK, f"{name} runs already, nothing to do"))
        return
    admit.trust(place, signer)
    try:
        folder = admit.admit(place, name)
        release, board = read_list(folder), services.read_board(folder)
        for line in preflight.ask(preflight.Case(place, release, board)):
            if line.state == FAIL:
                raise Stop(line.step, line.evidence, line.remedy)
        admit.settings(place, folder)
        for path, content in services.differences(place, folder).items():
            say(Line("diff", OK, services.diff(path, content)))
        say(power.lock(place.root, board))
        say(self_test(place, name))
        disk.write(place.program, (folder / "onboard.pyz").read_bytes(), 0o755)
    except (Stop, OSError, ReleaseError) as error:
        _refuse(place, state, name, error)
        raise
    switch(place, state, name, watch_s, "install")


def _refuse(place: Place, state: State, name: str, error: Exception) -> None:
    """Remember why a release was not even tried, and drop it."""
    failed = state if name in state.proven else state.with_failed(name)
    good = go_back(place, replace(failed, last=_last("install", name, error)))
    if state.trial:  # a first install that was cut, done again
        run_again(good)
    disk.remove_tree(place.staging / name)
    admit.prune(place, states.read(place))


def rollback(place: Place, by_itself: bool) -> None:
    """Go back to the release before, or, after the current one has failed, to the last good one.

    Parameters
    ----------
    place : Place
    by_itself : bool
        The runtime has failed for good and nobody is there to choose; the failed one does not
        count as proven any more.

    Raises
    ------
    Stop
        There is no other whole release.
    """
    here = place.named(place.current)
    if by_itself and states.read_or_guess(place).trial is None and services.refused_its_input():
        say(Line("rollback", WARN, f"{here} runs on: it ended for what it was given, which no "
                 f"other release has either: {services.log_line()}",
                 "plug in what is missing, or correct /etc/spikewire/run.env"))
        services.start_again()
        return
    state = recover(place)
    target = newest_whole(place, [name for name in state.proven if name != here])
    if target is None:
        raise Stop("rollback", f"there is no whole release besides {here or 'none'}",
                   "deploy another one: mu-flash deploy HOST RELEASE")
    if by_itself and here is not None:
        error = Stop("rollback", f"the runtime failed too often: {services.log_line()}")
        state = replace(state.with_failed(here), trial=here, last=_last("rollback", here, error))
        states.write(place, state)
        run_again(go_back(place, state))
        return
    switch(place, state, target, BEAT_S, "rollback")


def switch(place: Place, state: State, name: str, watch_s: float, verb: str) -> None:
    """Run a whole release on trial; it becomes the good one, or all is as before.

    Raises
    ------
    Stop
        The exoskeleton is armed, or the release does not live.
    """
    instead = place.named(place.current)
    for line in preflight.ask(preflight.Case(place, {}, {}), "exoskeleton"):
        if line.state == FAIL:
            raise Stop(line.step, line.evidence, line.remedy)
    state = replace(state, trial=name, tries=state.tries if state.trial == name else 0)
    states.write(place, state)
    try:
        services.install(place, place.release(name), place.release(instead) if instead else None)
        if instead != name:
            disk.point(place.current, f"releases/{name}")
        say(Line("switch", OK, f"{instead or 'nothing'} -> {name}"))
        since = health.now()
        services.restart()
        say(health.watch(place, since, watch_s))
        settle(place, replace(state.with_good(name), last=_last(verb, name)))
    except (Stop, OSError) as error:
        failed = state.with_failed(name)
        run_again(go_back(place, replace(failed, last=_last(verb, name, error))))
        admit.prune(place, states.read(place))
        raise
    say(Line(verb, OK, f"{name} is good"), data=services.read_board(place.current))
    admit.prune(place, states.read(place))


def go_back(place: Place, state: State) -> str | None:
    """Put units and `current` to the newest whole proven release, and return it.

    Where there is none, nothing is left to run. The runtime is not restarted here.
    """
    good = newest_whole(place, state.proven)
    for name in state.proven[state.proven.index(good) + 1 if good else 0:]:
        state = state.with_failed(name)
    instead = state.trial or place.named(place.current)
    if good is None:
        disk.remove(place.current)
    else:
        services.install(place, place.release(good), place.release(instead) if instead else None)
        if place.named(place.current) != good:
            disk.point(place.current, f"releases/{good}")
    settle(place, replace(state, trial=None, tries=0))
    return good


def settle(place: Place, state: State) -> None:
    """Write a state in which nothing is on trial; `previous` follows from it."""
    if not states.is_written(place, state):
        states.write(place, state)
    before = state.proven[-2] if len(state.proven) > 1 else None
    if before is None:
        disk.remove(place.previous)
    elif place.named(place.previous) != before:
        disk.point(place.previous, f"releases/{before}")


def recover(place: Place, name: str | None = None) -> State:
    """Return the state, after undoing a change that was cut.

    A first release (nothing is proven yet) that is being installed again stays on trial.
    """
    state = states.read_or_guess(place)
    if state.trial is None or (not state.proven and state.trial == name):
        return state
    say(Line("recover", WARN, f"an earlier change to {state.trial} was cut off; undoing it"))
    run_again(go_back(place, state))
    return states.read(place)


def run_again(good: str | None) -> None:
    """Restart the runtime on the good release; stop it where there is none."""
    if good is None:
        services.stop()
        say(Line("back", WARN, "no release has proven itself here; nothing runs"))
        return
    try:
        services.restart()
        say(Line("back", OK, f"{good} runs again"))
    except Stop as error:
        say(error.line)


def newest_whole(place: Place, names: Sequence[str]) -> str | None:
    """Return the last of some releases that is whole."""
    return next((n for n in reversed(names) if is_whole(place.release(n), n)), None)


def self_test(place: Place, name: str) -> Line:
    """Let the release test itself: golden windows, the engine's plan, ten seconds at its pace.

    Raises
    ------
    Stop
        It fails, with its own words.
    """
    folder, began = place.release(name), time.monotonic()
    done = programs.run(
        ["env", f"XDG_CACHE_HOME={place.root / 'var/cache'}", folder / "bin/mu-doctor",
         folder / BUNDLE, "--self-test", "--json"], SELF_TEST_S, folder=folder)
    if done.code:
        raise Stop("self-test", _words(done), "try mu-flash bench HOST, or another release")
    return Line("self-test", OK, f"passed in {time.monotonic() - began:.0f} s")


def _words(done: programs.Done) -> str:
    """Return what failed in a self-test that prints JSON; else its last line."""
    for text in (done.text, *done.text.splitlines()):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            continue
        for row in found if isinstance(found, list) else [found]:
            if isinstance(row, dict) and row.get("state") == FAIL:
                return f"{row.get('step', row.get('check', ''))}: {row.get('evidence', '')}"
    return done.last


def _last(verb: str, name: str, error: Exception | None = None) -> dict[str, Any]:
    """Return what state.json remembers of a change."""
    return {"verb": verb, "release": name, "ok": error is None, "reason": str(error or "")}
