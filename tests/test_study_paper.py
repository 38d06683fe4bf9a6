"""The paper's study: its printed figures, eq. (1) to (4) by plain loops, folds, jobs and tables."""

from __future__ import annotations

import itertools
import json
import random
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy")
pytest.importorskip("tomllib")

from spikewire.signals import InputError, Recording, SpikeTrains
from spikewire.study import data as study_data
from spikewire.study import jobs, paper, published
from spikewire.study.data import Data, Wanted
from spikewire.study.tables import Report
from spikewire.study.windows import Grid, binned, mean_f1

# Sentences of Wen et al. 2021 (CC BY 4.0), as printed.
TABLE_2_TRAINING = "13 16 22 28 7 9 11 15 4 5 6 8 3 3 4 5"
TABLE_2_PREDICTION = "46 46 49 49 46 46 48 48 46 46 49 48 46 46 48 48"
CST = ("reached 0.84 ± 0.09, 0.94 ± 0.05, 0.95 ± 0.05 and 0.91 ± 0.08 for a step size of 5, 10, "
       "20 and 40 data points, respectively")
PARTICIPANT = ("the MO-DCNN reached comparable precision (91 ± 5% vs 90 ± 5%) but lower "
               "sensitivity (83 ± 11% vs 92 ± 4%)")
SIMULATED = ("the highest sensitivity (98% for SO-DCNN and 95% for MO-DCNN) and precision (98% for "
             "SO-DCNN and 97% for MO-DCNN)")
WEIGHTS = "(590 785 vs 524 199 parameters per MU)"
NODES = ("Case 1: 64-64-64-32-128 nodes per layer; Case 2: 128-128-128-64-256 nodes per layer; "
         "Case 3: 256-256-256-128-512 nodes per layer")
TIMES = ("from 6.5 to 48.3 s epoch for the SO-DCNN and from 3.4 to 20.7 s epoch for the MO-DCNN; "
         "from 0.27 to 0.28 s sample for the SO-DCNN and from 0.040 to 0.041 s sample")


def numbers(text: str) -> list[float]:
    return [float(v) for v in re.findall(r"\d+(?:\.\d+)?", text)]


def test_table_2_is_the_papers() -> None:
    """Its columns: step 5, 10, 20, 40, each with windows 20, 40, 80, 120."""
    cells = [(s, w) for s in (5, 10, 20, 40) for w in (20, 40, 80, 120)]
    assert [published.table_2(*c)[0] for c in cells] == numbers(TABLE_2_TRAINING)
    assert [published.table_2(*c)[1] for c in cells] == numbers(TABLE_2_PREDICTION)


def test_the_texts_figures_are_the_papers() -> None:
    *pairs, a, b, c, d = numbers(CST)
    assert [v for step in (a, b, c, d) for v in published.CST[int(step)]] == pairs
    mo, so = (published.EXPERIMENT[k, 20, 120] for k in ("mo", "so"))
    assert numbers(PARTICIPANT) == [*mo[1], *so[1], *mo[0], *so[0]]
    mo, so = (published.SIMULATED[k, 20, 120] for k in ("mo", "so"))
    assert numbers(SIMULATED) == [so[0], mo[0], so[1], mo[1]]
    per_unit = [published.WEIGHTS["so"], published.WEIGHTS["mo_per_unit"]]
    assert numbers(WEIGHTS.replace("590 785", "590785").replace("524 199", "524199")) == per_unit
    names = re.findall(r"[\d-]{9,}", NODES)
    assert list(published.NODES) == names
    assert ["-".join(map(str, n)) for n in published.NODES.values()] == names
    so_s, mo_s, so_p, mo_p = zip(*[iter(numbers(TIMES))] * 2, strict=True)
    assert (published.TRAINING_S["so"], published.TRAINING_S["mo"]) == (so_s, mo_s)
    assert published.PREDICTION_MS["so"] == tuple(1e3 * v for v in so_p)
    assert published.PREDICTION_MS["mo"] == tuple(1e3 * v for v in mo_p)


def test_the_papers_figures_agree_with_each_other() -> None:
    assert published.WEIGHTS["mo_ten_units"] // 10 == published.WEIGHTS["mo_per_unit"]
    # 3.3.4.2: at 2048 Hz the steps are 410, 205, 102 and 51 predictions per second
    assert [round(2048 / s) for s in published.STEPS] == [410, 205, 102, 51]
    # 3.3.4.2: 10, 20, 39 and 59 ms
    assert [round(1e3 * w / 2048) for w in published.WINDOWS] == [10, 20, 39, 59]


def weights(window: int, units: int, nodes: tuple[int, ...], channels: int = 64) -> int:
    """By hand: kernels of 3, valid convolutions, pools of 2."""
    c1, c2, c3, c4, f1 = nodes
    columns = ((window - 4) // 2 - 4) // 2
    trunk = (3 * channels + 1) * c1 + (3 * c1 + 1) * c2
    return trunk + units * ((3 * c2 + 1) * c3 + (3 * c3 + 1) * c4 + (columns * c4 + 1) * f1
                            + f1 + 1)


def test_weights_of_every_window_and_variant() -> None:
    pytest.importorskip("tensorflow")
    from spikewire.study.networks import build

    base = paper.NODES
    assert build(64, 1, 120, 4, base).count_params() == published.WEIGHTS["so"]
    assert build(64, 10, 120, 4, base).count_params() == published.WEIGHTS["mo_ten_units"]
    for window in published.WINDOWS:
        net = build(64, 2, window, 4, base)
        assert net.count_params() == weights(window, 2, base)
        assert net(np.zeros((3, window, 64), np.float32)).shape == (3, 1, 2)
    for nodes in published.NODES.values():
        assert build(64, 2, 120, 4, nodes).count_params() == weights(120, 2, nodes)
    assert build(64, 2, 120, 0, base).count_params() == 2 * ((120 * 64 + 1) * 256 + 257)
    trunk = (3 * 64 + 1) * 128 + (3 * 128 + 1) * 128
    assert build(64, 2, 120, 2, base).count_params() == trunk + 2 * ((58 * 128 + 1) * 256 + 257)


@pytest.mark.parametrize("step", published.STEPS)
@pytest.mark.parametrize("window", published.WINDOWS)
def test_windows_and_bins_by_equations_1_and_2(window: int, step: int) -> None:
    """Sample j of the paper, counted from 1, is our j - 1."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(700, 2)).astype(np.float32)
    times = np.flatnonzero(rng.random(700) < 0.03)
    y = np.isin(np.arange(700), times)
    grid = Grid.over((0, 700), window, step)
    marks, cut = grid.marks([times]), grid.cut(x, np.arange(len(grid)))
    for k, centre in enumerate(grid.centres):
        i = centre // step
        assert i * step == centre
        j = np.arange(i * step - window // 2 + 1, i * step + window // 2 + 1) - 1
        np.testing.assert_array_equal(cut[k], x[j])
        # An odd step has no half: the bin keeps its length, its middle at the centre.
        j = np.arange(i * step - step // 2 + 1, i * step - step // 2 + step + 1) - 1
        assert marks[k, 0] == y[j].max()
    assert grid.centres[0] - step - max(window, step) // 2 < 0
    assert grid.centres[-1] + step + max(window, step) // 2 >= 700
    np.testing.assert_array_equal(grid.times(marks)[0], grid.centres[marks[:, 0]])


def test_scores_by_equations_3_and_4() -> None:
    found = np.array([[1, 0], [1, 0], [0, 0], [1, 0]], bool)
    wanted = np.array([[1, 1], [0, 0], [1, 0], [1, 0]], bool)
    one, two = binned(found, wanted)
    assert one == {"sensitivity": 2 / 3, "precision": 2 / 3, "f1": 2 / 3}
    assert two == {"sensitivity": 0.0, "precision": None, "f1": 0.0}
    assert mean_f1(found, wanted) == pytest.approx(1 / 3)


def made(synthetic, folder: Path, **changes: object) -> tuple[str, Data]:
    """Data of the synthetic record, its labels 16 samples after the truth."""
    from spikewire.io.npz import write_recording, write_trains

    write_recording(folder / "rec.npz", synthetic.recording)
    labels = [t + 16 for t in synthetic.truth.times]
    write_trains(folder / "labels.npz", SpikeTrains(labels, 2048.0, np.array([.9, .99, .8, .95])))
    wanted = Wanted(str(folder / "rec.npz"), str(folder / "labels.npz"), min_discharges=30)
    key = study_data.prepare(folder, replace(wanted, **changes))
    return key, study_data.load(folder, key)


def test_nothing_of_the_test_part_is_trained_on(synthetic, tmp_path: Path) -> None:
    _, data = made(synthetic, tmp_path)
    assert data.facts["folded"] == "contiguous thirds of one contraction"
    assert len(data.folds) == 3
    assert all(a[1] == b[0] for a, b in itertools.pairwise(data.folds))
    for fold, test in enumerate(data.folds):
        fit, validation = data.spans(fold)
        parts = sorted([*fit, validation, test])
        assert all(a[1] + 120 <= b[0] for a, b in itertools.pairwise(parts)
                   if test in (a, b) or validation in (a, b))
        seconds = sum(b - a for a, b in fit) / 2048
        assert seconds > 0.8 * sum(b - a for k, (a, b) in enumerate(data.folds)
                                   if k != fold) / 2048


def test_contractions_are_the_folds_where_there_are_three(synthetic) -> None:
    segments = np.array([[0, 9000], [11000, 20000], [22000, 31000]])
    recording = replace(synthetic.recording, segments=segments)
    folds, words = study_data.folds_of(recording, None)
    assert folds == [tuple(s) for s in segments.tolist()]
    assert words == "by contraction, as in the paper"
    one = replace(recording, segments=np.array([[2000, 38000]]))
    assert study_data.folds_of(one, None)[0] == [(2000, 14000), (14000, 26000), (26000, 38000)]
    plateau = study_data.folds_of(one, 24000 / 2048)[0]
    assert plateau == [(8000, 16000), (16000, 24000), (24000, 32000)]


def test_units_are_kept_by_discharges_and_silhouette(synthetic, tmp_path: Path) -> None:
    _, data = made(synthetic, tmp_path, units=2)
    assert (data.facts["found"], data.facts["used"]) == (4, 2)
    np.testing.assert_array_equal(data.labels.sil, [.99, .95])
    np.testing.assert_array_equal(data.labels.times[0], synthetic.truth.times[1] + 16)
    with pytest.raises(InputError, match=r"no motor unit has 150 discharges in every fold"):
        made(synthetic, tmp_path, min_discharges=150)


def test_other_settings_and_files_are_other_data(synthetic, tmp_path: Path) -> None:
    key, _ = made(synthetic, tmp_path)
    assert made(synthetic, tmp_path)[0] == key
    assert made(synthetic, tmp_path, units=2)[0] != key
    changed = replace(synthetic.recording, emg=synthetic.recording.emg * np.float32(1.01))
    other = replace(synthetic, recording=changed)
    assert made(other, tmp_path)[0] != key


def test_a_simulated_study_knows_the_truth_behind_its_labels(monkeypatch, synthetic) -> None:
    def decomposed(recording: Recording, *rest: object) -> SpikeTrains:
        return SpikeTrains([t + 11 for t in synthetic.truth.times[::-1]], 2048.0)

    monkeypatch.setattr(study_data, "simulate",
                        lambda *a, **k: (synthetic.recording, synthetic.truth))
    monkeypatch.setattr(study_data.decompose, "decompose", decomposed)
    wanted = Wanted(min_discharges=20, plateau_s=15.0, contractions=3)
    data = study_data.make(wanted, None, lambda share, words: None)
    assert [t["unit"] for t in data.facts["truth"]] == [3, 2, 1, 0]
    assert all(t["agreement"] == 1 and t["lag_samples"] == 11 for t in data.facts["truth"])
    for a, b in zip(data.truth.times, data.labels.times, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_full_profile_is_the_whole_paper() -> None:
    todo = paper.jobs_of(paper.FULL, 17, "d", 1)
    kinds = [j["decoder"] for j in todo]
    assert kinds.count("so") == 4 * 17 * 3
    assert kinds.count("mo") == (16 + 2 + 2) * 3
    assert kinds.count("linear") == 3
    assert len({j["name"] for j in todo}) == len({jobs.key(j) for j in todo}) == len(todo)
    assert {(j["step"], j["window"]) for j in todo if j["decoder"] == "mo"} == {
        (s, w) for s in (5, 10, 20, 40) for w in (20, 40, 80, 120)}
    assert todo[0]["nodes"][0] == 256 or todo[0]["step"] == 5
    assert paper.FULL.wanted.contractions == 3
    json.dumps(todo)


@pytest.mark.parametrize(("choices", "words"), [
    ({"labels": "x.npz"}, "--labels belong to a recording"),
    ({"recording": "no.npz"}, "no.npz: no such file"),
    ({"recording": "no.npz", "contractions": 3}, "are of the simulated recording"),
])
def test_choices_that_do_not_go_together_are_named(choices, words) -> None:
    given = {"recording": "", "labels": "", "seed": 1, "contractions": None, "plateau_s": None,
             "min_discharges": None, "epochs": None} | choices
    with pytest.raises(InputError, match=words):
        paper.with_choices(paper.QUICK, **given)


def result(job: jobs.Job, data: Data, missed: int) -> dict[str, object]:
    """What a job would leave that finds all labels but every `missed`th (0: all)."""
    grid = Grid.over(data.folds[job["fold"]], job["window"], job["step"])
    wanted = grid.marks(data.labels.times)[:, job["units"]]
    found = wanted.copy()
    if missed:
        for unit in range(found.shape[1]):
            found[np.flatnonzero(found[:, unit])[::missed], unit] = False
    return {"times": [t.tolist() for t in grid.times(found)],
            "against": {"labels": binned(found, wanted), "truth": binned(found, wanted)},
            "weights": 100, "epochs": 3, "validation_f1": [0.1, 0.5, 0.4], "s_per_epoch": 2.0,
            "predict_ms": 50.0, "compiled_ms": 1.0, "versions": {"tensorflow": "0"}}


@pytest.fixture
def study(synthetic, tmp_path: Path) -> tuple[list, Data]:
    """Four units, two folds; the linear filter finds all, networks four of five."""
    key, data = made(synthetic, tmp_path)
    data = replace(data, truth=data.labels, facts=data.facts | {"truth": [{"agreement": 1.0}]})
    profile = replace(paper.QUICK, so_units=0, folds=(0, 1))
    done = [(j, result(j, data, 0 if j["decoder"] == "linear" else 5))
            for j in paper.jobs_of(profile, 4, key, 1)]
    return done, data


def test_tables_hold_ours_beside_the_papers(study) -> None:
    done, data = study
    report = Report(done, data)
    rows = {(r[0], r[1]): r for r in report.compared().rows}
    assert rows["linear MU filter", "20"][2:6] == ["4 of 4", "100.0 ± 0.0", "100.0 ± 0.0", "1.000"]
    so, mo = rows["SO-DCNN", "20"], rows["MO-DCNN", "20"]
    assert so[2] == "4 of 4"
    assert 78 < float(so[3].split()[0]) < 81
    assert so[4] == "100.0 ± 0.0"
    assert so[-1] == "98 / 98"
    assert mo[-1] == "95 / 97, 97 / 95"
    assert rows["MO-DCNN", "5"][-1] == "drawn"
    assert rows["labels (CKC)", "20"][-1] == "> 99 / > 99"
    times = {(r[0], r[1]): r for r in report.times().rows}
    # The SO-DCNN's four networks are added up, the folds are averaged.
    assert times["SO-DCNN", "20"][2:10] == ["8.0", "6.5 to 48.3", "200", "270 to 280", "4.00",
                                            "400", "100", "590785"]
    assert times["MO-DCNN", "20"][2] == "2.0"
    cells = {(r[1], r[2]): r for r in report.grid().rows if r[0] == "MO-DCNN"}
    assert list(cells) == [("5", "20"), ("5", "120"), ("20", "80"), ("20", "120"), ("40", "20"),
                           ("40", "120")]
    assert [cells["5", "120"][k] for k in (9, 11)] == ["28", "49"]
    assert sum("case" in r[0] for r in report.variants().rows) == 3
    assert sum("(published)" in r[0] for r in report.variants().rows) == 2
    for table in report.tables():
        assert any("linear" in r[0] for r in table.rows), table.title
        assert all(len(r) == len(table.head) for r in table.rows), table.title
    drive = {(r[0], r[1]): r for r in report.drive().rows}
    assert float(drive["linear MU filter", "20"][4]) > 0.99
    assert drive["MO-DCNN", "20"][-1] == "0.95 ± 0.05"


def test_the_page_says_what_was_reduced_and_what_differs(study, tmp_path: Path) -> None:
    from spikewire.study import paper_page

    done, data = study
    outcome = jobs.Outcome(done, {"mo-s10-w40": "its worker process died"})
    path = tmp_path / "study.html"
    facts = {"versions": {"tensorflow": "0"}}
    paper_page.write(path, paper.QUICK, Report(done, data), outcome, facts)
    html = path.read_text()
    assert "Reduced: one contraction of 30 s" in html
    assert "Failed: mo-s10-w40: its worker process died" in html
    assert "is not in the paper: 24 delays" in html
    assert html.count("<svg") == 2
    assert not re.search("https?:", html)


def test_a_study_of_which_nothing_is_done_has_no_tables(study) -> None:
    assert Report([], study[1]).tables() == []


def test_a_network_is_trained_and_scored(synthetic, tmp_path: Path) -> None:
    """Two small epochs."""
    pytest.importorskip("tensorflow")
    from spikewire.study import cell

    key, data = made(synthetic, tmp_path)
    task = {"name": "mo", "decoder": "mo", "step": 40, "window": 40, "units": [0, 2], "fold": 1,
            "convolutions": 4, "nodes": [8, 8, 8, 4, 8], "epochs": 2, "seed": 0, "data": key}
    got = cell.work(task, str(tmp_path))
    json.dumps(got, allow_nan=False)
    fit, _ = data.spans(1)
    assert got["training_windows"] == sum(len(Grid.over(s, 40, 40)) for s in fit)
    assert got["weights"] == weights(40, 2, (8, 8, 8, 4, 8), 16)
    assert (got["epochs"], len(got["validation_f1"])) == (2, 2)
    assert got["predict_ms"] > got["compiled_ms"] > 0
    assert list(got["against"]) == ["labels"]


def test_a_seed_gives_the_same_start_whatever_others_draw() -> None:
    """Dask's threads use Python's global generator while a job runs."""
    tensorflow = pytest.importorskip("tensorflow")
    from spikewire.study import cell

    first = []
    for seed, others in ((5, 1), (5, 2), (6, 1)):
        random.seed(others)
        tensorflow.random.set_seed(others)
        net = cell.build(16, 2, 40, 4, (4, 4, 4, 4, 4))
        cell.start_from(net, seed)
        x = np.ones((2, 40, 16), np.float32)
        # In training mode, so that the dropout's masks count.
        first.append(net(x, training=True).numpy())
        assert all((v.numpy() == 0).all() for v in net.trainable_variables if "bias" in v.path)
    np.testing.assert_array_equal(first[0], first[1])
    assert (first[0] != first[2]).any()


def test_the_best_epoch_is_kept() -> None:
    pytest.importorskip("tensorflow")
    from spikewire.study import cell

    grid = Grid.over((0, 400), 40, 40)
    wanted = np.arange(len(grid))[:, None] % 2 == 0
    logits = iter([np.zeros(len(grid)) - 1, np.where(wanted[:, 0], 1, -1), np.ones(len(grid))])

    class Answer:
        def __init__(self, values: np.ndarray) -> None:
            self.values = values[:, None, None]

        def numpy(self) -> np.ndarray:
            return self.values

    best = cell.Best(lambda x: Answer(next(logits)), np.zeros((400, 2), np.float32), grid, wanted)
    states = iter("abc")
    best.set_model(type("Net", (), {"get_weights": lambda self: [next(states)]})())
    for epoch in range(3):
        best.on_epoch_begin(epoch)
        best.on_epoch_end(epoch)
    assert best.f1 == pytest.approx([0, 1, 2 / 3], abs=0.05)
    assert best.weights == ["b"]
