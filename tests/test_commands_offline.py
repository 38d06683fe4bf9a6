"""mu-decompose, mu-train, mu-export, mu-score as a person types them, mostly with bad input."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("scipy")
pytest.importorskip("tomllib")

from report_world import EVIL, read
from test_report_training import UNIT, made

from spikewire.commands import decompose, export, review, score, train
from spikewire.io import read_trains
from spikewire.io.npz import write_recording, write_trains
from spikewire.signals import SpikeTrains

MAINS = {"mu-decompose": decompose.main, "mu-train": train.main, "mu-export": export.main,
         "mu-review": review.main, "mu-score": score.main}


@pytest.fixture(scope="module")
def shelf(synthetic, recording_path, tmp_path_factory) -> Path:
    """Good and bad files."""
    folder = tmp_path_factory.mktemp("shelf")
    emg = synthetic.recording.emg
    shutil.copy(recording_path, folder / "good.npz")
    write_recording(folder / "short.npz", replace(synthetic.recording, emg=emg[: 9 * 2048]))
    write_trains(folder / "trains.npz", synthetic.truth)
    write_trains(folder / "short_trains.npz", synthetic.truth.between(0, 9 * 2048))
    write_trains(folder / "slow.npz", SpikeTrains(synthetic.truth.times, 2000.0))
    write_trains(folder / "one.npz", SpikeTrains(synthetic.truth.times[:1], 2048.0))
    write_trains(folder / "late.npz", SpikeTrains([np.array([10**9])] * 4, 2048.0))
    (folder / "empty.npz").write_bytes(b"")
    (folder / "same.html").symlink_to("good.npz")
    (folder / "trains.html").symlink_to("trains.npz")
    (folder / "bad.toml").write_text("colour = 1")
    (folder / "taken").mkdir()
    (folder / "folder.npz").mkdir()
    (folder / "taken/thesis.tex").write_text("x")
    holed = emg.copy()
    holed[7, 3] = np.nan
    for name, arrays in {
        "nan": {"emg": holed, "unit": "uV"}, "three": {"emg": emg[:, :3], "unit": "uV"},
        "wide": {"emg": emg.T, "unit": "uV"}, "unitless": {"emg": emg},
        "slow_emg": {"emg": emg, "unit": "uV", "fs_hz": 1000.0},
    }.items():
        np.savez(folder / f"{name}.npz", **({"fs_hz": 2048.0} | arrays))
    return folder


@pytest.fixture
def files(tmp_path: Path, shelf: Path, monkeypatch) -> Path:
    """A folder with all of them."""
    shutil.copytree(shelf, tmp_path, symlinks=True, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("command", "words"), [
    ("mu-decompose no.npz --out x.npz", "no.npz: no such file"),
    ("mu-decompose empty.npz --out x.npz", "the file is empty"),
    ("mu-decompose nan.npz --out x.npz", "1 samples hold NaN"),
    ("mu-decompose three.npz --out x.npz", "3 channels cannot be separated"),
    ("mu-decompose wide.npz --out x.npz", "transpose"),
    ("mu-decompose unitless.npz --out x.npz", "unit is missing, allowed are uV, mV, V"),
    ("mu-decompose slow_emg.npz --out x.npz", "fs_hz is 1000, allowed is"),
    ("mu-decompose good.npz --out ./good.npz", "is the input"),
    ("mu-decompose taken --out x.npz", "taken: not a file"),
    ("mu-decompose good.npz --out no/x.npz", "no such folder"),
    ("mu-decompose good.npz --out x.txt", "ends in .npz"),
    ("mu-decompose good.npz --out x.npz --rounds 0", "--rounds is 0"),
    ("mu-decompose good.npz --out x.npz --min-sil 2", "--min-sil is 2"),
    ("mu-decompose good.npz --out x.npz --seed -1", "--seed is -1"),
    ("mu-decompose good.npz --out good.npz", "is the input"),
    ("mu-decompose good.npz --out folder.npz", "is a folder"),
    ("mu-decompose good.npz --out x.npz --report x.txt", "ends in .html"),
    ("mu-decompose good.npz --out x.npz --report no/x.html", "no such folder"),
    ("mu-decompose good.npz --out x.npz --report same.html", "same.html: is the input"),
    ("mu-score trains.npz trains.npz --report x.npz", "ends in .html"),
    ("mu-score trains.npz other.npz --report trains.html", "trains.html: is the input"),
    ("mu-train good.npz --labels trains.npz --out x --seed -1", "--seed is -1"),
    ("mu-train good.npz --labels trains.npz --out no/x", "no: no such folder"),
    ("mu-train good.npz --labels trains.npz --units -1 --out x", "allowed are 0 to 3"),
    ("mu-train good.npz --labels trains.npz --recipe no.toml --out x", "cannot read the recipe"),
    ("mu-train good.npz --labels no.npz --out x", "no.npz: no such file"),
    ("mu-train good.npz --labels slow.npz --out x", "labels count at 2000 Hz"),
    ("mu-train good.npz --labels late.npz --out x", "discharges after the end"),
    ("mu-train good.npz --labels trains.npz --recipe bad.toml --out x", "'colour' is unknown"),
    ("mu-train good.npz --labels trains.npz --hold-out 5:99 --out x", "span 5:99 s"),
    ("mu-train good.npz --labels trains.npz --hold-out 0:20 --out x", "nothing is left"),
    ("mu-train good.npz --labels trains.npz --units 9 --out x", "allowed are 0 to 3"),
    ("mu-train good.npz --labels trains.npz --out taken", "exists and is no model folder"),
    ("mu-train good.npz --labels good.npz --out x", "has no sample, n_units"),
    ("mu-export no --out x.mub", "no model folder"),
    ("mu-export taken --out x.mub", "no model folder"),
    ("mu-export taken --out x.zip", "ends in .mub"),
    ("mu-review good.npz trains.npz --out x.npz", "ends in .html"),
    ("mu-review good.npz trains.npz --check trains.npz", "holds no edits made after"),
    ("mu-review good.npz late.npz --out x.html", "discharges at samples 1000000000"),
    ("mu-review trains.npz trains.npz --out x.html", "has no emg"),
    ("mu-score no.npz trains.npz", "no.npz: no such file"),
    ("mu-score trains.npz trains.npz --span 0:1e9", "START must come before STOP"),
    ("mu-score slow.npz trains.npz", "counts at 2000 Hz"),
    ("mu-score one.npz trains.npz", "1 predicted and 4 reference units"),
    ("mu-score trains.npz trains.npz --span 9:3", "START must come before STOP"),
    ("mu-score trains.npz trains.npz --span 1:2,3:4", "one span"),
])
def test_bad_input_is_one_line_and_leaves_nothing(
    files: Path, capfd: pytest.CaptureFixture[str], command: str, words: str
) -> None:
    before = sorted(os.listdir(files))
    name, *rest = command.split()
    if name == "mu-train":
        pytest.importorskip("tensorflow")
    code = MAINS[name](rest)
    out, err = capfd.readouterr()
    last = err.strip().splitlines()[-1]
    assert code == 2
    assert out == ""
    assert last.startswith(f"{name}: ")
    assert words in last
    assert "Traceback" not in err
    assert sorted(os.listdir(files)) == before


@pytest.mark.parametrize("name", MAINS)
def test_help_shows_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        MAINS[name](["--help"])
    assert stop.value.code == 0
    assert f"example: {name} " in capsys.readouterr().out


def test_decompose_and_score_give_figures(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert MAINS["mu-decompose"](["short.npz", "--out", "x.npz", "--rounds", "1", "--json"]) == 0
    units = json.loads(capsys.readouterr().out)["units"]
    assert len(units) == len(read_trains("x.npz")) == 4
    assert MAINS["mu-score"](["x.npz", "short_trains.npz", "--match", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["agreement"] > 0.98
    assert MAINS["mu-score"](["x.npz", "short_trains.npz", "--match"]) == 0
    assert "mean F1 0.9" in capsys.readouterr().out or figures["f1"] == 1


def test_pages_say_what_was_found_and_where_they_are(files: Path, capsys) -> None:
    hostile = EVIL.replace("/", "_") + ".npz"
    Path(hostile).write_bytes(Path("short.npz").read_bytes())
    words = [hostile, "--out", "x.npz", "--rounds", "1"]
    assert MAINS["mu-decompose"]([*words, "--report", "d.html"]) == 0
    assert capsys.readouterr().out.endswith("page: d.html\n")
    made = read(Path("d.html"), scripts=3)  # the review's data, twice, and its program
    text = made.text
    assert "Action potentials" in text
    assert "review-source" in [a.get("id") for _, a in made.tags]
    assert hostile in text  # in the command
    words = ["x.npz", "short_trains.npz", "--match", "--report", "s.html"]
    assert MAINS["mu-score"](words) == 0
    assert capsys.readouterr().out.endswith("page: s.html\n")
    assert "x.npz against short_trains.npz" in read(Path("s.html")).text
    assert MAINS["mu-score"]([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["report"] == "s.html"


def test_scores_against_more_units_count_the_found_ones(files: Path, capsys) -> None:
    trains = read_trains("trains.npz")
    write_trains(Path("some.npz"), SpikeTrains(trains.times[2:0:-1], trains.fs_hz))
    assert MAINS["mu-score"](["some.npz", "trains.npz", "--match", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["units"], figures["f1"]) == (2, 1)
    assert figures["unpaired"] == {"predicted": 0, "reference": 2}
    assert MAINS["mu-score"](["some.npz", "trains.npz", "--match"]) == 0
    assert "without a partner: 0 predicted and 2 reference units" in capsys.readouterr().out
    write_trains(Path("none.npz"), SpikeTrains([np.arange(13, 30000, 617)], trains.fs_hz))
    assert MAINS["mu-score"](["none.npz", "trains.npz", "--match"]) == 2
    assert "are they of one recording?" in capsys.readouterr().err


def test_an_interrupted_training_leaves_no_folder(files: Path, capsys, monkeypatch) -> None:
    pytest.importorskip("tensorflow")
    from spikewire import train as work

    def interrupted(*arguments: object) -> None:
        arguments[4].joinpath("logs").mkdir(parents=True, exist_ok=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(work, "fit", interrupted)
    Path("all.toml").write_text("min_f1 = 0.0")
    command = ["good.npz", "--labels", "trains.npz", "--recipe", "all.toml", "--out", "x"]
    assert MAINS["mu-train"](command) == 130
    assert not Path("x").exists()
    Path("x/logs").mkdir(parents=True)  # what a kill -9 leaves is no obstacle, and is kept
    assert MAINS["mu-train"](command) == 130
    assert Path("x/logs").is_dir()


def test_the_model_folder_holds_the_labels_that_it_decodes(
    files: Path, synthetic, capsys, monkeypatch
) -> None:
    """The first unit is nothing; what is written is trained on without it, and said."""
    pytest.importorskip("tensorflow")
    from spikewire import model
    from spikewire import train as work

    seen: list[SpikeTrains] = []

    def fit(recording, trains, *_: object) -> SimpleNamespace:
        seen.append(trains)
        facts = made(decoder="linear", n_mu=len(trains))
        for part in ("network", "linear"):
            facts["validation"][part]["per_unit"] = [UNIT] * len(trains)
        return SimpleNamespace(facts=facts,
                               front=SimpleNamespace(thresholds=[0.5] * len(trains)))

    monkeypatch.setattr(work, "fit", fit)
    monkeypatch.setattr(model, "save", lambda folder, made: folder.mkdir(exist_ok=True))
    real = [t + 16 for t in synthetic.truth.times]
    write_trains("five.npz", SpikeTrains([np.arange(500, 40000, 170), *real], 2048.0))
    assert MAINS["mu-train"](["good.npz", "--labels", "five.npz", "--out", "x"]) == 0
    out = capsys.readouterr().out
    assert "left out, since no filter follows them to F1 0.95: unit 0 (0." in out
    assert "page: x/report.html" in out
    assert "mu-train good.npz --labels five.npz --out x" in read(Path("x/report.html")).text
    kept = read_trains("x/labels.npz")
    assert [t.tolist() for t in kept.times] == [t.tolist() for t in real]
    assert len(seen[0]) == 4
    assert MAINS["mu-train"](["good.npz", "--labels", "five.npz", "--units", "3,0", "--out", "y",
                              "--json"]) == 0
    said = json.loads(capsys.readouterr().out)  # numbers are those of the labels
    assert said["units"] == [3]
    assert list(said["left_out"]) == ["0"]
    assert said["report"] == "y/report.html"
    assert MAINS["mu-train"](["good.npz", "--labels", "five.npz", "--out", "x"]) == 0  # and again


def test_one_output_for_each_recording(files: Path, capsys) -> None:
    pytest.importorskip("scipy")
    for outs, words in ((["x.npz"], "2 recordings and 1 --out: give one"),
                        (["x.npz", "x.npz"], "two --out are the same file")):
        command = ["good.npz", "good.npz", *(f"--out={o}" for o in outs)]
        assert MAINS["mu-decompose"](command) == 2
        assert words in capsys.readouterr().err
    assert MAINS["mu-decompose"](["short.npz", "short.npz", "--out", "x.npz", "--out", "y.npz",
                                  "--rounds", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["out"] == ["x.npz", "y.npz"]
    assert [t.tolist() for t in read_trains("x.npz").times] == \
        [t.tolist() for t in read_trains("y.npz").times]


def test_ctrl_c_writes_nothing(files: Path, capsys, monkeypatch) -> None:
    from spikewire import decompose as work

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(work, "decompose_together", interrupted)
    assert MAINS["mu-decompose"](["good.npz", "--out", "x.npz"]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert not Path("x.npz").exists()


@pytest.mark.parametrize(("missing", "command"), [
    ("scipy", "decompose good.npz --out x.npz"),
    ("keras", "train good.npz --labels trains.npz --out x"),
    ("tensorflow", "train good.npz --labels trains.npz --out x"),
    ("tomllib", "train good.npz --labels trains.npz --out x"),
])
def test_a_board_without_training_packages_says_so(
    files: Path, missing: str, command: str
) -> None:
    name, *rest = command.split()
    code = (f"import sys; sys.modules[{missing!r}] = None\n"
            f"from spikewire.commands.{name} import main; sys.exit(main({rest!r}))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert f"mu-{name}: needs {missing}, which is not installed" in done.stderr
    assert not Path("x").exists()
