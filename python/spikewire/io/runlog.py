"""The log of a run: an append-only MCAP file (mcap.dev) that a crash cannot spoil.

Channels: `emg` (raw blocks, see BLOCK), `step` (JSON: what was decided and sent at each step). Not
chunked and flushed four times a second, so after kill -9 everything but the last quarter second is
there. The metadata record `run` says what ran.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from mcap.exceptions import McapError
from mcap.stream_reader import StreamReader
from mcap.writer import CompressionType, Writer
from numpy.typing import NDArray

from spikewire.io.choice import ANY, Ask, pick, settle_rate, settle_unit
from spikewire.io.source import Block, Source
from spikewire.signals import STEP, InputError, Recording, SpikeTrains

BLOCK = struct.Struct("<qdII")  # first sample, arrival in seconds, samples, channels; then counts
FLUSH_S = 0.25
LARGEST_RECORD_BYTES = 16 << 20
MOST_CHANNELS = 4096


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
        self._path = str(path)
        try:
            self._begin(source, about)
        except BaseException as error:
            self._file.close()
            os.unlink(path)
            if isinstance(error, UnicodeError):
                raise InputError(f"{path}: a name in {about} or {source.uri!r} is no valid text; "
                                 "rename that file") from None
            raise

    def _begin(self, source: Source, about: dict[str, str]) -> None:
        """Write what the log is of."""
        self._writer = Writer(self._file, compression=CompressionType.NONE, use_chunking=False)
        self._writer.start("", "spikewire")
        self._writer.add_metadata("run", about | {
            "fs_hz": repr(source.fs_hz), "lsb_uv": repr(source.lsb_uv),
            "channels": str(source.channels), "source": source.uri,
            "block_samples": str(source.block_samples), "latency_s": repr(source.latency_s),
            "rail_uv": repr(float(getattr(source, "rail_uv", math.inf))),
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
        with self._writing():
            self._writer.add_message(self._emg, stamp, head + counts.tobytes(), stamp)
            self._hand_over(block.arrival_s)

    def step(self, now: float, facts: dict[str, Any]) -> None:
        """Log one step's outcome."""
        stamp = int(now * 1e9)
        with self._writing():
            self._writer.add_message(self._step, stamp, json.dumps(facts).encode(), stamp)
            self._hand_over(now)

    def _hand_over(self, now: float) -> None:
        """Give what was written to the system, every quarter second."""
        if now - self._flushed >= FLUSH_S:
            self._file.flush()
            self._flushed = now

    def close(self) -> None:
        """Finish the file."""
        with self._writing():
            try:
                self._writer.finish()
                self._file.flush()
                os.fsync(self._file.fileno())
            finally:
                self._file.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Name the file in the error of a full or lost disk, which carries no name."""
        try:
            yield
        except OSError as error:
            raise OSError(
                error.errno, f"{error.strerror}; the log ends here, make room and start again",
                self._path,
            ) from None


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


class _Whole:
    """A file that reads all that was asked for, or ends: half a record is none."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        """Read `size` bytes; a hostile length is refused before memory is taken."""
        data = self._file.read(size) if 0 <= size <= LARGEST_RECORD_BYTES else b""
        if len(data) != size:
            raise EOFError
        return data


def _records(path: Path) -> Iterator[Any]:
    """Records up to the end, or to where the run was cut off."""
    with open(path, "rb") as file:
        # Chunks are handed over unopened: we write none, and a hostile one may unpack to anything.
        reader = StreamReader(
            _Whole(file), emit_chunks=True, record_size_limit=LARGEST_RECORD_BYTES
        )
        try:
            yield from reader.records
        except (McapError, struct.error, EOFError, UnicodeDecodeError, ValueError):
            return


def _block(path: Path, data: bytes, channels: int) -> Block:
    """The block of an `emg` message."""
    if len(data) < BLOCK.size:
        raise InputError(f"{path}: a block of {len(data)} bytes, it starts with {BLOCK.size}")
    first, arrival_s, samples, wide = BLOCK.unpack_from(data)
    size = len(data) - BLOCK.size
    if wide != channels or samples < 1 or size not in (2 * samples * wide, 4 * samples * wide):
        raise InputError(
            f"{path}: a block of {samples} x {wide} does not fit its {size} bytes and the "
            f"{channels} channels of the log"
        )
    kind = "<i2" if size == 2 * samples * wide else "<i4"
    if not math.isfinite(arrival_s):
        raise InputError(f"{path}: a block arrived at {arrival_s}; the log is damaged")
    return Block(first, np.frombuffer(data, kind, offset=BLOCK.size).reshape(samples, wide),
                 arrival_s)


def _facts(path: Path, about: dict[str, str]) -> tuple[float, float, int]:
    """Rate, microvolts per count and channels from the metadata."""
    try:
        fs_hz, lsb_uv, channels = (float(about[n]) for n in ("fs_hz", "lsb_uv", "channels"))
    except (KeyError, ValueError):
        raise InputError(
            f"{path}: does not say fs_hz, lsb_uv and channels; is it a log of mu-run --record?"
        ) from None
    if not (0 < fs_hz < math.inf and 0 < lsb_uv < math.inf and 1 <= channels <= MOST_CHANNELS):
        raise InputError(
            f"{path}: {fs_hz:g} Hz, {lsb_uv:g} uV a count, {channels:g} channels cannot be; "
            f"allowed are positive numbers and up to {MOST_CHANNELS} channels"
        )
    return fs_hz, lsb_uv, int(channels)


def _step(path: Path, data: bytes) -> dict[str, Any]:
    """What a `step` message says."""
    try:
        facts = json.loads(data)
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        raise InputError(f"{path}: a step is not a JSON object; the log is damaged")
    return facts


def entries(path: Path) -> Iterator[tuple[str, Any]]:
    """What a log holds, in its order and one at a time, also one whose run was killed.

    Yields
    ------
    ("about", dict), ("block", Block), ("step", dict); ("end", None) if the run came to its end

    Raises
    ------
    InputError
        Missing, damaged, or not a log.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such log")
    about: dict[str, str] = {}
    topics: dict[int, str] = {}
    for record in _records(path):
        match type(record).__name__:
            case "Metadata" if record.name == "run":
                about = record.metadata
                yield "about", about
            case "Channel":
                topics[record.id] = record.topic
            case "Footer":
                yield "end", None
            case "Message" if topics.get(record.channel_id) == "step":
                yield "step", _step(path, record.data)
            case "Message" if topics.get(record.channel_id) == "emg":
                yield "block", _block(path, record.data, _facts(path, about)[2])


@dataclass(frozen=True)
class Played:
    """A log as the loop read it: gaps, repeated samples and lateness included.

    Attributes
    ----------
    reads : list of lists of Block
        The blocks between two steps, which the loop took together.
    """

    reads: list[list[Block]]
    fs_hz: float
    lsb_uv: float
    about: dict[str, str]
    steps: list[dict[str, Any]] = field(default_factory=list)
    complete: bool = False


def read_played(path: str | Path) -> Played:
    """Read a log, also one whose run was killed.

    Raises
    ------
    InputError
        Missing, damaged, or not a log.
    """
    about: dict[str, str] = {}
    reads: list[list[Block]] = [[]]
    steps: list[dict[str, Any]] = []
    complete = False
    for kind, value in entries(Path(path)):
        match kind:
            case "about":
                about = value
            case "end":
                complete = True
            case "step":
                steps.append(value)
                reads += [[]] if reads[-1] else []
            case "block":
                reads[-1].append(value)
    if not reads[0]:
        raise InputError(f"{path}: holds no samples; is it a log of mu-run --record?")
    fs_hz, lsb_uv, _ = _facts(Path(path), about)
    return Played([r for r in reads if r], fs_hz, lsb_uv, about, steps, complete)


def read_log(path: str | Path, bridged: int = 0) -> Log:
    """Read a log as one unbroken stretch of samples.

    Parameters
    ----------
    path : str or Path
    bridged : int
        Longest gap, in samples, that a straight line may fill; samples that came twice are then
        dropped, too.

    Raises
    ------
    InputError
        As `read_played`; or a longer gap between its samples.
    """
    path = Path(path)
    played, stretch = read_played(path), _Stretch(path, bridged)
    for block in (b for blocks in played.reads for b in blocks):
        stretch.add(block.first, block.counts)
    assert stretch.first is not None
    return Log(np.concatenate(stretch.blocks), stretch.first, played.fs_hz, played.lsb_uv,
               played.about, played.steps, played.complete)


class _Stretch:
    """Blocks that follow each other."""

    def __init__(self, path: Path, bridged: int) -> None:
        self.blocks: list[NDArray[Any]] = []
        self.first: int | None = None
        self._path, self._bridged, self._following = path, bridged, 0

    def add(self, at: int, counts: NDArray[Any]) -> None:
        """Take the next block; `at` is its first sample."""
        if self.first is None:
            self.first = self._following = at
        missing = at - self._following
        if missing < 0 and self._bridged:
            counts = counts[-missing:]
        elif 0 < missing <= self._bridged:
            line = np.linspace(self.blocks[-1][-1], counts[0], missing + 2)[1:-1]
            self.blocks.append(np.round(line).astype(counts.dtype))
        elif missing:
            raise InputError(
                f"{self._path}: sample {at} came where {self._following} was due; a log with a "
                + (f"gap of more than {self._bridged} samples is no recording; record again"
                   if self._bridged else "gap has no part to be cut out"))
        if len(counts):
            self.blocks.append(counts)
        self._following += max(missing, 0) + len(counts)


def read_recording(path: Path, ask: Ask = ANY) -> Recording:
    """The EMG of a log, as a recording: microvolts, and the grid if the log knows it.

    Up to 20 lost samples are bridged by a straight line, as few as the decoder's own step.

    Raises
    ------
    InputError
        Damaged log, or a longer gap.
    """
    from spikewire.io.grids import grid_of

    pick(path, ["the log"], ask)
    settle_unit(path, ask, "uV")
    log = read_log(path, STEP)
    with np.errstate(over="ignore"):  # Recording.check names the infinities
        emg = log.counts.astype(np.float32) * np.float32(log.lsb_uv)
    places: dict[str, Any] = {}
    if "grid" in log.about:
        grid = grid_of(log.about["grid"], emg.shape[1])
        places = {"grid_row": grid.row, "grid_col": grid.col, "ied_mm": grid.ied_mm}
    return Recording(emg, settle_rate(path, ask, log.fs_hz), path.stem, **places,
                     stored=str(log.counts.dtype), lsb_uv=log.lsb_uv)


def read_trains(path: Path, ask: Ask = ANY) -> SpikeTrains:
    """Refuse: spike trains of a run are in the file that `mu-run --trains` writes."""
    raise InputError(f"{path}: a log holds samples and steps, no discharge times; type: mu-run "
                     f"X.mub --source replay:{path} --pace max --trains OUT.npz")
