"""mu-prune, and mu-export with int8, as a person types them."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("onnxruntime")
pytest.importorskip("scipy")

from test_train import TINY, labels

from spikewire import model as folders
from spikewire import prune as work
from spikewire import train
from spikewire.bundle import read_bundle
from spikewire.commands import export, prune
from spikewire.io.npz import write_recording, write_trains
from spikewire.runtime.engine import check_golden, open_engine
from spikewire.signals import SpikeTrains
from spikewire.widths import operations

RECIPE = replace(TINY, trunk=(12, 12), heads=(8, 8, 12), steps=40, check_every=40, augmented=0.1,
                 refit=False)
MAINS = {"mu-prune": prune.main, "mu-export": export.main}
UNITS = [2, 0]  # of the labels, in an order of its own


@pytest.fixture(scope="module")
def folder(synthetic, tmp_path_factory) -> Path:
    """A recording, its labels, and a model of two of them that was trained on a part."""
    path = tmp_path_factory.mktemp("prune")
    recording, trains = synthetic.recording, labels(synthetic)
    write_recording(path / "rec.npz", recording)
    write_recording(path / "other.npz", replace(recording, emg=recording.emg[::-1]))
    write_recording(path / "narrow.npz", replace(recording, emg=recording.emg[:, :15]))
    write_trains(path / "lab.npz", trains)
    write_trains(path / "slow.npz", SpikeTrains(trains.times, 2000.0))
    chosen = SpikeTrains([trains.times[k] for k in UNITS], trains.fs_hz)
    folders.save(path / "model", train.fit(recording, chosen, RECIPE, [(0, len(recording.emg))],
                                           path / "model", seed=3))
    write_trains(path / "model/labels.npz", chosen)
    return path


@pytest.fixture(autouse=True)
def there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def test_half_the_operations_and_still_decoding(folder: Path, capsys, monkeypatch) -> None:
    """From the command to an int8 bundle that the engine runs."""
    monkeypatch.setattr(work, "ROUNDS", 1)
    command = "model rec.npz --keep 0.5 --out half"
    assert prune.main([*command.split(), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    before, after = found["rows"]
    full = operations(RECIPE, 16, 2).window
    assert before["operations"] == full
    assert 0.3 * full < after["operations"] <= 0.5 * full
    assert after["ms"] > 0
    assert after["linear_f1"] > 0.9
    assert after["f1"] > 0.9
    small = folders.load(Path("half"))
    assert list(small.recipe.heads) == after["heads"]
    assert small.net.count_params() == small.facts["weights"] == after["weights"]
    assert found["decoder"] == small.facts["decoder"]
    assert small.facts["pruned"]["keep"] == 0.5

    command = "half --decoder network --out half.mub --trt int8 --calibration rec.npz"
    assert export.main([*command.split(), "--labels", "half/labels.npz"]) == 0
    out = capsys.readouterr().out
    assert "int8: " in out
    assert "on rec.npz" in out
    bundle = read_bundle("half.mub")
    assert bundle.manifest.tolerance["int8"] == 0.05
    assert check_golden(open_engine(bundle, "ort", "int8"), bundle, "int8") < 1e-5


def test_int8_weights_are_small_and_score_as_fp32(folder: Path, capsys) -> None:
    command = "model --decoder network --out q.mub --trt int8 --calibration rec.npz"
    assert export.main([*command.split(), "--labels", "lab.npz", "--units", "2,0", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["f1"]["fp32"] > 0.9
    assert abs(found["f1"]["int8"] - found["f1"]["fp32"]) < 0.01
    assert found["precisions"]["int8"] < 0.15
    bundle = read_bundle("q.mub")
    for precision, size in found["network_bytes"].items():
        assert len(bundle.files[f"network.{precision}.onnx"]) == size


@pytest.mark.parametrize(("command", "words"), [
    ("mu-prune no rec.npz --labels lab.npz --out x", "no model folder"),
    ("mu-prune model no.npz --labels lab.npz --out x", "no.npz: no such file"),
    ("mu-prune model rec.npz --labels no.npz --out x", "no.npz: no such file"),
    ("mu-prune model rec.npz --labels lab.npz --out model", "is the input"),
    ("mu-prune model rec.npz --labels lab.npz --out rec.npz", "exists and is no model folder"),
    ("mu-prune model rec.npz --labels lab.npz --out no/x", "no: no such folder"),
    ("mu-prune model rec.npz --labels lab.npz --out x --seed -1", "--seed is -1"),
    ("mu-export model --out x.mub --calibration rec.npz --labels lab.npz --units 9",
     "allowed are 0 to 3"),
    ("mu-prune model rec.npz --labels lab.npz --out x", "the labels hold 4 motor units, the mod"),
    ("mu-prune model rec.npz --keep 0 --out x", "--keep is 0, allow"),
    ("mu-prune model rec.npz --keep 2 --out x", "--keep is 2, allow"),
    ("mu-prune model other.npz --out x", "is not the recording"),
    ("mu-prune model rec.npz --labels slow.npz --out x", "labels count at 2000 Hz"),
    ("mu-export model --out x.mub --trt int8 --labels lab.npz", "name it with --calibration"),
    ("mu-export model --out x.mub --trt int8 --calibration no.npz", "no.npz: no such file"),
    ("mu-export model --out x.mub --decoder network --calibration narrow.npz",
     "number of channels is 15, the model was trained on 16"),
    ("mu-export model --out x.mub --decoder linear --trt int8", "no weights that could be quant"),
    ("mu-export model --out x.mub --calibration rec.npz --labels lab.npz",
     "number of motor units is 4, the model's 2"),
])
def test_bad_input_is_one_line_and_leaves_nothing(
    folder: Path, capfd: pytest.CaptureFixture[str], command: str, words: str
) -> None:
    before = sorted(os.listdir(folder))
    name, *rest = command.split()
    assert MAINS[name](rest) == 2
    out, err = capfd.readouterr()
    last = err.strip().splitlines()[-1]
    assert out == ""
    assert last.startswith(f"{name}: ")
    assert words in last
    assert sorted(os.listdir(folder)) == before


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        prune.main(["--help"])
    assert stop.value.code == 0
    assert "example: mu-prune " in capsys.readouterr().out


def test_the_table_as_a_person_reads_it(folder: Path, capsys, monkeypatch) -> None:
    """Without ONNX Runtime there is no time; what was held out is not in the labels."""
    seen = {}

    def pruned(model, recording, trains, *rest):
        seen.update(times=trains.times, time_ms=rest[-1])
        row = {"step": "after", "trunk": (8, 8), "heads": (4, 4, 6), "weights": 10, "bytes": 40,
               "operations": 5, "f1": 0.97, "linear_f1": 0.96, "ms": None}
        return model, [row]

    monkeypatch.setattr(work, "prune", pruned)
    monkeypatch.setattr(prune, "timer", lambda: None)
    monkeypatch.setattr(work, "training_spans", lambda model, recording: [(0, 30000)])
    command = "model rec.npz --out copy"
    assert prune.main(command.split()) == 0
    out = capsys.readouterr().out
    assert "0.970 (0.960)  -" in out
    assert f"chosen: {folders.load(Path('copy')).facts['decoder']}" in out
    assert seen["time_ms"] is None
    assert len(seen["times"]) == 2
    assert not any(np.array_equal(a, b) for a, b in zip(
        seen["times"], [labels_of(k) for k in UNITS], strict=True))


def labels_of(unit: int) -> np.ndarray:
    from spikewire.io import read_trains

    return read_trains("lab.npz").times[unit]
