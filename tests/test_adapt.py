"""mu-adapt end to end on a recording whose gains have changed, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from spikewire import adapt, golden
from spikewire.bundle import read_bundle
from spikewire.commands.adapt import main
from spikewire.io.npz import write_recording, write_trains
from spikewire.runtime.engine import open_engine
from spikewire.signals import InputError


@pytest.fixture
def changed(synthetic, tmp_path: Path) -> Path:
    """The same muscle through other gains, with two dead channels."""
    gains = np.random.default_rng(5).uniform(0.5, 1.6, 16).astype(np.float32)
    gains[[2, 9]] = 0
    path = tmp_path / "changed.npz"
    write_recording(path, replace(synthetic.recording, emg=synthetic.recording.emg * gains))
    return path


def test_a_better_bundle_is_written_and_opens(
    kept_bundle_path: Path, changed: Path, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "new.mub"
    old = kept_bundle_path.read_bytes()
    assert main([str(kept_bundle_path), str(changed), "--out", str(out), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["better"]
    assert facts["quality_after"] > facts["quality_before"]
    assert facts["bad_channels"] == [2, 9]
    assert kept_bundle_path.read_bytes() == old
    made = read_bundle(out)
    assert made.manifest.training["adaptation"]["adapted_from"] == read_bundle(
        kept_bundle_path).sha256
    kernels = made.array("front/kernels.npy").reshape(8, 16, 4)
    assert not kernels[:, [2, 9]].any()
    open_engine(made, "ort", "fp32")  # compares with the new golden windows


def test_without_improvement_nothing_is_written(
    kept_bundle_path: Path, recording_path: Path, tmp_path: Path, capsys
) -> None:
    """The first adaptation suits the matched filters to the record; the second has nothing left."""
    first, second = tmp_path / "first.mub", tmp_path / "second.mub"
    main([str(kept_bundle_path), str(recording_path), "--out", str(first), "--json"])
    start = first if json.loads(capsys.readouterr().out)["better"] else kept_bundle_path
    assert main([str(start), str(recording_path), "--out", str(second)]) == 0
    assert "nothing written" in capsys.readouterr().out
    assert not second.exists()


def test_a_bundle_without_moments_needs_the_training_record(
    bundle_path: Path, changed: Path, recording_path: Path, synthetic, tmp_path: Path, capsys
) -> None:
    out, labels = tmp_path / "new.mub", tmp_path / "labels.npz"
    assert main([str(bundle_path), str(changed), "--out", str(out)]) == 2
    assert "--training REC0 --labels TRAINS" in capsys.readouterr().err
    later = replace(synthetic.truth, times=[t + 15 for t in synthetic.truth.times])
    write_trains(labels, later)
    assert main([str(bundle_path), str(changed), "--out", str(out), "--training",
                 str(recording_path), "--labels", str(labels), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bad_channels"] == [2, 9]


def test_half_of_the_pair_is_refused(bundle_path: Path, changed: Path, tmp_path: Path) -> None:
    assert main([str(bundle_path), str(changed), "--out", str(tmp_path / "n.mub"),
                 "--training", str(changed)]) == 2


def test_labels_of_other_units_are_refused(
    bundle_path: Path, changed: Path, recording_path: Path, synthetic, tmp_path: Path, capsys
) -> None:
    labels = tmp_path / "labels.npz"
    write_trains(labels, replace(synthetic.truth, times=synthetic.truth.times[:2]))
    assert main([str(bundle_path), str(changed), "--out", str(tmp_path / "n.mub"), "--training",
                 str(recording_path), "--labels", str(labels)]) == 2
    assert "the labels hold 2 units" in capsys.readouterr().err


def test_a_grid_that_came_off_is_refused(
    kept_bundle_path: Path, synthetic, tmp_path: Path, capsys
) -> None:
    emg = synthetic.recording.emg.copy()
    emg[:, :10] = 0
    path = tmp_path / "off.npz"
    write_recording(path, replace(synthetic.recording, emg=emg))
    assert main([str(kept_bundle_path), str(path), "--out", str(tmp_path / "n.mub")]) == 2
    assert "10 of 16 channels are dead" in capsys.readouterr().err


@pytest.mark.parametrize(("how", "words"), [
    ("short", "too short"), ("channels", "channels 8"), ("rate", "rate 2000"),
])
def test_what_does_not_fit_the_bundle_is_refused(kept_bundle_path, synthetic, how, words) -> None:
    bundle, whole = read_bundle(kept_bundle_path), synthetic.recording
    recording = {"short": replace(whole, emg=whole.emg[:4096]),
                 "channels": replace(whole, emg=whole.emg[:, :8]),
                 "rate": replace(whole, fs_hz=2000.0)}[how]
    with pytest.raises(InputError, match=words):
        adapt.check_fit(bundle, recording)


def test_the_most_active_stretch_is_taken(synthetic) -> None:
    emg = np.ones((10 * 2048, 16), np.float32)
    emg[6 * 2048 : 8 * 2048] = 9
    found = golden.most_active(replace(synthetic.recording, emg=emg), 2 * 2048)
    assert (found.emg == 9).all()
