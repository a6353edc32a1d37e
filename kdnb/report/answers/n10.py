"""The exercises of notebook 10: a smoothing translated, a teacher that makes sure, softness by hand."""

import math
from collections.abc import Sequence

from kdnb.report.exercises import Exercise, number

TRUTH = (0.6, 0.3, 0.1)


def entropy(law: Sequence[float]) -> float:
    """-sum p ln p [nats]."""
    return -sum(p * math.log(p) for p in law if p > 0)


def teacher(answer: Sequence[float]) -> str:
    """A teacher's posterior that makes KD's optimum (alpha .5, tau 1) surer than ERM's, with no class impossible."""
    mine = [float(p) for p in answer]
    if len(mine) != 3 or not math.isclose(sum(mine), 1, abs_tol=1e-6):
        return "Three entries of sum 1 are wanted."
    if min(mine) < 0.01:
        return "No class may be impossible: no entry below 0.01."
    mixture = [(p + q) / 2 for p, q in zip(mine, TRUTH, strict=True)]
    if mixture.index(max(mixture)) != 0:
        return "The most probable class has moved."
    change = entropy(mixture) - entropy(TRUTH)
    return "" if change < 0 else f"Still as uncertain as ERM, or more: {change:+.3f} nats."


EXERCISES = {
    "10.1": Exercise(
        amiss=number(
            0.15, within=1e-6, seen={0.1: "That is their number, in their convention.", 0.2: "K is 3, not 2."}
        ),
        hint="How much does each wrong class get in either convention?",
        reason="alpha K / (K - 1) in the uniform convention leaves as much on the label: .1 times 3 / 2.",
    ),
    "10.2": Exercise(
        amiss=teacher,
        hint="The optimum is the mean of truth and teacher. Of what must a teacher be surer than the truth is?",
        reason="Any teacher that is sure of the first class will do: KD's optimum follows it, downwards.",
    ),
    "10.3": Exercise(
        amiss=number(
            0.66,
            within=0.001,
            seen={0.9: "That is the teacher's, at one label.", 0.7: "That is what labels alone would say."},
        ),
        hint="With probability 0.7 the target is (0.9, 0.1), with probability 0.3 it is (0.1, 0.9).",
        reason="1/2 + (2 times .9 - 1)(.7 - 1/2): for two classes the mean never lies further from 1/2 than the truth.",
    ),
}
