"""The exercises of notebook 71: how over-confident, how many bytes, a bias by tidying up."""

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from kdnb.report.exercises import Exercise, called, number, parts
from kdnb.studies.language_models import sizes

LAW = (0.5, 0.2, 0.15, 0.1, 0.05)
KEPT = np.array([0.5, 0.2]) / 0.7
GIGABYTES = 700e6 * sizes.bytes_per_token(64, 151_936) / 1e9


def mean_kept(law: Sequence[float], draws: int, keep: int) -> float:
    """Mean target of the first word if the `keep` words drawn most often are kept and divided by their sum.

    By enumeration of all draws; ties are broken at random, that is, averaged over.
    """
    total = 0.0
    for drawn in itertools.product(range(len(law)), repeat=draws):
        counts = np.bincount(drawn, minlength=len(law))
        kept = [
            set(some) for some in itertools.combinations(np.flatnonzero(counts), min(keep, np.count_nonzero(counts)))
        ]
        most = max(sum(counts[one] for one in some) for some in kept)
        best = [some for some in kept if sum(counts[one] for one in some) == most]
        share = np.mean([counts[0] / most if 0 in some else 0.0 for some in best])
        total += float(np.prod([law[one] for one in drawn])) * share
    return total


def simulated(answer: Callable) -> str:
    """A simulation (law, draws, keep, times, rng) -> mean target of the first word, against the enumeration."""
    got = float(called(answer, np.array(LAW), 4, 2, 20_000, np.random.default_rng(0)))
    wanted = mean_kept(LAW, 4, 2)
    if abs(got - wanted) < 0.01:
        return ""
    said = "An unbiased estimate would be that; this one" if abs(got - 0.5) < 0.01 else f"{got:.3f}, it"
    return f"{said} is not: count the draws, keep the two largest counts, divide by their sum, average over all times."


EXERCISES = {
    "71.1": Exercise(
        amiss=parts(
            probability=number(KEPT[0], within=2e-3, seen={0.5: "Divide by the mass that is kept."}),
            entropy=number(-(KEPT * np.log(KEPT)).sum(), within=2e-3),
        ),
        hint="Divide by the mass, then forget the tail.",
        reason="The student is sure of what the teacher never said: its tail is gone for good, and its doubt with it.",
    ),
    "71.2": Exercise(
        amiss=number(GIGABYTES, within=0.01 * GIGABYTES, seen={700 * 64 * 5 / 1000: "Tail and entropy are missing."}),
        hint="Bytes of one token first: 64 entries of an id and a weight, and what goes with each token.",
        reason=f"{GIGABYTES:.0f} GB; whole laws in half precision would be {700e6 * 2 * 151_936 / 1e12:.0f} TB.",
    ),
    "71.3": Exercise(
        amiss=simulated,
        hint="`rng.multinomial(draws, law)` counts one set of draws. Break ties at random.",
        reason=f"{mean_kept(LAW, 4, 2):.3f}, not 0.5: tidying up has made an unbiased estimate a biased one.",
    ),
}
