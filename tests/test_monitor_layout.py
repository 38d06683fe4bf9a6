"""Bytes of the monitor. Truth: bytes put together by hand, a second decoder here, and Node's."""

from __future__ import annotations

import contextlib
import json
import math
import re
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from monitor_world import datagram

from spikewire.monitor import layout
from spikewire.monitor.layout import LayoutError, put, read, table

NODE = shutil.which("node")
PAGE = Path(layout.__file__).parent / "page"
DOCS = Path(__file__).parent.parent / "docs"


def by_hand(data: bytes) -> dict[str, object]:
    """A step, read at the offsets of docs/monitor.md with nothing but `struct`."""
    kind, version, size = struct.unpack_from("<BBH", data)
    assert (kind, version) == (1, 1)
    names = ["sequence", "step", "now_s", "end", "state", "decoded", "faults", "age_ms",
             "compute_ms", "d0", "d1", "d2", "d3", "spikes", "missed", "gaps", "silent"]
    values = struct.unpack_from("<IIddBBHffffffIIII", data, 4)
    fired = int.from_bytes(data[4 + 68 : 4 + 100], "little")
    assert size == 100
    return dict(zip(names, values, strict=True)) | {
        "fired": [k for k in range(256) if fired >> k & 1]}


def test_a_step_lies_where_the_page_of_documentation_says() -> None:
    fired = np.zeros(40, np.uint8)
    fired[[0, 7, 8, 39]] = 1
    data = datagram(3, fired, 77, step=9, state=4, faults=0x8005, drive=[1.5, 2.5, 3.5, 4.5],
                    missed=1, gaps=2, silent=3, now_s=12.25, end=180.0)
    assert by_hand(data) == {
        "sequence": 3, "step": 9, "now_s": 12.25, "end": 180.0, "state": 4, "decoded": 1,
        "faults": 0x8005, "age_ms": 2.0, "compute_ms": 0.5, "d0": 1.5, "d1": 2.5, "d2": 3.5,
        "d3": 4.5, "spikes": 77, "missed": 1, "gaps": 2, "silent": 3, "fired": [0, 7, 8, 39]}
    # state: 4 of the head, 24 before it
    assert data[:8] == bytes([1, 1, 100, 0, 3, 0, 0, 0])
    assert data[4 + 24] == 4


def test_the_page_of_documentation_is_the_table() -> None:
    text = (DOCS / "monitor.md").read_text()
    assert layout.page() in text


@given(st.integers(0, 2**32 - 1), st.floats(width=32), st.lists(st.booleans(), max_size=256),
       st.lists(st.floats(width=32), max_size=80), st.text(max_size=60))
def test_what_is_put_is_read(number: int, value: float, fired: list[bool], rms: list[float],
                             words: str) -> None:
    into, bits = bytearray(8192), np.zeros(256, np.uint8)
    bits[: len(fired)] = fired
    end = put(layout.STEP, into, 0, number, number, 1.0, 2.0, 1, 0, 3, value, value, 1.0, 2.0,
              value, math.nan, number, 0, 0, 0, np.packbits(bits, bitorder="little").tobytes())
    end = put(layout.EMG, into, end, rest=np.array(rms, "<f4"))
    end = put(layout.ABOUT, into, end, rest=words.encode("utf-8", "replace"))
    found = list(read(memoryview(into)[:end]))
    assert [name for name, _ in found] == ["STEP", "EMG", "ABOUT"]
    step = found[0][1]
    assert step["sequence"] == number
    assert np.array_equal([step["age_ms"], step["drive"][2]], [value, value], equal_nan=True)
    assert np.unpackbits(np.frombuffer(step["fired"], np.uint8), bitorder="little").tolist() == \
        bits.tolist()
    assert np.array_equal(found[1][1]["rms_uv"], rms, equal_nan=True)
    assert found[2][1]["json"].encode("utf-8", "replace") == words.encode("utf-8", "replace")


@given(st.binary(max_size=400))
def test_any_bytes_are_records_or_refused(data: bytes) -> None:
    try:
        for name, fields in read(data):
            assert name in {r.name for r in layout.RECORDS.values()}
            assert fields
    except LayoutError:
        pass


@given(st.integers(0, 200), st.integers(0, 255), st.integers(0, 255))
def test_a_damaged_datagram_never_reads_outside(cut: int, at: int, value: int) -> None:
    good = bytearray(datagram(51, np.ones(30, np.uint8), 9))
    good[at % len(good)] = value
    with contextlib.suppress(LayoutError):
        list(read(bytes(good[: len(good) - cut])))


def test_unknown_kinds_versions_and_longer_records_are_passed_over() -> None:
    good = datagram(3, np.ones(3, np.uint8), 9)
    longer = bytes([1, 1]) + struct.pack("<H", len(good) - 4 + 5) + good[4:] + b"later"
    other = bytes([99, 1, 2, 0, 7, 7]) + bytes([1, 2, 1, 0, 7])
    names = [name for name, _ in read(other + longer + good)]
    assert names == ["STEP", "STEP"]
    with pytest.raises(LayoutError, match="needs 100"):
        list(read(bytes([1, 1, 1, 0, 7])))
    with pytest.raises(LayoutError, match="are left"):
        list(read(bytes([1, 1, 9, 0, 7])))


def plain(value: object) -> object:
    """As JSON has it: NaN and infinities are null, bytes are numbers."""
    if isinstance(value, bytes):
        return list(value)
    if isinstance(value, list):
        return [plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@pytest.mark.skipif(not NODE, reason="Node is not installed: the page's decoder runs in Chromium "
                    "only")
def test_the_pages_decoder_reads_the_same(tmp_path: Path) -> None:
    frame = b"".join(datagram(k, np.arange(33) % 3 == k % 3, 10 * k) for k in range(47, 62))
    into = bytearray(99)
    frame += bytes([200, 1, 3, 0, 1, 2, 3])
    frame += bytes(into[: put(layout.NOTE, into, 0, 1, 5, 4000000000, 3)])
    (tmp_path / "decode.mjs").write_text((PAGE / "decode.js").read_text())
    (tmp_path / "frame").write_bytes(frame)
    (tmp_path / "run.mjs").write_text("""
import { readFileSync } from "node:fs";
import { decode } from "./decode.mjs";
const table = JSON.parse(process.argv[2]), file = readFileSync("frame"), out = [], bad = [];
const data = file.buffer.slice(file.byteOffset, file.byteOffset + file.length);
decode(data, table, (name, f) => {
  for (const k in f) if (f[k] instanceof Uint8Array) f[k] = Array.from(f[k]);
  out.push([name, f]);
});
for (const cut of [1, 3, 50, 200]) {
  try { decode(data.slice(0, data.byteLength - cut), table, () => 0); bad.push(cut); } catch {}
}
console.log(JSON.stringify([out, bad]));
""")
    done = subprocess.run([NODE, "run.mjs", json.dumps(table())], cwd=tmp_path, check=True,
                          capture_output=True, text=True)
    found, passed = json.loads(done.stdout)
    expected = [[name, {k: plain(v) for k, v in fields.items()}] for name, fields in read(frame)]
    assert passed == []
    assert found == expected
    assert {name for name, _ in found} == {r.name for r in layout.RECORDS.values()}


def test_the_files_that_others_wrote_are_the_ones_we_name() -> None:
    """UPlot 1.6.32 as npm has it, with its licence; nothing else is vendored."""
    import hashlib

    digest = hashlib.sha256((PAGE / "uPlot.iife.min.js").read_bytes()).hexdigest()
    assert digest == UPLOT
    assert "v1.6.32" in (PAGE / "uPlot.iife.min.js").read_text()[:80]
    assert (PAGE / "uPlot.LICENSE").read_text().startswith("The MIT License")
    for path in PAGE.glob("*"):
        assert not re.search(r"https?://(?!github\.com/leeoniya|www\.w3\.org/2000/svg)",
                             path.read_text())


UPLOT = "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f"
