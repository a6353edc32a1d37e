"""Stored runs as a tidy table, and what is computed over their seeds. Reads runs, trains nothing."""

import functools
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import pandas as pd

from kdnb.catalog import AS_IT_IS, MODALITIES, PROFILES, TASKS, check_name, modality_of, task_named
from kdnb.core import metrics, store
from kdnb.core.config import RunConfig, axes, flat, slug
from kdnb.core.store import Run
from kdnb.errors import NoRuns
from kdnb.experiment import teachers
from kdnb.experiment.arms import ALL, ARMS, GIVEN, NAMES, TAUGHT, arm_config
from kdnb.experiment.records import read_if_whole

EARLY = 0.2  # share of a training that counts as its beginning


@dataclass(frozen=True)
class Study:
    """Runs of one task at one profile: the tidy table and the runs behind it.

    Attributes:
        task: a key of TASKS, or a name of the user's own.
        profile: a key of PROFILES.
        table: one row per run, see `tidy`.
        runs: run_id -> Run.
    """

    task: str
    profile: str
    table: pd.DataFrame
    runs: dict[str, Run]

    @property
    def num_classes(self) -> int:
        """K."""
        return next(iter(self.runs.values())).logits["test"].shape[1]

    @property
    def caption(self) -> str:
        """What stands below every figure: task, profile, rows, seeds."""
        named = self.task.partition("@")[0] in TASKS
        title = task_named(self.task).caption if named else self.task.removeprefix("own:")
        of = MODALITIES[modality_of(self.task)]
        toy = f"TOY PROFILE, generated {of.examples}, says nothing about {of.field}: "
        first, seeds = self.table.iloc[0], self.table.seed.nunique()
        return (
            f"{toy if self.profile == 'toy' else ''}{title}, profile {self.profile}: "
            f"{first.n_train:,} train and {first.n_test:,} test examples, "
            f"{seeds} seed{'s' if seeds > 1 else ''}"
        )

    def run(self, arm: str, seed: int) -> Run:
        """The run of an arm and seed; NoRuns if it is missing."""
        if (arm, seed) not in self._first:
            raise NoRuns(f"no run of {arm} with seed {seed} on {self.task} ({self.profile})")
        return self.runs[self._first[arm, seed]]

    @functools.cached_property
    def _first(self) -> dict[tuple[str, int], str]:
        """(arm, seed) -> the run_id that stands first in the table."""
        rows = self.table[["arm", "seed", "run_id"]][::-1].itertuples(index=False)
        return {(row.arm, row.seed): row.run_id for row in rows}

    def seeds(self, *arms: str) -> list[int]:
        """Seeds that all these arms have, sorted."""
        sets = [set(self.table.seed[self.table.arm == arm]) for arm in arms]
        return sorted(set.intersection(*sets)) if sets else []

    def per_seed(self, arm: str, metric: str) -> pd.Series:
        """A metric of one arm, indexed by seed."""
        return self._by_seed.get(arm, self._by_seed[""])[metric].copy()

    @functools.cached_property
    def _by_seed(self) -> dict[str, pd.DataFrame]:
        """Arm -> its rows of the table, indexed and sorted by seed; "" has none unless there is such an arm."""
        rows = self.table.set_index("seed")
        return {"": rows[:0], **{str(arm): of.sort_index() for arm, of in rows.groupby("arm", sort=False)}}

    def difference(self, arm: str, than: str, metric: str) -> pd.Series:
        """arm minus than (0 if than is ""), paired by seed; seeds that one of them lacks are left out."""
        other = self.per_seed(than, metric) if than else 0.0
        return (self.per_seed(arm, metric) - other).dropna()

    def per_example(self, arm: str, metric: str, seeds: list[int]) -> np.ndarray:
        """A metric of one arm per test example, mean over some seeds; (N,). Metrics of `metrics.per_example`."""
        of_seeds = [self.run(arm, seed) for seed in seeds]
        values = [metrics.per_example(metric, run.logits["test"], run.labels["test"]) for run in of_seeds]
        return np.mean(values, axis=0)

    def only(self, table: pd.DataFrame) -> "Study":
        """The same study with some rows of its table; the runs stay, teachers among them."""
        return Study(self.task, self.profile, table.reset_index(drop=True), self.runs)


def arm_of(config: RunConfig) -> str:
    """The arm a config belongs to, whatever its hyper-parameters: a key of `arms.NAMES`; "" for none.

    How a teacher was trained is read off its own config: by one that was not trained on plain labels KD is an arm of
    TAUGHT. A teacher that is not stored is known if its name is that of an ERM arm at fixed hyper-parameters;
    otherwise the arm says that it is unknown.
    """
    if config.method == "kd" and (origin := teachers.origin_of(config.teacher_run)):
        return f"kd_{config.student}_from_{origin}" if config.student in ("large", "small") else ""
    teacher = _teacher(config) if config.method == "kd" else None
    if config.method == "kd" and (teacher is None or teacher.method != "erm"):
        of = f"{teacher.method}_{teacher.student}" if teacher else "unknown"
        name = f"kd_{config.student}_from_{of}"
        return name if name in TAUGHT else ""
    for name, arm in ARMS.items():
        of_teacher = ARMS[arm.teacher].student if arm.teacher else ""
        if (arm.method, arm.student, of_teacher) == (config.method, config.student, teacher.student if teacher else ""):
            return name
    return ""


def _teacher(config: RunConfig) -> RunConfig | None:
    """The config of a KD run's teacher; None if it cannot be known."""
    fixed = _fixed_erm(config.task, config.profile, config.data, config.seed)
    return store.config_of(config.teacher_run) or fixed.get(config.teacher_run)


@functools.lru_cache(maxsize=1024)
def _fixed_erm(task: str, profile: str, data: str, seed: int) -> dict[str, RunConfig]:
    """run_id -> config of the ERM arms at fixed hyper-parameters: teachers whose names prove what they are."""
    same: dict[str, Any] = {"task": task, "profile": profile, "data": data, "seed": seed}
    return {config.run_id(): config for config in (arm_config(arm, **same) for arm in ("erm_large", "erm_small"))}


def is_default(config: RunConfig, but: tuple[str, ...] = ()) -> bool:
    """Whether a run is its arm at the profile's fixed hyper-parameters, and its teacher as well.

    Args:
        config: of the run.
        but: names of fields that may differ, and then do so in both alike.
    """
    arm = arm_of(config)
    if arm not in ARMS:
        return False
    same = {name: getattr(config, name) for name in ("task", "profile", "data", "seed", *but)}
    teacher = arm_config(ARMS[arm].teacher, **same).run_id() if ARMS[arm].teacher else ""
    return config == arm_config(arm, **same, teacher_run=teacher)


def study(task: str, profile: str, keep: Callable[[RunConfig], bool] = is_default) -> Study:
    """The stored runs of a task at a profile: those of the fixed arms, or what `keep` lets through.

    Where the store holds several cuts of the data, the one with most runs is taken. A damaged run is
    reported and left out: a gap, never a zero.

    Raises:
        NoRuns: there are none, with the command that makes them.
        ValueError: there is no such task.
    """
    if profile not in PROFILES:
        raise NoRuns(f"unknown profile {profile!r} (known: {', '.join(PROFILES)})")
    check_name(task)

    def wanted(config: RunConfig) -> bool:
        return (config.task, config.profile) == (task, profile) and keep(config)

    runs = load_runs(f"{slug(task)}-", wanted)
    if not runs:
        raise _no_runs(task, profile, keep)
    counts = pd.Series([run.config.data for run in runs]).value_counts()
    runs = [run for run in runs if run.config.data == counts.index[0]]
    return Study(task, profile, tidy(runs), {run.run_id: run for run in runs})


def _no_runs(task: str, profile: str, keep: Callable[[RunConfig], bool]) -> NoRuns:
    """That none of a task's runs is wanted, how many there are at other settings and profiles, and what makes them."""
    stored = stored_configs(task).values()
    others = sum(config.profile == profile for config in stored)
    settings = f" at the settings wanted here, {others} at others" if others else ""
    counts = Counter(config.profile for config in stored if config.profile != profile and keep(config))
    elsewhere = ": "
    if counts:
        listed = " and ".join(f"{count} at profile {name}" for name, count in counts.most_common())
        (most, _), *_ = counts.most_common()
        elsewhere = f", but {listed}: read those with `-p profile={most}` (commands: `--profile {most}`), or "
    data = "--data FILE --text COLUMN --label COLUMN" if task.startswith("own:") else task
    command = f"kdnb compare {data} --profile {profile}"
    return NoRuns(f"no runs of {task} at profile {profile}{settings}{elsewhere}make them with `{command}`")


def load_runs(prefix: str = "", keep: Callable[[RunConfig], bool] = lambda config: True) -> list[Run]:
    """All valid runs whose names begin with a prefix and whose config `keep` lets through.

    Damaged ones are reported on stderr and left out.
    """
    runs = []
    for run_id in store.stored_ids():
        if run_id.startswith(prefix):
            config = store.config_of(run_id)
            wanted = keep(config) if config else not store.kind_of(run_id)
            if wanted and (run := read_if_whole(_loaded, run_id)):
                runs.append(run)
    return runs


_ALIVE: WeakValueDictionary[tuple, Run] = WeakValueDictionary()  # by name and the state of its files


def _loaded(run_id: str) -> Run:
    """A stored run; the one that is in use already, as it is of another study's table, if its files are the same."""
    where, config = store.folder(run_id), store.config_of(run_id)
    if config is None:
        return store.load(run_id)
    files = [*where.iterdir(), store.labels_path(config.data, where.parent)]
    key = (where, *((path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in files if path.exists()))
    run = _ALIVE.get(key)
    if run is None:
        run = _ALIVE[key] = store.load(run_id)
    return run


def stored_configs(task: str, profile: str = "") -> dict[str, RunConfig]:
    """run_id -> config of every stored run of a task at a profile, "" for all; no logits, unreadable ones left out.

    Raises:
        ValueError: there is no such task.
    """
    check_name(task)
    configs = {run_id: store.config_of(run_id) for run_id in store.stored_ids() if run_id.startswith(f"{slug(task)}-")}
    return {
        name: config
        for name, config in configs.items()
        if config and config.task == task and config.profile == (profile or config.profile)
    }


def tidy(runs: list[Run], arms: Mapping[str, str] | None = None) -> pd.DataFrame:
    """One row per run, in the order of ALL and seeds; then those of no arm, and of other arms by name.

    Columns: run_id, arm, name, teacher, the config's fields named below, n_train, n_test, the test metrics by
    their names, overconfidence (confidence minus accuracy), degenerate (see `metrics.is_degenerate`),
    validation_accuracy, train_accuracy, train_entropy, the two curve entropies, that of the first fifth of training
    (early_entropy), seconds.

    Args:
        runs: of any tasks.
        arms: run_id -> arm, for runs whose configs do not tell; `arm_of` for the others.
    """
    rows = []
    keep = {"task", "profile", "method", "student", "seed", *axes()}
    for run in runs:
        config, test = run.config, run.metrics["test"]
        arm = (arms or {}).get(run.run_id) or arm_of(config)
        name = GIVEN if config.model.startswith(AS_IT_IS) else NAMES.get(arm, run.run_id)
        row: dict[str, Any] = {"run_id": run.run_id, "arm": arm, "name": name}
        row |= {name: value for name, value in flat(config).items() if name in keep}
        row |= {"teacher": config.teacher_run, "n_train": len(run.labels["train"]), "n_test": len(run.labels["test"])}
        row |= test | {"overconfidence": test["confidence"] - test["accuracy"]}
        row |= {"degenerate": metrics.is_degenerate(run.logits["test"], run.labels["test"])}
        row |= {"validation_accuracy": run.metrics["validation"]["accuracy"]}
        row |= {"train_entropy": run.metrics["train"]["entropy"], "train_accuracy": run.metrics["train"]["accuracy"]}
        row |= {"curve_entropy": curve_entropy(run), "train_curve_entropy": curve_entropy(run, "train")}
        row |= {"early_entropy": curve_entropy(run, until=EARLY)}
        rows.append(row | {"seconds": run.metrics["cost"]["seconds"]})
    table = pd.DataFrame(rows)
    order = {arm: i for i, arm in enumerate(ALL)}
    table = table.assign(order=table.arm.map(order)).sort_values(["order", "arm", "seed"])
    return table.drop(columns="order").reset_index(drop=True)


def curves(study: Study, arms: list[str]) -> pd.DataFrame:
    """The entropy samples over training of some arms: arm, seed, run_id, step, epoch, loss and the entropy columns."""
    rows = []
    for row in study.table[study.table.arm.isin(arms)].itertuples():
        rows += [
            {"arm": row.arm, "seed": row.seed, "run_id": row.run_id, **sample}
            for sample in study.runs[row.run_id].history
        ]
    return pd.DataFrame(rows)


def curve_entropy(run: Run, split: str = "test", until: float = 1.0) -> float:
    """A split's entropy averaged over the sampled training curve, the untrained start left out [nats].

    Args:
        run: whose curve.
        split: "train" or "test".
        until: which share of the training is averaged.
    """
    last = max((row["step"] for row in run.history), default=0)
    values = [row[f"{split}_entropy"] for row in run.history if 0 < row["step"] <= until * last]
    return float(np.mean(values)) if values else float("nan")


def precisions(study: Study) -> pd.DataFrame:
    """In which precision an arm was trained, a row a seed: "bf16", "fp32", both, or "unknown"; nan without runs."""
    used = [study.runs[run_id].metrics["cost"].get("precision", "unknown") for run_id in study.table.run_id]
    by_run = study.table.assign(precision=used).groupby(["seed", "arm"], sort=False).precision
    return by_run.agg(lambda of: " and ".join(sorted(set(of)))).unstack("arm")


def spread(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Per arm: name, mean, sd and n over the seeds, and the run_ids behind them, in the order of the table.

    degenerate counts the runs that have learnt nothing; they are part of the mean.
    """
    grouped = table.groupby("arm", sort=False)
    result = grouped.agg(
        name=("name", "first"),
        mean=(metric, "mean"),
        sd=(metric, "std"),
        n=(metric, "count"),
        degenerate=("degenerate", "sum"),
    )
    result["run_ids"] = grouped.run_id.agg(list)
    return result.reset_index()
