"""A whole sweep on an engine: the ERM stage, the selection of the teachers, what these teach; a line per run."""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psutil

from kdnb.core import store
from kdnb.data.splits import load
from kdnb.errors import Unfinished, nearest
from kdnb.experiment.points import Point, trainings
from kdnb.sweeps import engines, failures, grids, running
from kdnb.sweeps import record as sweeps
from kdnb.sweeps.engines import Outcome
from kdnb.sweeps.probe import machine
from kdnb.sweeps.record import Record, Sweep

ENGINES = ("inline", "shard", "ray")
VARIED = ("lr", "alpha", "tau", "tau2_scaling", "epochs")  # what a line says of a point, where it varies


@dataclass(frozen=True, kw_only=True)
class How:
    """How a sweep is run. 0, "" and None leave the choice to us."""

    engine: str = "inline"  # one of ENGINES
    shard: tuple[int, int] = (1, 1)  # (i, n): this process has the i-th of n shares
    threads: int = 0  # CPU threads of each training
    workers: int = 0  # ray: trainings at a time
    gpus_per_run: float | None = None  # ray: share of a GPU for each training
    address: str = ""  # ray: of a running cluster
    wait: float = 600.0  # seconds for a training that another process holds without a sign of life
    retry_failed: bool = False  # try again what is recorded as failed

    def __post_init__(self):
        if self.engine not in ENGINES:
            raise ValueError(f"unknown engine {self.engine!r}{nearest(self.engine, ENGINES)}")
        (i, n), least = self.shard, {"threads": self.threads, "workers": self.workers, "wait": self.wait}
        if not 1 <= i <= n:
            raise ValueError(f"shard must be i/n with 1 <= i <= n, got {i}/{n}")
        least |= {"gpus_per_run": self.gpus_per_run or 0.0}
        for name, value in least.items():
            if value < 0:
                raise ValueError(f"{name} must be >= 0, got {value}")


def run(sweep: Sweep, how: How, say: Callable[[str], None] = print) -> Record:
    """Train what a sweep lacks; start it again after any end, and it goes on.

    Args:
        sweep: the points. how: the engine. say: hears a line per run.
    Returns:
        Its record, from which `kdnb.sweeps.status` tells the rest.
    Raises:
        ValueError: a name or value makes no sense. Unfinished: some points failed or could not be reached.
    """
    data = {task: load(task, sweep.profile, sweep.train_rows) for task in sweep.tasks}
    workers, threads = _shares(sweep, how, say)
    record = sweeps.begin(sweep, data, threads)
    running.clear()
    progress = _Progress(record, how, say)
    with _engine(how, data, workers, threads, progress) as train:
        train("erm", trainings(record.points("erm")))
        record = sweeps.select_teachers(record)
        groups = trainings(record.points("soft"))
        train("soft", groups)
    progress.end(groups)
    return record


@contextlib.contextmanager
def _engine(how: How, data: dict, workers: int, threads: int, progress: "_Progress") -> Iterator[Callable]:
    """train(stage, groups) of an engine: its share of the groups, those aside whose teacher is not selected."""
    i, n = how.shard

    def prepared(groups: list[list[Point]]) -> list[list[Point]]:
        share = [group for group in groups[i - 1 :: n] if not grids.is_placeholder(group[0].config)]
        if how.retry_failed:
            failures.forget(point.config.run_id() for group in share for point in group)
        progress.expect(share)
        return share

    def in_this_process(stage: str, groups: list[list[Point]]) -> None:
        engines.work(prepared(groups), data, threads, progress.done, progress.say, how.wait)
        if (
            stage == "erm" and n > 1
        ):  # the teachers come from all shares; what is left of the others is done from behind
            rest = [group for place, group in enumerate(groups) if place % n != i - 1]
            engines.work(rest[::-1], data, threads, progress.done, progress.say, how.wait)

    if how.engine != "ray":
        yield in_this_process
        return
    from kdnb.sweeps import ray

    job = {"profile": progress.record.sweep.profile, "train_rows": progress.record.sweep.train_rows}
    with ray.session(threads, workers, how.address, how.gpus_per_run) as train_all:
        yield lambda _, groups: train_all(job, prepared(groups), progress.done)


def _shares(sweep: Sweep, how: How, say: Callable) -> tuple[int, int]:
    """Workers and threads per training: as asked for, else as this sweep had them, else this machine's cores."""
    cores, gpus = _cores(), machine()["gpus"]
    workers = how.workers if how.engine == "ray" else 1
    if how.engine == "ray" and not workers and not how.address:
        workers = max(1, int(gpus / (how.gpus_per_run or 1.0))) if gpus else cores
    before = sweeps.read(sweep.name)
    threads = how.threads or (before.threads if before else 0)
    if before and threads != before.threads:
        say(f"this sweep had {before.threads} threads per training so far: with {threads}, last bits of logits differ")
    return workers, threads or (1 if how.address else max(1, cores // max(1, workers)))


def _cores() -> int:
    """Threads that torch would take: OMP_NUM_THREADS, else the cores this process may use."""
    if os.environ.get("OMP_NUM_THREADS", "").isdigit():
        return max(1, int(os.environ["OMP_NUM_THREADS"]))
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, psutil.cpu_count(logical=False) or allowed)


class _Progress:
    """What a sweep says while it runs, and what it found at the end."""

    def __init__(self, record: Record, how: How, say: Callable):
        self.record, self.say, self.shard, self.count, self.failed = record, say, how.shard, 0, {}
        points = record.points()
        values = {name: {getattr(point.config, name) for point in points} for name in VARIED}
        self.varied = [name for name in VARIED if len(values[name]) > 1]
        (i, n), groups = how.shard, trainings(points)
        own = {stage: trainings(record.points(stage))[i - 1 :: n] for stage in ("erm", "soft")}
        sizes = {stage: sum(map(len, share)) for stage, share in own.items()}
        self.total = len(record.points("erm")) + sizes["soft"]  # the other shares' ERM runs are seen to as well
        part = f", shard {i} of {n}: {sum(sizes.values()):,} points" if n > 1 else ""
        say(
            f"sweep {record.sweep.name}: {len(points):,} points in {len(groups):,} trainings of "
            f"{record.threads} thread{'s' if record.threads > 1 else ''}{part}"
        )

    def expect(self, share: list[list[Point]]) -> None:
        """Say how much of a share is there already."""
        points = [point for group in share for point in group]
        stored = sum(store.exists(point.config.run_id()) for point in points)
        if stored:
            self.say(f"{stored:,} of {len(points):,} points are there")

    def done(self, group: list[Point], outcome: Outcome) -> None:
        """A line for each run trained now, or for the failure."""
        self.count += len(group)
        place = f"[{self.count}/{self.total}]"
        if outcome.error:
            self.failed |= {point.config.run_id(): outcome.error for point in group}
            self.say(f"{place} FAILED {self._title(group[-1])}: {outcome.error}")
        for point in group:
            if point.config.run_id() in outcome.trained:
                accuracy = store.load_validation(point.config.run_id())["accuracy"]
                self.say(f"{place} {self._title(point)}  validation accuracy {100 * accuracy:.1f} %")

    def _title(self, point: Point) -> str:
        """What tells a point from the others of its sweep."""
        config = point.config
        task = f"{config.task} " if len(self.record.sweep.tasks) > 1 else ""
        used = [name for name in self.varied if name not in grids.UNUSED.get(config.method, ())]
        return f"{task}{point.title:<16} seed {config.seed}  " + " ".join(f"{n} {getattr(config, n)}" for n in used)

    def end(self, soft: list[list[Point]]) -> None:
        """Raise Unfinished if points failed, or wait for a teacher whose candidates failed."""
        waiting = sum(len(group) for group in soft if grids.is_placeholder(group[0].config))
        if self.failed or waiting:
            blocked = f"; {waiting} wait for a teacher whose candidates failed" if waiting else ""
            raise Unfinished(
                f"{len(self.failed)} points failed{blocked}; see kdnb status, and kdnb sweep ... --retry-failed"
            )
