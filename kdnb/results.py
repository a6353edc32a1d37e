"""Stored runs as a tidy table, and what is computed over their seeds. Reads runs, trains nothing."""

import sys
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from kdnb import metrics, runs
from kdnb.arms import ARMS, arm_config
from kdnb.config import PROFILES, RunConfig, slug
from kdnb.runs import DamagedRun, Run
from kdnb.tasks import TASKS


class NoRuns(LookupError):
    """The store holds none of the runs asked for; the message says what to run."""


def arm_of(config: RunConfig) -> str:
    """The key of ARMS a config belongs to, whatever its hyper-parameters; "" for none."""
    teacher = config.teacher_run.rsplit("-", 3)[1] if config.teacher_run else ""
    for name, arm in ARMS.items():
        of_teacher = ARMS[arm.teacher].student if arm.teacher else ""
        if (arm.method, arm.student, of_teacher) == (config.method, config.student, teacher):
            return name
    return ""


def is_default(config: RunConfig) -> bool:
    """Whether a run is its arm at the profile's fixed hyper-parameters, and its teacher as well."""
    arm = arm_of(config)
    if not arm:
        return False
    same = {name: getattr(config, name) for name in ("task", "profile", "data", "seed")}
    teacher = arm_config(ARMS[arm].teacher, **same).run_id() if ARMS[arm].teacher else ""
    return config == arm_config(arm, **same, teacher_run=teacher)


@dataclass(frozen=True)
class Study:
    """The runs of one task at one profile: the tidy table and the runs behind it.

    table: one row per run: run_id, arm, name, method, student, teacher, seed, n_train, the test metrics
    by their names, train_entropy, seconds. runs: run_id -> Run.
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
        title = TASKS[self.task].caption if self.task in TASKS else self.task.removeprefix("own:")
        words = "TOY PROFILE, generated text, says nothing about language: " if self.profile == "toy" else ""
        first, seeds = self.table.iloc[0], self.table.seed.nunique()
        return (
            f"{words}{title}, profile {self.profile}: {first.n_train:,} train and {first.n_test:,} test examples, "
            f"{seeds} seed{'s' if seeds > 1 else ''}"
        )

    def run(self, arm: str, seed: int) -> Run:
        """The run of an arm and seed; NoRuns if it is missing."""
        found = self.table[(self.table.arm == arm) & (self.table.seed == seed)]
        if found.empty:
            raise NoRuns(f"no run of {arm} with seed {seed} on {self.task} ({self.profile})")
        return self.runs[found.run_id.iloc[0]]

    def seeds(self, *arms: str) -> list[int]:
        """Seeds that all these arms have, sorted."""
        sets = [set(self.table[self.table.arm == arm].seed) for arm in arms]
        return sorted(set.intersection(*sets)) if sets else []

    def per_seed(self, arm: str, metric: str) -> pd.Series:
        """A metric of one arm, indexed by seed."""
        rows = self.table[self.table.arm == arm]
        return rows.set_index("seed")[metric].sort_index()

    def difference(self, arm: str, than: str, metric: str) -> pd.Series:
        """arm minus than, paired by seed; seeds that one of them lacks are left out."""
        return (self.per_seed(arm, metric) - self.per_seed(than, metric)).dropna()


def study(task: str, profile: str) -> Study:
    """The stored runs of a task at a profile's fixed hyper-parameters.

    Where the store holds several cuts of the data, the one with most runs is taken. A damaged run is
    reported and left out: a gap, never a zero.

    Raises:
        NoRuns: there are none, with the command that makes them.
    """
    if profile not in PROFILES:
        raise NoRuns(f"unknown profile {profile!r} (known: {', '.join(PROFILES)})")
    found = [run for run in load_runs(f"{slug(task)}-") if (run.config.task, run.config.profile) == (task, profile)]
    found = [run for run in found if is_default(run.config)]
    if not found:
        raise NoRuns(
            f"no runs of {task} at profile {profile}: make them with `kdnb compare {task} --profile {profile}`"
        )
    counts = pd.Series([run.config.data for run in found]).value_counts()
    found = [run for run in found if run.config.data == counts.index[0]]
    return Study(task, profile, tidy(found), {run.run_id: run for run in found})


def load_runs(prefix: str = "") -> list[Run]:
    """All valid runs whose names begin with a prefix; damaged ones are reported on stderr and left out."""
    found = []
    for run_id in runs.stored_ids():
        if run_id.startswith(prefix):
            try:
                found.append(runs.load(run_id))
            except DamagedRun as error:
                print(f"kdnb: {error}; left out. To redo it: kdnb runs verify --redo", file=sys.stderr)
    return found


def tidy(found: list[Run]) -> pd.DataFrame:
    """One row per run, in the order of ARMS and seeds."""
    rows = []
    for run in found:
        config, arm = run.config, arm_of(run.config)
        row = {"run_id": run.run_id, "arm": arm, "name": ARMS[arm].name if arm else run.run_id}
        keep = ("task", "profile", "method", "student", "seed", "alpha", "tau", "lr", "epochs")
        row |= {name: value for name, value in asdict(config).items() if name in keep}
        row |= {"teacher": config.teacher_run, "n_train": len(run.labels["train"]), "n_test": len(run.labels["test"])}
        row |= run.metrics["test"]
        row |= {"train_entropy": run.metrics["train"]["entropy"], "train_accuracy": run.metrics["train"]["accuracy"]}
        row |= {"curve_entropy": curve_entropy(run), "seconds": run.metrics["cost"]["seconds"]}
        rows.append(row)
    table = pd.DataFrame(rows)
    order = {arm: i for i, arm in enumerate(ARMS)}
    table = table.assign(order=table.arm.map(order)).sort_values(["order", "seed"])
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


def curve_entropy(run: Run) -> float:
    """Test entropy averaged over the sampled training curve, the untrained start left out [nats]."""
    values = [row["test_entropy"] for row in run.history if row["step"] > 0]
    return float(np.mean(values)) if values else float("nan")


def spread(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Per arm: name, mean, sd and n over the seeds, and the run_ids behind them, in the order of ARMS."""
    grouped = table.groupby("arm", sort=False)
    result = grouped.agg(name=("name", "first"), mean=(metric, "mean"), sd=(metric, "std"), n=(metric, "count"))
    result["run_ids"] = grouped.run_id.agg(list)
    return result.reset_index()


def interval(differences: pd.Series) -> tuple[float, float, float, int]:
    """Mean, low and high end of the 95 % t interval, and n, over paired differences."""
    mean, half = metrics.t_interval(differences.to_numpy())
    return mean, mean - half, mean + half, len(differences)
