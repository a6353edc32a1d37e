"""A study: some runs of one task as a tidy table, with the runs behind it, paired by seed."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from kdnb.catalog import TASKS, is_image, task_named
from kdnb.core import metrics
from kdnb.core.store import Run


class NoRuns(LookupError):
    """The store holds none of the runs asked for; the message says what to run."""


@dataclass(frozen=True)
class Study:
    """Runs of one task at one profile: the tidy table and the runs behind it.

    table: one row per run, see `tidy`. runs: run_id -> Run.
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
        toy = ("images", "vision") if is_image(self.task) else ("text", "language")
        words = "TOY PROFILE, generated {}, says nothing about {}: ".format(*toy) if self.profile == "toy" else ""
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
