"""A measured effect with its interval, and the word for where the interval lies."""

from dataclasses import dataclass, field

import pandas as pd

from kdnb.analysis import statistics
from kdnb.analysis.statistics import Interval

NAN = float("nan")
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
    examples: Interval = NO_BOOTSTRAP  # over test examples
    run_ids: list[str] = field(default_factory=list)


def verdict(low: float, high: float, sign: int) -> str:
    """ "holds", "fails" or "undecided": where the interval (low, high) of an effect lies; nan decides nothing.

    Sign 0 is a claim that there is no effect: an interval can contradict it, never bear it out.
    """
    if sign == 0:
        return "fails" if low > 0 or high < 0 else "undecided"
    if sign < 0:
        low, high = -high, -low
    return "holds" if low > 0 else "fails" if high < 0 else "undecided"


def over_seeds(values: pd.Series, sign: int, run_ids: list[str] = (), examples: Interval = NO_BOOTSTRAP) -> Effect:
    """The effect of one value per seed: mean, 95 % t interval, p, and the signs of the seeds; no value, no effect."""
    values = values.dropna()
    if not len(values):
        return Effect()
    mean, half = statistics.t_interval(values.to_numpy())
    (agree, _, sign_p), n = statistics.sign_test(values, sign), len(values)
    p, signs = statistics.t_p_value(values), f"{agree}/{n}" if sign else ""
    return Effect(mean, mean - half, mean + half, n, p, signs, sign_p if sign else NAN, examples, list(run_ids))
