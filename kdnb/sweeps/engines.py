"""One training of a sweep, whoever asks for it: train, or record why not. And the loop that needs nothing but that.

Processes share work through the run store alone. Each takes the next training whose lock nobody holds, so several
on overlapping lists neither repeat nor corrupt anything, and one that dies leaves its training to the others.
"""

import time
import traceback
from collections.abc import Callable
from typing import NamedTuple

from filelock import Timeout

from kdnb.core import store
from kdnb.core.config import RunConfig
from kdnb.data.splits import TaskData
from kdnb.errors import Unfinished, one_line, retry_of
from kdnb.experiment import obtain
from kdnb.experiment.obtain import Bar
from kdnb.experiment.points import Point
from kdnb.sweeps import failures
from kdnb.sweeps.running import Sign, alive

RETRIES = 2  # further trainings after a failure that may pass, or a worker's death
POLL = 0.5  # seconds between two looks at what another process trains


class Outcome(NamedTuple):
    """What became of a training: run_ids of the runs trained now, and the error it failed with, "" for none."""

    trained: list[str]
    error: str = ""


def train(configs: list[RunConfig], data: TaskData, threads: int, on_step: Callable | None = None) -> list[str]:
    """Have the runs of one training, with a sign of life meanwhile; run_ids of those trained now.

    threads: of the CPU. Sums are split among them, so another number gives other last bits.
    """
    if all(obtain.whole(config) for config in configs):
        failures.forget(config.run_id() for config in configs)
        return []
    import torch  # not needed to find that all is there

    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    with Sign(configs) as sign:

        def step(*what) -> None:
            sign.step(*what)
            if on_step:
                on_step(*what)

        found = obtain.ensure_all(configs, data, step)
    failures.forget(found)
    return [run_id for run_id, (_, trained) in found.items() if trained]


def attempt(configs: list[RunConfig], data: TaskData, threads: int, on_step: Callable | None = None) -> Outcome:
    """`train`, again if an error may pass; otherwise the failure is recorded.

    Raises:
        Exception: every other training would meet it too, see `kdnb.errors.retry_of`.
    """
    attempts = 0
    while attempts <= RETRIES:
        attempts += 1
        try:
            return Outcome(train(configs, data, threads, on_step))
        except Exception as error:
            retry, message, trace = retry_of(error), one_line(error), traceback.format_exc()
            if retry == "stop":
                raise
        if retry == "never":
            break
    failures.record(missing(configs), message, attempts, trace)
    return Outcome([], message)


def missing(configs: list[RunConfig]) -> list[str]:
    """run_ids of those that have no run."""
    return [config.run_id() for config in configs if not store.exists(config.run_id())]


def failed_before(group: list[Point]) -> Outcome | None:
    """How a training failed, if that is recorded."""
    for point in group:
        if failures.has(point.config.run_id()):
            return Outcome([], failures.facts(point.config.run_id()).get("error", "failed before"))
    return None


def is_busy(group: list[Point]) -> bool:
    """Whether another process holds a training's lock."""
    try:
        with obtain.lock(group[0].config).acquire(timeout=0):
            return False
    except Timeout:
        return True


def work(
    groups: list[list[Point]], data: dict[str, TaskData], threads: int, done: Callable, say: Callable, wait: float
) -> None:
    """Train what is missing of some trainings, in this process; those that others hold come last.

    Args:
        groups: `kdnb.experiment.points.trainings` of points. data: task -> its splits. threads: as `train`.
        done: called as done(group, outcome) at the end of each. say: for people.
        wait: seconds to wait for a training that another process holds without a sign of life.
    Raises:
        Unfinished: the wait was in vain.
    """
    left, asleep = list(groups), _Patience(say, wait)
    while left:
        held = []
        for group in left:
            configs = [point.config for point in group]
            outcome = failed_before(group)
            if not outcome and missing(configs) and is_busy(group):
                held.append(group)
                continue
            with Bar(f"{group[0].title} seed {group[0].config.seed}") as bar:
                done(group, outcome or attempt(configs, data[configs[0].task], threads, bar.step))
        if held:
            asleep.on(held, progress=len(held) < len(left))
        left = held


class _Patience:
    """Waiting for trainings that other processes hold, as long as these give signs of life."""

    def __init__(self, say: Callable, wait: float):
        self.say, self.wait, self.since = say, wait, 0.0

    def on(self, held: list[list[Point]], progress: bool) -> None:
        """Sleep a little, unless there was something to do; the first time, say what for."""
        if progress:
            self.since = 0.0
            return
        waited_for = {point.config.run_id() for group in held for point in group}
        signs, first = [s for s in alive() if waited_for & set(s["run_ids"])], held[0][0].config.run_id()
        if not self.since:
            who = ", ".join(sorted({f"process {sign['pid']} on {sign['host']}" for sign in signs}))
            self.say(f"waiting for {len(held)} trainings that {who or 'another process'} is at, {first} first")
        if signs or not self.since:
            self.since = time.monotonic()
        if time.monotonic() - self.since > self.wait:
            raise Unfinished(
                f"no sign of life for {self.wait:.0f} s from the process that holds {first}; start again to go on"
            )
        time.sleep(POLL)
