"""The exercises of notebook 50: a linear student to the end, a stranger's start, another quarter."""

from collections.abc import Callable, Mapping

from kdnb.report.exercises import Exercise, word

ENDS = ("to the diagonal", "further below it", "above it")


def what_makes_a_stranger(alike: Mapping[str, float]) -> str:
    """Whether sharing the start takes away more of the distance to X than it leaves to the order of batches.

    Args:
        alike: correlation with X of a network with its "own" start, and with the teacher's, "shared".
    """
    gained, left = alike["shared"] - alike["own"], 1 - alike["shared"]
    return "the start" if gained > left else "the order"


def one_verdict(verdict_at: Callable[[float], str]) -> str:
    """Whether a tenth, a quarter and a half of the examples are judged alike."""
    return "yes" if len({verdict_at(share) for share in (0.1, 0.25, 0.5)}) == 1 else "no"


EXERCISES = {
    "50.1": Exercise(
        amiss=word("to the diagonal", ENDS, {"further below it": "Try 5 and 20 times as many steps."}),
        hint="What does the loss of a linear student look like at its minimum, when all targets can be met?",
        reason="On its train examples a linear student trained to convergence is its teacher. Its deviation is a "
        "matter of stopping, and so is whatever accuracy goes with it (notebook 52).",
    ),
    "50.2": Exercise(
        amiss=word(what_makes_a_stranger, ("the start", "the order")),
        hint="Three correlations with X are in play: its own start, the teacher's start, and 1 for the teacher itself.",
        reason=lambda alike: (
            f"Correlation with X: {alike['own']:.3f} with an own start, {alike['shared']:.3f} with the teacher's. "
            "A control that shares the start is no stranger: a test against it asks another question."
        ),
    ),
    "50.3": Exercise(
        amiss=word(one_verdict, ("yes", "no")),
        hint="Set `my_share` to 0.1 and to 0.5, and read the word at the end of the line.",
        reason=lambda verdict_at: (
            "; ".join(f"{share:.0%}: {verdict_at(share)}" for share in (0.1, 0.25, 0.5))
            + ". The high end widens with the low one: say which share you took before you look."
        ),
    ),
}
