"""The exercises of notebook 62: equal cost, a shuffle that DKPP allows, labels as soft as a teacher."""

from collections.abc import Sequence

import numpy as np

from kdnb.report.exercises import Exercise, number


def shuffled(answer: Sequence[float], posterior: Sequence[float]) -> str:
    """Another posterior with the same largest entry in the same place and the same entropy."""
    mine, given = np.asarray(answer, dtype=float), np.asarray(posterior, dtype=float)
    if mine.shape != given.shape or not np.isclose(mine.sum(), 1):
        return f"{len(given)} entries of sum 1 are wanted."
    if not np.isclose(mine[given.argmax()], given.max()) or mine.argmax() != given.argmax():
        return "The largest entry has to stay where it was, as it was."
    if not np.allclose(np.sort(mine), np.sort(given)):
        return "The same entropy needs the same entries."
    return "That is the same posterior." if np.allclose(mine, given) else ""


def softness(weight: float, num_classes: int = 10) -> float:
    """H((1 - weight) q + weight u) of a one-hot q and the uniform u [nats]."""
    rest = weight / num_classes
    top = 1 - weight + rest
    return float(-(top * np.log(top) + (num_classes - 1) * rest * np.log(rest))) if 0 < weight <= 1 else 0.0


def as_soft(answer: float) -> str:
    """A weight of the uniform distribution that gives 0.5 nats over ten classes, to two digits."""
    value = float(answer)
    if not 0 <= value <= 1:
        return "A weight lies between 0 and 1."
    got = softness(value)
    return "" if abs(got - 0.5) <= 0.02 else f"That has {got:.3f} nats: too {'hard' if got < 0.5 else 'soft'}."


EXERCISES = {
    "62.1": Exercise(
        amiss=number(6, seen={5: "Who taught the first generation?"}),
        hint="Count trainings, not generations.",
        reason="Five generations and the first model, which teaches.",
    ),
    "62.2": Exercise(
        amiss=shuffled,
        hint="Entropy does not know which class an entry belongs to.",
        reason="Any other order of the smaller entries has the same sum, largest entry and entropy.",
    ),
    "62.3": Exercise(
        amiss=as_soft,
        hint="The entropy of (1 - alpha) q + alpha u rises with alpha: halve the interval.",
        reason="One solution, since the entropy rises with alpha; `targets.smoothing_weight` finds it.",
    ),
}
