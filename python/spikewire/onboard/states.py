"""state.json: which releases have proven themselves on this board, and which one is on trial."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from typing import Any

from spikewire.onboard import disk
from spikewire.onboard.place import Place
from spikewire.onboard.releases import NAME, is_whole
from spikewire.onboard.say import WARN, Line, say

KEPT, REMEMBERED = 3, 10  # proven and failed releases
LONGEST = 1 << 20


@dataclass(frozen=True)
class State:
    """What is known of the releases on a board.

    Attributes
    ----------
    proven : tuple of str
        Names that have run, the one to run last; `good` is this last one.
    trial : str or None
        A name that `current` is being moved to or from. Set before anything is touched, so that
        after a cut somebody knows that something may be half done.
    tries : int
        Boots with a trial and nothing proven.
    failed : tuple of str
        Names that did not pass, for the reader.
    last : dict
        What was done last, and why.
    """

    proven: tuple[str, ...] = ()
    trial: str | None = None
    tries: int = 0
    failed: tuple[str, ...] = ()
    last: dict[str, Any] = field(default_factory=dict)

    @property
    def good(self) -> str | None:
        """The release to run."""
        return self.proven[-1] if self.proven else None

    def with_good(self, name: str) -> State:
        """Return the state after `name` has proven itself."""
        proven = (*(n for n in self.proven if n != name), name)[-KEPT:]
        return replace(self, proven=proven, trial=None, tries=0,
                       failed=tuple(n for n in self.failed if n != name))

    def with_failed(self, name: str) -> State:
        """Return the state after `name` has failed, on trial or later."""
        failed = (*(n for n in self.failed if n != name), name)[-REMEMBERED:]
        return replace(self, proven=tuple(n for n in self.proven if n != name), failed=failed)


def read(place: Place) -> State:
    """Read the state; where there is none, what the links say.

    Raises
    ------
    ValueError
        The file is there and cannot be used.
    """
    try:
        if os.stat(place.state).st_size > LONGEST:
            raise ValueError("too long")
        content = json.loads(place.state.read_bytes())
    except FileNotFoundError:
        return _of_links(place)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(content, dict):
        raise ValueError("not a table")
    good = content.get("good")
    proven = content.get("proven", [] if good is None else [good])
    trial, tries = content.get("trial"), content.get("tries", 0)
    failed, last = content.get("failed", []), content.get("last", {})
    names = [*_list(proven), *_list(failed), *([] if trial is None else [trial])]
    if not all(isinstance(name, str) and NAME.fullmatch(name) for name in names):
        raise ValueError("a name that is no release's")
    if type(tries) is not int or tries < 0 or not isinstance(last, dict):
        raise ValueError("tries or last is not what it should be")
    return State(tuple(proven), trial, tries, tuple(failed), last)


def read_or_guess(place: Place) -> State:
    """Read the state; where the file cannot be used, say so and believe the links."""
    try:
        return read(place)
    except ValueError as error:
        say(Line("state", WARN, f"{place.state}: cannot be used ({error}); taking what current and "
                 "previous name as proven"))
        return _of_links(place)


def is_written(place: Place, state: State) -> bool:
    """Return whether the file says just this; a board without any state needs no file."""
    try:
        return read(place) == state and (place.state.exists() or state == State())
    except ValueError:
        return False


def write(place: Place, state: State) -> None:
    """Replace the state on the disk."""
    content = {"good": state.good, "trial": state.trial, "tries": state.tries,
               "failed": list(state.failed), "proven": list(state.proven), "last": state.last}
    disk.write(place.state, json.dumps(content, indent=1).encode() + b"\n")


def _of_links(place: Place) -> State:
    """Return a state in which the whole ones of `previous` and `current` are proven."""
    named = dict.fromkeys(map(place.named, (place.previous, place.current)))
    return State(tuple(name for name in named if name and NAME.fullmatch(name)
                       and is_whole(place.release(name), name)))


def _list(value: object) -> list[Any]:
    """Return a list, or say that it is none."""
    if not isinstance(value, list):
        raise ValueError("a list of names is missing")
    return value
