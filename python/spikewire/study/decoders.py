"""What the tables compare: network and linear MU filter, as bundles that mu-run decodes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from spikewire import train
from spikewire.durable import write_durably
from spikewire.export import export
from spikewire.io.npz import read_trains
from spikewire.recipe import Recipe
from spikewire.signals import InputError, Recording, Span, SpikeTrains

LINEAR_DELAYS = (24, 32)


def read_note(path: Path) -> dict[str, Any] | None:
    """What a kept folder says of itself; None if it says nothing."""
    if not path.is_file():
        return None
    try:
        note = json.loads(path.read_text())
    except ValueError:
        note = None
    if not isinstance(note, dict):
        raise InputError(f"{path}: is no JSON object; delete it or choose another --keep")
    return note


def write_note(path: Path, note: dict[str, Any]) -> None:
    """Replace it as a whole, or leave it."""
    write_durably(path, lambda file: file.write(json.dumps(note).encode()))


def train_network(
    recording: Recording, labels: SpikeTrains, recipe: Recipe, spans: Sequence[Span],
    folder: Path, seed: int, report: Callable[[float, str], None] | None = None,
) -> float:
    """Write network.mub; return the seconds that training took."""
    started = time.monotonic()
    model = train.fit(recording, labels, recipe, spans, folder, seed, report)
    seconds = time.monotonic() - started
    export(model, folder / "network.mub", ("fp32",), "network")
    return seconds


def train_linear(
    recording: Recording, labels: SpikeTrains, recipe: Recipe, spans: Sequence[Span], folder: Path
) -> None:
    """Write linear24.mub and linear32.mub: the baseline at its best, by the ridge alone."""
    for delays in LINEAR_DELAYS:
        alone = replace(recipe, delays=delays, gain_sd=0.0, steps=1, refit=False)
        model = train.fit(recording, labels, alone, spans, folder)
        export(model, folder / f"linear{delays}.mub", ("fp32",), "linear")


def decode(bundle: Path, recording: Path, out: Path, *more: str) -> SpikeTrains:
    """What `mu-run` says of a recording."""
    command = [sys.executable, "-m", "spikewire.commands.run", str(bundle), "--source",
               f"replay:{recording}", "--pace", "max", "--trains", str(out), "--json", *more]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"mu-run failed on {recording}: {done.stderr.strip()[-300:]}")
    return read_trains(out)


def registered(bundle: Path, recording: Path, out: Path) -> tuple[Path, dict[str, Any]]:
    """What `mu-adapt` makes of a bundle: the new one, or the old if nothing was better."""
    command = [sys.executable, "-m", "spikewire.commands.adapt", str(bundle), str(recording),
               "--out", str(out), "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"mu-adapt failed on {recording}: {done.stderr.strip()[-300:]}")
    facts = json.loads(done.stdout)
    return (out if facts["better"] else bundle), facts
