"""The exercises of notebook 51: a ramp, how many seeds a ratio needs, a teacher that has fitted the noise."""

from collections.abc import Callable

from kdnb.report.exercises import Exercise, number, word


def seeds_for(gain: float, scatter: float) -> int:
    """The fewest seeds n with gain > 2 scatter / sqrt(n), at least 2; both in points."""
    return max(2, int((2 * scatter / gain) ** 2) + 1)


def still_beaten(brought: Callable[[int], float]) -> str:
    """Whether labels in the last quarter lose to KD with three times the steps, too; brought: points by factor."""
    return "yes" if brought(3) < 0 else "no"


EXERCISES = {
    "51.1": Exercise(
        amiss=number(0.5, within=0.06, seen={0.25: "That is where the ramp begins.", 0.75: "That is where it ends."}),
        hint="`late_accuracy(s, 0.0)` is what a hard switch at s gives. How much teacher has the ramp given in all?",
        reason="A ramp of width w from s acts nearly like a hard switch at its middle, s + w / 2: the same dose, "
        "and nearly at the same time.",
    ),
    "51.2": Exercise(
        amiss=number(lambda scatter: seeds_for(1.0, scatter)),
        hint="Solve gain > 2 sd / sqrt(n) for n.",
        reason="n > (2 sd / gain)^2: a fifth of the gain costs 25 times the seeds.",
    ),
    "51.3": Exercise(
        amiss=word(still_beaten, ("yes", "no")),
        hint="Set `my_factor` to 3 and look at the sign.",
        reason=lambda brought: (
            f"{brought(1):+.2f} points with the steps of section 2, {brought(3):+.2f} with three times as many, one "
            "seed: labels that the teacher reproduces undo less, but its posteriors stay softer than one-hot."
        ),
    ),
}
