"""A sweep: a grid on some tasks, asked for once. Its small record lets any process rebuild the same list of points."""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from kdnb import files, paths
from kdnb.core import store
from kdnb.core.config import slug
from kdnb.experiment.points import Point
from kdnb.sweeps import grid_files, grids, select
from kdnb.sweeps.grids import Stages
from kdnb.sweeps.only import Only, checked

if TYPE_CHECKING:
    from kdnb.data.own import OwnData  # they bring pandas, which names alone need not wait for
    from kdnb.data.splits import Rows, TaskData

LATER: dict[str, Any] = {"only": {}, "own": {}, "validation_rows": None, "test_rows": None}  # fields added since
STARTS = 50  # of the starts of a sweep, the latest are kept


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What is asked for: a grid, or a part of it, on some tasks at a profile. Its name is its content's."""

    grid: str  # a name in kdnb.sweeps.grids.GRIDS
    tasks: tuple[str, ...]  # keys of kdnb.catalog.TASKS, or that of the user's files alone
    profile: str = "demo"
    seeds: tuple[int, ...] = ()  # () for the grid's
    arms: tuple[str, ...] = ()  # () for the grid's
    only: Only = field(default_factory=dict)  # filters, see kdnb.sweeps.only
    schedule: str = ""  # "" for the grid's
    train_rows: int | None = None  # None for the profile's, 0 for all
    validation_rows: int | None = None
    test_rows: int | None = None
    own: dict[str, Any] = field(default_factory=dict)  # the user's files, as kdnb.data.own.OwnData; {} for none

    def __post_init__(self):
        if not self.tasks:
            raise ValueError("name a task to sweep")
        for name in ("tasks", "seeds", "arms"):  # a record holds lists
            object.__setattr__(self, name, tuple(dict.fromkeys(getattr(self, name))))
        object.__setattr__(self, "only", checked(self.only))
        if self.own and self.tasks != (self.own_files.task,):
            raise ValueError(f"files of your own make the task {self.own_files.task}, got {', '.join(self.tasks)}")

    @property
    def name(self) -> str:
        """Of its record: what it is, for people, and the hash of its content."""
        content = {**asdict(self), "where": ""}  # a field of the first records; whole grids keep their names
        for name, none in LATER.items():  # a sweep without them keeps its name
            if content[name] == none:
                del content[name]
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]
        tasks = map(slug, self.tasks) if self.own else self.tasks
        return f"{self.grid}-{'-'.join(tasks)}-{self.profile}-{digest}"

    def load(self, task: str) -> "TaskData":
        """The splits of one of its tasks; raises as `kdnb.data.splits.load` and `kdnb.data.own.load`."""
        from kdnb.data import own, splits

        if self.own:
            return own.load(self.own_files, self.profile, self.rows)
        return splits.load(task, self.profile, self.rows)

    @property
    def own_files(self) -> "OwnData":
        """The user's files."""
        from kdnb.data.own import OwnData

        return files.made(OwnData, self.own)

    @property
    def rows(self) -> "Rows":
        """How many rows of each split are kept."""
        from kdnb.data.splits import Rows

        return Rows(train=self.train_rows, validation=self.validation_rows, test=self.test_rows)

    def stages(
        self,
        task: str,
        data: str,
        teachers: Mapping[tuple[str, int], str] | None = None,
        erm_only: bool = False,
    ) -> Stages:
        """The points of one task, as `kdnb.sweeps.grids.stages`."""
        return grids.stages(
            grid=self.grid,
            task=task,
            profile=self.profile,
            data=data,
            seeds=self.seeds,
            arms=self.arms,
            only=self.only,
            schedule=self.schedule,
            teachers=teachers,
            erm_only=erm_only,
        )


@dataclass(frozen=True, kw_only=True)
class Record:
    """A sweep as stored in outputs/sweeps/<name>.json.

    Attributes:
        sweep: what is asked for.
        data: task -> fingerprint of its splits.
        rows: task -> train rows.
        threads: of each training; another number adds up in another order, and gives other last bits.
        teachers: task -> [model, seed, run_id] of those selected so far.
        starts: Unix times at which a process took it up.
    """

    sweep: Sweep
    data: dict[str, str]
    rows: dict[str, int]
    threads: int
    teachers: dict[str, list[tuple[str, int, str]]]
    starts: list[float]

    def stages(self, task: str) -> Stages:
        """The points of one task, with the teachers selected so far."""
        selected = {(model, seed): run_id for model, seed, run_id in self.teachers.get(task, [])}
        return self.sweep.stages(task, self.data[task], selected)

    def points(self, stage: str = "") -> list[Point]:
        """The points of all tasks in stage "erm" or "soft", "" for those of "erm" and then those of "soft"."""
        by_task = [self.stages(task) for task in self.sweep.tasks]
        erm = [point for stages in by_task for point in stages.erm]
        soft = [point for stages in by_task for point in stages.soft]
        return {"erm": erm, "soft": soft, "": erm + soft}[stage]


def begin(sweep: Sweep, data: "dict[str, TaskData]", threads: int) -> Record:
    """Take a sweep up, for the first time or again: its record, stored with this start.

    Args:
        sweep: what is asked for.
        data: task -> its splits.
        threads: of each training.
    Raises:
        ValueError: a name or value in it makes no sense.
        StoreError: the outputs folder cannot be written.
    """
    fingerprints = {task: splits.fingerprint for task, splits in data.items()}
    rows = {task: len(splits.splits["train"]) for task, splits in data.items()}
    record = Record(sweep=sweep, data=fingerprints, rows=rows, threads=threads, teachers={}, starts=[time.time()])
    record.points("erm")  # refuses what makes no sense before anything is written
    store.check_writable()
    paths.SWEEPS.mkdir(parents=True, exist_ok=True)
    grid_files.keep(sweep.grid)
    with FileLock(paths.inside(paths.SWEEPS, f".{sweep.name}.lock")):
        if old := read(sweep.name):
            teachers = old.teachers if old.data == fingerprints else {}
            record = replace(record, starts=[*old.starts, *record.starts][-STARTS:], teachers=teachers)
        write(record)
    return record


def select_teachers(record: Record) -> Record:
    """A record with the teachers that are selected on validation now, stored.

    A teacher whose candidates are not all there is left out.
    """
    selected = {task: select.teachers(record.stages(task)) for task in record.sweep.tasks}
    teachers = {task: [(*key, run_id) for key, run_id in of_task.items()] for task, of_task in selected.items()}
    with FileLock(paths.inside(paths.SWEEPS, f".{record.sweep.name}.lock")):
        now = read(record.sweep.name) or record  # others may have taken the sweep up meanwhile
        write(replace(now, teachers=teachers))
    return replace(record, teachers=teachers)


def write(record: Record) -> None:
    """Store a record in place of the one of its name."""
    files.write_json(paths.inside(paths.SWEEPS, f"{record.sweep.name}.json"), asdict(record))


def read(name: str) -> Record | None:
    """A stored record; None if there is none, or one that cannot be read.

    Raises:
        ValueError: it holds an expression, by which earlier versions narrowed a grid.
    """
    record, expression = _parsed(name)
    if expression:
        raise ValueError(
            f"sweep {name} was narrowed by the expression {expression!r}, which is no longer read: start it again "
            "with --only field=values; its runs are loaded"
        )
    return record


def names() -> list[str]:
    """Names of all recorded sweeps, the one taken up last first."""
    starts = [(record.starts[-1], name) for name in files.names(paths.SWEEPS) if (record := _parsed(name)[0])]
    return [name for _, name in sorted(starts, reverse=True)]


def _parsed(name: str) -> tuple[Record | None, str]:
    """A stored record, None if it cannot be read, and the expression that it holds, "" for none."""
    try:
        content: dict[str, Any] = files.read_json(paths.inside(paths.SWEEPS, f"{name}.json"))
        asked = dict(content["sweep"])
        expression = asked.pop("where", "")
        record = files.made(Record, {**content, "sweep": files.made(Sweep, asked)})
    except (KeyError, TypeError, ValueError, AttributeError):
        return None, ""
    whole = record.starts and all({*record.sweep.tasks} <= {*of_task} for of_task in (record.data, record.rows))
    return (record, expression) if whole and (expression or record.sweep.name == name) else (None, "")
