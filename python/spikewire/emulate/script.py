"""The fault script: what goes wrong, when, and by how much.

One fault a line, or several with semicolons between: `SECONDS NAME [AMOUNT]`. Seconds count what
has been sampled since the first start. Example: `2 drop 50; 3.5 stall 0.3; 5 disconnect 1`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from spikewire.signals import InputError

NAME_MAX = 255  # bytes of a file's name; what is longer can only be the script itself
# name -> what the amount is (nothing: there is none), lowest, highest, and what happens
FAULTS: dict[str, tuple[str, float, float, str]] = {
    "drop": ("samples", 1, 200000, "are never sent"),
    "duplicate": ("samples", 1, 128, "are sent again"),
    "stall": ("s", 0.001, 60, "nothing is sent; then what the buffer of 0.5 s kept, at once"),
    "late": ("s", 0.001, 10, "all that follows is so late, without a gap"),
    "drift": ("ppm", -100000, 100000, "the clock runs so much too fast from here on"),
    "partial": ("", 0, 0, "half a sample is sent, then the next"),
    "disconnect": ("s", 0.001, 60, "the connection is cut, and the box away for so long"),
    "crash": ("s", 0.001, 60, "the same, but it goes on sending to whoever connects next"),
    "width": ("words", 4, 240, "samples have so many words from here on"),
    "reset": ("", 0, 0, "the counter begins at 0 again"),
    "dead": ("channel", 0, 63, "is constant from here on"),
    "saturated": ("channel", 0, 63, "is at the converter's end from here on"),
    "burst": ("s", 0.001, 60, "all channels are at the converter's ends: the limb was hit"),
    "full": ("s", 0.001, 60, "the buffer says that it is nearly full (quattrocento)"),
}


@dataclass(frozen=True)
class Event:
    """One fault.

    Attributes
    ----------
    at_s : float
    name : str, of FAULTS
    amount : float, 0 where there is none
    """

    at_s: float
    name: str
    amount: float


def number(word: str) -> float:
    """A finite number; NaN otherwise."""
    try:
        value = float(word)
    except ValueError:
        return float("nan")
    return value if abs(value) < 1e9 else float("nan")


def parse_event(text: str) -> Event:
    """Read `SECONDS NAME [AMOUNT]`."""
    at, name, amount = [*text.split(), "", "", ""][:3]
    if name not in FAULTS or not number(at) >= 0 or len(text.split()) > 3:
        raise InputError(f"fault {text!r}: allowed is SECONDS NAME [AMOUNT], NAME one of "
                         f"{', '.join(FAULTS)}; type for instance '2 drop 50'")
    unit, low, high, _ = FAULTS[name]
    if bool(unit) != bool(amount):
        wanted = f"one amount, in {unit}" if unit else "no amount"
        raise InputError(f"fault {text!r}: {name} takes {wanted}")
    value = number(amount) if unit else 0.0
    whole = unit in ("samples", "words", "channel")
    if not low <= value <= high or (whole and value != int(value)):
        raise InputError(f"fault {text!r}: {amount} came, allowed is {'a whole number, ' * whole}"
                         f"{low:g} to {high:g} {unit}")
    return Event(number(at), name, value)


def parse_script(text: str) -> list[Event]:
    """Read a script, in order of time.

    Raises
    ------
    InputError
    """
    lines = [part.partition("#")[0].strip() for line in text.splitlines()
             for part in line.split(";")]
    return sorted((parse_event(line) for line in lines if line), key=lambda e: e.at_s)


def read_script(word: str) -> list[Event]:
    """Read a script from the file of that name, if there is one, or from the words themselves."""
    try:
        path = Path(word)
        text = path.read_text() if len(word) <= NAME_MAX and path.is_file() else word
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise InputError(f"fault script {word!r} is not readable ({error})") from None
    return parse_script(text)
