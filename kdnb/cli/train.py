"""What `kdnb train` and `kdnb compare` do, as functions that print for people and return plain data."""

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kdnb.analysis import statistics
from kdnb.catalog import PROFILES, SOURCES, model_of
from kdnb.cli.options import show
from kdnb.core import store
from kdnb.core.config import SIZES
from kdnb.core.methods import METHODS, all_settings
from kdnb.core.store import Run
from kdnb.data.own import OwnData
from kdnb.data.splits import TaskData, load, make
from kdnb.errors import nearest
from kdnb.experiment import obtain, tables
from kdnb.experiment.arms import ARMS, arm_config
from kdnb.experiment.points import Point, compare_points
from kdnb.experiment.workers import run_points
from kdnb.studies import registry

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, kw_only=True)
class Training:
    """One run that is asked for."""

    task: str
    method: str
    student: str
    teacher: str = ""  # a size, a model (ERM, same seed) or a run_id; "" for none
    seed: int = 0
    profile: str = "demo"
    train_rows: int | None = None  # None for the profile's
    changes: dict[str, Any] = field(default_factory=dict)  # RunConfig fields that differ from the profile's


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A comparison of arms that is asked for."""

    task: str = ""  # or own data
    own: OwnData = field(default_factory=OwnData)
    profile: str = "demo"
    seeds: tuple[int, ...] = ()  # () for the profile's
    arms: tuple[str, ...] = ()  # () for all
    changes: dict[str, Any] = field(default_factory=dict)  # RunConfig fields of all arms
    arm_changes: dict[str, dict[str, Any]] = field(default_factory=dict)  # of one arm, on top
    train_rows: int | None = None  # None for the profile's
    workers: int = 1  # trainings at a time


def task_data(task: str, profile: str, train_rows: int | None = None, own: OwnData | None = None) -> TaskData:
    """The splits of a named task or of the user's files.

    Args:
        task: a key of TASKS, "" for the user's files.
        profile: a key of PROFILES.
        train_rows: train rows to keep instead of the profile's, 0 for all.
        own: the user's files.
    Raises:
        ValueError: an unknown name, both or neither of task and files, or files without named columns.
    """
    if profile not in PROFILES:
        raise ValueError(f"unknown profile {profile!r}{nearest(profile, PROFILES)}")
    if own is None or not own.path:
        if not task:
            raise ValueError("name a task, or give your own file with --data, --text and --label")
        return load(task, profile, train_rows)
    if task:
        raise ValueError(f"either a task ({task}) or --data ({own.path}), not both")
    if not (own.text and own.label):
        raise ValueError(f"--data {own.path} needs --text and --label, the names of its columns")
    from kdnb.data.own import read

    own_task, table = read(own)
    return make(own_task, table, profile, train_rows)


def train(asked: Training) -> dict[str, Any]:
    """One run, and before it its teacher if that is named by size or model; returns the run's facts."""
    registry.methods()
    if asked.method not in METHODS:
        raise ValueError(f"unknown method {asked.method!r}{nearest(asked.method, METHODS)}")
    if asked.student not in SIZES:
        raise ValueError(
            f"student must be large, small or a model, got {asked.student!r}{nearest(asked.student, SIZES)}"
        )
    methods = (asked.method, asked.changes.get("before"), asked.changes.get("after"))
    taught = any(METHODS[name].needs_teacher for name in methods if name in METHODS)
    if taught and not asked.teacher:
        raise ValueError(f"{asked.method} needs --teacher: large, small, a model or a run_id")
    if asked.teacher and not taught:
        raise ValueError(f"{asked.method} takes no --teacher, got {asked.teacher!r}")
    data = task_data(asked.task, asked.profile, asked.train_rows)
    basis = next((name for name in ("kd", "tfkd", "ls") if name in methods), "erm")
    arm = next(name for name, arm in ARMS.items() if arm.method == basis)
    own = {} if asked.method in (basis, "switch") else _defaults(asked.method)
    changes = {**own, "order_seed": asked.seed, "student": asked.student, **asked.changes, "method": asked.method}
    config = arm_config(  # refuses bad values before any training
        arm,
        task=data.task.name,
        profile=asked.profile,
        data=data.fingerprint,
        seed=asked.seed,
        teacher_run=asked.teacher,
        **changes,
    )
    if asked.teacher in SIZES:
        model_of(asked.profile, asked.teacher, data.task.name)  # refuses a teacher that cannot read the task
    if asked.teacher:
        config = config.changed(teacher_run=_teacher(asked, data, changes))
    runs = obtain.run_points([Point(tables.arm_of(config), config)], data)
    return facts(runs[config.run_id()])


def _defaults(method: str) -> dict[str, Any]:
    """A method's own defaults, where no arm has them: field -> value, without the teacher."""
    return {one.name: one.default for one in dataclasses.fields(METHODS[method]) if one.name != "teacher_run"}


def _teacher(asked: Training, data: TaskData, changes: dict[str, Any]) -> str:
    """run_id of the teacher: the ERM model of a size or name, trained if need be, or a stored run, checked."""
    teacher = asked.teacher
    if teacher not in SIZES:
        try:
            config = store.load(teacher).config
        except FileNotFoundError:
            known = nearest(teacher, [*SIZES, *store.stored_ids()])
            raise ValueError(f"teacher must be large, small, a model or a run_id{known}") from None
        if config.data != data.fingerprint:
            raise ValueError(
                f"teacher {teacher} was trained on {config.task} (data {config.data}), not on "
                f"{data.task.name} (data {data.fingerprint}): task, rows and label order must be the same"
            )
        return teacher
    soft = {*all_settings(), "student", "method"}  # a student's alone
    shared = {name: value for name, value in changes.items() if name not in soft}
    arm = f"erm_{teacher}" if f"erm_{teacher}" in ARMS else "erm_small"
    if teacher in SOURCES:
        shared["student"] = teacher
    points = compare_points(data.task.name, asked.profile, data.fingerprint, [asked.seed], [arm], shared)
    obtain.run_points([Point(tables.arm_of(point.config), point.config) for point in points], data)
    return points[0].config.run_id()


def soft_changes(ls_alpha: float | None, kd_alpha: float | None, tau: float | None) -> dict[str, dict[str, Any]]:
    """Per arm, the fields that the soft-target options change."""
    changes = {}
    for name, arm in ARMS.items():
        alpha = {"ls": ls_alpha, "kd": kd_alpha, "tfkd": kd_alpha}.get(arm.method)
        given = {"alpha": alpha, "tau": tau if arm.method == "kd" else None}
        changes[name] = {field: value for field, value in given.items() if value is not None}
    return changes


def compare(asked: Comparison) -> dict[str, Any]:
    """The whole comparison of one task; prints the table, returns it."""
    data = task_data(asked.task, asked.profile, asked.train_rows, asked.own)
    rows = {split: len(part) for split, part in data.splits.items()}
    listed = ", ".join(f"{n:,} {split}" for split, n in rows.items())
    print(f"{data.task.caption}: {data.task.question} K = {data.task.num_classes}; {listed}")
    if rows["train"] < data.available:
        print(f"  of {data.available:,} train rows; --train-rows 0 takes all")
    points = compare_points(
        data.task.name,
        asked.profile,
        data.fingerprint,
        asked.seeds or PROFILES[asked.profile].seeds,
        asked.arms or tuple(ARMS),
        asked.changes,
        asked.arm_changes,
    )
    runs = list(run_points(points, data, asked.workers).values())
    _print_table(tables.tidy(runs))
    return {"task": data.task.name, "profile": asked.profile, "rows": rows, "arms": [facts(run) for run in runs]}


def facts(run: Run) -> dict[str, Any]:
    """A run in plain data: what it is, test entropy [nats] and accuracy."""
    config, test = run.config, run.metrics["test"]
    return {
        "arm": tables.arm_of(config),
        "method": config.method,
        "student": config.student,
        "teacher": config.teacher_run,
        "seed": config.seed,
        "alpha": config.alpha,
        "tau": config.tau,
        "entropy": test["entropy"],
        "accuracy": test["accuracy"],
        "run_id": run.run_id,
    }


def _print_table(table: "DataFrame") -> None:
    """Per arm: entropy and accuracy, mean and sd over the seeds, and the entropy difference to the same-size ERM."""
    from rich.table import Table

    shown = Table("arm", "n", "entropy, nats", "accuracy, %", "entropy - ERM, 95 % interval")
    study = tables.Study("", "", table, {})
    accuracies = tables.spread(table, "accuracy").itertuples()
    for entropy, accuracy in zip(tables.spread(table, "entropy").itertuples(), accuracies, strict=True):
        base, effect = f"erm_{ARMS[entropy.arm].student}", ""
        difference = study.difference(entropy.arm, base, "entropy") if entropy.arm != base else ()
        if len(difference) > 1:
            mean, low, high, _ = statistics.interval(difference)
            effect = f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"
        several = entropy.n > 1
        nats = f"{entropy.mean:.3f}" + (f" ± {entropy.sd:.3f}" if several else "")
        percent = f"{100 * accuracy.mean:.1f}" + (f" ± {100 * accuracy.sd:.1f}" if several else "")
        n = f"{entropy.n}, {entropy.degenerate} degenerate" if entropy.degenerate else str(entropy.n)
        shown.add_row(entropy.name, n, nats, percent, effect)
    show(shown)
