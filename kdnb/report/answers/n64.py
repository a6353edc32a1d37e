"""The exercises of notebook 64: a base of logarithms, which epoch may be printed, room for chance."""

import math
from collections.abc import Callable

from kdnb.report.exercises import Exercise, called, number, parts, word


def beyond_chance(answer: Callable) -> str:
    """A function (accuracy, classes) -> 0 for guessing, 1 for perfect, straight between."""
    wanted = {(0.25, 4): 0.0, (1.0, 4): 1.0, (0.75, 2): 0.5, (0.55, 10): 0.5}
    for (accuracy, classes), share in wanted.items():
        got = float(called(answer, accuracy, classes))
        if not math.isclose(got, share, abs_tol=1e-9):
            return f"Accuracy {accuracy:g} of {classes} classes should give {share:g}; yours gives {got:.3g}."
    return ""


EXERCISES = {
    "64.1": Exercise(
        amiss=number(
            20 / math.log(10),
            within=1e-3,
            seen={20 * math.log(10): "The other way round: nats are the larger numbers."},
        ),
        hint="log10 x = ln x / ln 10.",
        reason="20 log10 x = (20 / ln 10) ln x, whatever the number of classes.",
    ),
    "64.2": Exercise(
        amiss=parts(
            column=word("last", ("last", "best"), {"best": "Nobody without test images knows which epoch that is."}),
            points=number(lambda leak: leak, within=0.06),
        ),
        hint="What could be known without a single test image? The difference of the two columns is the leak.",
        reason=lambda leak: f"{leak:.1f} points, the mean over seeds, are the price of not looking.",
    ),
    "64.3": Exercise(
        amiss=beyond_chance,
        hint="Guessing is right with probability 1 / K: take it off, and stretch what is left to 1.",
        reason="(a - 1/K) / (1 - 1/K), Cohen's kappa for classes that are equally frequent; the solution prints what "
        "the slopes in K become.",
    ),
}
