"""The run log. Truth: what was written, the MCAP package's own reader, and hostile bytes.

The bound on what a cut loses comes from the format: a record is readable if it is whole.
"""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcap.reader import make_reader
from mcap.writer import CompressionType, Writer

from spikewire.io.replay import open_uri
from spikewire.io.runlog import BLOCK, RunLog, read_log
from spikewire.io.source import Block
from spikewire.runtime.clock import VirtualClock
from spikewire.signals import InputError

CHANNELS, FS_HZ = 3, 2000.0
SOURCE: Any = SimpleNamespace(fs_hz=FS_HZ, lsb_uv=0.1, channels=CHANNELS, uri="replay:x",
                             block_samples=10, latency_s=0.0)
FUZZ = settings(max_examples=60, deadline=None,
                suppress_health_check=[HealthCheck.function_scoped_fixture])


def samples(n: int) -> np.ndarray:
    return np.random.default_rng(0).integers(-9999, 9999, (n, CHANNELS)).astype(np.int16)


def write(path: Path, steps: int = 40, first: int = 500) -> np.ndarray:
    """A log of `steps` steps of two blocks; returns its samples."""
    counts = samples(20 * steps)
    log = RunLog(path, SOURCE, {"engine": "test"})
    for at in range(0, len(counts), 10):
        now = (at + 10) / FS_HZ
        log.block(Block(first + at, counts[at : at + 10], now))
        if at % 20:
            log.step(now, {"step": at // 20, "now": now})
    log.close()
    return counts


@pytest.fixture
def whole(tmp_path: Path) -> tuple[bytes, np.ndarray]:
    """Bytes of a complete log, and its samples."""
    counts = write(tmp_path / "whole.mcap")
    return (tmp_path / "whole.mcap").read_bytes(), counts


def test_everything_comes_back(tmp_path: Path) -> None:
    counts = write(tmp_path / "a.mcap")
    log = read_log(tmp_path / "a.mcap")
    assert log.complete
    assert (log.first, log.fs_hz, log.lsb_uv) == (500, FS_HZ, 0.1)
    assert np.array_equal(log.counts, counts)
    assert [s["step"] for s in log.steps] == list(range(40))
    assert log.about["engine"] == "test"


def test_foreign_reader_agrees(tmp_path: Path) -> None:
    counts = write(tmp_path / "a.mcap")
    with open(tmp_path / "a.mcap", "rb") as file:
        messages = [(c.topic, m.data) for _, c, m in make_reader(file).iter_messages()]
    emg = b"".join(data[BLOCK.size :] for topic, data in messages if topic == "emg")
    assert emg == counts.astype("<i2").tobytes()
    assert sum(topic == "step" for topic, _ in messages) == 40


def test_wide_converters_keep_their_32_bits(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "a.mcap", SOURCE, {})
    counts = np.array([[1 << 20, -(1 << 30), 7]], np.int32)
    log.block(Block(0, counts, 0.1))
    log.close()
    assert np.array_equal(read_log(tmp_path / "a.mcap").counts, counts)


def block_ends(data: bytes) -> list[int]:
    """Where each emg record ends: the walk over (opcode, length, content) of the MCAP page."""
    ends, at = [], 8
    while at < len(data) - 8:
        opcode, length = struct.unpack_from("<BQ", data, at)
        if opcode == 5 and data[at + 9 : at + 11] == b"\1\0":  # a message of the first channel
            ends.append(at + 9 + length)
        at += 9 + length
    return ends


def test_a_cut_anywhere_loses_only_the_record_it_cuts(tmp_path: Path, whole) -> None:
    data, counts = whole
    whole_blocks = np.array(block_ends(data))
    assert len(whole_blocks) == 80
    anywhere = np.random.default_rng(1).integers(whole_blocks[0], len(data), 300).tolist()
    for end in {*range(len(data) - 1500, len(data)), *anywhere}:
        (tmp_path / "cut.mcap").write_bytes(data[:end])
        log = read_log(tmp_path / "cut.mcap")
        assert log.complete == (end >= len(data) - 8)  # the closing magic says nothing more
        assert len(log.counts) == 10 * np.count_nonzero(whole_blocks <= end)
        assert np.array_equal(log.counts, counts[: len(log.counts)])


@pytest.mark.parametrize("end", [0, 1, 8, 30, 100, 300])
def test_a_cut_before_the_first_sample_is_one_error(tmp_path: Path, whole, end: int) -> None:
    (tmp_path / "cut.mcap").write_bytes(whole[0][:end])
    with pytest.raises(InputError, match="holds no samples"):
        read_log(tmp_path / "cut.mcap")


def test_a_kill_loses_at_most_a_quarter_second(tmp_path: Path) -> None:
    """What the system has at any moment is what a killed process leaves behind."""
    path = tmp_path / "a.mcap"
    log = RunLog(path, SOURCE, {})
    counts = samples(4000)
    for at in range(0, len(counts), 20):
        now = (at + 20) / FS_HZ
        log.block(Block(at, counts[at : at + 20], now))
        log.step(now, {"now": now})
        if now > 0.3:
            (tmp_path / "seen.mcap").write_bytes(path.read_bytes())
            assert len(read_log(tmp_path / "seen.mcap").counts) >= at + 20 - 0.26 * FS_HZ
    log.close()


def test_never_overwrites(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    path.write_bytes(b"precious")
    with pytest.raises(InputError, match="never overwritten"):
        RunLog(path, SOURCE, {})
    assert path.read_bytes() == b"precious"


@pytest.mark.parametrize(("name", "words"), [("a.log", "ends in .mcap"), ("no/a.mcap", "written")])
def test_a_name_that_cannot_be_written_is_refused(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        RunLog(tmp_path / name, SOURCE, {})


def test_a_full_disk_names_the_file_and_lets_go_of_it(tmp_path: Path) -> None:
    """`/dev/full` refuses every write as a full disk does."""
    log = RunLog(tmp_path / "a.mcap", SOURCE, {})
    with open("/dev/full", "wb", buffering=0) as full:
        os.dup2(full.fileno(), log._file.fileno())
    blocks = [Block(at, samples(1000), 1.0) for at in range(0, 1 << 20, 1000)]
    with pytest.raises(OSError, match=r"No space left.*a\.mcap"):
        list(map(log.block, blocks))
    with pytest.raises(OSError, match="No space left"):
        log.close()
    assert log._file.closed


def test_a_gap_is_named(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "a.mcap", SOURCE, {})
    log.block(Block(0, samples(10), 0.1))
    log.block(Block(30, samples(10), 0.2))
    log.close()
    with pytest.raises(InputError, match="sample 30 came where 10 was due"):
        read_log(tmp_path / "a.mcap")


def test_replay_of_a_log_gives_the_same_counts(tmp_path: Path) -> None:
    counts = write(tmp_path / "a.mcap")
    source = open_uri("replay:a", str(tmp_path / "a.mcap"), {"span": "0.3:0.5"}, VirtualClock())
    assert source.lsb_uv == 0.1
    blocks = []
    while not source.ended:
        blocks += source.read(1.0)
    assert blocks[0].first == 600
    assert np.array_equal(np.concatenate([b.counts for b in blocks]), counts[100:500])


def forge(path: Path, about: dict[str, str] | None, messages: list[tuple[str, bytes]]) -> None:
    """A well-formed MCAP file with whatever in it, written by the MCAP package itself."""
    with open(path, "wb") as file:
        writer = Writer(file, compression=CompressionType.NONE, use_chunking=False)
        writer.start()
        if about is not None:
            writer.add_metadata("run", about)
        channels = {t: writer.register_channel(t, "", 0) for t in ("emg", "step")}
        for topic, data in messages:
            writer.add_message(channels[topic], 0, data, 0)
        writer.finish()


GOOD = {"fs_hz": "2048.0", "lsb_uv": "0.1", "channels": "2"}
ONE = BLOCK.pack(0, 0.0, 1, 2) + bytes(4)


@pytest.mark.parametrize("about", [
    None, {}, *({**GOOD, key: value} for key in GOOD for value in
                ("", "x", "nan", "inf", "-1", "0", "1e999")),
    {**GOOD, "channels": "99999999"}, {**GOOD, "channels": "3"},
])
def test_hostile_metadata_is_one_error(tmp_path: Path, about: dict[str, str] | None) -> None:
    forge(tmp_path / "a.mcap", about, [("emg", ONE)])
    with pytest.raises(InputError) as caught:
        read_log(tmp_path / "a.mcap")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [
    b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"a": ' * 50_000, b"1" * 10_000,
])
def test_hostile_steps_are_one_error(tmp_path: Path, data: bytes) -> None:
    forge(tmp_path / "a.mcap", GOOD, [("emg", ONE), ("step", data)])
    with pytest.raises(InputError, match="not a JSON object"):
        read_log(tmp_path / "a.mcap")


@pytest.mark.parametrize("data", [
    b"", ONE[:20], ONE[:-1], ONE + b"x", BLOCK.pack(0, 0.0, 0, 2),
    BLOCK.pack(0, 0.0, 0xFFFFFFFF, 2) + bytes(4), BLOCK.pack(0, 0.0, 0xFFFFFFFF, 0),
])
def test_hostile_blocks_are_one_error(tmp_path: Path, data: bytes) -> None:
    forge(tmp_path / "a.mcap", GOOD, [("emg", data)])
    with pytest.raises(InputError, match="block of"):
        read_log(tmp_path / "a.mcap")


def readable_or_refused(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        log = read_log(path)
    except InputError:
        return
    assert log.counts.ndim == 2


@FUZZ
@given(data=st.data())
def test_flipped_bytes_give_input_error_only(tmp_path: Path, whole, data: st.DataObject) -> None:
    spoiled = bytearray(whole[0])
    for _ in range(data.draw(st.integers(1, 8))):
        # The first kilobyte holds headers; elsewhere most bytes are samples.
        at = data.draw(st.one_of(st.integers(0, 1000), st.integers(0, len(spoiled) - 1)))
        spoiled[at] = data.draw(st.integers(0, 255))
    readable_or_refused(tmp_path / "x.mcap", bytes(spoiled))


@FUZZ
@given(opcode=st.integers(0, 255), length=st.one_of(st.integers(0, 64), st.integers(0, 2**64 - 1)),
       body=st.binary(max_size=64))
def test_hostile_records_give_input_error_only(
    tmp_path: Path, whole, opcode: int, length: int, body: bytes
) -> None:
    record = struct.pack("<BQ", opcode, length) + body
    readable_or_refused(tmp_path / "x.mcap", whole[0][:-800] + record)
    readable_or_refused(tmp_path / "x.mcap", whole[0][:8] + record + whole[0][8:])
    readable_or_refused(tmp_path / "x.mcap", b"\x89MCAP0\r\n" + record)


@FUZZ
@given(st.binary(max_size=200))
def test_noise_is_no_log(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.mcap").write_bytes(data)
    with pytest.raises(InputError):
        read_log(tmp_path / "x.mcap")


def test_a_missing_log_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such log"):
        read_log(tmp_path / "none.mcap")


def test_steps_are_plain_json(tmp_path: Path, whole) -> None:
    with open(tmp_path / "whole.mcap", "rb") as file:
        steps = [m.data for _, c, m in make_reader(file).iter_messages() if c.topic == "step"]
    assert json.loads(steps[3], parse_constant=pytest.fail)["step"] == 3


def test_a_name_that_is_no_text_leaves_no_log(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no valid text"):
        RunLog(tmp_path / "a.mcap", SOURCE, {"bundle": "\udcff.mub"})
    assert not (tmp_path / "a.mcap").exists()
