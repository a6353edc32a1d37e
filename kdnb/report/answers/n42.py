"""The exercises of notebook 42: the swap, the sum of two effects, the floor of a target."""

from collections.abc import Sequence

import numpy as np

from kdnb.report.exercises import Exercise, number


def swapped(answer: Sequence[float]) -> str:
    """What the cell `label, soft` trains on: teacher (.5, .3, .2), label the third."""
    mine = np.asarray(answer, dtype=float)
    if mine.shape != (3,) or not np.isclose(mine.sum(), 1):
        return "Three entries of sum 1 are wanted."
    if not np.allclose(np.sort(mine), (0.2, 0.3, 0.5)):
        return "As soft as the teacher: the same three numbers."
    return "" if np.allclose(mine, (0.2, 0.3, 0.5)) else "Two of the entries trade places, and the third stays."


def adds_up(answer: Sequence[float], softness: Sequence, labels: Sequence, total: Sequence) -> str:
    """Two weights with which the effects, one a seed [nats], add up to the total in every seed."""
    first, second = (float(weight) for weight in answer)
    off = float(np.abs(first * np.asarray(softness) + second * np.asarray(labels) - np.asarray(total)).max())
    return "" if off < 1e-9 else f"Off by up to {off:.3f} nats in a seed."


EXERCISES = {
    "42.1": Exercise(
        amiss=swapped,
        hint="The label's entry has to be the largest, and the entropy that of the teacher.",
        reason="The largest entry and the label's trade places: the same three numbers, so the same entropy.",
    ),
    "42.2": Exercise(
        amiss=adds_up,
        hint="Write both main effects as halves of two differences each, and add them.",
        reason="One and one: what the halves share cancels, and the interaction enters both with opposite signs.",
    ),
    "42.3": Exercise(
        amiss=number(
            lambda floor: floor, within=0.001, seen={0.0: "That is the target's entropy. And x is a difference."}
        ),
        hint="Which entropy does a one-hot target have? x is that minus the ERM student's, on train.",
        reason="No entropy lies below 0: minus the ERM student's entropy on train is as far down as a target goes, "
        "and hard labels reach it.",
    ),
}
