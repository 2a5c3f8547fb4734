"""Where the recordings of a conversion are worked on: in this process, in several, or on a Ray cluster.

Every engine yields the outcomes in the order of the jobs, whatever finishes first, so that what is made of them cannot
depend on the engine. A job that fails, or whose process dies, is an outcome like any other. Knows no recording.
"""

from __future__ import annotations

import multiprocessing
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import cv2

from egowm_core.errors import ConfigError, EgowmError

ENGINES = ("local", "ray")
UNEXPECTED = "unexpected"
_AHEAD = 2  # jobs in the queue for each worker: the rest wait here, so that memory does not grow with their number

Result = TypeVar("Result")


@dataclass(frozen=True)
class Job(Generic[Result]):
    """``work(*arguments)``, pickled where it has to travel; ``what`` names it in errors."""

    what: str
    work: Callable[..., Result]
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """The result of a job, or the one-line reason why there is none."""

    result: Result | None
    error: str = ""


def run(jobs: Sequence[Job[Result]], *, engine: str, workers: int) -> Iterator[Outcome[Result]]:
    """Outcomes in the order of ``jobs``. Raises ConfigError on an unknown engine or one that is not installed."""
    if engine not in ENGINES:
        raise ConfigError(f"engine {engine!r} is not one of {', '.join(ENGINES)}")
    if workers < 1:
        raise ConfigError(f"{workers} workers; give 1 or more")
    if engine == "ray":
        return _on_ray(jobs, workers)
    if workers == 1 or len(jobs) <= 1:
        return map(attempt, jobs)
    return _in_processes(jobs, min(workers, len(jobs)))


def attempt(job: Job[Result]) -> Outcome[Result]:
    """Do a job here; what goes wrong with its data or its files becomes the outcome."""
    try:
        return Outcome(job.work(*job.arguments))
    except EgowmError as error:
        return Outcome(None, str(error))
    except (OSError, MemoryError) as error:
        return Outcome(None, f"{job.what}: {type(error).__name__}: {error}; check disk space, memory and permissions")
    except Exception as error:  # a defect of ours, but the other recordings are good
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        text = " ".join(str(error).split())[:200]
        return Outcome(None, f"{job.what}: {UNEXPECTED} {type(error).__name__} at {where}: {text}; please report it")


def _in_processes(jobs: Sequence[Job[Result]], workers: int) -> Iterator[Outcome[Result]]:
    waiting, running = deque(jobs), deque[tuple[Job[Result], Future[Outcome[Result]]]]()
    pool = _pool(workers)
    try:
        while waiting or running:
            while waiting and len(running) < workers * (1 + _AHEAD):
                job = waiting.popleft()
                try:
                    running.append((job, pool.submit(attempt, job)))
                except BrokenProcessPool:
                    pool = _pool(workers)
                    running.append((job, pool.submit(attempt, job)))
            job, future = running.popleft()
            try:
                yield future.result()
            except BrokenProcessPool:  # a worker died with all its neighbours: each gets a process of its own
                yield _alone(job)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _alone(job: Job[Result]) -> Outcome[Result]:
    with _pool(1) as pool:
        try:
            return pool.submit(attempt, job).result()
        except BrokenProcessPool:
            return Outcome(None, died(job))


def died(job: Job[Any]) -> str:
    """What is said of a job whose process died."""
    return f"{job.what}: the converting process died (out of memory?); try it alone on more memory"


def _pool(workers: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=cv2.setNumThreads, initargs=(1,))


def _on_ray(jobs: Sequence[Job[Result]], workers: int) -> Iterator[Outcome[Result]]:
    """Tasks of one CPU each, ``workers`` at a time, on the running cluster (RAY_ADDRESS) or on one started here."""
    try:
        import ray
    except ImportError as error:
        raise ConfigError(f"engine ray needs the package ray ({error}); pip install 'egowm[ray]'") from error
    started = not ray.is_initialized()
    if started:
        _start(ray, workers)

    def submit(job: Job[Result]) -> Any:
        return ray.remote(num_cpus=1, max_retries=0)(_attempt_quietly).remote(job)

    waiting, running = deque(jobs), deque[tuple[Job[Result], Any]]()
    try:
        while waiting or running:
            while waiting and len(running) < workers * (1 + _AHEAD):
                job = waiting.popleft()
                running.append((job, submit(job)))
            job, reference = running.popleft()
            yield _fetched(ray, job, reference, submit)
    finally:
        for _, reference in running:
            ray.cancel(reference, force=True)
        if started:
            ray.shutdown()


def _start(ray: Any, workers: int) -> None:
    """Join the cluster that RAY_ADDRESS names, or start one on this machine for as long as the conversion lasts."""
    import os

    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if os.environ.get("RAY_ADDRESS"):
        try:
            ray.init(**quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            address = os.environ["RAY_ADDRESS"]
            raise ConfigError(
                f"no Ray cluster at RAY_ADDRESS {address!r} ({error}); start it or unset RAY_ADDRESS"
            ) from error
        return
    ray.init(num_cpus=workers, include_dashboard=False, **quiet)


def _fetched(ray: Any, job: Job[Result], reference: Any, submit: Callable[[Job[Result]], Any]) -> Outcome[Result]:
    for again in (True, False):
        try:
            outcome: Outcome[Result] = ray.get(reference)
            return outcome
        except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError, ray.exceptions.NodeDiedError):
            if again:
                reference = submit(job)
    return Outcome(None, died(job))


def _attempt_quietly(job: Job[Result]) -> Outcome[Result]:
    cv2.setNumThreads(1)
    return attempt(job)
