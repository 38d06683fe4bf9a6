"""The log of a run: an append-only MCAP file (mcap.dev) that a crash cannot spoil.

Channels: `emg` (raw blocks, see BLOCK), `step` (JSON: what was decided and sent at each step). Not
chunked and flushed four times a second, so after kill -9 everything but the last quarter second is
there. The metadata record `run` says what ran.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mcap.exceptions import McapError
from mcap.stream_reader import StreamReader
from mcap.writer import CompressionType, Writer
from numpy.typing import NDArray

from spikewire.io.source import Block, Source
from spikewire.signals import InputError

BLOCK = struct.Struct("<qdII")  # first sample, arrival in seconds, samples, channels; then counts
FLUSH_S = 0.25
LARGEST_RECORD_BYTES = 16 << 20


class RunLog:
    """Writes a log; refuses to overwrite one.

    Parameters
    ----------
    path : str or Path
        Ends in `.mcap`.
    source : Source
        Its rate, channels and microvolts per count are written first.
    about : dict of str
        Bundle ids, links, versions.
    """

    def __init__(self, path: str | Path, source: Source, about: dict[str, str]) -> None:
        if Path(path).suffix != ".mcap":
            raise InputError(f"{path}: a run log's name ends in .mcap")
        try:
            self._file = open(path, "xb", buffering=1 << 18)
        except FileExistsError:
            raise InputError(f"{path}: exists already; a log is never overwritten") from None
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror})") from None
        self._writer = Writer(self._file, compression=CompressionType.NONE, use_chunking=False)
        self._writer.start("", "spikewire")
        self._writer.add_metadata("run", about | {
            "fs_hz": repr(source.fs_hz), "lsb_uv": repr(source.lsb_uv),
            "channels": str(source.channels), "source": source.uri,
        })
        self._emg = self._writer.register_channel("emg", "x-spikewire-block", 0)
        schema = self._writer.register_schema("step", "jsonschema", b'{"type": "object"}')
        self._step = self._writer.register_channel("step", "json", schema)
        self._flushed = 0.0

    def block(self, block: Block) -> None:
        """Log samples as they came."""
        head = BLOCK.pack(block.first, block.arrival_s, *block.counts.shape)
        counts = np.ascontiguousarray(block.counts, "<i2" if block.counts.itemsize == 2 else "<i4")
        stamp = int(block.arrival_s * 1e9)
        self._writer.add_message(self._emg, stamp, head + counts.tobytes(), stamp)

    def step(self, now: float, facts: dict[str, Any]) -> None:
        """Log one step's outcome; hand the file to the system every quarter second."""
        stamp = int(now * 1e9)
        self._writer.add_message(self._step, stamp, json.dumps(facts).encode(), stamp)
        if now - self._flushed >= FLUSH_S:
            self._file.flush()
            self._flushed = now

    def close(self) -> None:
        """Finish the file."""
        self._writer.finish()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


@dataclass(frozen=True)
class Log:
    """What a log holds.

    Attributes
    ----------
    counts : int16 or int32 (samples, channels)
    first : int
        Counter of the first sample.
    steps : list of dict
    complete : bool
        False if the run was cut off.
    """

    counts: NDArray[Any]
    first: int
    fs_hz: float
    lsb_uv: float
    about: dict[str, str]
    steps: list[dict[str, Any]] = field(default_factory=list)
    complete: bool = False


def _records(path: Path) -> Iterator[Any]:
    """Records up to the end, or to where the run was cut off."""
    with open(path, "rb") as file:
        reader = StreamReader(file, record_size_limit=LARGEST_RECORD_BYTES)
        try:
            yield from reader.records
        except (McapError, struct.error, EOFError, UnicodeDecodeError, ValueError):
            return


def _block(path: Path, data: bytes, channels: int) -> tuple[int, NDArray[Any]]:
    """First sample and counts of an `emg` message."""
    first, _, samples, wide = BLOCK.unpack_from(data)
    size = len(data) - BLOCK.size
    if wide != channels or samples < 1 or size not in (2 * samples * wide, 4 * samples * wide):
        raise InputError(f"{path}: a block of {samples} x {wide} does not fit its {size} bytes")
    kind = "<i2" if size == 2 * samples * wide else "<i4"
    return first, np.frombuffer(data, kind, offset=BLOCK.size).reshape(samples, wide)


def read_log(path: str | Path) -> Log:
    """Read a log, also one whose run was killed.

    Raises
    ------
    InputError
        Missing, not a log, or a gap between its samples.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such log")
    about: dict[str, str] = {}
    topics: dict[int, str] = {}
    blocks: list[NDArray[Any]] = []
    steps: list[dict[str, Any]] = []
    first = following = None
    complete = False
    for record in _records(path):
        match type(record).__name__:
            case "Metadata" if record.name == "run":
                about = record.metadata
            case "Channel":
                topics[record.id] = record.topic
            case "Footer":
                complete = True
            case "Message" if topics.get(record.channel_id) == "step":
                steps.append(json.loads(record.data))
            case "Message" if topics.get(record.channel_id) == "emg":
                at, counts = _block(path, record.data, int(about.get("channels", 0)))
                if following is not None and at != following:
                    raise InputError(f"{path}: {at - following} samples are missing at {at}")
                first, following = (at if first is None else first), at + len(counts)
                blocks.append(counts)
    if first is None:
        raise InputError(f"{path}: holds no samples; is it a log of mu-run --record?")
    return Log(np.concatenate(blocks), first, float(about["fs_hz"]), float(about["lsb_uv"]),
               about, steps, complete)
