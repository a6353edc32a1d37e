"""What `kdnb train` and `kdnb compare` do, as functions that print for people and return plain data."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdnb.analysis import statistics
from kdnb.catalog import AS_IT_IS, PROFILES, SOURCES, TASKS, model_behind, model_of
from kdnb.cli import telling
from kdnb.cli.options import check_files, show
from kdnb.cli.teachers import Written, written
from kdnb.core import metrics, store
from kdnb.core.config import SIZES
from kdnb.core.methods import METHODS, Method, all_settings
from kdnb.core.store import Run
from kdnb.data import checkpoints, origins
from kdnb.data.own import OwnData
from kdnb.data.splits import AS_PROFILE, Rows, TaskData, load
from kdnb.errors import KdnbError, nearest
from kdnb.experiment import footprint, obtain, records, tables, teachers, weights
from kdnb.experiment.arms import ALL, ARMS, WRITTEN, arm_config
from kdnb.experiment.points import Point, compare_points, with_teachers
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
    rows: Rows = AS_PROFILE
    changes: dict[str, Any] = field(default_factory=dict)  # RunConfig fields that differ from the profile's
    keep_weights: bool = False


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A comparison of arms that is asked for."""

    task: str = ""  # or own data
    own: OwnData = field(default_factory=OwnData)
    profile: str = "demo"
    seeds: tuple[int, ...] = ()  # () for the profile's
    arms: tuple[str, ...] = ()  # () for ARMS
    changes: dict[str, Any] = field(default_factory=dict)  # RunConfig fields of all arms
    arm_changes: dict[str, dict[str, Any]] = field(default_factory=dict)  # of one arm, on top
    soft: dict[str, float] = field(default_factory=dict)  # what SOFT has, of the arms that have a use for it
    rows: Rows = AS_PROFILE
    workers: int = 1  # trainings at a time
    student: str = ""  # a model that stands for small, "" for the profile's
    teacher: str = ""  # a model that stands for large
    keep_weights: bool = False
    teacher_table: str = ""  # a file, or a stored table or ensemble; "" for none
    teacher_form: str = ""  # of the file's numbers; "" to read it off
    command: str = ""  # that asked for it, for the report of own data


def task_data(task: str, profile: str, rows: Rows = AS_PROFILE, own: OwnData | None = None) -> TaskData:
    """The splits of a named task or of the user's files.

    Args:
        task: a key of TASKS, "" for the user's files.
        profile: a key of PROFILES.
        rows: to keep instead of the profile's.
        own: the user's files.
    Raises:
        ValueError: an unknown name, both or neither of task and files, or files without named columns.
    """
    if profile not in PROFILES:
        raise ValueError(f"unknown profile {profile!r}{nearest(profile, PROFILES)}")
    if own is None or not own.path:
        if task not in TASKS and Path(task).is_file():
            raise ValueError(f"{task} is a file: kdnb compare --data {task} --text COLUMN --label COLUMN")
        if not task:
            raise ValueError("name a task, or give your own file with --data, --text and --label")
        return load(task, profile, rows)
    check_files(own, task)
    from kdnb.data.own import load as load_own

    return load_own(own, profile, rows)


def train(asked: Training) -> dict[str, Any]:
    """One run, and before it its teacher if that is named by size or model; returns the run's facts."""
    registry.methods()
    if asked.method not in METHODS:
        raise ValueError(f"unknown method {asked.method!r}{nearest(asked.method, METHODS)}")
    if asked.student not in SIZES and not checkpoints.is_spec(asked.student):
        raise ValueError(
            f"student must be large, small or a model, got {asked.student!r}{nearest(asked.student, SIZES)}"
        )
    methods = (asked.method, asked.changes.get("before"), asked.changes.get("after"))
    taught = any(METHODS[name].needs_teacher for name in methods if name in METHODS)
    _check_teacher(asked, taught)
    student = {"student": asked.student}
    if asked.student not in SIZES:
        student = {"student": "small", "model": checkpoints.name_of(asked.student)}
    wanted: dict[str, Any] = {"task": asked.task, "profile": asked.profile, "rows": asked.rows}
    data = task_data(**wanted)
    table = written(asked.teacher_table, data, asked.teacher_form)
    basis = next((name for name in ("kd", "tfkd", "ls") if name in methods), "erm")
    arm = next(name for name, arm in ARMS.items() if arm.method == basis)
    own = {} if asked.method in (basis, "switch") else _defaults(asked.method)
    changes = {**own, "order_seed": asked.seed, **student, **asked.changes, "method": asked.method}
    config = arm_config(  # refuses bad values before any training
        arm,
        task=data.task.name,
        profile=asked.profile,
        data=data.fingerprint,
        seed=asked.seed,
        teacher_run=asked.teacher or table.run_id,
        **changes,
    )
    checkpoints.check(model_behind(config), config.max_length)
    if asked.teacher in SIZES:
        model_of(asked.profile, asked.teacher, data.task.name)  # refuses a teacher that cannot read the task
    if asked.keep_weights:
        weights.check_exportable(config)
    origins.note(data, wanted)
    if asked.teacher:
        config = config.changed(teacher_run=_teacher(asked, data, changes))
    print(*telling.of_data(data), sep="\n")
    table.store()
    runs = obtain.run_points([Point(tables.arm_of(config), config)], data, keep=asked.keep_weights)
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
    """run_id of the teacher: the ERM model of a size or name, trained if need be, or a stored run, checked.

    A finished classifier is asked as it is.
    """
    teacher = asked.teacher
    model = checkpoints.is_spec(teacher) and teacher not in store.stored_ids()
    if teacher not in SIZES and not model:
        try:
            stored = teachers.load(teacher)
        except FileNotFoundError:
            known = records.nearest_runs(teacher, [*SIZES])
            raise ValueError(f"teacher must be large, small, a model or a run_id, got {teacher!r}{known}") from None
        if stored.data != data.fingerprint:
            raise ValueError(
                f"teacher {teacher} was trained on {stored.task} (data {stored.data}), not on "
                f"{data.task.name} (data {data.fingerprint}): task, rows and label order must be the same"
            )
        return teacher
    soft = {*all_settings(), "student", "model", "method"}  # a student's alone
    shared = {name: value for name, value in changes.items() if name not in soft}
    arm = f"erm_{teacher}" if f"erm_{teacher}" in ARMS else "erm_small"
    if teacher in SOURCES:
        shared["student"] = teacher
    elif model:
        arm, shared["model"] = "erm_large", checkpoints.name_of(teacher, teacher=True)
    points = compare_points(data.task.name, asked.profile, data.fingerprint, [asked.seed], [arm], shared)
    checkpoints.check(model_behind(points[0].config), points[0].config.max_length)
    point = Point(tables.arm_of(points[0].config), points[0].config)
    obtain.run_points([point], data, keep=asked.keep_weights)
    return points[0].config.run_id()


SOFT = {  # option of a comparison -> the field that it changes, and in the arms of which methods
    "ls_alpha": ("alpha", ("ls",)),
    "kd_alpha": ("alpha", ("kd", "tfkd", "transformed")),
    "tau": ("tau", ("kd", "transformed")),
    "sharpness": ("sharpness", ("transformed",)),
}


def _with_soft(changes: dict[str, dict[str, Any]], soft: dict[str, float], arms: list[str]) -> dict[str, Any]:
    """What changes in each arm, with the soft options that were given; ValueError for one that no arm has a use for."""
    changes = {arm: dict(changes.get(arm, {})) for arm in arms}
    for option, value in soft.items():
        name, methods = SOFT[option]
        of = [arm for arm in arms if ALL[arm].method in methods]
        if not of:
            named = option.replace("_", "-")
            raise ValueError(f"--{named} {value:g}: none of the arms {', '.join(arms)} has a use for it")
        for arm in of:
            changes[arm][name] = value
    return changes


def compare(asked: Comparison) -> dict[str, Any]:
    """The whole comparison of one task; prints the table, returns it."""
    wanted: dict[str, Any] = {"task": asked.task, "profile": asked.profile, "rows": asked.rows}
    wanted |= {"own": asked.own} if asked.own.path else {}
    data = task_data(**wanted)
    asked = _with_models(asked, data)
    print(*telling.of_data(data), sep="\n")
    table = written(asked.teacher_table, data, asked.teacher_form, (asked.own.text, asked.own.text2))
    arms, arm_changes = _with_table(asked, table)
    arm_changes = _with_soft(arm_changes, asked.soft, with_teachers(arms))
    points = compare_points(
        data.task.name,
        asked.profile,
        data.fingerprint,
        asked.seeds or PROFILES[asked.profile].seeds,
        arms,
        asked.changes,
        arm_changes,
    )
    for point in points:
        checkpoints.check(model_behind(point.config), point.config.max_length)
        if asked.keep_weights and not point.given:
            weights.check_exportable(point.config)
    if asked.own.path:
        read = [*telling.of_texts(data, [point.config for point in points])]
        print(*read, sep="\n", end="\n" * bool(read))
    origins.note(data, wanted)
    table.store()
    print(telling.of_runs(points, len(data.splits["train"]), asked.keep_weights))
    runs = run_points(points, data, asked.workers, keep=asked.keep_weights)
    of_arm = {point.config.run_id(): point.arm for point in points}
    _print_table(tables.tidy(list(runs.values()), of_arm))
    rows = {split: len(part) for split, part in data.splits.items()}
    sizes = show_sizes(list(runs.values()), data, of_arm)
    result: dict[str, Any] = {"task": data.task.name, "profile": asked.profile, "rows": rows}
    result["arms"] = [facts(run, of_arm[run_id]) for run_id, run in runs.items()]
    result["models"] = sizes
    if data.task.source == "own":
        from kdnb.report import own

        compared = own.Compared(
            data=data, profile=asked.profile, runs=runs, arms=of_arm, command=asked.command, read=tuple(read)
        )
        path, best = own.write(compared), compared.of.recommended
        print(f"recommended: {best.what}. {best.reason} {best.limit}")
        print(f"report: {path}")
        if best.run_id:
            print(f"take it home: {own.export_command(best)}")
        result |= {"report": str(path), "recommended": best.run_id}
    return result


def show_sizes(runs: list[Run], data: TaskData, arms: dict[str, str]) -> list[dict[str, Any]]:
    """Print how large and how fast each student is, its teacher among them, beside its accuracy; the same as data.

    Args:
        runs: of one comparison.
        data: their splits.
        arms: run_id -> arm, as the comparison has them.
    """
    from rich.table import Table

    if new := {run.config.student for run in runs if not footprint.stored(run.config)}:
        print(f"timing {', '.join(sorted(new))} on up to {footprint.ROWS} test examples ...", flush=True)
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


def _with_models(asked: Comparison, data: TaskData) -> Comparison:
    """A comparison with other models than the profile's in its arms.

    Raises:
        ValueError: there is no such model, it does not read the task, or an arm would train a finished classifier.
    """
    models, sizes = {}, {ALL[arm].student for arm in with_teachers(asked.arms)}
    for size, spec in (("small", asked.student), ("large", asked.teacher)):
        if spec and sizes and size not in sizes:
            raise ValueError(f"{spec}: none of the arms {', '.join(asked.arms)} has a {size} model")
        name = checkpoints.name_of(spec, teacher=size == "large") if spec else ""
        own = model_of(asked.profile, size, data.task.name)
        if name and model_of(asked.profile, name, data.task.name) != own:
            models[size] = {"model": name}
    changes = {arm: {**asked.arm_changes.get(arm, {}), **models.get(ALL[arm].student, {})} for arm in ALL}
    arms = asked.arms
    if models.get("large", {}).get("model", "").startswith(AS_IT_IS):
        trained = [arm for arm in ALL if ALL[arm].student == "large" and arm != "erm_large"]
        arms = arms or tuple(arm for arm in ARMS if arm not in trained)
        if again := [arm for arm in with_teachers(arms) if arm in trained]:
            raise ValueError(
                f"--teacher {asked.teacher} is a finished classifier, arm {again[0]} would train it again; leave it out"
            )
    return dataclasses.replace(asked, arms=arms, arm_changes=changes)


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
        "model": model_behind(config),
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
