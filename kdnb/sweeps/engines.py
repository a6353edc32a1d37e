"""A whole sweep on an engine: the ERM stage, the selection of the teachers, what these teach; a line per run.

Processes share work through the run store alone. Each takes the next training whose lock nobody holds, so several
on overlapping lists neither repeat nor corrupt anything, and one that dies leaves its training to the others.
"""

import contextlib
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from filelock import Timeout

from kdnb.core import store
from kdnb.core.config import RunConfig, axes, flat
from kdnb.core.methods import Switch
from kdnb.data.splits import TaskData
from kdnb.errors import Unfinished, nearest, one_line, retry_of
from kdnb.experiment import obtain
from kdnb.experiment.obtain import Bar
from kdnb.experiment.points import Point, trainings
from kdnb.experiment.workers import cores
from kdnb.sweeps import grids, progress
from kdnb.sweeps.plan import machine
from kdnb.sweeps.progress import Heartbeat
from kdnb.sweeps.record import Record, Sweep, begin, read, select_teachers

ENGINES = ("inline", "shard", "ray")
RETRIES = 2  # further trainings after an error that may pass, or a worker's death
POLL = 0.5  # seconds between two looks at what another process trains

Group = list[Point]  # the points that one training gives
Say = Callable[[str], None]  # hears lines for people


class Outcome(NamedTuple):
    """What became of a training: run_ids of the runs trained now, and the error it failed with, "" for none.

    A training that fails may have given some of its runs before.
    """

    trained: list[str]
    error: str = ""


Done = Callable[[Group, Outcome], None]  # called at the end of each training


@dataclass(frozen=True, kw_only=True)
class How:
    """How a sweep is run. 0, "" and None leave the choice to us, but a share of a GPU is more than 0."""

    engine: str = "inline"  # one of ENGINES
    shard: tuple[int, int] = (1, 1)  # (i, n): this process has the i-th of n shares
    threads: int = 0  # CPU threads of each training
    workers: int = 0  # ray: trainings at a time
    gpus_per_run: float | None = None  # ray: share of a GPU for each training
    address: str = ""  # ray: of a running cluster
    wait: float = 600.0  # seconds for a training that another process holds without a heartbeat
    retry_failed: bool = False  # try again what is recorded as failed

    def __post_init__(self):
        if self.engine not in ENGINES:
            raise ValueError(f"unknown engine {self.engine!r}{nearest(self.engine, ENGINES)}")
        i, n = self.shard
        if not 1 <= i <= n:
            raise ValueError(f"shard must be i/n with 1 <= i <= n, got {i}/{n}")
        for name in ("threads", "workers", "wait", "gpus_per_run"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ValueError(f"{name} must be >= 0, got {value}")
        if self.gpus_per_run == 0:
            raise ValueError(f"gpus_per_run must be > 0, got {self.gpus_per_run}")
        given = [name for name in ("workers", "gpus_per_run", "address") if getattr(self, name)]
        if given and self.engine != "ray":
            raise ValueError(f"--{given[0].replace('_', '-')} goes with --engine ray, got {self.engine}")

    def share(self, groups: list[Group]) -> list[Group]:
        """Those of some trainings that this process is to take."""
        i, n = self.shard
        return groups[i - 1 :: n]


def load(sweep: Sweep) -> dict[str, TaskData]:
    """The splits of a sweep's tasks, by task."""
    return {task: sweep.load(task) for task in sweep.tasks}


def run(sweep: Sweep, how: How, say: Say = print, splits_of: Callable[[Sweep], dict[str, TaskData]] = load) -> Record:
    """Train what a sweep lacks; start it again after any end, and it goes on.

    Args:
        sweep: the points.
        how: the engine.
        say: hears a line per run.
        splits_of: reads the splits of its tasks, and may tell of them.
    Returns:
        Its record, from which `kdnb.sweeps.status` tells the rest.
    Raises:
        ValueError: a name or value makes no sense.
        Unfinished: some points failed or could not be reached.
    """
    data = splits_of(sweep)
    how = _shared_out(sweep, how, say)
    record = begin(sweep, data, how.threads)
    progress.clear_dead()
    report = _Report(record, how, say)
    with _engine(how, data, report) as train:
        train(trainings(record.points("erm")), True)
        record = select_teachers(record)
        *teaching, last = waves(trainings(record.points("soft")))
        for wave in teaching:
            train(wave, True)
        train(last, False)
    report.end([group for wave in (*teaching, last) for group in wave])
    return record


def waves(groups: list[Group]) -> list[list[Group]]:
    """Trainings in the order of their teachers: none is taught by one of its own wave, or of a later one.

    Args:
        groups: teachers before their students; those that are not among them are there already.
    """
    wave_of: dict[str, int] = {}  # by run_id
    ordered: list[list[Group]] = [[]]
    for group in groups:
        wave = 1 + wave_of[teacher] if (teacher := group[0].config.teacher_run) in wave_of else 0
        wave_of.update((point.config.run_id(), wave) for point in group)
        ordered += [[] for _ in range(wave + 1 - len(ordered))]
        ordered[wave].append(group)
    return ordered


def _shared_out(sweep: Sweep, how: How, say: Say) -> How:
    """With workers, and threads per training: as asked for, else as the sweep had them, else the cores shared."""
    workers = how.workers
    if how.engine == "ray" and not workers and not how.address:
        gpus = machine()["gpus"]
        workers = max(1, int(gpus / (how.gpus_per_run or 1.0))) if gpus else cores()
    before = read(sweep.name)
    threads = how.threads or (before.threads if before else 0)
    if before and threads != before.threads:
        say(f"this sweep had {before.threads} threads per training so far: with {threads}, last bits of logits differ")
    if not threads:
        threads = 1 if how.address else max(1, cores() // max(1, workers))
    return replace(how, workers=workers, threads=threads)


@contextlib.contextmanager
def _engine(how: How, data: dict[str, TaskData], report: "_Report") -> Iterator[Callable[[list[Group], bool], None]]:
    """train(groups, awaited) of an engine: its share of the trainings but those whose teacher is not selected.

    Where others are to be taught by them, or selected from them, no share ends before all of them are there.
    """

    def prepared(groups: list[Group]) -> list[Group]:
        share = [group for group in how.share(groups) if not grids.is_placeholder(group[0].config)]
        if how.retry_failed:
            progress.forget_failures(point.config.run_id() for group in share for point in group)
        report.expect(share)
        return share

    def in_this_process(groups: list[Group], awaited: bool) -> None:
        work(prepared(groups), data, how, report.done, report.say)
        if awaited and how.shard[1] > 1:  # help with the rest, from the other end
            own = {id(group) for group in how.share(groups)}
            rest = [group for group in groups if id(group) not in own]
            work(rest[::-1], data, how, report.done, report.say)

    if how.engine != "ray":
        yield in_this_process
        return
    from kdnb.sweeps import ray

    with ray.session(how, report.record.sweep) as train_all:
        yield lambda groups, _awaited: train_all(prepared(groups), report.done)


class _Report:
    """What a sweep says while it runs, and what it met on the way."""

    def __init__(self, record: Record, how: How, say: Say):
        self.record, self.say = record, say
        self.count = 0  # points dealt with
        self.failed: set[str] = set()  # run_ids
        points = record.points()
        values = [flat(point.config) for point in points]
        named = [name for name in axes() if name not in Switch.settings()]  # a switch's title names its own
        self.varied = [name for name in named if len({point.get(name) for point in values}) > 1]
        *teaching, last = trainings(record.points("erm")), *waves(trainings(record.points("soft")))
        share = sum(len(group) for wave in (*teaching, last) for group in how.share(wave))  # points
        own = sum(map(len, how.share(last)))
        self.total = own + sum(len(group) for wave in teaching for group in wave)  # the others' teachers are seen to
        i, n = how.shard
        part = f", shard {i} of {n}: {share:,} points" if n > 1 else ""
        say(
            f"sweep {record.sweep.name}: {len(points):,} points in {len(trainings(points)):,} trainings of "
            f"{record.threads} thread{'s' if record.threads > 1 else ''}{part}"
        )

    def expect(self, share: list[Group]) -> None:
        """Say how much of a share is there already."""
        points = [point for group in share for point in group]
        stored = sum(store.exists(point.config.run_id()) for point in points)
        if stored:
            self.say(f"{stored:,} of {len(points):,} points are there")

    def done(self, group: Group, outcome: Outcome) -> None:
        """A line for each run trained now, and for a failure, which leaves the runs that are there alone."""
        self.count += len(group)
        place = f"[{self.count}/{self.total}]"
        if outcome.error:
            self.failed |= set(lacking([point.config for point in group]))
            self.say(f"{place} FAILED {self._title(group[-1])}: {outcome.error}")
        for point in group:
            if point.config.run_id() in outcome.trained:
                accuracy = store.load_validation(point.config.run_id())["accuracy"]
                self.say(f"{place} {self._title(point)}  validation accuracy {100 * accuracy:.1f} %")

    def _title(self, point: Point) -> str:
        """What tells a point from the others of its sweep."""
        config = point.config
        task = f"{config.task} " if len(self.record.sweep.tasks) > 1 else ""
        used = [name for name in self.varied if name not in grids.unused_settings(config)]
        values = " ".join(f"{name} {getattr(config, name)}" for name in used)
        return f"{task}{point.title:<16} seed {config.seed}  {values}"

    def end(self, soft: list[Group]) -> None:
        """Raise Unfinished if points failed, or wait for a teacher whose candidates failed."""
        waiting = sum(len(group) for group in soft if grids.is_placeholder(group[0].config))
        if self.failed or waiting:
            blocked = f"; {waiting} wait for a teacher whose candidates failed" if waiting else ""
            raise Unfinished(
                f"{len(self.failed)} points failed{blocked}; see kdnb status, and kdnb sweep ... --retry-failed"
            )


def work(groups: list[Group], data: dict[str, TaskData], how: How, done: Done, say: Say) -> None:
    """Train what is missing of some trainings, in this process; those that others hold come last.

    Args:
        groups: `kdnb.experiment.points.trainings` of points.
        data: task -> its splits.
        how: threads as for `train`, and how long to wait for what another process holds without a heartbeat.
        done: called at the end of each training.
        say: for people.
    Raises:
        Unfinished: the wait was in vain.
    """
    left, patience = list(groups), _Patience(say, how.wait)
    while left:
        held = []
        for group in left:
            configs = [point.config for point in group]
            outcome = failed_before(configs)
            if not outcome and missing(configs) and is_busy(group):
                held.append(group)
                continue
            with Bar(f"{group[0].title} seed {group[0].config.seed}") as bar:
                done(group, outcome or attempt(configs, data[configs[0].task], how.threads, bar.step))
        if held:
            patience.wait(held, progressed=len(held) < len(left))
        left = held


class _Patience:
    """Waiting for trainings that other processes hold, as long as these give heartbeats."""

    def __init__(self, say: Say, limit: float):
        self.say, self.limit = say, limit
        self.since = 0.0  # when the last heartbeat was seen, or the wait began; 0 before it begins

    def wait(self, held: list[Group], progressed: bool) -> None:
        """Sleep a little, unless there was something to do; the first time, say what for."""
        if progressed:
            self.since = 0.0
            return
        wanted, first = {point.config.run_id() for group in held for point in group}, held[0][0].config.run_id()
        heartbeats = [beat for beat in progress.heartbeats() if wanted & set(beat["run_ids"])]
        if not self.since:
            who = ", ".join(sorted({f"process {beat['pid']} on {beat['host']}" for beat in heartbeats}))
            self.say(f"waiting for {len(held)} trainings that {who or 'another process'} is at, {first} first")
        if heartbeats or not self.since:
            self.since = time.monotonic()
        if time.monotonic() - self.since > self.limit:
            raise Unfinished(
                f"no heartbeat for {self.limit:.0f} s from the process that holds {first}; start again to go on"
            )
        time.sleep(POLL)


def attempt(configs: list[RunConfig], data: TaskData, threads: int, on_step: Callable | None = None) -> Outcome:
    """`train`, again after an error that may pass; a lasting one is recorded.

    Raises:
        Exception: every other training would meet it too, see `kdnb.errors.retry_of`.
    """
    attempts = 0
    trained: list[str] = []  # by attempts that failed later on
    while True:
        attempts += 1
        before = missing(configs)
        try:
            return Outcome([*trained, *train(configs, data, threads, on_step)])
        except Exception as error:
            retry = retry_of(error)
            if retry == "stop":
                raise
            left = lacking(configs)
            trained += [run_id for run_id in before if run_id not in left]
            if retry == "never" or attempts > RETRIES:
                message = one_line(error)
                progress.record_failure(left, message, attempts, traceback.format_exc())
                return Outcome(trained, message)


def train(configs: list[RunConfig], data: TaskData, threads: int, on_step: Callable | None = None) -> list[str]:
    """Have the runs of one training, with a heartbeat meanwhile.

    Args:
        configs: the points that the training gives.
        data: their splits.
        threads: of the CPU. Sums are split among them, so another number gives other last bits.
        on_step: as `kdnb.experiment.obtain.ensure_all`.
    Returns:
        run_ids of those trained now.
    """
    if all(obtain.whole(config) for config in configs):
        progress.forget_failures(config.run_id() for config in configs)
        return []
    import torch  # not needed to find that all is there

    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    with Heartbeat(configs) as heartbeat:

        def step(*facts) -> None:
            heartbeat.step(*facts)
            if on_step:
                on_step(*facts)

        runs = obtain.ensure_all(configs, data, step)
    progress.forget_failures(runs)
    return [run_id for run_id, (_, trained) in runs.items() if trained]


def missing(configs: list[RunConfig]) -> list[str]:
    """run_ids of those that have no run."""
    return [config.run_id() for config in configs if not store.exists(config.run_id())]


def lacking(configs: list[RunConfig]) -> list[str]:
    """run_ids of those that have no whole run: a damaged reference run stays where it is when its training fails."""
    return [config.run_id() for config in configs if not obtain.whole(config)]


def failed_before(configs: list[RunConfig]) -> Outcome | None:
    """How a training failed, if that is recorded of a run that it has still not given."""
    for run_id in missing(configs):
        if progress.has_failed(run_id):
            return Outcome([], progress.failure(run_id).get("error", "failed before"))
    return None


def is_busy(group: Group) -> bool:
    """Whether another process holds a training's lock."""
    try:
        with obtain.lock(group[0].config.training()).acquire(timeout=0):
            return False
    except Timeout:
        return True
