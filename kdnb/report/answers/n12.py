"""The exercises of notebook 12: a pair that is closer to uniform and surer, an odd expansion, which way tau pushes."""

import math
from collections.abc import Sequence

from kdnb.report.exercises import Exercise, number, word

WAYS = ("rises", "falls", "rises, then falls")
SHOWN = ((0.49, 0.49, 0.02), (0.80, 0.10, 0.10))  # the notebook's own pair


def entropy(law: Sequence[float]) -> float:
    """-sum p ln p [nats]."""
    return -sum(p * math.log(p) for p in law if p > 0)


def from_uniform(law: Sequence[float]) -> float:
    """KL(u || p) [nats] of a posterior without zeros."""
    return -sum(math.log(p) for p in law) / len(law) - math.log(len(law))


def closer_and_surer(answer: Sequence[Sequence[float]]) -> str:
    """Two posteriors over three classes, the second with the lower KL(u || p) and the lower entropy."""
    mine = [[float(p) for p in law] for law in answer]
    if len(mine) != 2 or any(len(law) != 3 or not math.isclose(sum(law), 1, abs_tol=1e-6) for law in mine):
        return "Two posteriors are wanted, three entries of sum 1 each."
    if min(map(min, mine)) < 0.001:
        return "No class may be impossible: no entry below 0.001."
    both = zip(mine, SHOWN, strict=True)
    if any(abs(p - q) < 0.01 for law, other in both for p, q in zip(law, other, strict=True)):
        return "That is too near to the pair of section 1."
    closer, surer = from_uniform(mine[1]) - from_uniform(mine[0]), entropy(mine[1]) - entropy(mine[0])
    changes = f"KL {closer:+.3f}, entropy {surer:+.3f} nats"
    return "" if closer < 0 and surer < 0 else f"From the first to the second: {changes}; both must fall."


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
    "12.1": Exercise(
        amiss=closer_and_surer,
        hint="KL(u || p) punishes a class that is almost excluded; entropy looks at how the large masses are shared.",
        reason="The first has a class that is nearly excluded, which only KL minds; the second has one clear leader, "
        "which only entropy minds.",
    ),
    "12.2": Exercise(
        amiss=number(4, within=0.2, seen={2: "That is the factor for three classes and more."}),
        hint="Two classes: softmax is a tanh of half the difference of logits. Which powers of 1/tau has it?",
        reason="tanh is odd, so after 1/tau comes 1/tau cubed: relative to the limit an error of order 1/tau squared.",
    ),
    "12.3": Exercise(
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
