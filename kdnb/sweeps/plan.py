"""What a grid asks for and what it would take: runs, epochs, what is done, time and memory as measured here once."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kdnb import files, paths
from kdnb.catalog import PROFILES
from kdnb.core.config import RunConfig
from kdnb.errors import printable
from kdnb.experiment.arms import arm_config
from kdnb.experiment.points import Point
from kdnb.experiment.workers import machine
from kdnb.plain import duration
from kdnb.sweeps.grids import Stages

if TYPE_CHECKING:
    from kdnb.data.splits import TaskData  # it brings pandas, which counting need not wait for

HOUR = 3600.0  # seconds
STEPS = 20  # of training, measured by a probe
ROWS = 256  # of validation and of test, whose logits a probe computes


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
        known = [part.seconds for part in self.parts if part.seconds is not None]
        return sum(known) if len(known) == len(self.parts) else None

    def to_dict(self) -> dict:
        """Plain data: runs, epochs, trained_epochs and done of the grid, the same of its teachers, and its parts."""
        names = ("runs", "epochs", "trained_epochs", "done")
        return {
            **{name: self.total(name) for name in names},
            "seconds": self.seconds,
            "waiting": self.waiting,
            "peak_memory_mib": self.peak_memory_mib,
            "teachers": {name: self.total(name, teaches=True) for name in names},
            "parts": [asdict(part) for part in self.parts],
        }

    def lines(self) -> list[str]:
        """The sums in words, with a warning where they take over an hour."""
        runs, epochs, trained = (self.total(name) for name in ("runs", "epochs", "trained_epochs"))
        text = [f"{runs:,} runs, {epochs:,} training epochs; {self.total('done'):,} done"]
        if trained < epochs:
            text.append(
                f"  {trained:,} epochs are trained: with a constant learning rate one training serves all its "
                "epoch counts"
            )
        if teaching := self.total("runs", teaches=True):
            done = self.total("done", teaches=True)
            text.append(f"  beside them {teaching:,} ERM runs, {done:,} done, among which the teachers are selected")
        if self.waiting:
            text.append(
                f"  {self.waiting:,} of them wait for a teacher: it is selected on validation when its ERM runs are "
                "done"
            )
        if self.seconds is None:
            return [*text, "  no estimate of the time: nothing is measured here yet (leave out --no-probe)"]
        memory = f", about {self.peak_memory_mib:,} MiB of memory" if self.peak_memory_mib else ""
        time_left = duration(self.seconds)
        text.append(f"  about {time_left} for what is left, one training after another on this machine{memory}")
        if self.seconds > HOUR:
            text.append(
                "warning: that is over an hour. What is finished is kept, so it may be stopped and started again at "
                "will"
            )
        return text


def count(task: str, stages: Stages, stored: set[str]) -> list[Part]:
    """The parts of a grid on one task.

    Args:
        task: a key of TASKS.
        stages: the grid's points.
        stored: names of all stored runs; a point is done if it has one.
    """
    groups: dict[tuple[str, str, bool], list[tuple[Point, str, bool]]] = {}
    for point in stages.points:
        run_id = point.config.run_id()
        key = (point.title, point.config.student, run_id in stages.extra)
        groups.setdefault(key, []).append((point, run_id, run_id in stored))
    return [_part(task, *key, rows) for key, rows in groups.items()]


def _part(task: str, arm: str, student: str, teaches: bool, rows: list[tuple[Point, str, bool]]) -> Part:
    """One part; epochs that share a training are counted once, up to the largest that is wanted or missing."""
    wanted: dict[str, int] = {}
    left: dict[str, int] = {}
    for point, run_id, done in rows:
        # a run with a linear schedule is a training of its own, and need not be named a second time
        training = point.config.training() if point.config.schedule == "constant" else run_id
        wanted[training] = max(wanted.get(training, 0), point.config.epochs)
        if not done:
            left[training] = max(left.get(training, 0), point.config.epochs)
    return Part(
        task=task,
        arm=arm,
        student=student,
        teaches=teaches,
        runs=len(rows),
        epochs=sum(point.config.epochs for point, *_ in rows),
        trained_epochs=sum(wanted.values()),
        done=sum(done for *_, done in rows),
        left_trainings=len(left),
        left_epochs=sum(left.values()),
    )


@dataclass(frozen=True)
class Probe:
    """What one model costs on one task, as measured on this machine."""

    step_seconds: float  # one optimiser step
    row_seconds: float  # logits of one example
    start_seconds: float  # until the first step: the model is built
    peak_memory_mib: int
    device: str
    precision: str

    def seconds(self, trainings: int, steps: int, rows: int) -> float:
        """Estimated seconds of some trainings with so many steps, and logits of so many rows, in all."""
        return trainings * self.start_seconds + steps * self.step_seconds + rows * self.row_seconds


def estimate(part: Part, probe: Probe | None, sizes: tuple[int, ...]) -> Part:
    """The part with the seconds that what is left of it takes, one training after another.

    Args:
        part: with or without an estimate.
        probe: of its student on its task, None if there is none.
        sizes: examples in train, validation and test; the logits of all of them are computed once per run.
    """
    if part.done == part.runs:
        return replace(part, seconds=0.0)
    if probe is None:
        return part
    steps = part.left_epochs * math.ceil(sizes[0] / RunConfig.batch_size)
    return replace(part, seconds=probe.seconds(part.left_trainings, steps, (part.runs - part.done) * sum(sizes)))


def stored_probe(task: str, profile: str, student: str) -> Probe | None:
    """The stored measurement of a model, if it was made on this machine; None otherwise."""
    content = files.read_json(_probes())
    try:
        return files.made(Probe, content[_key(task, profile, student)]) if content["machine"] == machine() else None
    except (KeyError, ValueError):
        return None


def probe(data: "TaskData", profile: str, student: str, say: Callable[[str], None] = print) -> Probe:
    """The stored measurement of a model, else one made and stored now.

    Args:
        data: the task's splits, of which a few rows are used.
        profile: a key of PROFILES.
        student: as RunConfig.student.
        say: hears that a measurement begins.
    Raises:
        MissingAsset: the weights are not there.
        ModelUnavailable: the weights cannot be had.
    """
    if stored := stored_probe(data.task.name, profile, student):
        return stored
    say(f"probe: {STEPS} steps of the {student} model on {printable(data.task.name)} ...")
    measured = measure(data, profile, student)
    content = files.read_json(_probes())
    if content.get("machine") != machine():
        content = {"machine": machine()}
    content[_key(data.task.name, profile, student)] = asdict(measured)
    files.write_json(_probes(), content)
    return measured


def measure(data: "TaskData", profile: str, student: str) -> Probe:
    """Train STEPS steps on a sample of the train split, ERM, and time them."""
    from kdnb.experiment.training import train  # torch is not needed for what was measured before

    config = arm_config("erm_small", task=data.task.name, profile=profile, data="probe", seed=0, student=student)
    sample = _sample(data, STEPS * config.batch_size)
    per_epoch = math.ceil(len(sample.splits["train"]) / config.batch_size)
    config = replace(config, epochs=math.ceil(STEPS / per_epoch), history_points=0)
    train(replace(config, epochs=1), _sample(data, config.batch_size))  # reads weights and takes memory once
    marks = [time.perf_counter()]

    def mark(_step: int, _total: int, loss: float) -> None:
        float(loss)  # a GPU has then finished the step
        marks.append(time.perf_counter())

    run = train(config, sample, on_step=mark)
    end = time.perf_counter()
    step_seconds = (marks[-1] - marks[1]) / (len(marks) - 2)
    rows = sum(len(split) for split in sample.splits.values())
    cost = run.metrics["cost"]
    return Probe(
        step_seconds=round(step_seconds, 6),
        row_seconds=round((end - marks[-1]) / rows, 8),
        start_seconds=round(max(0.0, marks[1] - marks[0] - step_seconds), 4),
        peak_memory_mib=cost["peak_memory_mib"],
        device=cost["device"],
        precision=cost["precision"],
    )


def _sample(data: "TaskData", rows: int) -> "TaskData":
    """Random rows of each split, always the same: at most `rows` of train and ROWS of the others."""
    import numpy as np

    splits = {}
    for name, split in data.splits.items():
        chosen = np.random.default_rng(0).permutation(len(split))[: rows if name == "train" else ROWS]
        splits[name] = split.take(chosen)
    return replace(data, splits=splits, fingerprint="probe")


def _key(task: str, profile: str, student: str) -> str:
    """A model's name in the file of measurements; texts differ in length from task to task."""
    return f"{task} {profile} {student} {PROFILES[profile].max_length}"


def _probes() -> Path:
    """The file of measurements, which holds those of one machine."""
    return paths.OUTPUTS / "probes.json"
