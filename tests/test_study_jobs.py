"""Studies as jobs: what is done is never done again, and what fails or dies stops nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from spikewire.signals import InputError
from spikewire.study import jobs

HERE = Path(__file__).parent


def job(name: str, **values: object) -> jobs.Job:
    return {"name": name, **values}


def tiny(task: jobs.Job, folder: str) -> dict[str, object]:
    """Leave a trace of every run, then do what the job says."""
    with open(Path(folder) / f"{task['name']}.runs", "a") as file:
        file.write("x")
    time.sleep(task.get("sleep_s", 0))
    if task.get("die"):
        os.kill(os.getpid(), signal.SIGKILL)
    if task.get("raise"):
        raise ValueError("no such\nmuscle")
    return {"square": task["x"] ** 2}


def runs(folder: Path, name: str) -> int:
    path = folder / f"{name}.runs"
    return len(path.read_text()) if path.exists() else 0


def test_a_key_never_changes() -> None:
    """SHA-256 of the sorted compact JSON, computed once with sha256sum: old results stay found."""
    made = jobs.key(job("mo-s20", step=20, units=[0, 1]))
    assert made == "mo-s20-609667438ecb"
    assert made == jobs.key({"units": [0, 1], "step": 20, "name": "mo-s20"})
    assert made == jobs.key(job("mo-s20", step=20, units=(0, 1)))


def test_every_value_makes_another_key() -> None:
    keys = {jobs.key(job("a", **values)) for values in
            ({}, {"x": 1}, {"x": 2}, {"x": 1.5}, {"x": "1"}, {"y": 1}, {"x": [1]}, {"x": None})}
    assert len(keys) == 8


def test_what_is_done_is_found_again(tmp_path: Path) -> None:
    todo = [job("a", x=2), job("b", x=3, t=(1, 2))]
    first = jobs.run(todo, tiny, tmp_path, workers=0)
    again = jobs.run(todo, tiny, tmp_path, workers=0)
    assert [r for _, r in first.done] == [r for _, r in again.done] == [{"square": 4},
                                                                       {"square": 9}]
    assert (first.fresh, again.fresh) == (2, 0)
    assert runs(tmp_path, "a") == runs(tmp_path, "b") == 1


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"job": {"name": "a"}, "result": {}}'])
def test_a_damaged_or_foreign_result_is_made_again(tmp_path: Path, content: bytes) -> None:
    task = job("a", x=2)
    jobs.run([task], tiny, tmp_path, workers=0)
    jobs.path_of(tmp_path, task).write_bytes(content)
    assert jobs.run([task], tiny, tmp_path, workers=0).fresh == 1
    assert jobs.found(tmp_path, task) == {"square": 4}


def test_a_failed_job_is_named_and_tried_again_next_time(tmp_path: Path) -> None:
    todo = [job("bad", **{"x": 1, "raise": True}), job("good", x=2)]
    outcome = jobs.run(todo, tiny, tmp_path, workers=0)
    assert outcome.failed == {"bad": "ValueError: no such muscle"}
    assert [j["name"] for j, _ in outcome.done] == ["good"]
    jobs.run(todo, tiny, tmp_path, workers=0)
    assert (runs(tmp_path, "bad"), runs(tmp_path, "good")) == (2, 1)


def test_a_result_that_json_cannot_hold_fails_alone(tmp_path: Path) -> None:
    todo = [job("nan", x="nan"), job("one", x=1)]
    outcome = jobs.run(todo, lambda t, f: {"v": float(t["x"])}, tmp_path, workers=0)
    assert list(outcome.failed) == ["nan"]
    assert [j["name"] for j, _ in outcome.done] == ["one"]


def test_two_workers_and_a_job_that_kills_its_own(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    todo = [job("dies", x=1, die=True), *(job(f"j{k}", x=k, sleep_s=0.1) for k in range(3)),
            job("bad", **{"x": 1, "raise": True})]
    said: list[str] = []
    outcome = jobs.run(todo, tiny, tmp_path, workers=2, progress=lambda s, w: said.append(w))
    assert sorted(outcome.failed) == ["bad", "dies"]
    assert "its worker process died" in outcome.failed["dies"]
    assert [j["name"] for j, _ in outcome.done] == ["j0", "j1", "j2"]
    assert sum("FAILED" in w for w in said) == 2


def test_after_a_kill_only_the_rest_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four jobs on two workers, everything killed with SIGKILL while two still run."""
    pytest.importorskip("distributed")
    todo = [job("a", x=1), job("b", x=2), job("c", x=3, sleep_s=60), job("d", x=4, sleep_s=60)]
    code = ("import sys, json, pathlib; sys.path.insert(0, sys.argv[1])\n"
            "from spikewire.study import jobs\nimport test_study_jobs\n"
            "if __name__ == '__main__':\n"
            "    jobs.run(json.loads(sys.argv[3]), test_study_jobs.tiny, "
            "pathlib.Path(sys.argv[2]), workers=2)\n")
    script = tmp_path / "study.py"
    script.write_text(code)
    study = subprocess.Popen([sys.executable, str(script), str(HERE), str(tmp_path),
                              json.dumps(todo)], start_new_session=True)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (
        all(jobs.found(tmp_path, t) for t in todo[:2]) and all(runs(tmp_path, n) for n in "cd")
    ):
        time.sleep(0.05)
    os.killpg(study.pid, signal.SIGKILL)
    study.wait()
    assert [jobs.found(tmp_path, t) is not None for t in todo] == [True, True, False, False]
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    outcome = jobs.run(todo, tiny, tmp_path, workers=0)
    assert outcome.fresh == 2
    assert [r["square"] for _, r in outcome.done] == [1, 4, 9, 16]
    assert [runs(tmp_path, n) for n in "abcd"] == [1, 1, 2, 2]


def test_without_dask_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'spikewire\[study\]'"):
        jobs.run([job("a", x=1)], tiny, tmp_path, workers=2)


def test_a_scheduler_that_does_not_answer_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(jobs, "CONNECT_S", 0.5)
    with pytest.raises(InputError, match="no Dask scheduler answers"):
        jobs.run([job("a", x=1)], tiny, tmp_path, scheduler="tcp://127.0.0.1:9")
    with pytest.raises(InputError, match="no Dask scheduler answers"):
        jobs.run([job("a", x=1)], tiny, tmp_path, scheduler="nonsense://x")


def test_a_scheduler_elsewhere_runs_the_jobs(tmp_path: Path) -> None:
    """A cluster that the study did not start; one without workers is refused."""
    distributed = pytest.importorskip("distributed")
    options = {"dashboard_address": "127.0.0.1:0", "silence_logs": "CRITICAL"}
    with distributed.LocalCluster(n_workers=0, threads_per_worker=1, processes=True,
                                  **options) as cluster:
        address = cluster.scheduler_address
        with pytest.raises(InputError, match="it has no worker"):
            jobs.run([job("a", x=3)], tiny, tmp_path, scheduler=address)
        cluster.scale(1)
        cluster.wait_for_workers(1, timeout=30)
        outcome = jobs.run([job("a", x=3)], tiny, tmp_path, scheduler=address)
    assert [r for _, r in outcome.done] == [{"square": 9}]
