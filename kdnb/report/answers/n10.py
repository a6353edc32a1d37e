"""The exercises of notebook 10: a smoothing translated, a teacher that makes sure, which way a temperature pushes."""

import math
from collections.abc import Sequence

from kdnb.report.exercises import Exercise, number, word

TRUTH = (0.6, 0.3, 0.1)
WAYS = ("rises", "falls", "rises, then falls")


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


def optimum(tau: float) -> float:
    """Entropy [nats] at tau 1 of the optimum of KD at alpha .5: the first label, teacher (.7, .2, .1)."""
    import numpy as np
    from scipy.optimize import minimize
    from scipy.special import log_softmax, softmax

    hot = softmax(np.log([0.7, 0.2, 0.1]) / tau)

    def loss(logits: np.ndarray) -> float:
        soft = float(hot @ log_softmax(logits / tau))
        return -0.5 * float(log_softmax(logits)[0]) - 0.5 * tau**2 * (soft - float((hot * np.log(hot)).sum()))

    return entropy(softmax(minimize(loss, np.zeros(3), tol=1e-9).x))


def way() -> str:
    """How that entropy goes from tau 1 over 4 to 64."""
    first, middle, last = optimum(1.0), optimum(4.0), optimum(64.0)
    return WAYS[2] if middle > max(first, last) else WAYS[0] if last > first else WAYS[1]


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
        amiss=word(
            way,
            WAYS,
            {"rises": "Beyond 4, too?", "falls": "From 1 to 2, too? This is the student's entropy, at tau 1."},
        ),
        hint="Call `kd_minimum(tau)` for 1, 2, 4, 16, 64 and take the entropy of what comes out.",
        reason="The target's entropy rises all the way, the student's turns back: at tau 1 it answers with the "
        "logits that it has matched, and a hot target does not ask for a flat posterior.",
    ),
}
