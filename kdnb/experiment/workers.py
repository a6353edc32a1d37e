"""Trainings side by side on one machine: a small model fills one core better than it fills two."""

import multiprocessing
import os
import platform
import re
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING

from kdnb.core import store
from kdnb.core.config import RunConfig
from kdnb.core.store import Run
from kdnb.errors import WorkerDied
from kdnb.experiment import obtain
from kdnb.experiment.pace import Pace
from kdnb.experiment.points import Point, trainings
from kdnb.plain import version_of

if TYPE_CHECKING:
    from kdnb.data.splits import TaskData

MOST = 4  # processes where nobody says how many: each needs its own torch, and memory for its model


def cores() -> int:
    """CPU cores for this process, as torch counts them: OMP_NUM_THREADS, else the physical ones it may use."""
    if os.environ.get("OMP_NUM_THREADS", "").isdigit():
        return max(1, int(os.environ["OMP_NUM_THREADS"]))
    import psutil

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, psutil.cpu_count(logical=False) or allowed)


def machine() -> dict:
    """What a measurement depends on, told without importing torch."""
    info = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    settings = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
    return {
        "processor": model.group(1) if model else platform.machine(),
        "cores": cores(),
        "gpus": len(list(Path("/proc/driver/nvidia/gpus").glob("*"))),
        "torch": version_of("torch"),
        **{name: os.environ.get(name, "") for name in settings},
    }


def usual(points: list[Point]) -> int:
    """How many processes some points are worth: one a core while there is something to train; 1 on a GPU or at toy."""
    left = [group for group in trainings(points) if not all(store.exists(one.config.run_id()) for one in group)]
    if len(left) < 2 or points[0].config.profile == "toy":  # whose trainings are shorter than a process's start
        return 1
    from kdnb.core.device import device

    return 1 if device().type == "cuda" else min(cores(), MOST, len(left))


def run_points(
    points: list[Point], data: "TaskData", workers: int = 0, say: Callable[[str], None] = print, keep: bool = False
) -> dict[str, Run]:
    """`kdnb.experiment.obtain.run_points` by several processes, each with its share of the cores;
    teachers before students.

    Sums are split among threads: another number of workers gives other last bits of the logits.

    Args:
        points: as there.
        data: their splits.
        workers: processes; 1 trains in this one, 0 takes `usual`.
        say: hears a line per run.
        keep: whether weights are kept.
    Raises:
        WorkerDied: a process was killed.
        ValueError: workers < 0, and as `kdnb.experiment.obtain.ensure_all`.
    """
    if workers < 0:
        raise ValueError(f"workers must be >= 0, got {workers}")
    workers = workers or usual(points)
    if workers == 1:
        return obtain.run_points(points, data, say, keep)
    left, done = trainings(points), {}
    total, pace = sum(map(len, left)), Pace(left, keep, workers)
    running: dict[Future, list[Point]] = {}
    started: dict[Future, float] = {}
    spawn = multiprocessing.get_context("spawn")
    threads = max(1, cores() // workers)
    with ProcessPoolExecutor(
        workers, mp_context=spawn, initializer=_Worker.begin, initargs=(data, threads, keep)
    ) as pool:
        try:
            while left or running:
                for group in _ready(left, running)[: workers - len(running)]:
                    left.remove(group)
                    future = pool.submit(_Worker.train, [vars(point.config) for point in group])
                    running[future], started[future] = group, time.perf_counter()
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    trained, group = future.result(), running.pop(future)
                    to_go = pace.after(group, time.perf_counter() - started.pop(future))
                    for point in group:
                        run = done[point.config.run_id()] = store.load(point.config.run_id())
                        say(f"[{len(done)}/{total}] {obtain.run_line(point, run, run.run_id in trained)}{to_go}")
        except BrokenProcessPool:
            raise WorkerDied("a worker died, often for lack of memory; start again with fewer --workers") from None
        except KeyboardInterrupt:
            for worker in multiprocessing.active_children():  # at once, and not after what each is at
                worker.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
    return {point.config.run_id(): done[point.config.run_id()] for point in points}


def _ready(left: list[list[Point]], running: dict[Future, list[Point]]) -> list[list[Point]]:
    """The trainings whose teachers are not still to come from another one."""
    coming = {point.config.run_id() for group in [*left, *running.values()] for point in group}
    return [group for group in left if group[0].config.teacher_run not in coming]


class _Worker:
    """What a process of the pool keeps from its start: the data, which all of its trainings share."""

    data: "TaskData"
    keep: bool

    @classmethod
    def begin(cls, data: "TaskData", threads: int, keep: bool) -> None:
        """Take the data, the share of the cores, and whether weights are kept; end when the process that asks does."""
        import torch

        signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the process that asks says what is to be done
        threading.Thread(target=cls._end_with_parent, daemon=True).start()
        cls.data, cls.keep = data, keep
        torch.set_num_threads(threads)

    @staticmethod
    def _end_with_parent() -> None:
        """Wait for the death of the process that asks, which may leave no time to say so."""
        if parent := multiprocessing.parent_process():
            parent.join()
            os._exit(1)

    @classmethod
    def train(cls, configs: list[dict]) -> set[str]:
        """One training, of configs by their fields; run_ids of what was not in the store."""
        runs = obtain.ensure_all([RunConfig.of(fields) for fields in configs], cls.data, keep=cls.keep)
        return {run_id for run_id, (_, trained) in runs.items() if trained}
