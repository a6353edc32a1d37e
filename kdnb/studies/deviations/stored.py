"""Which stored students deviate beyond their controls, and what it brought: one value per seed for each claim.

The statistics are `kdnb.studies.deviations.scatter`'s. Which run is whose control, and how the claims are tested,
is our reconstruction of arXiv 2301.12923, whose text could not be read. Reads runs, trains nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kdnb.core.store import Run
from kdnb.experiment.arms import ARMS
from kdnb.experiment.tables import Study
from kdnb.studies.deviations.grids import DEVIATIONS
from kdnb.studies.deviations.scatter import SHARE, deviation, teacher_class_pair
from kdnb.sweeps.stored import of_grid

TAU = 4.0  # of the students that the claims speak of
SELF, ACROSS = "kd_self", "kd_standard"
SPLITS = ("train", "test")
CONTROL = "erm_small"


@dataclass(frozen=True)
class Case:
    """A KD student, its teacher, and the ERM model that is held against the same teacher."""

    arm: str
    student: Run
    teacher: Run
    control: Run

    @property
    def name(self) -> str:
        """As printed: "Self-KD, tau 4"."""
        return f"{ARMS[self.arm].name}, tau {self.student.config.tau:g}"

    def columns(self, split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(X, Y of the student, Y of the control) on a split; (N,) each, see `teacher_class_pair`."""
        x, y = teacher_class_pair(self.teacher.logits[split], self.student.logits[split])
        return x, y, teacher_class_pair(self.teacher.logits[split], self.control.logits[split])[1]


def study(task: str, profile: str) -> Study | None:
    """The stored runs of the grid DEVIATIONS, its teachers among them; None where there are none."""
    return of_grid(DEVIATIONS, task, profile)


def control_seed(stored: Study, arm: str, seed: int) -> int | None:
    """Whose small ERM model is the control of a student; None where the store has no such model.

    Of the student's own seed if the teacher is another size: it differs from the student in the teacher alone. In
    self-distillation that model is the teacher, so it is the one of the next seed, and the first's after the last.
    The student then shares its start and its order of batches with its teacher, which the control does not.
    """
    seeds = stored.seeds(CONTROL)
    if ARMS[arm].teacher != CONTROL:
        return seed if seed in seeds else None
    others = [other for other in seeds if other != seed]
    return next((other for other in others if other > seed), others[0]) if others else None


def cases(stored: Study | None) -> Iterator[Case]:
    """Every stored KD student whose teacher and control are stored as well: by arm, tau and seed."""
    if stored is None:
        return
    students = stored.table[(stored.table.method == "kd") & stored.table.teacher.isin(stored.runs)]
    for row in students.sort_values(["arm", "tau", "seed"]).itertuples():
        seed = control_seed(stored, row.arm, row.seed)
        if seed is not None:
            student, teacher = stored.runs[row.run_id], stored.runs[row.teacher]
            yield Case(row.arm, student, teacher, stored.run(CONTROL, seed))


COLUMNS = (
    "name", "arm", "tau", "seed", "control_seed", "split", "slope", "low_gap", "low_below", "low_slope", "high_gap",
    "high_below", "control_slope", "control_low_gap", "control_low_below", "control_high_gap", "low_beyond",
    "high_beyond", "gain", "run_id", "control_id",
)  # fmt: skip


def beside(x: np.ndarray, y: np.ndarray, control: np.ndarray, share: float = SHARE) -> dict[str, float]:
    """What `deviation` finds for a student and for its control, by the names of COLUMNS; (N,) three times."""
    ours, theirs = deviation(x, y, share), deviation(x, control, share)
    return {
        "slope": ours.slope,
        "low_gap": ours.low.gap,
        "low_below": ours.low.below,
        "low_slope": ours.low.slope,
        "high_gap": ours.high.gap,
        "high_below": ours.high.below,
        "control_slope": theirs.slope,
        "control_low_gap": theirs.low.gap,
        "control_low_below": theirs.low.below,
        "control_high_gap": theirs.high.gap,
        "low_beyond": ours.low.gap - theirs.low.gap,
        "high_beyond": ours.high.gap - theirs.high.gap,
    }


def table(stored: Study | None, share: float = SHARE) -> pd.DataFrame:
    """A row per KD student and split, with its control's statistics beside its own.

    Columns: COLUMNS. Gaps are means of Y - X [log-odds] where the teacher is least and most sure (`share` of the
    examples each), below is the share of examples there with Y < X; beyond is student minus control. gain: test
    accuracy minus that of the small ERM model of the student's seed [share], nan without one.
    """
    rows = []
    erm = stored.per_seed(CONTROL, "accuracy") if stored else {}
    for case in cases(stored):
        config, accuracy = case.student.config, case.student.metrics["test"]["accuracy"]
        same = {
            "name": case.name,
            "arm": case.arm,
            "tau": config.tau,
            "seed": config.seed,
            "control_seed": case.control.config.seed,
            "gain": accuracy - erm.get(config.seed, np.nan),
            "run_id": case.student.run_id,
            "control_id": case.control.run_id,
        }
        rows += [same | {"split": split} | beside(*case.columns(split), share) for split in SPLITS]
    return pd.DataFrame(rows, columns=COLUMNS)


MEANS = {
    "slope": "slope",
    "control_slope": "control's slope",
    "low_gap": "low mean Y - X",
    "control_low_gap": "control's low",
    "low_below": "low share below",
    "control_low_below": "control's share",
    "high_gap": "high mean Y - X",
    "control_high_gap": "control's high",
    "gain": "accuracy gain",
}


def means(rows: pd.DataFrame) -> pd.DataFrame:
    """The mean over seeds of each split (train first) and setting, under the names of MEANS."""
    in_order = rows.sort_values("split", ascending=False, kind="stable")
    return in_order.groupby(["split", "name"], sort=False)[list(MEANS)].mean().rename(columns=MEANS)


def underfit(rows: pd.DataFrame) -> pd.Series:
    """H6.1 by seed, claimed < 0: self-KD at tau 4, train, where the teacher is unsure.

    The larger of the mean of Y - X and of that minus the control's: both must lie below 0.
    """
    part = _of(rows, SELF)
    return part[["low_gap", "low_beyond"]].max(axis=1)


def underfit_across(rows: pd.DataFrame) -> pd.Series:
    """H6.2 by seed, claimed > 0: low gap beyond its control, standard KD's minus self-KD's; train, tau 4."""
    return (_of(rows, ACROSS).low_beyond - _of(rows, SELF).low_beyond).dropna()


def deviation_and_gain(rows: pd.DataFrame) -> pd.Series:
    """H6.3 by seed, claimed to be 0: r over the seed's students of depth and accuracy gain.

    Depth is how far below its control a student lies on train where its teacher is unsure; r > 0 says that who
    deviates further gains more. A seed with fewer than three students, or where one side does not vary, has none.
    """
    part, correlations = rows[rows.split == "train"].dropna(subset="gain"), {}
    for seed, students in part.groupby("seed"):
        if len(students) > 2 and students.gain.std() > 0 and students.low_beyond.std() > 0:
            correlations[seed] = float(np.corrcoef(-students.low_beyond, students.gain)[0, 1])
    return pd.Series(correlations, dtype=float)


EFFECTS = {"underfit": underfit, "underfit across": underfit_across, "deviation and gain": deviation_and_gain}


def _of(rows: pd.DataFrame, arm: str) -> pd.DataFrame:
    """One arm at TAU on train, by seed."""
    return rows[(rows.arm == arm) & (rows.tau == TAU) & (rows.split == "train")].set_index("seed").sort_index()
