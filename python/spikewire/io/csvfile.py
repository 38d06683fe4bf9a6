"""CSV: a row for each sample, a column for each channel, and a first line that says rate and unit.

    # fs_hz=2048 unit=uV
    ch1,ch2,ch3

A column called time is not EMG; where no rate is said it gives one. Units may stand in the names:
`ch1 [uV]`.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import BinaryIO, TextIO

import numpy as np

from spikewire.durable import write_durably
from spikewire.io.choice import ANY, MOST_CHANNELS, Ask, pick, settle_rate, settle_unit
from spikewire.io.scale import microvolts
from spikewire.signals import InputError, Recording

LONGEST_LINE = 1 << 20
RATE = re.compile(r"\b(?:fs|fs_hz|fsamp|sampling_?(?:rate|frequency))\s*[=:]\s*([0-9.eE+]+)", re.I)
UNIT = re.compile(r"\bunits?\s*[=:]\s*([A-Za-zµμ]+)", re.I)
IN_NAME = re.compile(r"[\[(]\s*([A-Za-zµμ]+)\s*[\])]\s*$")
TIME = re.compile(r"(time|t|time_s|seconds)(\s*[\[(]s[\])])?", re.I)
MOST_JITTER = 0.01


def _head(path: Path, file: TextIO) -> tuple[str, list[str], str, int]:
    """Comments, names of the columns (none if there are no names), separator, lines to skip."""
    comments, skip = "", 0
    while True:
        line = file.readline(LONGEST_LINE)
        if not line or len(line) == LONGEST_LINE:
            raise InputError(f"{path}: is no table of numbers")
        if line.strip() and not line.startswith("#"):
            break
        comments, skip = (comments + " " + line)[:LONGEST_LINE], skip + 1
    separator = max("\t;,", key=line.count)
    cells = [c.strip().strip('"') for c in line.split(separator)]
    if len(cells) > MOST_CHANNELS:
        raise InputError(f"{path}: {len(cells)} columns, at most {MOST_CHANNELS} are read")
    try:
        [float(c) for c in cells]
    except ValueError:
        return comments, cells, separator, skip + 1
    return comments, [], separator, skip


def read_recording(path: Path, ask: Ask = ANY) -> Recording:
    """Read a table of samples; rate and unit from its first lines, or as asked.

    Raises
    ------
    InputError
        No table of numbers, or no unit or rate.
    """
    pick(path, ["the table"], ask)
    try:
        with open(path, encoding="utf-8-sig") as file:
            comments, names, separator, skip = _head(path, file)
            file.seek(0)
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # a table without rows
                data = np.loadtxt(file, np.float64, delimiter=separator, skiprows=skip, ndmin=2)
    except InputError:
        raise
    except (ValueError, UserWarning, OverflowError, MemoryError) as error:
        raise InputError(f"{path}: is no table of numbers ({str(error)[:150]}); columns are "
                         "separated by commas, semicolons or tabs, decimals by points") from None
    if names and len(names) != data.shape[1]:
        raise InputError(f"{path}: {len(names)} names for {data.shape[1]} columns")
    said_rate, said_unit = RATE.search(comments), UNIT.search(comments)
    times = [k for k, n in enumerate(names) if TIME.fullmatch(n)]
    emg = [k for k in range(data.shape[1]) if k not in times]
    in_names = {m[1] for k in emg if names and (m := IN_NAME.search(names[k]))}
    unit = settle_unit(path, ask, said_unit[1] if said_unit else
                       in_names.pop() if len(in_names) == 1 else "")
    try:
        stated = float(said_rate[1]) if said_rate else None
    except ValueError:
        raise InputError(f"{path}: its rate is {said_rate[0]!r}") from None  # type: ignore[index]
    if stated is None and ask.fs_hz is None and times:
        stated = _rate(path, data[:, times[0]])
    return Recording(microvolts(data[:, emg], unit), settle_rate(path, ask, stated), path.stem,
                     stored=f"text, {unit}",
                     ignored=tuple(f"column {names[k]}" for k in times))


def _rate(path: Path, seconds: np.ndarray) -> float:
    """Rate of a column of times."""
    gaps = np.diff(seconds)
    usual = float(np.median(gaps)) if len(gaps) else 0.0
    if not usual > 0 or (np.abs(gaps - usual) > MOST_JITTER * usual + 1e-6).any():
        raise InputError(f"{path}: its column of times has gaps or steps back; give the rate with "
                         "--fs")
    return round((len(seconds) - 1) / float(seconds[-1] - seconds[0]), 3)


def write_recording(path: str | Path, recording: Recording) -> None:
    """Write a table in microvolts; force and grid are not kept, bad channels are at zero."""
    head = (f"# fs_hz={recording.fs_hz:.10g} unit=uV\n"
            + ",".join(f"ch{k + 1}" for k in range(recording.emg.shape[1])) + "\n")

    def fill(file: BinaryIO) -> None:
        file.write(head.encode())
        np.savetxt(file, recording.masked().emg, "%.7g", ",")

    write_durably(Path(path), fill)
