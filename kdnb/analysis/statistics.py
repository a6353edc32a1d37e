"""Intervals and tests over seeds and over test examples: two kinds of chance, told apart.

Over seeds: would other trainings on the same data show it? Over examples: would the same trained models
show it on other texts? Over both, as differences of accuracy need it: would other trainings on other texts?
Thin wrappers of scipy's tests, which add what one seed says: nothing.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import stats

LEVEL = 0.95
NAN = float("nan")


def t_interval(differences) -> tuple[float, float]:
    """Mean and half-width of the 95 % t interval over paired differences (one per seed).

    The half-width is infinite for fewer than two differences: one seed decides nothing.
    """
    values = np.asarray(differences, dtype=np.float64)
    if len(values) < 2:
        return float(values[0]) if len(values) else NAN, float("inf")
    if np.ptp(values) == 0:
        return float(values[0]), 0.0
    low, high = _paired_t_test(values).confidence_interval(LEVEL)
    return float(values.mean()), float(high - low) / 2


def interval(differences) -> tuple[float, float, float, int]:
    """Mean, low and high end of the 95 % t interval, and n, over paired differences (one per seed)."""
    mean, half = t_interval(differences)
    return mean, mean - half, mean + half, len(differences)


def t_p_value(differences) -> float:
    """Two-sided p of the paired t test; below .05 exactly where the t interval excludes 0. nan below two."""
    values = np.asarray(differences, dtype=np.float64)
    if len(values) < 2:
        return NAN
    if np.ptp(values) == 0:
        return 0.0 if values[0] else 1.0
    return float(_paired_t_test(values).pvalue)


def _paired_t_test(differences: np.ndarray):
    """scipy's t test of a mean of 0."""
    with _narrow():
        return stats.ttest_1samp(differences, 0)


@contextmanager
def _narrow() -> Iterator[None]:
    """Values that agree to the last bits make an interval as narrow as that: nothing to warn of."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)
        yield


def welch_interval(ours, other) -> tuple[float, float]:
    """Mean difference and half-width of its 95 % interval for two unpaired groups (Welch's t); as `t_interval`.

    For comparison with the paired interval only: arms of one seed share their luck.
    """
    ours, other = np.asarray(ours, dtype=np.float64), np.asarray(other, dtype=np.float64)
    difference = float(ours.mean() - other.mean())
    if min(len(ours), len(other)) < 2:
        return difference, float("inf")
    if np.ptp(ours) == np.ptp(other) == 0:
        return difference, 0.0
    with _narrow():
        low, high = stats.ttest_ind(ours, other, equal_var=False).confidence_interval(LEVEL)
    return difference, float(high - low) / 2


def sign_test(differences, sign: int) -> tuple[int, int, float]:
    """(differences of the claimed sign, differences that are not 0, one-sided p); 5 of 5 is p = 1/32 = .031."""
    values = np.asarray(differences, dtype=np.float64)
    agree, n = int(np.sum(sign * values > 0)), int(np.sum(values != 0))
    return agree, n, float(stats.binomtest(agree, n, alternative="greater").pvalue) if n else NAN


def correlation_interval(x, y, controls: int = 0) -> tuple[float, float, float]:
    """Pearson r and its 95 % interval by Fisher's z; the interval is (-1, 1) below four points and where |r| is 1.

    Args:
        x: (N,) of the points.
        y: (N,) likewise.
        controls: free constants already taken out of x and y, such as the means of k groups (k - 1 of them); each
            costs a point.
    Returns:
        r, low, high; r is nan where one side does not vary at all.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return NAN, -1.0, 1.0
    result = stats.pearsonr(x, y)
    r = float(result.statistic)
    if len(x) - controls < 4 or abs(r) >= 1:
        return r, -1.0, 1.0
    if not controls:
        low, high = result.confidence_interval(LEVEL)
    else:  # which scipy does not know of
        half = stats.norm.ppf((1 + LEVEL) / 2) / np.sqrt(len(x) - controls - 3)
        low, high = np.tanh(np.arctanh(r) - half), np.tanh(np.arctanh(r) + half)
    return r, float(low), float(high)


def holm(p_values) -> np.ndarray:
    """Holm's step-down correction of a family of p-values; nan entries are no tests and stay nan."""
    p = np.asarray(p_values, dtype=np.float64)
    order = [i for i in np.argsort(p) if not np.isnan(p[i])]
    raised = p[order] * np.arange(len(order), 0, -1)
    corrected = np.full(len(p), np.nan)
    corrected[order] = np.minimum(np.maximum.accumulate(raised), 1)
    return corrected


@dataclass(frozen=True)
class Interval:
    """A bootstrap interval over n examples.

    Its method is "BCa", or "percentile" where BCa is undefined; "seeds and examples" where both were drawn; or "none".
    """

    low: float
    high: float
    n: int
    method: str


_BATCH = 32  # resamples of seeds and examples made at once: a few hundred kB, which caches hold


def paired_bootstrap(arm, than, resamples: int = 2000) -> Interval:
    """95 % interval of mean(arm) - mean(than) over test examples, resampled together; or over seeds and examples.

    BCa is undefined when every example has the same difference (two models that agree everywhere, say);
    the percentile interval then stands in its place, and `method` says so.

    Two or more seeds are drawn anew as well, with replacement, and apart from the examples, which are the same for
    all seeds of a draw as one test split is for all runs; that interval is the percentile one. S drawn seeds spread
    by a factor sqrt((S - 1) / S) less than S new ones would: with few, it tells too little of the chance of seeds.

    Args:
        arm: (N,) a value per test example; or (S, N), of each seed, which are then drawn too.
        than: of the same shape: the same seeds and examples in the same order.
        resamples: how often they are drawn.
    Raises:
        ValueError: the shapes differ.
    """
    arm, than = np.asarray(arm, dtype=np.float64), np.asarray(than, dtype=np.float64)
    if arm.shape != than.shape or arm.ndim not in (1, 2):
        raise ValueError(f"paired values must be (N,) and (N,), or (S, N) twice, got {arm.shape} and {than.shape}")
    differences = np.atleast_2d(arm - than)
    seeds, examples = differences.shape
    if examples < 2:
        return Interval(NAN, NAN, examples, "none")
    if seeds > 1:
        low, high = _seeds_and_examples(differences, resamples)
        return Interval(low, high, examples, "seeds and examples")
    for method in ("BCa", "percentile"):
        with warnings.catch_warnings():  # scipy warns where BCa is undefined; we look at the result instead
            warnings.simplefilter("ignore")
            ends = stats.bootstrap(
                (differences[0],),
                np.mean,
                vectorized=True,
                n_resamples=resamples,
                batch=256,
                confidence_level=LEVEL,
                method=method,
                rng=np.random.default_rng(0),
            ).confidence_interval
        if np.isfinite(ends.low) and np.isfinite(ends.high):
            break
    return Interval(float(ends.low), float(ends.high), examples, method)


def _seeds_and_examples(differences: np.ndarray, resamples: int) -> tuple[float, float]:
    """Ends of the percentile interval of the mean of differences (S, N), rows and columns drawn with replacement."""
    seeds, examples = differences.shape
    rng, means = np.random.default_rng(0), []
    for start in range(0, resamples, _BATCH):
        count = min(_BATCH, resamples - start)
        weights = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=count) / seeds
        drawn = rng.integers(examples, size=(count, examples))
        means.append(np.take_along_axis(weights @ differences, drawn, axis=1).mean(axis=1))
    low, high = np.quantile(np.concatenate(means), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


NO_BOOTSTRAP = Interval(NAN, NAN, 0, "none")


@dataclass(frozen=True)
class Effect:
    """A measured effect and its 95 % interval over n seeds (KD runs for a correlation, cases in closed form)."""

    effect: float = NAN
    low: float = NAN
    high: float = NAN
    n: int = 0
    p: float = NAN  # two-sided
    signs: str = ""  # seeds whose own effect has the claimed sign: "5/5"
    sign_p: float = NAN  # one-sided
    examples: Interval = NO_BOOTSTRAP  # over test examples, of accuracy over seeds and test examples
    run_ids: list[str] = field(default_factory=list)  # every run whose numbers it is made of
    bound: float = NAN  # of a claim of equivalence: effects nearer to 0 than this count as none; p is then TOST's
    beside: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)  # metric -> mean, low, high
    candidates: str = ""  # of a searched arm: among how many runs a seed's was selected, "Standard KD 60"


def verdict(low: float, high: float, sign: int) -> str:
    """ "holds", "fails" or "undecided": where the interval (low, high) of an effect lies; nan decides nothing.

    Sign 0 is a claim that there is no effect: an interval can contradict it, never bear it out.
    """
    if sign == 0:
        return "fails" if low > 0 or high < 0 else "undecided"
    if sign < 0:
        low, high = -high, -low
    return "holds" if low > 0 else "fails" if high < 0 else "undecided"


def equivalence(values: pd.Series, bound: float, run_ids: Sequence[str] = ()) -> Effect:
    """The effect of one value per seed, and whether it lies within (-bound, bound): two one-sided t tests (TOST).

    Args:
        values: by seed; nan entries are left out.
        bound: half-width > 0 of what counts as no effect, fixed before the values are seen.
        run_ids: the runs behind it.
    Returns:
        The mean and its 95 % t interval; p is the larger of the two one-sided ones, nan for fewer than two values.
    """
    values = values.dropna()
    if not len(values) or not bound > 0:
        return Effect()
    mean, low, high, n = interval(values)
    p = NAN
    if n > 1 and np.ptp(values) == 0:
        p = 0.0 if abs(mean) < bound else 1.0
    elif n > 1:
        with _narrow():
            above = stats.ttest_1samp(values, -bound, alternative="greater").pvalue
            below = stats.ttest_1samp(values, bound, alternative="less").pvalue
        p = float(max(above, below))
    return Effect(effect=mean, low=low, high=high, n=n, p=p, run_ids=list(run_ids), bound=bound)


def over_seeds(values: pd.Series, sign: int, run_ids: Sequence[str] = (), examples: Interval = NO_BOOTSTRAP) -> Effect:
    """The effect of one value per seed: mean, 95 % t interval, p, and the signs of the seeds; no value, no effect.

    Args:
        values: by seed; nan entries are left out.
        sign: the claimed one; 0 for a claim that there is no effect.
        run_ids: the runs behind it.
        examples: its interval over test examples, or over these and seeds.
    """
    values = values.dropna()
    if not len(values):
        return Effect()
    mean, low, high, n = interval(values)
    agree, _, sign_p = sign_test(values, sign)
    return Effect(
        effect=mean,
        low=low,
        high=high,
        n=n,
        p=t_p_value(values),
        signs=f"{agree}/{n}" if sign else "",
        sign_p=sign_p if sign else NAN,
        examples=examples,
        run_ids=list(run_ids),
    )
