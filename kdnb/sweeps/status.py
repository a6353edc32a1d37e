"""How far a sweep is: its points by arm, what is running where, what failed, and when it may end."""

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdnb import paths
from kdnb.core import store
from kdnb.errors import printable
from kdnb.experiment.points import Point
from kdnb.plain import duration
from kdnb.sweeps import progress
from kdnb.sweeps.grids import grid_named
from kdnb.sweeps.record import Record

if TYPE_CHECKING:
    from rich.table import Table

STATES = ("done", "running", "failed", "left")
SHOWN = 20  # failures told one by one


@dataclass(frozen=True, kw_only=True)
class Status:
    """How far a sweep is.

    Attributes:
        record: the sweep.
        counts: (task, arm as printed) -> state -> points.
        heartbeats: of its trainings, as `kdnb.sweeps.progress.heartbeats`.
        failed: the first failures, as `kdnb.sweeps.progress.failure`.
        seconds: until the end, None if nobody is at it or nothing was finished yet.
    """

    record: Record
    counts: dict[tuple[str, str], dict[str, int]]
    heartbeats: list[dict]
    failed: list[dict]
    seconds: float | None

    def total(self, state: str) -> int:
        """Points in a state."""
        return sum(states[state] for states in self.counts.values())


def of(record: Record) -> Status:
    """The status of a sweep, from names alone: no run is opened."""
    points = record.points()
    ids = [point.config.run_id() for point in points]
    stored, failed, wanted = set(store.stored_ids()), progress.failed_ids(), set(ids)
    heartbeats = [beat for beat in progress.heartbeats() if wanted & set(beat["run_ids"])]
    running = {run_id for beat in heartbeats for run_id in beat["run_ids"]}
    counts: dict[tuple[str, str], dict[str, int]] = {}
    states = []
    for point, run_id in zip(points, ids, strict=True):
        if run_id in stored:
            state = "done"
        elif run_id in running:
            state = "running"
        elif run_id in failed:
            state = "failed"
        else:
            state = "left"
        states.append(state)
        counts.setdefault((point.config.task, point.title), dict.fromkeys(STATES, 0))[state] += 1
    failures = [run_id for run_id, state in zip(ids, states, strict=True) if state == "failed"]
    return Status(
        record=record,
        counts=counts,
        heartbeats=heartbeats,
        failed=[progress.failure(run_id) for run_id in failures[:SHOWN]],
        seconds=_seconds_left(record, points, ids, states) if heartbeats else None,
    )


def _seconds_left(record: Record, points: list[Point], ids: list[str], states: list[str]) -> float | None:
    """Seconds until the end at the pace of what was finished since the last start; None if nothing was."""
    since, folder = record.starts[-1], str(paths.RUNS)
    finished = left = 0.0
    for work, run_id, state in zip(_work(record, points), ids, states, strict=True):
        if state in ("running", "left"):
            left += work
        elif state == "done" and _written(folder, run_id) >= since:
            finished += work
    return left / finished * (time.time() - since) if finished else None


def _work(record: Record, points: list[Point]) -> list[float]:
    """The share of each point in the work: train rows x epochs, twice for the large model, which has twice the layers.

    Of several points on one training, each counts the epochs since the one before it.
    """
    work: list[float] = [
        p.config.epochs * record.rows[p.config.task] * (1 + (p.config.student == "large")) for p in points
    ]
    shared = [place for place, point in enumerate(points) if point.config.schedule == "constant"]
    epochs_before: dict[str, int] = {}
    for place in sorted(shared, key=lambda place: points[place].config.epochs):
        config = points[place].config
        training = config.training()
        work[place] *= 1 - epochs_before.get(training, 0) / config.epochs
        epochs_before[training] = config.epochs
    return work


def _written(folder: str, run_id: str) -> float:
    """When a run was written into a store [Unix time], 0 for a reference run."""
    try:
        return os.stat(f"{folder}/{run_id}").st_mtime
    except OSError:
        return 0.0


def table(status: Status) -> "Table":
    """The points of each task and arm by state, to be printed."""
    from rich.table import Table

    shown = Table("task", "arm")
    for state in STATES:
        shown.add_column(state, justify="right")
    for (task, arm), states in status.counts.items():
        shown.add_row(task, arm, *(f"{states[state]:,}" for state in STATES))
    return shown


def title(status: Status) -> str:
    """What is swept, and how much of it is done, in two lines."""
    sweep, record = status.record.sweep, status.record
    points = sum(map(status.total, STATES))
    return (
        f"{sweep.name}: {grid_named(sweep.grid).title}\n"
        f"{status.total('done'):,} of {points:,} points done; threads per training: {record.threads}"
    )


def lines(status: Status) -> list[str]:
    """What is running, what failed and when it may end, for people."""
    text = []
    for beat in status.heartbeats:
        on = printable(beat["host"])
        text.append(f"running: {beat['run_ids'][-1]}, step {beat['step']} of {beat['total']}, on {on}")
    for facts in status.failed:
        where = f"(attempts: {facts['attempts']}, on {facts['host']})"
        text.append(printable(f"failed: {facts['run_id']}: {facts['error']} {where}"))
    if status.total("failed") > len(status.failed):
        text.append(f"... and {status.total('failed') - len(status.failed):,} more, in {paths.FAILED}")
    return [*text, _ending(status)]


def _ending(status: Status) -> str:
    """The last line: when it may end, or what to do."""
    if not sum(map(status.total, STATES[1:])):
        return "complete"
    if status.seconds is not None:
        end = time.strftime("%a %H:%M", time.localtime(time.time() + status.seconds))
        return f"expected end: {end}, in {duration(status.seconds)}, at the pace since the last start"
    if status.heartbeats:
        return "expected end: unknown until the first point is finished"
    again = " --retry-failed" if status.total("failed") and not status.total("left") else ""
    return f"nobody is training; to go on, start kdnb sweep again as before{again}"
