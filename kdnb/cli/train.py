"""What `kdnb train` and `kdnb compare` do, as functions that print for people and return plain data."""

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kdnb.analysis import statistics
from kdnb.catalog import PROFILES, SOURCES, model_of
from kdnb.cli.options import show
from kdnb.cli.teachers import Written, written
from kdnb.core import metrics, store
from kdnb.core.config import SIZES
from kdnb.core.methods import METHODS, Method, all_settings
from kdnb.core.store import Run
from kdnb.data.own import OwnData
from kdnb.data.splits import TaskData, load, make
from kdnb.errors import KdnbError, nearest
from kdnb.experiment import footprint, obtain, tables, teachers
from kdnb.experiment.arms import ALL, ARMS, WRITTEN, arm_config
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
    teacher_table: str = ""  # instead: a file, or a stored table or ensemble
    teacher_form: str = ""  # of the file's numbers; "" to read it off
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
    teacher_table: str = ""  # a file, or a stored table or ensemble; "" for none
    teacher_form: str = ""  # of the file's numbers; "" to read it off
    command: str = ""  # that asked for it, for the report of own data


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
    _check_teacher(asked, taught)
    data = task_data(asked.task, asked.profile, asked.train_rows)
    table = written(asked.teacher_table, data, asked.teacher_form)
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
        teacher_run=asked.teacher or table.run_id,
        **changes,
    )
    if asked.teacher in SIZES:
        model_of(asked.profile, asked.teacher, data.task.name)  # refuses a teacher that cannot read the task
    if asked.teacher:
        config = config.changed(teacher_run=_teacher(asked, data, changes))
    table.store()
    runs = obtain.run_points([Point(tables.arm_of(config), config)], data)
    return facts(runs[config.run_id()])


def _check_teacher(asked: Training, taught: bool) -> None:
    """Raise ValueError unless a teacher is named where one is needed, once, and nowhere else."""
    method, named = METHODS[asked.method], asked.teacher or asked.teacher_table
    if taught and not named:
        raise ValueError(f"{asked.method} needs --teacher: large, small, a model or a run_id; or --teacher-table")
    if named and not taught:
        raise ValueError(f"{asked.method} takes no --teacher, got {named!r}")
    if asked.teacher and asked.teacher_table:
        raise ValueError(f"either --teacher ({asked.teacher}) or --teacher-table ({asked.teacher_table}), not both")
    if asked.teacher_table and method.beside is not Method.beside:
        raise ValueError(f"{asked.method} reads a teacher's hidden states, and {asked.teacher_table} has none")


def _defaults(method: str) -> dict[str, Any]:
    """A method's own defaults, where no arm has them: field -> value, without the teacher."""
    return {one.name: one.default for one in dataclasses.fields(METHODS[method]) if one.name != "teacher_run"}


def _teacher(asked: Training, data: TaskData, changes: dict[str, Any]) -> str:
    """run_id of the teacher: the ERM model of a size or name, trained if need be, or a stored run, checked."""
    teacher = asked.teacher
    if teacher not in SIZES:
        try:
            stored = teachers.load(teacher)
        except FileNotFoundError:
            known = nearest(teacher, [*SIZES, *store.stored_ids()])
            raise ValueError(f"teacher must be large, small, a model or a run_id{known}") from None
        if stored.data != data.fingerprint:
            raise ValueError(
                f"teacher {teacher} was trained on {stored.task} (data {stored.data}), not on "
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


def soft_changes(
    ls_alpha: float | None, kd_alpha: float | None, tau: float | None, sharpness: float | None = None
) -> dict[str, dict[str, Any]]:
    """Per arm, the fields that the soft-target options change."""
    changes = {}
    for name, arm in ALL.items():
        given = {"alpha": {"erm": None, "ls": ls_alpha}.get(arm.method, kd_alpha)}
        given["tau"] = tau if arm.method in ("kd", "transformed") else None
        given["sharpness"] = sharpness if arm.method == "transformed" else None
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
    table = written(asked.teacher_table, data, asked.teacher_form, (asked.own.text, asked.own.text2))
    arms, arm_changes = _with_table(asked, table)
    points = compare_points(
        data.task.name,
        asked.profile,
        data.fingerprint,
        asked.seeds or PROFILES[asked.profile].seeds,
        arms,
        asked.changes,
        arm_changes,
    )
    table.store()
    runs = run_points(points, data, asked.workers)
    of_arm = {point.config.run_id(): point.arm for point in points}
    _print_table(tables.tidy(list(runs.values()), of_arm))
    sizes = show_sizes(list(runs.values()), data, of_arm)
    result: dict[str, Any] = {"task": data.task.name, "profile": asked.profile, "rows": rows}
    result["arms"] = [facts(run, of_arm[run_id]) for run_id, run in runs.items()]
    result["models"] = sizes
    if data.task.source == "own":
        from kdnb.report import own

        path = own.write(own.Compared(data=data, profile=asked.profile, runs=runs, arms=of_arm, command=asked.command))
        print(f"report: {path}")
        result["report"] = str(path)
    return result


def show_sizes(runs: list[Run], data: TaskData, arms: dict[str, str]) -> list[dict[str, Any]]:
    """Print how large and how fast each student is, its teacher among them, beside its accuracy; the same as data.

    Args:
        runs: of one comparison.
        data: their splits.
        arms: run_id -> arm, as the comparison has them.
    """
    from rich.table import Table

    try:
        rows = footprint.rows(runs, data, arms)
    except (KdnbError, OSError, ImportError) as error:  # runs that are stored can be compared without their models
        print(f"sizes and times are left out: {' '.join(str(error).split())}")
        return []
    told = [footprint.told(row) for row in rows]
    table = Table(*told[0])
    for row in told:
        table.add_row(*row.values())
    show(table)
    print(f"ms per example: logits of up to {footprint.ROWS} test examples, {rows[0]['device']}")
    return rows


def _with_table(asked: Comparison, table: Written) -> tuple[tuple[str, ...], dict[str, dict[str, Any]]]:
    """The arms of a comparison, and what changes in each, with those that a written teacher teaches."""
    arms, changes = asked.arms or tuple(ARMS), dict(asked.arm_changes)
    if table.run_id:
        taught = [arm for arm, origin in WRITTEN.items() if origin == table.origin]
        arms = arms if set(arms) & set(taught) else (*arms, f"kd_small_from_{table.origin}")
        changes |= {arm: {**changes.get(arm, {}), "teacher_run": table.run_id} for arm in taught}
    return arms, changes


def facts(run: Run, arm: str = "") -> dict[str, Any]:
    """A run in plain data: what it is, test entropy [nats] and accuracy.

    Args:
        run: a stored one.
        arm: a key of `arms.NAMES`, "" to read it off the run.
    """
    config, test = run.config, run.metrics["test"]
    return {
        "arm": arm or tables.arm_of(config),
        "method": config.method,
        "student": config.student,
        "teacher": config.teacher_run,
        "seed": config.seed,
        "alpha": config.alpha,
        "tau": config.tau,
        "entropy": test["entropy"],
        "accuracy": test["accuracy"],
        "degenerate": metrics.is_degenerate(run.logits["test"], run.labels["test"]),
        "run_id": run.run_id,
    }


def _print_table(table: "DataFrame") -> None:
    """Per arm: entropy and accuracy, mean and sd over the seeds, and the entropy difference to the same-size ERM."""
    from rich.table import Table

    shown = Table("arm", "n", "entropy, nats", "accuracy, %", "entropy - ERM, 95 % interval")
    study = tables.Study("", "", table, {})
    accuracies = tables.spread(table, "accuracy").itertuples()
    for entropy, accuracy in zip(tables.spread(table, "entropy").itertuples(), accuracies, strict=True):
        base, effect = f"erm_{ALL[entropy.arm].student}", ""
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
