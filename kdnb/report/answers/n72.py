"""The exercises of notebook 72: what is left after a rejection, how long a draft, a greedy draft repaired."""

from collections.abc import Callable

import numpy as np

from kdnb.report.exercises import Exercise, called, number
from kdnb.studies.language_models import speculative


def residual(answer: Callable) -> str:
    """A law (V,) to draw from after a rejection, from target and draft (V,), that gives the text the target's law."""
    for p, q in (((0.5, 0.3, 0.2), (0.3, 0.2, 0.5)), ((0.1, 0.6, 0.3), (0.7, 0.1, 0.2))):
        target, draft = np.array(p), np.array(q)
        kept = np.minimum(target, draft)
        law = kept + (1 - kept.sum()) * np.asarray(called(answer, target, draft), dtype=float)
        if law.shape != target.shape or not np.allclose(law, target):
            return f"With yours the text has the law {law.round(3)}, wanted {target}."
    return ""


def told(answer: Callable, target: list, draft: list) -> str:
    """Laws that the rule is told of a greedy draft, so that the text has the target's law."""
    drawn = speculative.greedy(draft)
    way = speculative.Way(drawn=lambda told: drawn)
    law = speculative.output_law(target, called(answer, draft), way)
    far = speculative.total_variation(law, speculative.joint(target))
    return "" if far < 1e-12 else f"The text is off by a total variation of {far:.3f}."


def best() -> int:
    """The fastest gamma at an acceptance of .7 and a step's cost of .1."""
    return speculative.best_gamma(0.7, 0.1)


EXERCISES = {
    "72.1": Exercise(
        amiss=residual,
        hint="What of p has not been given out by the tokens that stay? It has to sum to 1.",
        reason="max(0, p - q), divided by its sum: kept tokens and this residual add up to p.",
    ),
    "72.2": Exercise(
        amiss=number(best, seen={0.0: "No draft is as fast as the target alone, and not faster."}),
        hint="`speculative.walltime_factor(0.7, gamma, 0.1)` is how many times as fast it is.",
        reason=lambda: f"{speculative.walltime_factor(0.7, best(), 0.1):.3f} times as fast as the target alone.",
    ),
    "72.3": Exercise(
        amiss=told,
        hint="q has to be the law that the token was drawn from.",
        reason="A greedy token's law is one-hot. Told so, the rule keeps it with probability p(x), else draws from p "
        "without x.",
    ),
}
