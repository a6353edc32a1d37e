"""The exercises of notebook 11: conventions of the distillation loss."""

import math
from collections.abc import Sequence

from kdnb.report.exercises import Exercise, number, parts, word


def weights(answer: Sequence[float], *, alpha: float, tau: float) -> str:
    """Two weights without tau^2, for the labels and for the soft term, against the normal form's alpha at scale 1."""
    hard, soft = (float(part) for part in answer)
    scale = hard + soft / tau**2
    got = soft / tau**2 / scale if scale else math.nan
    if math.isclose(got, alpha, abs_tol=1e-9) and math.isclose(scale, 1, abs_tol=1e-9):
        return ""
    return f"That is alpha {got:.4g} at scale {scale:.4g} in the normal form; wanted are {alpha:g} and 1."


def label_share(label: float, other: float) -> float:
    """The label's entry of a softmax over K = 100, from its exponent and that of each other class."""
    return 1 / (1 + 99 * math.exp(other - label))


def as_sharp(answer: float) -> str:
    """A temperature of the code form against the paper form's label at tau 20."""
    got = label_share(0.99 / answer, 0.01 / 99 / answer)
    wanted = label_share(math.log(0.99) / 20, math.log(0.01 / 99) / 20)
    if abs(got - wanted) < 1e-4:
        return ""
    return f"At {answer:g} the label gets {got:.6f}, wanted {wanted:.6f}: {'hotter' if got > wanted else 'colder'}."


EXERCISES = {
    "11.1": Exercise(
        amiss=number(1 - 0.9, within=1e-6, seen={0.9: ".9 is what the labels get there; ours weighs the teacher."}),
        hint="Which of the two terms does torchdistill's alpha stand before?",
        reason="1 - .9: what it puts on the labels, the normal form takes from the teacher; tau^2 is there in both.",
    ),
    "11.2": Exercise(
        amiss=weights,
        hint="Each library multiplies the same soft term. What stands before it in the normal form, factor and all?",
        reason="The factor goes into the weight: (1 - alpha, alpha tau^2).",
    ),
    "11.3": Exercise(
        amiss=parts(temperature=as_sharp, still_LS=word("yes", ("yes", "no"))),
        hint="A lower temperature is sharper. And LS is any target with equal mass on all wrong classes.",
        reason="Still LS: the wrong classes share equally, whatever the temperature, and the student stays at tau 1.",
    ),
}
