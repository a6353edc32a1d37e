"""The exercises of notebook 20: how many seeds, and when a run is the same run."""

from kdnb.core.config import RunConfig
from kdnb.report.exercises import Exercise, number, these

CHANGES = ("alpha", "lr", "data", "seed", "machine")


def seeds_below(width: float) -> int:
    """The fewest seeds whose 95 % t interval is narrower than +- width standard deviations."""
    from scipy.stats import t

    return next(n for n in range(2, 100) if t.ppf(0.975, n - 1) / n**0.5 < width)


def renaming() -> list[str]:
    """Those of the changes that are fields of a run's configuration, and so part of its name."""
    return [name for name in CHANGES if name in RunConfig.__dataclass_fields__]


EXERCISES = {
    "20.1": Exercise(
        amiss=number(lambda: seeds_below(1.0)),
        hint="The factor is the t quantile over the root of n, and both fall with n. Change `more` and read it.",
        reason="The factor falls fast at first, for the quantile falls as well as 1 / sqrt(n), and slowly from there "
        "on. From two seeds to three is the best bargain.",
    ),
    "20.2": Exercise(
        amiss=these(renaming, CHANGES),
        hint="The name is a hash of everything that decides the result. What does not stand in the configuration?",
        reason="Each field moves the name, the fingerprint of the data among them; the machine is noted with the run, "
        "and is no part of its name.",
    ),
}
