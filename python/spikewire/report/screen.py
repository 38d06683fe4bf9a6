"""What a terminal shows while electrodes are listened to: signal, grid, a target to follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from spikewire.capture import Electrodes, Quality
from spikewire.guide import Plan, trace

LINE_S = 5.0  # between two lines where there is no terminal
MAINS_MUCH = 0.1
WIDTH = 60


def faults(quality: Quality) -> str:
    """Channels and what is wrong with them, in words."""
    said = []
    for words, which in (("flat", quality.flat), ("saturated", quality.saturated),
                         ("loose", quality.loose & ~quality.flat & ~quality.saturated),
                         ("clipped", (quality.clipped > 0) & ~quality.saturated)):
        if which.any():
            said.append(f"{words} {', '.join(map(str, np.flatnonzero(which)))}")
    return "; ".join(said) or "none"


def facts(electrodes: Electrodes, quality: Quality, fs_hz: float) -> list[tuple[str, str]]:
    """The signal in a few rows."""
    rms, mains = quality.rms_uv, quality.mains
    return [
        ("time", f"{electrodes.samples / fs_hz:.1f} s"),
        ("RMS", f"median {np.median(rms):.1f} uV, {rms.min():.1f} to {rms.max():.1f}"),
        ("50 or 60 Hz", f"median {np.median(mains):.0%} of the power, worst {mains.max():.0%}"),
        ("channels", f"bad: {faults(quality)}"),
        ("samples", f"{electrodes.lost} lost in {electrodes.gaps} gaps, {electrodes.twice} came "
                    "twice"),
    ]


def grid_map(quality: Quality, grid: Any) -> Text:
    """RMS of each electrode where it lies, bad ones in red and marked; a column of the grid a line.

    Parameters
    ----------
    grid : Grid or None
        None: in the order of the channels.
    """
    channels = len(quality.rms_uv)
    row = np.arange(channels) % 16 if grid is None else grid.row
    col = np.arange(channels) // 16 if grid is None else grid.col
    bad, middle = set(quality.bad), float(np.median(quality.rms_uv)) or 1.0
    cells = {(int(c), int(r)): k for k, (r, c) in enumerate(zip(row, col, strict=True))}
    text = Text()
    for c in range(int(col.max()) + 1):
        for r in range(int(row.max()) + 1):
            k = cells.get((c, r))
            if k is None:
                text.append("     ")
                continue
            value = quality.rms_uv[k]
            words = f"{value:4.0f}" if value < 9999.5 else "  >>"
            style = ("bold red" if k in bad else "yellow" if value > 3 * middle else
                     "cyan" if value < middle / 3 else "")
            text.append(words + ("!" if k in bad else " "), style)
        text.append("\n")
    return text


def guidance(plan: Plan, t_s: float, effort: float | None) -> Text:
    """The target around now, what to do, and the effort so far as EMG shows it.

    Parameters
    ----------
    effort : float or None
        % of the own maximum; None before a maximum is known.
    """
    text = Text(trace(plan, t_s, WIDTH) + "\n", "blue")
    text.append(" " * (WIDTH // 3) + "▲ now\n", "bold")
    text.append(f"{plan.words(t_s)}\n", "bold")
    if effort is not None:
        top = 1.25 * plan.level
        bar = round(WIDTH * min(effort / top, 1.0))
        text.append("█" * bar + " " * (WIDTH - bar), "green")
        text.append(f" EMG {effort:.0f} %, target {plan.target(t_s):.0f} %\n")
    return text


def signal_table(rows: list[tuple[str, str]]) -> Table:
    """Rows of two columns."""
    table = Table(show_header=False, box=None, padding=(0, 1))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, value in rows:
        table.add_row(name, value)
    return table


@contextmanager
def watching(name: str, fs_hz: float, grid: Any, plan: Plan | None,
             effort: Callable[[Electrodes], float | None]
             ) -> Iterator[Callable[[Electrodes], None]]:
    """Show the electrodes on a terminal, or a line now and then elsewhere; always on stderr.

    Yields
    ------
    callable (Electrodes), to be called a few times a second
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        said = -LINE_S

        def line(electrodes: Electrodes) -> None:
            nonlocal said
            t_s = electrodes.samples / fs_hz
            if t_s - said >= LINE_S:
                said = t_s
                doing = f"{plan.words(t_s)}; " if plan else ""
                rows = dict(facts(electrodes, electrodes.quality(), fs_hz))
                console.print(f"{name}: {rows['time']}: {doing}RMS {rows['RMS']}; "
                              f"{rows['channels']}; {rows['samples']}", soft_wrap=True,
                              highlight=False, markup=False)

        yield line
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:

        def show(electrodes: Electrodes) -> None:
            quality = electrodes.quality()
            parts: list[Any] = [signal_table(facts(electrodes, quality, fs_hz)), Text(),
                                grid_map(quality, grid)]
            if plan:
                t_s = electrodes.samples / fs_hz
                parts.append(guidance(plan, t_s, effort(electrodes)))
            live.update(Group(*parts), refresh=True)

        yield show
