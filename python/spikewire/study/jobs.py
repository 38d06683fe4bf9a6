"""A study as independent jobs: each leaves one JSON file, and what is there is not done again.

A job is a dict that JSON can hold, with a `name`. Jobs run on Dask: processes of this machine, or
the workers of a scheduler elsewhere, which must see the study's folder under the same path.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from spikewire.durable import write_durably
from spikewire.signals import InputError

Job = dict[str, Any]
Work = Callable[[Job, str], dict[str, Any]]
Progress = Callable[[float, str], None]
SECOND_GOES = 1  # of a job whose worker died
CONNECT_S = 20


@dataclass
class Outcome:
    """What came of a study's jobs.

    Attributes
    ----------
    done : (job, result), in the order of the jobs given
    failed : job name -> why
    fresh : how many were run now, the rest having been found
    """

    done: list[tuple[Job, dict[str, Any]]] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    fresh: int = 0


def key(job: Job) -> str:
    """Name of a job's file: readable, and another for every other value in the job."""
    text = json.dumps(job, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return f"{job['name']}-{sha256(text.encode()).hexdigest()[:12]}"


def path_of(folder: Path, job: Job) -> Path:
    """Where a job's result lies."""
    return folder / "jobs" / f"{key(job)}.json"


def found(folder: Path, job: Job) -> dict[str, Any] | None:
    """Result of an earlier run; None if there is none, or a damaged or foreign one."""
    try:
        content = json.loads(path_of(folder, job).read_text())
        # Through JSON once, since a tuple comes back as a list.
        mine = content["job"] == json.loads(json.dumps(job))
        return dict(content["result"]) if mine else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def keep(folder: Path, job: Job, result: dict[str, Any]) -> None:
    """Write a result."""
    text = json.dumps({"job": job, "result": result}, allow_nan=False).encode()
    write_durably(path_of(folder, job), lambda file: file.write(text))


def threads_each(workers: int) -> int:
    """Cores for every worker."""
    return max(1, len(os.sched_getaffinity(0)) // max(workers, 1))


def local_settings(workers: int) -> dict[str, Any]:
    """Dask's settings for processes on this machine; the rest stays as the user has it."""
    threads = str(threads_each(workers))
    quiet = dict.fromkeys(("distributed", "distributed.nanny", "distributed.worker"), "critical")
    return {
        "distributed.scheduler.allowed-failures": SECOND_GOES,
        "distributed.nanny.pre-spawn-environ": {
            "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads,
            "TF_NUM_INTRAOP_THREADS": threads, "TF_NUM_INTEROP_THREADS": "1",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        },
        "logging": quiet,
    }


def require_dask() -> None:
    """Say what to install, before any other work is done."""
    for name in ("dask", "distributed"):
        if find_spec(name) is None:
            raise InputError("studies run on Dask, which is not installed; type: pip install "
                             "'spikewire[study]' (or --workers 0: one job after the other)")


def hush() -> None:
    """Drop what TensorFlow prints in a worker; what goes wrong there comes back as an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


@contextmanager
def client(workers: int, scheduler: str) -> Iterator[Any]:
    """A Dask client: of `scheduler`, or of as many new local processes as `workers`.

    Raises
    ------
    InputError
        Dask is not installed, or the scheduler does not answer or has no worker.
    """
    require_dask()
    import dask
    from distributed import Client, LocalCluster

    if scheduler:
        try:
            remote = Client(scheduler, timeout=CONNECT_S)
        except (OSError, ValueError) as error:
            raise InputError(f"--scheduler {scheduler}: no Dask scheduler answers ({error}); "
                             "start one: dask scheduler") from None
        with remote:
            if not remote.scheduler_info()["workers"]:
                raise InputError(f"--scheduler {scheduler}: it has no worker; start some: dask "
                                 f"worker {scheduler} --nthreads 1")
            yield remote
        return
    with dask.config.set(local_settings(workers)), LocalCluster(
        n_workers=workers, threads_per_worker=1, processes=True, memory_limit=0,
        dashboard_address="127.0.0.1:0", silence_logs="CRITICAL",
    ) as cluster, Client(cluster) as local:
        local.run(hush)
        yield local


def one_line(error: BaseException) -> str:
    """What a failed job says; Dask's word for a dead worker is explained."""
    if type(error).__name__ == "KilledWorker":
        return "its worker process died, twice (killed, or out of memory)"
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def in_this_process(
    jobs: Sequence[Job], work: Work, folder: str
) -> Iterator[tuple[Job, dict[str, Any] | BaseException]]:
    """One job after the other, without Dask."""
    for job in jobs:
        try:
            yield job, work(job, folder)
        except Exception as error:
            yield job, error


def on_dask(
    jobs: Sequence[Job], work: Work, folder: str, workers: int, scheduler: str
) -> Iterator[tuple[Job, dict[str, Any] | BaseException]]:
    """As many jobs at once as there are workers; each comes when it is done."""
    with client(workers, scheduler) as dask_client:
        from distributed import as_completed

        waiting, stream = deque(jobs), as_completed()
        running: dict[Any, Job] = {}

        def top_up() -> None:
            # A job that waited on a worker would be blamed if that worker died.
            while waiting and len(running) < max(1, sum(dask_client.nthreads().values())):
                job = waiting.popleft()
                future = dask_client.submit(work, job, folder, key=key(job), pure=False)
                running[future] = job
                stream.add(future)

        top_up()
        for future in stream:
            job = running.pop(future)
            try:
                result = future.result()
            except Exception as error:
                result = error
            future.release()
            top_up()
            yield job, result


def run(
    jobs: Sequence[Job], work: Work, folder: Path, workers: int = 2, scheduler: str = "",
    progress: Progress | None = None,
) -> Outcome:
    """Run what has no result yet; results are written as they come.

    Parameters
    ----------
    jobs : sequence of dict
        Each with a `name` that can be part of a file's name.
    work : callable (job, folder) -> result that JSON can hold
        A module's function: workers import it.
    folder : Path
        Results go to `folder`/jobs.
    workers : int
        Local processes; 0 runs the jobs in this one, without Dask.
    scheduler : str
        Address of a Dask scheduler to use instead, tcp://HOST:PORT.

    Returns
    -------
    Outcome
        A job that fails is named in it and does not stop the others.

    Raises
    ------
    InputError
        See `client`. KeyboardInterrupt passes; results written until then stay.
    """
    report = progress or (lambda share, words: None)
    (folder / "jobs").mkdir(parents=True, exist_ok=True)
    have = {key(job): found(folder, job) for job in jobs}
    todo = [job for job in jobs if have[key(job)] is None]
    outcome = Outcome(fresh=len(todo))
    done = len(jobs) - len(todo)
    report(done / max(len(jobs), 1), f"{done} of {len(jobs)} jobs are done already")
    where = str(folder.resolve())
    stream = on_dask(todo, work, where, min(workers, len(todo)), scheduler) \
        if todo and (workers or scheduler) else in_this_process(todo, work, where)
    for job, result in stream:
        done += 1
        try:
            if isinstance(result, BaseException):
                raise result
            keep(folder, job, result)
            have[key(job)] = result
        except OSError:
            raise  # the folder cannot be written: all further work would be lost
        except Exception as error:
            outcome.failed[job["name"]] = one_line(error)
        report(done / len(jobs), f"{done} of {len(jobs)}: {job['name']}"
               + (" FAILED" if job["name"] in outcome.failed else ""))
    outcome.done = [(job, r) for job in jobs if (r := have[key(job)]) is not None]
    return outcome
