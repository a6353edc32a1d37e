"""The stored runs of this study as cells: what each student was taught, by which teacher, and what came of it."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from kdnb.analysis.ledger import as_printed
from kdnb.analysis.statistics import interval
from kdnb.core import metrics
from kdnb.experiment.tables import Study
from kdnb.studies.two_effects.targets import transformed

HUMAN_HARD, HUMAN_SOFT = "label, hard", "label, soft"
TEACHER_HARD, TEACHER_SOFT = "teacher's, hard", "teacher's, soft"
TWO_BY_TWO = (HUMAN_HARD, HUMAN_SOFT, TEACHER_HARD, TEACHER_SOFT)
LS = "LS"
MEASURED = {  # an entropy never stands alone: metric -> its name and unit
    "entropy": ("entropy", "nats"),
    "nll": ("NLL", "nats"),
    "accuracy": ("accuracy", "points"),
}
OWN_SEED, OTHER_SEED, STANDARD = "own seed's", "another seed's", "the large model"


def cell_of(row: object) -> str:
    """The cell that a row of `kdnb.experiment.tables.tidy` belongs to in the two by two, or LS; "" for none."""
    method, student = getattr(row, "method", ""), getattr(row, "student", "")
    if student != "small":
        return ""
    if method in ("erm", "ls"):
        return HUMAN_HARD if method == "erm" else LS
    if getattr(row, "alpha", 0) != 1 or getattr(row, "tau", 1) != 1:
        return ""
    if method == "kd":
        return TEACHER_SOFT
    return {"hard": TEACHER_HARD, "swap": HUMAN_SOFT}.get(str(getattr(row, "transform", "")), "")


def two_by_two(study: Study, metric: str = "entropy", epochs: int | None = None) -> pd.DataFrame:
    """A metric of each cell and of LS, a row a seed; seeds that lack a cell are left out.

    Args:
        study: runs of the grid `softness`, or of `budgets`.
        metric: a column of `kdnb.experiment.tables.tidy`.
        epochs: of `budgets`, those of one budget; None where there is but one.
    """
    rows = study.table if epochs is None else study.table[study.table.epochs == epochs]
    cells = rows.assign(cell=[cell_of(row) for row in rows.itertuples()])
    table = cells[cells.cell != ""].pivot_table(index="seed", columns="cell", values=metric, aggfunc="first")
    wanted = [*TWO_BY_TWO, LS]
    return table.reindex(columns=wanted).dropna(subset=list(TWO_BY_TWO))


def softness_effect(cells: pd.DataFrame) -> pd.Series:
    """What softness does, at the label and at the teacher's argmax alike: mean of soft minus hard, by seed."""
    return (cells[HUMAN_SOFT] - cells[HUMAN_HARD] + cells[TEACHER_SOFT] - cells[TEACHER_HARD]) / 2


def labels_effect(cells: pd.DataFrame) -> pd.Series:
    """What the teacher's labels do, hard and soft alike: mean of the teacher's minus the human's, by seed."""
    return (cells[TEACHER_HARD] - cells[HUMAN_HARD] + cells[TEACHER_SOFT] - cells[HUMAN_SOFT]) / 2


def interaction(cells: pd.DataFrame) -> pd.Series:
    """How much more softness does at the teacher's labels than at the human ones, by seed."""
    return (cells[TEACHER_SOFT] - cells[TEACHER_HARD]) - (cells[HUMAN_SOFT] - cells[HUMAN_HARD])


def kd_minus_erm(cells: pd.DataFrame) -> pd.Series:
    """KD minus ERM, by seed: the sum of the two main effects, whatever the interaction."""
    return cells[TEACHER_SOFT] - cells[HUMAN_HARD]


def ls_minus_erm(cells: pd.DataFrame) -> pd.Series:
    """LS minus ERM, by seed; nan where there is no LS."""
    return cells[LS] - cells[HUMAN_HARD]


EFFECTS: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    "softness": softness_effect,
    "teacher's labels": labels_effect,
    "KD minus ERM": kd_minus_erm,
    "interaction": interaction,
    "LS minus ERM": ls_minus_erm,
}


def effects(cells: pd.DataFrame) -> pd.DataFrame:
    """Each of EFFECTS on a table of `two_by_two`, a row each: of (its name), effect, low, high (95 % t interval), n."""
    rows = [(name, *interval(effect(cells).dropna())) for name, effect in EFFECTS.items()]
    return pd.DataFrame(rows, columns=["of", "effect", "low", "high", "n"])


def measured(study: Study, epochs: int | None = None) -> pd.DataFrame:
    """`effects` on entropy, NLL and accuracy, a row each; `metric` beside, and `degenerate`: runs that learnt nothing.

    Args:
        study: as `two_by_two`.
        epochs: likewise.
    """
    parts = [effects(two_by_two(study, metric, epochs)).assign(metric=metric) for metric in MEASURED]
    nothing = two_by_two(study, "degenerate", epochs).sum().sum()
    return pd.concat(parts, ignore_index=True).assign(degenerate=int(nothing))


def starred(rows: pd.DataFrame, names: tuple[str, ...]) -> pd.DataFrame:
    """Rows of `measured` as text, a line a place; * where the 95 % interval over seeds leaves out 0.

    Args:
        rows: with a column `at`, what their line is named.
        names: of EFFECTS, those that are shown.
    Returns:
        A column an effect and metric, and one of the runs of a line that learnt nothing.
    """
    lines: dict[str, dict[tuple[str, str], str]] = {}
    for row in rows[rows.of.isin(names)].itertuples():
        name, unit = MEASURED[row.metric]
        star = "*" if row.low > 0 or row.high < 0 else ""
        line = lines.setdefault(row.at, {("learnt nothing", "runs"): str(row.degenerate)})
        line[row.of, f"{name} [{unit}]"] = as_printed(row.effect, unit) + star
    heads = [(of, f"{name} [{unit}]") for of in names for name, unit in MEASURED.values()]
    columns = pd.MultiIndex.from_tuples([*heads, ("learnt nothing", "runs")])
    table = pd.DataFrame(lines.values(), list(lines)).reindex(columns=columns)
    return table.astype(object).fillna("–")


def teachers(study: Study) -> pd.DataFrame:
    """The large ERM models of a study: train and test accuracy [shares] and entropy [nats], by seed."""
    rows = study.table[(study.table.method == "erm") & (study.table.student == "large")]
    return rows.set_index("seed")[["train_accuracy", "train_entropy", "accuracy", "entropy"]].sort_index()


def dose_response(study: Study, alpha: float = 1.0) -> pd.DataFrame:
    """One row per student of a scaled teacher: how much less sure than ERM its teacher is on train, and it on test.

    Args:
        study: runs of the grid `dose`.
        alpha: the weight of the soft target.
    Returns:
        seed, dose (inf for hard), x (entropy of the changed teacher's posteriors on train minus that of the ERM
        student's [nats]), change (test entropy minus ERM's [nats]), nll and accuracy (the same), run_id.
    """
    erm = study.table[(study.table.method == "erm") & (study.table.student == "small")].set_index("seed")
    rows = []
    for row in study.table[(study.table.student == "small") & (study.table.alpha == alpha)].itertuples():
        dose = _dose(row)
        if np.isnan(dose) or row.seed not in erm.index or row.teacher not in study.runs:
            continue
        run, base = study.runs[row.teacher], erm.loc[row.seed]
        how, sharpness = ("hard", 1.0) if np.isinf(dose) else ("scale", dose)
        told = transformed(run.logits["train"], run.labels["train"], how, sharpness, row.seed)
        told_entropy = float(metrics.per_example("entropy", told, run.labels["train"]).mean())
        rows.append(
            (
                row.seed,
                dose,
                told_entropy - base.train_entropy,
                row.entropy - base.entropy,
                row.nll - base.nll,
                row.accuracy - base.accuracy,
                row.run_id,
            )
        )
    table = pd.DataFrame(rows, columns=["seed", "dose", "x", "change", "nll", "accuracy", "run_id"])
    return table.sort_values(["seed", "dose"]).reset_index(drop=True)


def doubted(doses: pd.DataFrame) -> pd.DataFrame:
    """The rows of `dose_response` at which the teacher is less sure on train than the ERM student."""
    return doses[(doses.x > 0) & (doses.dose < np.inf)]


def sloping(doses: pd.DataFrame) -> pd.DataFrame:
    """Those of them at seeds that have two such doses or more, which `slopes` are made of."""
    doubt = doubted(doses)
    return doubt[doubt.groupby("seed").dose.transform("size") > 1]


def slopes(doses: pd.DataFrame) -> pd.Series:
    """How much of a teacher's doubt its student takes over, by seed: the slope of change in x through the origin.

    Args:
        doses: of `dose_response`.
    """
    rows = sloping(doses)
    sums = rows.assign(xy=rows.x * rows.change, xx=rows.x**2).groupby("seed")[["xy", "xx"]].sum()
    return sums.xy / sums.xx


def at_equal_progress(study: Study, metric: str = "entropy") -> pd.DataFrame:
    """A metric of each cell minus ERM's at the same NLL on train, instead of at the same epochs: a row a seed.

    ERM's metric lies between its budgets, linear in the log of its train NLL; a budget of another cell that has
    learnt less than ERM's shortest or more than its longest is left out. A mean over the budgets that are left.

    Args:
        study: runs of the grid `budgets`.
        metric: a column of `kdnb.experiment.tables.tidy`.
    Returns:
        A column a cell and LS; nan where no budget is left.
    """
    rows = study.table.assign(cell=[cell_of(row) for row in study.table.itertuples()], progress=np.nan)
    rows = rows[rows.cell != ""]
    rows.progress = [np.log(_train_nll(study, run_id)) for run_id in rows.run_id]
    found = {}
    for seed, of_seed in rows.groupby("seed"):
        erm = of_seed[of_seed.cell == HUMAN_HARD].sort_values("progress")
        if len(erm) < 2:
            continue
        others = of_seed[of_seed.progress.between(erm.progress.iloc[0], erm.progress.iloc[-1])]
        alike = np.interp(others.progress, erm.progress, erm[metric])
        found[seed] = (others[metric] - alike).groupby(others.cell).mean()
    table = pd.DataFrame(found).T.rename_axis("seed")
    return table.reindex(columns=[*TWO_BY_TWO[1:], LS])


def _train_nll(study: Study, run_id: str) -> float:
    run = study.runs[run_id]
    return float(metrics.per_example("nll", run.logits["train"], run.labels["train"]).mean())


def _dose(row: object) -> float:
    """The multiplier of a student's teacher; inf for hard labels, nan for what is no dose."""
    method, tau = getattr(row, "method", ""), getattr(row, "tau", 1)
    if method == "kd":
        return 1.0 if tau == 1 else np.nan
    if method != "transformed":
        return np.nan
    return {"scale": float(getattr(row, "sharpness", 1)), "hard": np.inf}.get(
        str(getattr(row, "transform", "")), np.nan
    )


def placebo_of(study: Study) -> Callable[[object], str]:
    """What tells the placebo that a row of the grids is: a transform, or whose model taught its student."""
    own = study.table[(study.table.method == "erm") & (study.table.student == "small")]
    of_seed = dict(zip(own.run_id, own.seed, strict=True))
    large = set(study.table[(study.table.method == "erm") & (study.table.student == "large")].run_id)

    def name(row: object) -> str:
        method, student = getattr(row, "method", ""), getattr(row, "student", "")
        if student != "small":
            return ""
        if method in ("erm", "ls"):
            return method.upper()
        if method == "transformed":
            return str(getattr(row, "transform", ""))
        teacher = getattr(row, "teacher", "")
        if teacher in large:
            return STANDARD
        if teacher in of_seed:
            return OWN_SEED if of_seed[teacher] == getattr(row, "seed", None) else OTHER_SEED
        return ""

    return name


def placebos(study: Study, metric: str = "entropy") -> pd.DataFrame:
    """A metric of each placebo's students, of ERM, LS and KD, a row a seed."""
    name = placebo_of(study)
    cells = study.table.assign(cell=[name(row) for row in study.table.itertuples()])
    return cells[cells.cell != ""].pivot_table(index="seed", columns="cell", values=metric, aggfunc="first")
