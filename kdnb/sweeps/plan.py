"""What a grid asks for and what it would take: runs, training epochs, what is done, time and memory."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace

from kdnb.core.config import RunConfig
from kdnb.experiment.points import Point
from kdnb.sweeps.grids import Stages
from kdnb.sweeps.probe import Probe

HOUR = 3600.0


@dataclass(frozen=True, kw_only=True)
class Part:
    """One arm of a grid on one task, all its seeds.

    epochs counts each run by itself. trained_epochs counts one training for all epoch counts that share it, which
    is what is trained; the left_ fields count what no stored run has yet.
    """

    task: str
    arm: str  # as printed
    student: str  # as RunConfig.student
    teaches: bool  # ERM runs outside the grid, or the subset asked for, among which its teachers are selected
    runs: int
    epochs: int
    trained_epochs: int
    done: int
    left_trainings: int
    left_epochs: int
    seconds: float | None = None  # of what is left, None without a measurement


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The parts of a grid; `waiting` counts points whose teacher is not selected yet, so that they have no name."""

    parts: list[Part] = field(default_factory=list)
    waiting: int = 0
    peak_memory_mib: int | None = None

    def total(self, name: str, teaches: bool | None = False) -> int:
        """Sum of a field over the grid's own parts, over the teachers' (True), or over both (None)."""
        return sum(getattr(part, name) for part in self.parts if teaches is None or part.teaches == teaches)

    @property
    def seconds(self) -> float | None:
        """Estimated seconds of all that is left, teachers included; None where a part has no estimate."""
        known = [part.seconds for part in self.parts]
        return None if None in known else sum(known)

    def to_dict(self) -> dict:
        """Plain data: runs, epochs, trained_epochs and done of the grid, the same of its teachers, and its parts."""
        names = ("runs", "epochs", "trained_epochs", "done")
        return {
            **{name: self.total(name) for name in names}, "seconds": self.seconds, "waiting": self.waiting,
            "peak_memory_mib": self.peak_memory_mib, "teachers": {name: self.total(name, True) for name in names},
            "parts": [asdict(part) for part in self.parts],
        }  # fmt: skip


def count(task: str, stages: Stages, stored: set[str]) -> list[Part]:
    """The parts of a grid on one task.

    Args:
        stages: its points. stored: names of all stored runs; a point is done if it has one.
    """
    groups = {}
    for point in stages.points:
        name = point.config.run_id()
        key = (point.title, point.config.student, bool(stages.extra) and name in stages.extra)
        groups.setdefault(key, []).append((point, name, name in stored))
    return [_part(task, *key, rows) for key, rows in groups.items()]


def _part(task: str, arm: str, student: str, teaches: bool, rows: list[tuple[Point, str, bool]]) -> Part:
    """One part; epochs that share a training are counted once, up to the largest that is wanted or missing."""
    wanted, left = {}, {}
    for point, name, done in rows:
        epochs, shared = point.config.epochs, _training(point.config, name)
        wanted[shared] = max(wanted.get(shared, 0), epochs)
        if not done:
            left[shared] = max(left.get(shared, 0), epochs)
    return Part(
        task=task, arm=arm, student=student, teaches=teaches, runs=len(rows),
        epochs=sum(point.config.epochs for point, *_ in rows), trained_epochs=sum(wanted.values()),
        done=sum(done for *_, done in rows), left_trainings=len(left), left_epochs=sum(left.values()),
    )  # fmt: skip


def _training(config: RunConfig, name: str) -> str:
    """`RunConfig.training`, without naming a run with a linear schedule a second time."""
    return config.training() if config.schedule == "constant" else name


def estimate(part: Part, probe: Probe | None, sizes: tuple[int, int, int], batch_size: int = 32) -> Part:
    """The part with the seconds that what is left of it takes, one training after another.

    sizes: examples in train, validation and test; the logits of all of them are computed once per run.
    """
    if part.done == part.runs:
        return replace(part, seconds=0.0)
    if probe is None:
        return part
    steps = part.left_epochs * math.ceil(sizes[0] / batch_size)
    return replace(part, seconds=probe.seconds(part.left_trainings, steps, (part.runs - part.done) * sum(sizes)))


def told_time(seconds: float) -> str:
    """A duration for people: 40 s, 12 min, 3 h 20 min, 2 d 4 h."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440:,} d {minutes % 1440 // 60} h"


def lines(plan: Plan, say: Callable[[str], None] = print) -> None:
    """Tell a plan's sums in words, and warn before anything over an hour."""
    runs, epochs, trained = (plan.total(name) for name in ("runs", "epochs", "trained_epochs"))
    say(f"{runs:,} runs, {epochs:,} training epochs; {plan.total('done'):,} done")
    if trained < epochs:
        say(f"  {trained:,} epochs are trained: with a constant learning rate one training serves all its epoch counts")
    if teaching := plan.total("runs", True):
        done = plan.total("done", True)
        say(f"  beside them {teaching:,} ERM runs, {done:,} done, among which the teachers are selected")
    if plan.waiting:
        say(f"  {plan.waiting:,} of them wait for a teacher: it is selected on validation when its ERM runs are done")
    if plan.seconds is None:
        say("  no estimate of the time: nothing is measured here yet (leave out --no-probe)")
        return
    memory = f", about {plan.peak_memory_mib:,} MiB of memory" if plan.peak_memory_mib else ""
    say(f"  about {told_time(plan.seconds)} for what is left, one training after another on this machine{memory}")
    if plan.seconds > HOUR:
        say("warning: that is over an hour. What is finished is kept, so it may be stopped and started again at will")
