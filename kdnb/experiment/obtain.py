"""The one way to get the runs of configs: load them from the store, else train them and store them."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from kdnb import files, paths
from kdnb.catalog import model_behind, source_of
from kdnb.core import metrics, store
from kdnb.core.config import RunConfig
from kdnb.core.store import Run
from kdnb.errors import DamagedRun
from kdnb.experiment import weights
from kdnb.experiment.pace import Pace
from kdnb.experiment.points import Point, trainings

if TYPE_CHECKING:
    from kdnb.data.splits import TaskData  # it brings pandas, which names alone need not wait for


def ensure(config: RunConfig, data: "TaskData", on_step: Callable | None = None) -> tuple[Run, bool]:
    """The run of a config and whether it was trained now: `ensure_all` for one."""
    (run,) = ensure_all([config], data, on_step).values()
    return run


def ensure_all(
    configs: list[RunConfig], data: "TaskData", on_step: Callable | None = None, keep: bool = False
) -> dict[str, tuple[Run, bool]]:
    """Runs that one training gives: run_id -> (run, whether it was trained now), in the order of the configs.

    Stored runs are loaded, a damaged one is redone, the missing ones come from one training and are each stored
    as soon as they are finished. Two processes that ask for the same runs train them once.

    Args:
        configs: with one `RunConfig.training()`.
        data: their splits.
        on_step: as `kdnb.experiment.training.train`.
        keep: whether weights are kept, of stored runs too, which are trained once more for that.
    Raises:
        ValueError: data or teacher do not belong to the configs.
        FileNotFoundError: the teacher has no run.
        StoreError: the outputs folder cannot be written.
    """
    keep = keep and not source_of(model_behind(configs[0])).as_it_is  # whose weights are where they came from
    runs: dict[str, tuple[Any, bool]] = {config.run_id(): (whole(config), False) for config in configs}
    if all(run for run, _ in runs.values()) and not keep:
        return runs
    store.check_writable()
    with lock(configs[0].training()):
        runs |= {config.run_id(): (_stored(config), False) for config in configs if not runs[config.run_id()][0]}
        missing = [config for config in configs if not runs[config.run_id()][0]]
        if missing:
            from kdnb.experiment import teachers

            teacher = teachers.load(missing[0].teacher_run) if missing[0].teacher_run else None
            runs |= {run.run_id: (run, True) for run in _train(missing, data, teacher, on_step, keep)}
        if keep:
            for run, _ in runs.values():
                weights.ensure(run, data, on_step)
    return runs


def _train(configs: list[RunConfig], data: "TaskData", teacher: Any, on_step: Callable | None, keep: bool) -> list[Run]:
    """Train and store, weights too if they are kept."""
    if keep:
        return weights.train(configs, data, teacher, on_step)
    from kdnb.experiment.training import train_epochs  # torch is not needed to load

    return train_epochs(configs, data, teacher, on_step, store.save)


def lock(training: str) -> FileLock:
    """What a process holds while it makes the runs of a `RunConfig.training()`, or a record of some name; freed by
    its death as well."""
    path = paths.inside(paths.RUNS / ".locks", f"{training}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path)


def whole(config: RunConfig) -> Run | None:
    """The stored run of a config; None if there is none or it is damaged, which is dealt with under the lock alone."""
    try:
        return store.load(config.run_id())
    except (FileNotFoundError, DamagedRun):
        return None


def run_points(
    points: list[Point], data: "TaskData", say: Callable[[str], None] = print, keep: bool = False
) -> dict[str, Run]:
    """All runs of a list: run_id -> Run, in its order. A line per run, a bar over the steps on a terminal.

    Args:
        points: what to load or train.
        data: their splits.
        say: hears a line per run.
        keep: whether weights are kept, see `kdnb.experiment.weights`.
    """
    done, groups = {}, trainings(points)
    total, pace = sum(map(len, groups)), Pace(groups, keep)
    for group in groups:
        started = time.perf_counter()
        with Bar(f"{group[0].title} seed {group[0].config.seed}") as bar:
            runs = ensure_all([point.config for point in group], data, bar.step, keep)
        left = pace.after(group, time.perf_counter() - started)
        for point, (run, trained) in zip(group, runs.values(), strict=True):
            done[run.run_id] = run
            say(f"[{len(done)}/{total}] {run_line(point, run, trained)}{left}")
    return {point.config.run_id(): done[point.config.run_id()] for point in points}


def run_line(point: Point, run: Run, trained: bool) -> str:
    """A finished run in a line: what it is, its test entropy [nats] and accuracy, what it took."""
    test, seconds = run.metrics["test"], run.metrics["cost"]["seconds"]
    done = "asked" if point.given else "trained"
    return (
        f"{point.title:<16} seed {point.config.seed}  "
        f"entropy {test['entropy']:.3f} nats  accuracy {100 * test['accuracy']:.1f} %  "
        + (f"{done} in {seconds:.0f} s" if trained else "loaded")
        + (
            "; degenerate: it has learnt nothing"
            if metrics.is_degenerate(run.logits["test"], run.labels["test"])
            else ""
        )
    )


def _stored(config: RunConfig) -> Run | None:
    """The stored run of a config; None if there is none or it was damaged, which is then out of the way."""
    try:
        return store.load(config.run_id()) if store.exists(config.run_id()) else None
    except DamagedRun as error:
        print(f"kdnb: {error}; {out_of_the_way(config.run_id())}, training it again", file=sys.stderr)
        return None


def set_aside(run_id: str) -> Path:
    """Move a damaged run out of the store, keeping its bytes; returns where it went.

    A reference run stays where it is: the one trained in its place goes into the store and is found first.
    """
    if store.folder(run_id).parent == paths.REFERENCE:
        return store.folder(run_id)
    paths.check_ours(store.folder(run_id).parent)
    files.check_writable(paths.DAMAGED)
    target = paths.DAMAGED / f"{run_id}-{time.strftime('%Y%m%dT%H%M%S')}"
    while target.exists():
        target = target.with_name(f"{target.name}x")
    os.rename(store.folder(run_id), target)
    return target


def out_of_the_way(run_id: str) -> str:
    """`set_aside`, told in words."""
    where = set_aside(run_id)
    return "left where it is, a reference run" if where.parent == paths.REFERENCE else f"set aside in {where}"


class Bar:
    """A tqdm bar over the steps of one run, on terminals only."""

    def __init__(self, title: str):
        self.title = title
        self.bar: Any = None

    def __enter__(self):
        return self

    def step(self, step: int, total: int, _loss) -> None:
        if self.bar is None:
            from tqdm import tqdm

            self.bar = tqdm(total=total, desc=self.title, leave=False, mininterval=0.5, disable=not sys.stderr.isatty())
        self.bar.update(step - self.bar.n)

    def __exit__(self, *_):
        if self.bar is not None:
            self.bar.close()
