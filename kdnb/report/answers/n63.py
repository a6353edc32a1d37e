"""The exercises of notebook 63: a map of layers, the weight of a loss, what relations cannot see."""

from collections.abc import Sequence

import numpy as np

from kdnb.report.exercises import Exercise, number


def layers(answer: Sequence[int]) -> str:
    """The uniform map of 4 student layers onto 18 of the teacher's, halves up."""
    mine, wanted = [int(one) for one in answer], [int(np.floor(m * 18 / 4 + 0.5)) for m in range(1, 5)]
    if len(mine) != 4:
        return f"Four layers are wanted, got {len(mine)}."
    return "" if mine == wanted else f"{sum(a != b for a, b in zip(mine, wanted, strict=True))} of the four are others."


def unseen(answer: Sequence[Sequence[float]]) -> str:
    """A 2 by 2 matrix, no multiple of the identity, that keeps all angles and all ratios of distances.

    M M^T = c I   (a rotation or reflection, evenly scaled)
    """
    matrix = np.asarray(answer, dtype=float)
    if matrix.shape != (2, 2):
        return "Two rows of two numbers are wanted."
    gram = matrix @ matrix.T
    if np.allclose(matrix, matrix[0, 0] * np.eye(2)):
        return "That is a multiple of the identity."
    if not gram[0, 0] > 0 or not np.allclose(gram, gram[0, 0] * np.eye(2), rtol=1e-4, atol=1e-6):
        return "RKD sees it: some distances grow more than others, or angles change."
    return ""


EXERCISES = {
    "63.1": Exercise(
        amiss=layers,
        hint="Student layer m listens to m times 18 / 4; halves go up.",
        reason="4.5, 9, 13.5 and 18, and the halves go up.",
    ),
    "63.2": Exercise(
        amiss=number(
            0.25 / 0.75 * 2 / 0.1, within=0.1, seen={5.0: "A quarter of the labels' norm is a fifth of the sum."}
        ),
        hint="w 0.1 / (2 + w 0.1) = 1/4.",
        reason="w = s / (1 - s) times the ratio of the norms: (1/3) 20.",
    ),
    "63.3": Exercise(
        amiss=unseen,
        hint="What can be done to a cloud of points without changing an angle or a ratio of distances?",
        reason="Any rotation or reflection, evenly scaled: relations between examples do not know the axes.",
    ),
}
