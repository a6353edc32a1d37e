"""What the command line does, as functions that print for people and return plain data."""

from dataclasses import replace

from kdnb.catalog import PROFILES, SOURCES, model_of
from kdnb.core import store
from kdnb.core.config import METHOD_FIELDS, METHODS
from kdnb.core.store import Run
from kdnb.data.splits import TaskData, load, make
from kdnb.errors import nearest
from kdnb.experiment import obtain, tables
from kdnb.experiment.arms import ARMS, arm_config
from kdnb.experiment.points import Point, compare_points
from kdnb.experiment.workers import run_points

SOFT = (*METHOD_FIELDS, "student", "method")  # a student's alone, not its teacher's
SIZES = ("large", "small", *SOURCES)


def task_data(task: str, profile: str, train_rows: int | None = None, own: dict | None = None) -> TaskData:
    """The splits of a named task or, where own["path"] is given, of the user's files; ValueError otherwise."""
    if profile not in PROFILES:
        raise ValueError(f"unknown profile {profile!r}{nearest(profile, PROFILES)}")
    if not (own and own["path"]):
        if not task:
            raise ValueError("name a task, or give your own file with --data, --text and --label")
        return load(task, profile, train_rows)
    if task:
        raise ValueError(f"either a task ({task}) or --data ({own['path']}), not both")
    if not (own["text"] and own["label"]):
        raise ValueError(f"--data {own['path']} needs --text and --label, the names of its columns")
    from kdnb.data import own as own_data

    what, table = own_data.read(**own)
    return make(what, table, profile, train_rows)


def train(task, profile, method, student, teacher, seed, train_rows, changes) -> dict:
    """One run, and before it its teacher if that is named by size or model; returns the run's facts."""
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}{nearest(method, METHODS)}")
    if student not in SIZES:
        raise ValueError(f"student must be large, small or a model, got {student!r}{nearest(student, SIZES)}")
    involved = (method, changes.get("before"), changes.get("after"))
    if ("kd" in involved) != bool(teacher):
        raise ValueError("kd needs --teacher (large, small, a model or a run_id), the other methods take none")
    data = task_data(task, profile, train_rows)
    changes = {"order_seed": seed, "student": student, **changes}
    basis = next((name for name in ("kd", "tfkd", "ls") if name in involved), "erm")
    arm = next(name for name, arm in ARMS.items() if arm.method == basis)
    fields = {"task": data.task.name, "profile": profile, "data": data.fingerprint, "seed": seed}
    changes |= {"method": "switch"} if method == "switch" else {}
    config = arm_config(arm, **fields, teacher_run=teacher, **changes)  # refuses bad values before any training
    if teacher in SIZES:
        model_of(profile, teacher, data.task.name)  # so is a teacher that cannot read the task
    if teacher:
        config = replace(config, teacher_run=_teacher(teacher, data, profile, seed, changes))
    found = obtain.run_points([Point(tables.arm_of(config), config)], data)
    return facts(found[config.run_id()])


def _teacher(teacher: str, data: TaskData, profile: str, seed: int, changes: dict) -> str:
    """run_id of the teacher: the ERM model of a size or name, trained if need be, or a stored run, checked."""
    if teacher not in SIZES:
        try:
            found = store.load(teacher)
        except FileNotFoundError:
            known = nearest(teacher, [*SIZES, *store.stored_ids()])
            raise ValueError(f"teacher must be large, small, a model or a run_id{known}") from None
        if found.config.data != data.fingerprint:
            raise ValueError(
                f"teacher {teacher} was trained on {found.config.task} (data {found.config.data}), not on "
                f"{data.task.name} (data {data.fingerprint}): task, rows and label order must be the same"
            )
        return teacher
    shared = {name: value for name, value in changes.items() if name not in SOFT}
    arm = f"erm_{teacher}" if f"erm_{teacher}" in ARMS else "erm_small"
    shared |= {"student": teacher} if teacher in SOURCES else {}
    points = compare_points(data.task.name, profile, data.fingerprint, [seed], [arm], shared)
    obtain.run_points([Point(tables.arm_of(point.config), point.config) for point in points], data)
    return points[0].config.run_id()


def soft_changes(ls_alpha: float | None, kd_alpha: float | None, tau: float | None) -> dict[str, dict]:
    """Per arm, the fields that the soft-target options change."""
    changes = {}
    for name, arm in ARMS.items():
        alpha = {"ls": ls_alpha, "kd": kd_alpha, "tfkd": kd_alpha}.get(arm.method)
        given = {"alpha": alpha, "tau": tau if arm.method == "kd" else None}
        changes[name] = {field: value for field, value in given.items() if value is not None}
    return changes


def compare(task, own, profile, seeds, arms, changes, arm_changes, train_rows, workers=1) -> dict:
    """The whole comparison of one task; prints the table, returns it."""
    data = task_data(task, profile, train_rows, own)
    size = {split: len(part) for split, part in data.splits.items()}
    told = ", ".join(f"{n:,} {split}" for split, n in size.items())
    print(f"{data.task.caption}: {data.task.question} K = {data.task.num_classes}; {told}")
    if size["train"] < data.available:
        print(f"  of {data.available:,} train rows; --train-rows 0 takes all")
    seeds, arms = seeds or PROFILES[profile].seeds, arms or tuple(ARMS)
    points = compare_points(data.task.name, profile, data.fingerprint, seeds, arms, changes, arm_changes)
    done = run_points(points, data, workers)
    table = tables.tidy(list(done.values()))
    _print_table(table)
    return {"task": data.task.name, "profile": profile, "rows": size, "arms": [facts(run) for run in done.values()]}


def facts(run: Run) -> dict:
    """A run in plain data: what it is, test entropy [nats] and accuracy."""
    config, test = run.config, run.metrics["test"]
    return {
        "arm": tables.arm_of(config), "method": config.method, "student": config.student,
        "teacher": config.teacher_run,
        "seed": config.seed, "alpha": config.alpha, "tau": config.tau, "entropy": test["entropy"],
        "accuracy": test["accuracy"], "run_id": run.run_id,
    }  # fmt: skip


def _print_table(table) -> None:
    """Per arm: entropy and accuracy, mean and sd over the seeds, and the entropy difference to the same-size ERM."""
    from rich.console import Console
    from rich.table import Table

    shown = Table("arm", "n", "entropy, nats", "accuracy, %", "entropy - ERM, 95 % interval")
    both = tables.Study("", "", table, {})
    for entropy, accuracy in zip(
        tables.spread(table, "entropy").itertuples(), tables.spread(table, "accuracy").itertuples(), strict=True
    ):
        base = f"erm_{ARMS[entropy.arm].student}"
        difference = both.difference(entropy.arm, base, "entropy") if entropy.arm != base else ()
        effect = ""
        if len(difference) > 1:
            mean, low, high, _ = tables.interval(difference)
            effect = f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"
        sds = [
            f" ± {x:.{d}f}" if n > 1 else ""
            for x, d, n in ((entropy.sd, 3, entropy.n), (100 * accuracy.sd, 1, entropy.n))
        ]
        n = f"{entropy.n}, {entropy.degenerate} degenerate" if entropy.degenerate else str(entropy.n)
        shown.add_row(entropy.name, n, f"{entropy.mean:.3f}{sds[0]}", f"{100 * accuracy.mean:.1f}{sds[1]}", effect)
    Console().print(shown)
