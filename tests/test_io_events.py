"""Spike trains as BIDS events: MUnitQuest's own example, and what others get wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spikewire.io import read_trains
from spikewire.io.events import write_trains
from spikewire.signals import InputError, SpikeTrains

# The minimal example of munitquest.github.io/registration_and_submission (1000 Hz).
EXAMPLE = """onset\tduration\tsample\tunit_id\tdescription
0.001\t0\t1\t0\tmotor-unit-spike
0.005\t0\t5\t1\tmotor-unit-spike
0.011\t0\t11\t0\tmotor-unit-spike
0.012\t0\t12\t2\tmotor-unit-spike
0.016\t0\t16\t1\tmotor-unit-spike
"""


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "sub-01_task-a_events.tsv"
    path.write_text(text)
    return path


def test_the_example_of_munitquest(tmp_path: Path) -> None:
    trains = read_trains(table(tmp_path, EXAMPLE))
    assert [t.tolist() for t in trains.times] == [[1, 11], [5, 16], [12]]
    assert trains.fs_hz == 1000


def test_our_table_is_that_example(tmp_path: Path) -> None:
    path = tmp_path / "sub-01_task-a_events.tsv"
    trains = SpikeTrains([np.array([1, 11]), np.array([5, 16]), np.array([12])], 1000.0, method="m")
    write_trains(path, trains, log=True)
    assert path.read_text() == EXAMPLE
    log = json.loads((tmp_path / "sub-01_task-a_log.json").read_text())
    assert (log["SamplingFrequency"], log["units"], log["discharges"], log["method"]) == \
        (1000, 3, 5, "m")
    assert log["GeneratedBy"]["Name"] == "spikewire"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.integers(0, 10**7), max_size=20), min_size=1, max_size=5)
       .filter(lambda units: bool(units[-1])), st.sampled_from([2000.0, 2048.0, 10240.0, 2222.2]))
def test_round_trip(tmp_path: Path, units: list[list[int]], fs_hz: float) -> None:
    times = [np.array(sorted(u), np.int64) for u in units]
    path = tmp_path / "sub-01_task-a_events.tsv"
    write_trains(path, SpikeTrains(times, fs_hz))
    back = read_trains(path)
    assert back.fs_hz == fs_hz
    assert [t.tolist() for t in back.times] == [t.tolist() for t in times]


def test_the_misspelt_onset_names_of_units_and_rows_of_no_unit(tmp_path: Path) -> None:
    text = ("onest\tduration\tunit_id\tdescription\n0\t30\tn/a\tcontraction\n"
            "0.5\t0\tmu_b\tmotor-unit-spike\n0.25\t0\tmu_a\tmotor-unit-spike\n"
            "1\t0\tmu_b\tmotor-unit-spike\n")
    path = table(tmp_path, text)
    with pytest.raises(InputError, match=r"does not say its rate.*--fs 2048"):
        read_trains(path)
    assert [t.tolist() for t in read_trains(path, 2048).times] == [[1024, 2048], [512]]
    (tmp_path / "sub-01_task-a_emg.json").write_text('{"SamplingFrequency": 2000}')
    assert [t.tolist() for t in read_trains(path).times] == [[1000, 2000], [500]]
    with pytest.raises(InputError, match="says 2000 Hz itself"):
        read_trains(path, 2048)


@pytest.mark.parametrize(("text", "words"), [
    ("a\tb\n1\t2\n", "needed are onset and unit_id"),
    ("onset\tunit_id\tunit_id\n", "or one twice"),
    ("onset\tunit_id\n1\n", "line 2 has 1 columns, its header 2"),
    ("onset\tsample\tunit_id\nx\t1\t0\n", "onset holds what is no number"),
    ("onset\tsample\tunit_id\nnan\t1\t0\n", "onset holds what is no number"),
    ("onset\tsample\tunit_id\n1\t1e300\t0\n", "sample holds what is no number"),
    ("onset\tsample\tunit_id\n-1\t-1000\t0\n1\t1000\t0\n", "before the recording"),
    ("onset\tsample\tunit_id\n1\t1000\t0\n2\t3000\t0\n", "contradict one another"),
    ("onset\tsample\tunit_id\n", "does not say its rate"),
    ("\n", "names no columns"), ("\0\xff", "needed are onset|no text"),
])
def test_tables_that_do_not_fit_are_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_trains(table(tmp_path, text))


def test_sidecars_that_are_no_json_are_named(tmp_path: Path) -> None:
    path = table(tmp_path, EXAMPLE)
    for text in ("{", "[1]", "[" * 100_000):
        (tmp_path / "sub-01_task-a_emg.json").write_text(text)
        with pytest.raises(InputError, match=r"_emg\.json"):
            read_trains(path)
