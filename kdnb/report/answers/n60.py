"""The exercises of notebook 60: a library's alpha, a hot temperature, one temperature for all teachers."""

import math
from collections.abc import Callable
from typing import Any

from kdnb.report.exercises import Exercise, number


def typed(answer: float) -> str:
    """What is typed as alpha where the soft term is divided by K = 100; ours is to be 0.5 (to .001)."""
    share = float(answer) / 100
    ours = share / (1 - float(answer) + share)
    if abs(ours - 0.5) < 0.001:
        return ""
    return f"That trains our alpha {ours:.4f}; wanted is 0.5: type {'less' if ours > 0.5 else 'more'}."


def smallest_power(answer: float, error: Callable[[float], float]) -> str:
    """The smallest power of two with a matching error of at most .05; error: of a temperature."""
    if float(answer) <= 0 or math.log2(answer) % 1:
        return f"{answer!r} is no power of two."
    here, half = error(float(answer)), error(answer / 2)
    if here > 0.05:
        return f"The error there is still {here:.4f}."
    return "" if half > 0.05 else f"Half of it does, too: {half:.4f}."


def on_the_grid(answer: float, overall: Any) -> str:
    """A temperature of the grid with the lowest mean; overall: a Series, temperature -> mean test NLL [nats]."""
    if answer not in overall.index:
        return f"Choose one of {', '.join(f'{one:g}' for one in overall.index)}."
    return number(lambda: overall.idxmin())(answer)


EXERCISES = {
    "60.1": Exercise(
        amiss=typed,
        hint="The soft term is divided by K. Which a gives (a / K) / (1 - a + a / K) = 1/2?",
        reason="a = K / (K + 1): almost all weight on the teacher, and half of the gradient.",
    ),
    "60.2": Exercise(
        amiss=smallest_power,
        hint="`temperature.matching_error(z, v, t)` is the error at t. Double until it is under .05.",
        reason="Once it is small the error halves with each doubling (for two classes it would quarter).",
    ),
    "60.3": Exercise(
        amiss=on_the_grid,
        hint="The table `taught` has a column `test_nll`: take its mean for each `tau`.",
        reason=lambda overall: (
            f"{overall.min():.3f} nats at tau {overall.idxmin():g}, against {overall.max():.3f} at the worst. "
            "What it costs not to look at the teacher is the distance to each one's own best, above."
        ),
    ),
}
