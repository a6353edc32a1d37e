"""How far a sweep is: its points by arm, what is running where, what failed, and when it may end."""

import os
import time
from dataclasses import dataclass

from kdnb import paths
from kdnb.core import store as runs
from kdnb.experiment.points import Point
from kdnb.sweeps import failures, running
from kdnb.sweeps.axes import grid_named
from kdnb.sweeps.record import Record

STATES = ("done", "running", "failed", "left")
SHOWN = 20  # failures told one by one


@dataclass(frozen=True, kw_only=True)
class Status:
    """How far a sweep is.

    counts: (task, arm as printed) -> state -> points. signs: as `kdnb.sweeps.running.alive`. failed: facts of the first
    failures. seconds: until the end, None if nobody is at it or nothing was finished yet.
    """

    record: Record
    counts: dict[tuple[str, str], dict[str, int]]
    signs: list[dict]
    failed: list[dict]
    seconds: float | None

    def total(self, state: str) -> int:
        """Points in a state."""
        return sum(states[state] for states in self.counts.values())


def of(record: Record) -> Status:
    """The status of a sweep, from names alone: no run is opened."""
    points = record.points()
    ids = [point.config.run_id() for point in points]
    stored, failed, signs = set(runs.stored_ids()), failures.names(), running.alive()
    wanted, trained = set(ids), {run_id for sign in signs for run_id in sign["run_ids"]}
    signs = [sign for sign in signs if wanted & set(sign["run_ids"])]
    counts, states = {}, []
    for point, run_id in zip(points, ids, strict=True):
        known = (run_id in stored, run_id in trained, run_id in failed, True)
        states.append(STATES[known.index(True)])
        of_arm = counts.setdefault((point.config.task, point.title), dict.fromkeys(STATES, 0))
        of_arm[states[-1]] += 1
    told = [run_id for run_id, state in zip(ids, states, strict=True) if state == "failed"]
    return Status(
        record=record, counts=counts, signs=signs, failed=[failures.facts(run_id) for run_id in told[:SHOWN]],
        seconds=_seconds_left(record, points, ids, states) if signs else None,
    )  # fmt: skip


def _seconds_left(record: Record, points: list[Point], ids: list[str], states: list[str]) -> float | None:
    """Seconds until the end at the pace of what was finished since the last start; None if nothing was."""
    since, finished, left, store = record.starts[-1], 0.0, 0.0, str(paths.RUNS)
    for work, run_id, state in zip(_work(record, points), ids, states, strict=True):
        if state in ("running", "left"):
            left += work
        elif state == "done" and _written(store, run_id) >= since:
            finished += work
    return left / finished * (time.time() - since) if finished else None


def _work(record: Record, points: list[Point]) -> list[float]:
    """The share of each point in the work: train rows x epochs, twice for the large model, which has twice the layers.

    Of several points on one training, each counts the epochs since the one before it.
    """
    work = [p.config.epochs * record.rows[p.config.task] * (1 + (p.config.student == "large")) for p in points]
    shared = [place for place, point in enumerate(points) if point.config.schedule == "constant"]
    passed = {}
    for place in sorted(shared, key=lambda place: points[place].config.epochs):
        config = points[place].config
        name = config.training()
        work[place] *= 1 - passed.get(name, 0) / config.epochs
        passed[name] = config.epochs
    return work


def _written(store: str, run_id: str) -> float:
    """When a run was written into a store [Unix time], 0 for a reference run."""
    try:
        return os.stat(f"{store}/{run_id}").st_mtime
    except OSError:
        return 0.0


def lines(status: Status) -> list[str]:
    """A status for people."""
    what, total = status.record.sweep, sum(sum(states.values()) for states in status.counts.values())
    done, several = status.total("done"), len(what.tasks) > 1
    width = max(len(f"{task} {arm}") for task, arm in status.counts)
    told = [
        f"{what.name}: {grid_named(what.grid).title}",
        f"{done:,} of {total:,} points done; threads per training: {status.record.threads}",
        f"{'':<{width}}{''.join(f'{state:>9}' for state in STATES)}",
    ]
    for (task, arm), states in status.counts.items():
        name = f"{task} {arm}" if several else arm
        told.append(f"{name:<{width}}{''.join(f'{states[state]:>9,}' for state in STATES)}")
    for sign in status.signs:
        told.append(f"running: {sign['run_ids'][-1]}, step {sign['step']} of {sign['total']}, on {sign['host']}")
    for facts in status.failed:
        told.append(f"failed: {facts['run_id']}: {facts['error']} (attempts: {facts['attempts']}, on {facts['host']})")
    if status.total("failed") > len(status.failed):
        told.append(f"... and {status.total('failed') - len(status.failed):,} more, in {paths.FAILED}")
    return [*told, _ending(status, done == total)]


def _ending(status: Status, complete: bool) -> str:
    """The last line: when it may end, or what to do."""
    if complete:
        return "complete"
    if status.seconds is not None:
        end = time.strftime("%a %H:%M", time.localtime(time.time() + status.seconds))
        return f"expected end: {end}, in {_spoken(status.seconds)}, at the pace since the last start"
    if status.signs:
        return "expected end: unknown until the first point is finished"
    again = " --retry-failed" if status.total("failed") and not status.total("left") else ""
    return f"nobody is training; to go on, start kdnb sweep again as before{again}"


def _spoken(seconds: float) -> str:
    """A duration in words."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}" if unit != "min" else f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
