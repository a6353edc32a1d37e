"""Trainings side by side on one machine: a small model fills one core better than it fills two."""

import multiprocessing
import os
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING

from kdnb.core import store
from kdnb.core.config import RunConfig
from kdnb.core.store import Run
from kdnb.errors import WorkerDied
from kdnb.experiment import obtain
from kdnb.experiment.points import Point, trainings

if TYPE_CHECKING:
    from kdnb.data.splits import TaskData


def run_points(
    points: list[Point], data: "TaskData", workers: int, say: Callable[[str], None] = print
) -> dict[str, Run]:
    """`kdnb.experiment.obtain.run_points` by several processes, each with its share of the cores;
    teachers before students.

    Sums are split among threads: another number of workers gives other last bits of the logits.

    Args:
        points, data, say: as there. workers: processes, >= 1; 1 trains in this one.
    Raises:
        WorkerDied: a process was killed. ValueError: workers < 1, and as `kdnb.experiment.obtain.ensure_all`.
    """
    if workers < 1:
        raise ValueError(f"workers must be >= 1, got {workers}")
    if workers == 1:
        return obtain.run_points(points, data, say)
    left, flying, done = trainings(points), {}, {}
    threads, spawn = max(1, _cores() // workers), multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_begin, initargs=(data, threads)) as pool:
        try:
            while left or flying:
                for group in _ready(left, flying)[: workers - len(flying)]:
                    left.remove(group)
                    flying[pool.submit(_train, [point.config for point in group])] = group
                for future in wait(flying, return_when=FIRST_COMPLETED).done:
                    _note(flying.pop(future), future, done, len(points), say)
        except BrokenProcessPool:
            raise WorkerDied("a worker died, often for lack of memory; start again with fewer --workers") from None
        finally:
            pool.shutdown(cancel_futures=True)
    return {point.config.run_id(): done[point.config.run_id()] for point in points}


def _ready(left: list[list[Point]], flying: dict[Future, list[Point]]) -> list[list[Point]]:
    """The trainings whose teachers are not still to come from another one."""
    coming = {point.config.run_id() for group in [*left, *flying.values()] for point in group}
    return [group for group in left if group[0].config.teacher_run not in coming]


def _note(group: list[Point], future: Future, done: dict[str, Run], total: int, say: Callable) -> None:
    """A finished training: its runs, read from the store, and a line for each."""
    trained = future.result()
    for point in group:
        run = done[point.config.run_id()] = store.load(point.config.run_id())
        say(f"[{len(done)}/{total}] {obtain.told(point, run, run.run_id in trained)}")


def _begin(data: "TaskData", threads: int) -> None:
    """A worker's start: its data, which all of its trainings share, and its share of the cores."""
    global _data
    _data = data
    import torch

    torch.set_num_threads(threads)


def _train(configs: Iterable[RunConfig]) -> set[str]:
    """One training in a worker; run_ids of what was not in the store."""
    found = obtain.ensure_all(list(configs), _data)
    return {run_id for run_id, (_, trained) in found.items() if trained}


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
