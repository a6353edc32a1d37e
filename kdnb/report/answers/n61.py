"""The exercises of notebook 61: a prior matched by hand, what recovery costs, a solver of one line."""

from collections.abc import Callable

import numpy as np

from kdnb.report.exercises import Exercise, called, number


def matched(answer: float, mean_at: Callable[[float], float]) -> str:
    """A bias at which the mean posterior of the class is a tenth (to .0005); mean_at: of a bias."""
    mean = mean_at(float(answer))
    return "" if abs(mean - 0.1) < 0.0005 else f"The mean posterior is {mean:.4f} there, wanted 0.1."


def called_it(logits: np.ndarray, labels: np.ndarray, digit: int) -> float:
    """Share of the other pictures called the digit, at the least bias that finds 95 % of its own.

    Args:
        logits: (N, K), of the control.
        labels: (N,).
        digit: the class left out.
    """
    needed = np.delete(logits, digit, axis=1).max(axis=1) - logits[:, digit]  # from this bias on it is called that
    enough = np.quantile(needed[labels == digit], 0.95, method="higher") + 1e-9
    return float((needed[labels != digit] <= enough).mean())


def arrives(answer: Callable, logits: np.ndarray, exact: np.ndarray) -> str:
    """A step (bias, mean posterior, prior) -> bias, all (K,), that leads to the exact bias, of mean 0."""
    prior, bias = np.full(logits.shape[1], 1 / logits.shape[1]), np.zeros(logits.shape[1])
    for _ in range(3000):
        before, odds = bias, np.exp(logits + bias - (logits + bias).max(axis=1, keepdims=True))
        mean = (odds / odds.sum(axis=1, keepdims=True)).mean(axis=0)
        bias = np.asarray(called(answer, bias, mean, prior), dtype=float)
        if not np.isfinite(bias).all():
            return "It runs away to infinity."
        if np.abs(bias - before).max() < 1e-10:
            break
    distance = np.abs(bias - bias.mean() - exact).max()
    return "" if distance < 1e-3 else f"At the end the largest distance to the exact bias is {distance:.1e}."


EXERCISES = {
    "61.1": Exercise(
        amiss=matched,
        hint="Too low a mean wants a larger bias. `mean_at(bias)` tells, and a root finder does as well.",
        reason="It is the number that `missing.prior_bias` finds, and no label was read for it.",
    ),
    "61.2": Exercise(
        amiss=number(called_it, within=0.01),
        hint="`needed` is the bias from which on a picture is called a 3, `enough` what 95 % of the 3s need.",
        reason=lambda logits, labels, digit: (
            f"{called_it(logits, labels, digit):.1%} of all other digits are called a {digit} then: what the control "
            "gains on its own class, it takes from the others."
        ),
    ),
    "61.3": Exercise(
        amiss=arrives,
        hint="Where the mean posterior is half of what it should be, by how much should that class's odds rise?",
        reason="bias + log(prior / mean) minimises a bound on the convex objective that touches it where we are, "
        "so no step can raise the objective.",
    ),
}
