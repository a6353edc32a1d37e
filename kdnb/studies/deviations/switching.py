"""What is left of KD's gain when the loss changes in mid-training: one value per seed for each claim.

Works on a table of trainings, from the run store (`table`) or simulated (`kdnb.studies.deviations.switched_toys`).
Switch points and ramp are our reconstruction of arXiv 2301.12923, whose text could not be read.
Reads runs, trains nothing.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from kdnb.analysis import statistics
from kdnb.analysis.statistics import NAN, Effect, over_seeds
from kdnb.experiment.tables import Study
from kdnb.studies.deviations.grids import SWITCHING
from kdnb.studies.deviations.scatter import deviation, teacher_class_pair
from kdnb.sweeps.stored import of_grid

LATE, EARLY = "one-hot -> KD", "KD -> one-hot"  # the teacher comes late, or leaves early
WAYS = {LATE: ("erm", "kd"), EARLY: ("kd", "erm")}
LAST = 0.75  # from here on labels count as last
COLUMNS = ("way", "switch_at", "seed", "accuracy", "entropy", "low_gap", "teacher_fit", "run_id")


def study(task: str, profile: str) -> Study | None:
    """The stored runs of the grid SWITCHING, its teachers among them; None where there are none."""
    return of_grid(SWITCHING, task, profile)


def table(stored: Study | None) -> pd.DataFrame:
    """A row per training of the small student and way; the pure methods are both ways' ends, at 0 and 1.

    Columns: way, switch_at [share of the steps], seed, accuracy, entropy [nats] (both on test), low_gap (mean of
    Y - X on train where the teacher is least sure, log-odds), teacher_fit (its train accuracy), run_id. A seed
    whose teacher is missing is left out.
    """
    if stored is None:
        return pd.DataFrame([], columns=COLUMNS)
    rows = []
    for run in stored.runs.values():
        config, seed = run.config, run.config.seed
        if config.student != "small" or seed not in stored.seeds("erm_large"):
            continue
        teacher, test = stored.run("erm_large", seed), run.metrics["test"]
        low_gap = deviation(*teacher_class_pair(teacher.logits["train"], run.logits["train"])).low.gap
        teacher_fit = teacher.metrics["train"]["accuracy"]
        row = (seed, test["accuracy"], test["entropy"], low_gap, teacher_fit, run.run_id)
        if config.method == "switch":
            rows += [(way, config.switch_at, *row) for way, ends in WAYS.items() if ends == config.methods]
        else:
            rows += ends_of(config.method, row)
    frame = pd.DataFrame(rows, columns=COLUMNS)
    return frame.sort_values(["way", "switch_at", "seed"]).reset_index(drop=True)


def ends_of(method: str, row: tuple) -> list[tuple]:
    """A pure training's two rows: switched at 0 a way is its second loss alone, at 1 its first."""
    return [(way, float(before == method), *row) for way, (before, _) in WAYS.items()]


def summary(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """way, switch_at, mean, half (of the 95 % t interval over seeds), n of a metric."""
    groups = rows.groupby(["way", "switch_at"], sort=False)
    means = [(*key, *statistics.t_interval(part[metric]), len(part)) for key, part in groups]
    return pd.DataFrame(means, columns=["way", "switch_at", "mean", "half", "n"])


def recovered(rows: pd.DataFrame) -> pd.DataFrame:
    """R(s) of both ways: way, switch_at, R, low, high (95 %, Fieller's, of a ratio of means), n.

    All nan where R is not defined (`recovered_gains`); an interval is infinite where the gain's own
    interval reaches 0.
    """
    shares = []
    for way in WAYS:
        wide = _wide(rows, way)
        for at in wide:
            part = wide[[0.0, 1.0, at]].dropna() if at % 1 else wide
            one_hot, kd = _pure(part, way)
            share = recovered_gains(part[at], one_hot, kd).mean() if len(part) else NAN
            ends = (NAN, NAN) if np.isnan(share) else _fieller(part[at] - one_hot, kd - one_hot)
            shares.append((way, at, share, *ends, len(part)))
    return pd.DataFrame(shares, columns=["way", "switch_at", "R", "low", "high", "n"])


def recovered_gains(switched, one_hot, kd) -> np.ndarray:
    """Each seed's share of KD's mean gain that a switched training has; (S,), their mean is R(s).

    (acc(s) - acc_one-hot) / mean(acc_KD - acc_one-hot), all nan unless that mean exceeds twice its standard error
    over seeds: a gain that is not there cannot be recovered.

    Args:
        switched: (S,) test accuracy per seed.
        one_hot: (S,) of the same seeds in the same order.
        kd: (S,) likewise.
    Raises:
        ValueError: the shapes differ.
    """
    switched, one_hot, kd = (np.asarray(value, dtype=np.float64) for value in (switched, one_hot, kd))
    if not (switched.shape == one_hot.shape == kd.shape and switched.ndim == 1):
        raise ValueError(f"accuracies must be (S,) three times, got {switched.shape}, {one_hot.shape} and {kd.shape}")
    gain, seeds = kd - one_hot, len(kd)
    defined = seeds > 1 and gain.mean() > 2 * gain.std(ddof=1) / np.sqrt(seeds)
    return (switched - one_hot) / gain.mean() if defined else np.full(seeds, np.nan)


def late_teacher(rows: pd.DataFrame) -> pd.Series:
    """H7.1 by seed: R(.5) of one-hot -> KD, minus one half."""
    return _over_half(rows, LATE, 0.5)


def recovery_slope(rows: pd.DataFrame) -> pd.Series:
    """H7.2 by seed: slope in s of what one-hot -> KD recovers, over the switches alone.

    R is 1 at 0 and 0 at 1 by definition; with these two points every slope would fall. Empty below two switches.
    """
    wide = _wide(rows, LATE).dropna()
    at = [s for s in wide if 0 < s < 1]
    if len(at) < 2 or wide.empty:
        return pd.Series(dtype=float)
    shares = np.array([recovered_gains(wide[s], *_pure(wide, LATE)) for s in at])
    return pd.Series(np.polyfit(at, shares, 1)[0], wide.index) if np.isfinite(shares).all() else _undefined(wide)


def early_teacher(rows: pd.DataFrame) -> pd.Series:
    """H7.3 by seed: R(.75) of KD -> one-hot, minus one half."""
    return _over_half(rows, EARLY, LAST)


def labels_last(rows: pd.DataFrame) -> pd.Series:
    """By seed: accuracy of KD with labels for the last quarter, minus that of KD alone; H7.4 compares teachers."""
    wide = _wide(rows, EARLY)
    return (wide[LAST] - wide[1.0]).dropna() if LAST in wide else pd.Series(dtype=float)


EFFECTS = {"late teacher": late_teacher, "recovery slope": recovery_slope, "early teacher": early_teacher}


def effect(values: pd.Series, sign: int, run_ids: Sequence[str] = ()) -> Effect:
    """`over_seeds`; where R is not defined an interval without ends, which decides nothing and is not "no runs"."""
    if len(values) and values.isna().all():
        return Effect(NAN, -np.inf, np.inf, len(values), run_ids=list(run_ids))
    return over_seeds(values, sign, run_ids)


def _wide(rows: pd.DataFrame, way: str) -> pd.DataFrame:
    """Accuracy of one way, seeds by switch points; the seeds that have both pure methods."""
    wide = rows[rows.way == way].pivot(index="seed", columns="switch_at", values="accuracy")
    return wide.dropna(subset=[0.0, 1.0]) if {0.0, 1.0} <= set(wide) else wide.iloc[:0, :0]


def _pure(wide: pd.DataFrame, way: str) -> tuple[pd.Series, pd.Series]:
    """(one-hot, KD) of a way's table."""
    return (wide[1.0], wide[0.0]) if way == LATE else (wide[0.0], wide[1.0])


def _over_half(rows: pd.DataFrame, way: str, at: float) -> pd.Series:
    """R(at) minus one half, each seed's accuracy against the middle of its own two pure methods.

    Halves of own gains, not half of the mean gain: the mean is the same, and the t interval then excludes 0
    exactly where Fieller's interval of R excludes one half.
    """
    wide = _wide(rows, way)
    if at not in wide:
        return pd.Series(dtype=float)
    wide = wide[[0.0, 1.0, at]].dropna()
    one_hot, kd = _pure(wide, way)
    return pd.Series(recovered_gains(wide[at] - (kd - one_hot) / 2, one_hot, kd), wide.index)


def _undefined(wide: pd.DataFrame) -> pd.Series:
    return pd.Series(NAN, wide.index)


def _fieller(over: pd.Series, under: pd.Series) -> tuple[float, float]:
    """95 % interval of mean(over) / mean(under), paired: the ratios r at which over - r under has a mean of 0.

    (-inf, inf) where the interval of `under` itself has 0 in it.
    """
    n = len(over)
    reach = stats.t.ppf((1 + statistics.LEVEL) / 2, n - 1) ** 2 / n
    (vo, cov), (_, vu) = reach * np.cov(over, under)
    a, b, c = under.mean() ** 2 - vu, over.mean() * under.mean() - cov, over.mean() ** 2 - vo
    if a <= 0:
        return -np.inf, np.inf
    root = np.sqrt(max(b**2 - a * c, 0.0))
    return float((b - root) / a), float((b + root) / a)
