"""Records of edits: replayed against a pile of whole states, and read from hostile files."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("scipy")

from spikewire import edits
from spikewire.signals import InputError, Recording, SpikeTrains

TIMES = [np.array([10, 20, 30]), np.array([15, 25])]
ENTRY = st.one_of(
    st.fixed_dictionaries({"action": st.sampled_from(["undo", "redo"])}),
    st.fixed_dictionaries({"action": st.sampled_from(["keep", "drop"]), "unit": st.integers(0, 1)}),
    st.fixed_dictionaries({"action": st.sampled_from(["add", "delete"]), "unit": st.integers(0, 1),
                           "samples": st.lists(st.integers(0, 40), max_size=3)}))


@given(st.lists(ENTRY, max_size=30))
def test_undo_and_redo_are_those_of_a_pile_of_states(record: list[dict]) -> None:
    """The second implementation keeps every state whole and moves a pointer among them."""
    states = [([set(t.tolist()) for t in TIMES], [True, True])]
    at = 0
    for entry in record:
        if entry["action"] == "undo":
            at = max(at - 1, 0)
        elif entry["action"] == "redo":
            at = min(at + 1, len(states) - 1)
        else:
            times, kept = [set(t) for t in states[at][0]], list(states[at][1])
            unit = entry["unit"]
            for sample in entry.get("samples", ()):
                (times[unit].add if entry["action"] == "add" else times[unit].discard)(sample)
            if entry["action"] in ("keep", "drop"):
                kept[unit] = entry["action"] == "keep"
            states, at = [*states[: at + 1], (times, kept)], at + 1
    now, kept = edits.replay(TIMES, record)
    assert [set(t.tolist()) for t in now] == states[at][0]
    assert all((np.diff(t) > 0).all() for t in now)
    assert kept == states[at][1]


def recording(samples: int = 100) -> Recording:
    return Recording(np.arange(2.0 * samples, dtype=np.float32).reshape(samples, 2), 2048.0, "r")


def test_rounds_lead_from_one_to_the_next() -> None:
    first = {"of": edits.fingerprint(recording(), TIMES), "record": [
        {"action": "drop", "unit": 0}, {"action": "add", "unit": 1, "samples": [40]}]}
    second = {"of": edits.fingerprint(recording(), [np.array([15, 25, 40])]), "record": [
        {"action": "delete", "unit": 0, "samples": [15]}]}
    times, numbers = edits.follow(recording(), TIMES, [first, second])
    assert [t.tolist() for t in times] == [[25, 40]]
    assert numbers == [1]
    for wrong in ([second, first], [first, first]):
        with pytest.raises(InputError, match="began with another recording"):
            edits.follow(recording(), TIMES, wrong)
    with pytest.raises(InputError, match="round 1 of the edits began with another recording"):
        edits.follow(recording(101), TIMES, [first])
    with pytest.raises(InputError, match="edits unit 7, there are 2"):
        edits.replay(TIMES, [{"action": "drop", "unit": 7}])


def test_fingerprints_differ_where_anything_differs() -> None:
    made = {edits.fingerprint(recording(), t) for t in (
        TIMES, TIMES[::-1], [np.array([10, 20, 30, 15]), np.array([25])], [*TIMES, np.zeros(0)])}
    made.add(edits.fingerprint(recording(99), TIMES))
    assert len(made) == 5


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["of", "record", "action", "unit", "samples", "add", "x"]), inner,
        max_size=4), max_leaves=12)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(JSON | st.text(max_size=20))
def test_a_damaged_record_is_one_line(tmp_path: Path, content: object) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    np.savez(tmp_path / "e.npz", edits=np.array(text.encode("utf-8", "replace")))
    with suppress(InputError):
        for one in edits.read_rounds(tmp_path / "e.npz"):
            edits.replay(TIMES, one["record"])


@pytest.mark.parametrize("edit", [
    {"action": "add", "unit": 0, "samples": [-1]}, {"action": "add", "unit": 0, "samples": [1.5]},
    {"action": "add", "unit": 0, "samples": [1 << 40]}, {"action": "add", "unit": True,
                                                        "samples": []},
    {"action": "grow", "unit": 0, "samples": []}, {"action": "drop"}, {"action": ["add"]},
])
def test_entries_that_cannot_be_replayed_are_refused(tmp_path: Path, edit: dict) -> None:
    rounds = json.dumps([{"of": "x", "record": [edit]}])
    np.savez(tmp_path / "e.npz", edits=np.array(rounds))
    with pytest.raises(InputError, match="record of edits is damaged"):
        edits.read_rounds(tmp_path / "e.npz")


def test_files_without_a_record_have_none(tmp_path: Path) -> None:
    np.savez(tmp_path / "e.npz", sample=np.arange(3))
    assert edits.read_rounds(tmp_path / "e.npz") == []
    assert edits.read_rounds(tmp_path / "other.mat") == []
    np.savez(tmp_path / "e.npz", edits=np.arange(3))
    with pytest.raises(InputError, match="allowed is a text"):
        edits.read_rounds(tmp_path / "e.npz")


def test_a_peak_moved_by_a_sample_is_the_same_peak() -> None:
    """SIL of marks beside their peaks is that of the peaks; what is no peak has its own height."""
    source = np.zeros(4096, np.float32)
    source[np.arange(100, 4000, 150)] = 1.0
    source[np.arange(60, 4000, 150)] = 0.2
    peaks = np.flatnonzero(source)
    times = np.flatnonzero(source == 1)
    right = edits.figures(source, peaks, times, 2048.0)
    beside = edits.figures(source, peaks, times + 2, 2048.0)
    assert beside["sil"] == right["sil"] == 1
    assert beside["pnr_db"] == right["pnr_db"]
    assert np.isnan(edits.figures(source, peaks, times + 3, 2048.0)["pnr_db"])
    nothing = edits.figures(source, peaks, np.zeros(0, np.int64), 2048.0)
    assert nothing["sil"] == 0


def test_each_discharge_counts_once() -> None:
    trains = SpikeTrains([np.array([5, 5, 9])], 2048.0)
    assert edits.belonging(recording(), trains, "t").times[0].tolist() == [5, 9]
