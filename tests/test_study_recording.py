"""Blocks held out in turn: what is trained on, what is scored, what is kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from spikewire.commands import study
from spikewire.commands.study_recording import table
from spikewire.io.npz import write_recording, write_trains
from spikewire.recipe import Recipe
from spikewire.signals import InputError, SpikeTrains
from spikewire.study import recording as work

FS = 2048


@pytest.fixture
def noted(synthetic, tmp_path: Path, monkeypatch):
    """Trainings that only note what they were given; a decoder that says the truth, later."""
    notes: list[tuple[str, int | None, list[tuple[int, int]], SpikeTrains]] = []

    def network(recording, labels, recipe, spans, folder, seed, report) -> float:
        notes.append(("network", seed, spans, labels))
        (folder / "network.mub").write_bytes(b"")
        report(1.0, "done")
        return 0.0

    def linear(recording, labels, recipe, spans, folder) -> None:
        notes.append(("linear", None, spans, labels))
        (folder / "linear32.mub").write_bytes(b"")

    said = SpikeTrains([t + 9 for t in synthetic.truth.times], FS)
    monkeypatch.setattr(work, "train_network", network)
    monkeypatch.setattr(work, "train_linear", linear)
    monkeypatch.setattr(work, "decode", lambda bundle, path, out: said)
    blocks = [(4 * FS, 8 * FS), (12 * FS, 16 * FS)]
    other = SpikeTrains([synthetic.truth.times[2] + 30, np.arange(5000, 30000, 700)], FS)

    def run(min_f1: float = 0.0) -> dict:
        *_, last = work.blocks_in_turn(
            synthetic.recording, Path("r"), synthetic.truth, other, blocks, [0, 5],
            Recipe(delays=8, min_f1=min_f1), tmp_path)
        return last

    return run, notes


def test_nothing_is_trained_inside_the_block(noted) -> None:
    run, notes = noted
    run()
    assert [n[:2] for n in notes] == 2 * [("linear", None), ("network", 0), ("network", 5)]
    for number, (_, _, spans, labels) in enumerate(notes):
        block = [(4, 8), (12, 16)][number // 3]
        guard = 120 + 8 - 1
        for start, stop in spans:
            assert stop <= block[0] * FS - guard or start >= block[1] * FS + guard
        for times in labels.times:
            assert not ((times >= block[0] * FS - guard) & (times < block[1] * FS + guard)).any()


def test_what_says_the_truth_has_one_everywhere(noted) -> None:
    run, _ = noted
    made = run()
    assert len(made["rows"]) == 2 * (2 + 2)
    assert made["pairs"] == [(2, 0)]  # the second unit of the other decomposition is none of ours
    assert set(made["means"]) == {"linear24", "linear32", "network"}
    for row in made["means"].values():
        assert row["f1"] == row["f1_worst"] == row["other_f1_near"] == 1
    assert "4-8 s" in table(made)
    assert "network, seed 5" in table(made)


def test_units_that_filters_do_not_follow_are_no_part_of_it(noted, monkeypatch) -> None:
    """Each block has its own; what is scored is what was trained."""
    run, notes = noted
    monkeypatch.setattr(work, "followed", lambda emg, trains, spans, recipe: ([1, 3], None))
    said = work.decode(None, None, None)
    monkeypatch.setattr(work, "decode", lambda *_: said.only([1, 3]))
    made = run(0.95)
    assert {len(n[3]) for n in notes} == {2}
    assert {r["units"] for r in made["rows"]} == {2}
    assert made["means"]["network"]["f1_worst"] == 1


def test_what_was_trained_is_not_trained_again(noted) -> None:
    run, notes = noted
    first = run()
    count = len(notes)
    assert run() == first
    assert len(notes) == count


def test_a_kept_folder_of_other_options_is_refused(tmp_path: Path) -> None:
    work.check_kept(tmp_path, {"a": 1})
    work.check_kept(tmp_path, {"a": 1})
    with pytest.raises(InputError, match="other options; choose another --keep"):
        work.check_kept(tmp_path, {"a": 2})


def test_a_note_that_was_cut_is_named(tmp_path: Path) -> None:
    (tmp_path / "options.json").write_text('{"a"')
    with pytest.raises(InputError, match="is no JSON object; delete it or choose another --keep"):
        work.check_kept(tmp_path, {"a": 1})


@pytest.mark.parametrize(("change", "words"), [
    ("--seeds=1,x", "--seeds 1,x: whole numbers"),
    ("--blocks=", "--blocks is empty"),
    ("--blocks=30:40", "30"),
    ("--other=slow.npz", "--other: counts at 2000 Hz, the recording at 2048 Hz"),
    ("--labels=slow.npz", "--labels: counts at 2000 Hz"),
    ("--keep=r.npz", "r.npz"),
    ("--other=no.npz", "no.npz: no such file"),
    ("--out=x.txt", "ends in .json"),
])
def test_what_cannot_be_studied_is_named(
    synthetic, tmp_path: Path, monkeypatch, capsys, change: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_recording(tmp_path / "r.npz", replace(synthetic.recording, name="r"))
    write_trains(tmp_path / "t.npz", synthetic.truth)
    write_trains(tmp_path / "slow.npz", SpikeTrains(synthetic.truth.times, 2000.0))
    assert study.main(["recording", "r.npz", "--labels", "t.npz", "--blocks", "4:8",
                       "--out", "o.json", change]) == 2
    assert words in capsys.readouterr().err
    assert not Path("o.json").exists()


def test_the_report_is_written(noted, synthetic, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    write_recording(tmp_path / "r.npz", synthetic.recording)
    write_trains(tmp_path / "t.npz", synthetic.truth)
    Path("all.toml").write_text("min_f1 = 0.0")
    assert study.main(["recording", "r.npz", "--labels", "t.npz", "--blocks", "4:8", "--seeds",
                       "3", "--out", "o.json", "--recipe", "all.toml"]) == 0
    assert "mean        network" in capsys.readouterr().out
    assert json.loads(Path("o.json").read_text())["means"]["network"]["f1"] == 1
