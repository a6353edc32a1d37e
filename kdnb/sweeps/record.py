"""A sweep: a grid on some tasks, asked for once. Its small record lets any process rebuild the same list of points."""

import hashlib
import json
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from filelock import FileLock

from kdnb import files, paths
from kdnb.core import store
from kdnb.experiment.points import Point
from kdnb.sweeps import grids, select
from kdnb.sweeps.grids import Stages

if TYPE_CHECKING:
    from kdnb.data.splits import TaskData  # it brings pandas, which names alone need not wait for

STARTS = 50  # of the starts of a sweep, the latest are kept


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What is asked for: a grid, or a part of it, on some tasks at a profile. Its name is its content's."""

    grid: str  # a name in kdnb.sweeps.axes.GRIDS
    tasks: tuple[str, ...]  # keys of kdnb.catalog.TASKS
    profile: str = "demo"
    seeds: tuple[int, ...] = ()  # () for the grid's
    arms: tuple[str, ...] = ()  # () for the grid's
    where: str = ""  # an expression, see kdnb.sweeps.where
    schedule: str = ""  # "" for the grid's
    train_rows: int | None = None  # None for the profile's

    def __post_init__(self):
        if not self.tasks:
            raise ValueError("name a task to sweep")
        for name in ("tasks", "seeds", "arms"):  # a record holds lists
            object.__setattr__(self, name, tuple(dict.fromkeys(getattr(self, name))))

    @property
    def name(self) -> str:
        """Of its record: what it is, for people, and the hash of its content."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:8]
        return f"{self.grid}-{'-'.join(self.tasks)}-{self.profile}-{digest}"


@dataclass(frozen=True, kw_only=True)
class Record:
    """A sweep as stored in outputs/sweeps/<name>.json.

    data: task -> fingerprint of its splits. rows: task -> train rows. threads: of each training; another number
    adds up in another order, and gives other last bits. teachers: task -> [model, seed, run_id] of those selected so
    far. starts: Unix times at which a process took it up.
    """

    sweep: Sweep
    data: dict[str, str]
    rows: dict[str, int]
    threads: int
    teachers: dict[str, list]
    starts: list[float]

    def stages(self, task: str) -> Stages:
        """The points of one task, with the teachers selected so far."""
        what, known = self.sweep, {(model, seed): run_id for model, seed, run_id in self.teachers.get(task, [])}
        return grids.stages(
            what.grid, task, what.profile, self.data[task], what.seeds, what.arms, what.where, what.schedule, known
        )

    def points(self, stage: str = "") -> list[Point]:
        """The points of all tasks in stage "erm" or "soft", "" for those of "erm" and then those of "soft"."""
        found = [self.stages(task) for task in self.sweep.tasks]
        return [
            point
            for name in ("erm", "soft")
            if name == (stage or name)
            for one in found
            for point in getattr(one, name)
        ]


def begin(sweep: Sweep, data: "dict[str, TaskData]", threads: int) -> Record:
    """Take a sweep up, for the first time or again: its record, stored with this start.

    Args:
        data: task -> its splits. threads: of each training.
    Raises:
        ValueError: a name or value in it makes no sense. StoreError: the outputs folder cannot be written.
    """
    prints = {task: found.fingerprint for task, found in data.items()}
    rows = {task: len(found.splits["train"]) for task, found in data.items()}
    record = Record(sweep=sweep, data=prints, rows=rows, threads=threads, teachers={}, starts=[time.time()])
    record.points("erm")  # refuses what makes no sense before anything is written
    store.check_writable()
    paths.SWEEPS.mkdir(parents=True, exist_ok=True)
    with FileLock(paths.SWEEPS / f".{sweep.name}.lock"):
        if old := read(sweep.name):
            teachers = old.teachers if old.data == prints else {}
            record = replace(record, starts=[*old.starts, *record.starts][-STARTS:], teachers=teachers)
        write(record)
    return record


def select_teachers(record: Record) -> Record:
    """A record with the teachers that are selected on validation now, stored; a teacher whose candidates are not
    all there is left out."""
    found = {task: select.teachers(record.stages(task)) for task in record.sweep.tasks}
    told = {task: [[*key, run_id] for key, run_id in teachers.items()] for task, teachers in found.items()}
    record = replace(record, teachers=told)
    with FileLock(paths.SWEEPS / f".{record.sweep.name}.lock"):
        now = read(record.sweep.name) or record  # others may have taken the sweep up meanwhile
        write(replace(now, teachers=record.teachers))
    return record


def write(record: Record) -> None:
    """Store a record in place of the one of its name."""
    files.write_json(paths.SWEEPS / f"{record.sweep.name}.json", asdict(record))


def read(name: str) -> Record | None:
    """A stored record; None if there is none, or one that cannot be read."""
    content = files.read_json(paths.SWEEPS / f"{name}.json")
    try:
        return Record(**{**content, "sweep": Sweep(**content["sweep"])})
    except (KeyError, TypeError, ValueError):
        return None


def names() -> list[str]:
    """Names of all recorded sweeps, the one taken up last first."""
    found = [(record.starts[-1], name) for name in files.names(paths.SWEEPS) if (record := read(name))]
    return [name for _, name in sorted(found, reverse=True)]
