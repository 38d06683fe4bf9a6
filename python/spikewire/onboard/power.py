"""The power mode by name, and clocks that do not drop between two steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spikewire.onboard import facts, programs
from spikewire.onboard.say import OK, Line, Stop

MAXN_SUPER = "MAXN_SUPER"


def lock(root: Path, board: dict[str, Any]) -> Line:
    """Set the board's power mode and lock its clocks.

    Raises
    ------
    Stop
        The board has no such mode, or a program refuses.
    """
    power = board.get("power", {})
    mode, clocks = power.get("mode", ""), power.get("jetson_clocks", False)
    if mode == MAXN_SUPER and not power.get("allow_maxn_super"):
        raise Stop("power", f"{mode} needs allow_maxn_super = true in the board file",
                   "check that this carrier is cooled for it")
    if mode:
        _set_mode(root, mode)
    if clocks:
        _done(programs.run(["jetson_clocks"], 30))
    return Line("power", OK, f"mode {mode or 'left as it is'}, clocks "
                f"{'locked' if clocks else 'left as they are'}")


def _set_mode(root: Path, mode: str) -> None:
    """Set a mode by its name; nothing where it is set already, since some ask for a reboot."""
    modes = facts.power_modes(root)
    if mode not in modes:
        raise Stop("power", f"no mode {mode} in /etc/nvpmodel.conf, there are "
                   f"{', '.join(modes) or 'none'}", "set another power.mode in the board file")
    if facts.power_mode(root) == mode.removeprefix("MODE_"):
        return
    # It asks whether to reboot where it must; without an answer it leaves the mode alone.
    _done(programs.run(["nvpmodel", "-m", modes[mode]], 30, b"no\n"))
    if facts.power_mode(root) != mode.removeprefix("MODE_"):
        raise Stop("power", f"mode {mode} takes a reboot", f"type on the board: sudo nvpmodel -m "
                   f"{modes[mode]}, let it reboot, deploy again")


def _done(said: programs.Done) -> None:
    """Stop where a program has failed."""
    if said.code:
        raise Stop("power", said.last, "look at it on the board")
