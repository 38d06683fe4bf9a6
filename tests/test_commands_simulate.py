"""mu-simulate as a person types it, with cheap waves in place of computed action potentials.

Truth: what was typed, the files read back, and the ranges that --help promises.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy")

from spikewire.commands import simulate as command
from spikewire.io import read_recording, read_trains
from spikewire.simulate import muap
from spikewire.simulate.faults import FAULTS
from spikewire.simulate.muap import Anatomy

SMALL = ["--level", "8", "--duration", "1", "--ramp", "0.5", "--rest", "0.25"]
FILES = ["x.npz", "--truth", "t.npz"]


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Anatomy]:
    """An empty folder, and the muscles that were computed: a travelling wave per motor unit."""
    done: list[Anatomy] = []

    def fake(anatomy: Anatomy, progress: Callable[[float], None] = lambda _: None) -> np.ndarray:
        done.append(anatomy)
        progress(0.5)
        rng = np.random.default_rng(anatomy.seed)
        t, row = np.arange(4 * 132)[:, None], np.arange(65) % 13
        size = 20 * (1 + np.arange(anatomy.n_mu) / 10)
        width = rng.uniform(5, 9, anatomy.n_mu)
        shapes = np.zeros((anatomy.n_mu, len(t), 65), np.float32)
        for unit in range(anatomy.n_mu):
            x = (t - 150 - 15 * np.abs(row - 6.2)) / width[unit]
            shapes[unit] = size[unit] * x * np.exp(-0.5 * x**2)
        return shapes

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(muap, "compute", fake)
    return done


def run(*arguments: str, cache: str = "--no-cache") -> int:
    return command.main([*FILES, *SMALL, cache, *arguments])


def test_both_files_are_readable_and_belong_together(calls, capsys) -> None:
    assert run() == 0
    recording, trains = read_recording("x.npz"), read_trains("t.npz")
    samples = round(2048 * (0.25 + 0.5 + 1 + 0.5 + 0.25))
    assert recording.emg.shape == (samples, 60)
    assert (recording.fs_hz, recording.ied_mm, recording.force_unit) == (2048, 8, "% excitation")
    assert recording.force.max() == 8
    assert recording.segments.tolist() == [[512, samples - 512]]
    assert np.ptp(recording.grid_row) == 11
    assert np.ptp(recording.grid_col) == 4
    assert len(trains) == 150
    assert trains.method == "simulated"
    active = sum(len(t) > 0 for t in trains.times)
    assert 40 < active < 110
    assert max(int(t.max()) for t in trains.times if len(t)) < samples
    out = capsys.readouterr().out
    assert f"{active} of 150 motor units active" in out
    assert "60 channels" in out
    assert sorted(os.listdir()) == ["t.npz", "x.npz"]


def test_json_is_one_line_of_facts_that_hold(calls, capsys) -> None:
    assert run("--json", "--montage", "mono") == 0
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    facts = json.loads(out)
    recording, trains = read_recording("x.npz"), read_trains("t.npz")
    assert (facts["samples"], facts["channels"]) == recording.emg.shape
    assert facts["channels"] == 64
    assert facts["rms_uv"] == pytest.approx(recording.rms_uv, abs=0.06)
    assert facts["discharges"] == sum(len(t) for t in trains.times)
    assert facts["active_units"] == sum(len(t) > 0 for t in trains.times)
    assert (facts["out"], facts["truth"]) == ("x.npz", "t.npz")
    assert "simulate: action potentials" in err  # the stages, on stderr


def test_the_same_words_make_the_same_recording_and_another_contraction_another(calls) -> None:
    made = []
    for k in ("0", "0", "1"):
        assert run("--contraction", k) == 0
        made.append((read_recording("x.npz").emg, read_trains("t.npz").times))
    assert made[0][0].tobytes() == made[1][0].tobytes()
    assert [t.tolist() for t in made[0][1]] == [t.tolist() for t in made[1][1]]
    assert made[0][0].tobytes() != made[2][0].tobytes()
    assert made[0][1][0].tolist() != made[2][1][0].tolist()


def test_options_of_the_anatomy_reach_the_computation(calls) -> None:
    assert run("--seed", "7", "--velocity", "0.9", "--along", "5", "--around", "-3",
               "--rotation", "10") == 0
    (anatomy,) = calls
    grid = anatomy.grid
    assert (anatomy.seed, anatomy.n_mu, anatomy.velocity_scale) == (7, 150, 0.9)
    assert (grid.along_mm, grid.around_mm, grid.rotation_deg) == (5, -3, 10)


def test_several_contractions_are_several_segments(calls) -> None:
    assert run("--contractions", "3") == 0
    recording = read_recording("x.npz")
    assert recording.segments.shape == (3, 2)
    assert len(recording.emg) == 3 * 5120


def test_a_sine_is_made_with_nothing_else_given(calls, capsys) -> None:
    """The default level counts as well as one that is typed."""
    arguments = [*FILES, "--shape", "sine", "--duration", "2", "--ramp", "1", "--no-cache"]
    assert command.main(arguments) == 0
    force = read_recording("x.npz").force
    assert force.max() == pytest.approx(25 * 1.4, rel=0.01)


def test_a_sine_has_its_rate_and_depth(calls) -> None:
    assert run("--shape", "sine", "--sine-hz", "2", "--sine-depth", "0.5", "--level", "10") == 0
    plateau = read_recording("x.npz").force[1536 : 1536 + 2048]
    assert [plateau.min(), plateau.max()] == pytest.approx([5, 15], rel=0.01)
    assert np.abs(np.fft.rfft(plateau - plateau.mean())).argmax() == 2


@pytest.mark.parametrize("option", ["--gain", "--gain-sd", "--gain-drift", "--mains", "--dead",
                                    "--noisy", "--saturated"])
def test_every_fault_changes_the_recording_and_not_the_truth(calls, option: str) -> None:
    assert run() == 0
    plain, truth = read_recording("x.npz").emg, Path("t.npz").read_bytes()
    assert run(option, "1") == 0
    same = option in ("--gain", "--gain-drift")  # a factor of 1
    assert (read_recording("x.npz").emg.tobytes() == plain.tobytes()) == same
    assert Path("t.npz").read_bytes() == truth
    assert run(option, "0.5" if option.startswith("--gain") else "2") == 0
    assert read_recording("x.npz").emg.tobytes() != plain.tobytes()


def test_the_command_offers_every_fault_there_is() -> None:
    assert {name.replace("-", "_") for name in command.FAULTS} == set(FAULTS)


def test_dead_and_noisy_channels_are_not_the_same_ones(calls) -> None:
    assert run("--dead", "3", "--noisy", "3") == 0
    rms = read_recording("x.npz").emg.std(axis=0)
    assert np.sum(rms == 0) == 3
    assert np.sum(rms > 3 * np.median(rms)) == 3


def test_a_noisier_recording_has_more_noise(calls) -> None:
    rms = []
    for snr in ("30", "-10"):
        assert run("--snr", snr) == 0
        rms.append(read_recording("x.npz").emg[:500].std())
    assert rms[1] == pytest.approx(100 * rms[0], rel=1e-3)


def test_the_cache_is_used_in_its_folder_and_nowhere_without_it(calls, tmp_path: Path) -> None:
    assert run() == 0
    assert sorted(os.listdir()) == ["t.npz", "x.npz"]
    for _ in range(2):
        assert run(cache="--cache=kept") == 0
    assert len(calls) == 2
    assert len(os.listdir("kept")) == 1
    first = read_recording("x.npz").emg
    assert run() == 0
    assert read_recording("x.npz").emg.tobytes() == first.tobytes()
    assert not (tmp_path / "home").exists()
    assert command.main([*FILES, *SMALL]) == 0  # the default, under the home folder
    assert len(os.listdir(tmp_path / "home/.cache/spikewire")) == 1


def test_a_default_that_is_typed_is_the_same_muscle(calls) -> None:
    """One file in the cache for the default, for the same number typed, and for Python's own."""
    assert run(cache="--cache=kept") == 0
    assert run("--velocity", "1", "--along", "0", "--around", "0", "--rotation", "0",
               cache="--cache=kept") == 0
    muap.cached(Anatomy(), Path("kept"))
    assert len(calls) == len(os.listdir("kept")) == 1


OUT_OF_RANGE = [
    ("duration", "0.5"), ("duration", "601"), ("level", "0"), ("level", "101"), ("ramp", "-1"),
    ("ramp", "121"), ("rest", "-0.1"), ("rest", "61"), ("sine-hz", "0"), ("sine-hz", "6"),
    ("sine-depth", "1.1"), ("common-drive", "0.6"), ("snr", "-11"), ("snr", "81"),
    ("velocity", "0.8"), ("velocity", "1.4"), ("velocity-drift", "0.2"), ("velocity-drift", "-1"),
    ("along", "41"), ("around", "-21"), ("rotation", "46"), ("gain", "0"), ("gain-sd", "-0.1"),
    ("gain-drift", "0"), ("mains", "11"), ("dead", "65"), ("dead", "1.5"), ("noisy", "-1"),
    ("saturated", "nan"), ("snr", "nan"), ("level", "inf"), ("dead", "inf"), ("gain", "nan"),
    ("seed", "-1"), ("seed", str(1 << 32)), ("contractions", "0"), ("contractions", "21"),
    ("contraction", "-1"), ("contraction", "1000001"),
]


@pytest.mark.parametrize(("option", "value"), OUT_OF_RANGE)
def test_a_number_out_of_its_range_is_one_line_that_names_it(
    calls, capfd, option: str, value: str
) -> None:
    assert run(f"--{option}={value}") == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith(f"mu-simulate: --{option} is ")
    assert ", allowed is " in err
    assert "%%" not in err
    assert calls == []
    assert os.listdir() == []


def test_every_number_has_a_range_that_holds_its_default() -> None:
    for name, (default, _, holds, _) in command.NUMBERS.items():
        assert holds(default), name
    tried = {option for option, _ in OUT_OF_RANGE}
    assert set(command.NUMBERS) | set(command.FAULTS) <= tried


@pytest.mark.parametrize(("arguments", "words"), [
    (["x.npz", "--truth", "x.npz"], "--truth x.npz is the recording itself"),
    (["x.npz", "--truth", "./x.npz"], "is the recording itself"),
    (["x.npz", "--truth", "folder/../x.npz"], "is the recording itself"),
    (["x.csv", "--truth", "t.npz"], "x.csv: the output's name ends in .npz"),
    (["x.npz", "--truth", "t.mat"], "t.mat: the output's name ends in .npz"),
    (["no/x.npz", "--truth", "t.npz"], "no: no such folder"),
    (["x.npz", "--truth", "no/t.npz"], "no: no such folder"),
    (["taken.npz", "--truth", "t.npz"], "taken.npz: is a folder"),
])
def test_outputs_that_cannot_be_written_are_refused_first(
    calls, capfd, arguments: list[str], words: str
) -> None:
    Path("folder").mkdir()
    Path("taken.npz").mkdir()
    assert command.main([*arguments, *SMALL, "--no-cache"]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("mu-simulate: ")
    assert words in err
    assert calls == []
    assert sorted(os.listdir()) == ["folder", "taken.npz"]


@pytest.mark.parametrize("arguments", [
    ["--shape", "square"], ["--montage", "bipolar"], ["--noise", "pink"], ["--level", "much"],
    ["--seed", "1.5"], ["--colour", "1"],
])
def test_words_that_are_unknown_exit_with_2_and_usage(calls, capfd, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    assert stop.value.code == 2
    assert arguments[0] in capfd.readouterr().err
    assert os.listdir() == []


def test_the_truth_must_have_a_name(calls, capfd) -> None:
    with pytest.raises(SystemExit) as stop:
        command.main(["x.npz"])
    assert stop.value.code == 2
    assert "--truth" in capfd.readouterr().err


def test_a_cache_that_cannot_be_written_is_one_line(calls, capfd) -> None:
    Path("file").write_text("no folder")
    assert run(cache="--cache=file/muscles") == 2
    err = capfd.readouterr().err.splitlines()[-1]
    assert err.startswith("mu-simulate: file")
    assert os.listdir() == ["file"]


def test_ctrl_c_writes_nothing(calls, capfd, monkeypatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(muap, "compute", interrupted)
    assert run() == 130
    assert "interrupted, nothing was written" in capfd.readouterr().err
    assert os.listdir() == []


def test_help_names_every_range_and_an_example(capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        command.main(["--help"])
    assert stop.value.code == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "example: mu-simulate " in words
    assert "excitation on the plateau, %; 1 to 100 % (default 25)" in words
    for name in (*command.NUMBERS, *command.FAULTS):
        assert f"--{name} X" in words


def test_without_scipy_it_says_what_to_install(tmp_path: Path) -> None:
    code = ("import sys; sys.modules['scipy'] = None\n"
            "from spikewire.commands.simulate import main\n"
            "sys.exit(main(['x.npz', '--truth', 't.npz']))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "mu-simulate: needs scipy, which is not installed" in done.stderr
    assert list(tmp_path.iterdir()) == []
