"""The exercises of notebook 32: how hot is hot, the teacher without tau^2, surer or better."""

from collections.abc import Mapping

from kdnb.report.exercises import Exercise, number, parts, word

WAYS = ("rises", "falls", "undecided")


def side(trend: tuple[float, float]) -> str:
    """Where a mean with its half-width lies; undecided where 0 is inside, or where there are no runs."""
    mean, half = trend
    return "rises" if mean - half > 0 else "falls" if mean + half < 0 else "undecided"


def of(metric: str):
    """What a metric does, of the facts."""

    def wanted(trends: Mapping[str, tuple[float, float]]) -> str:
        return side(trends[metric])

    return wanted


EXERCISES = {
    "32.1": Exercise(
        amiss=number(
            lambda errors: min(tau for tau, error in errors.items() if error < 0.1),
            seen={64.0: "It does, and so does a smaller one."},
        ),
        hint="The table above has the largest error of an example at each temperature. The smallest tau is asked for.",
        reason="The error falls like 1 / tau, with two classes like 1 / tau^2, so a moderate temperature is hot.",
    ),
    "32.2": Exercise(
        amiss=number(16 / 17, within=5e-4, seen={0.8: "The factor is tau^2, not tau.", 0.5: "That drops the factor."}),
        hint="Without the factor the soft term shrinks by tau^2. Which odds alpha / (1 - alpha) make up for it?",
        reason="alpha' / (1 - alpha') = tau^2 alpha / (1 - alpha) = 16.",
    ),
    "32.3": Exercise(
        amiss=parts(NLL=word(of("nll"), WAYS), ECE=word(of("ece"), WAYS)),
        hint="An interval around 0 decides nothing. Set `my_metric` to both.",
        reason=lambda trends: "; ".join(
            f"{name} {side(trend)}, {trend[0]:+.4f} ± {trend[1]:.4f} per e-fold" for name, trend in trends.items()
        ),
    ),
}
