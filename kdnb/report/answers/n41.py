"""The exercises of notebook 41: the examples that are taught, a slope from nothing, the target itself."""

from collections.abc import Mapping, Sequence

from kdnb.report.exercises import Exercise, number, parts, word


def above(ends: Sequence[tuple[float, float]]) -> int:
    """How many rungs end above their target; ends: (target, student on train) [nats]."""
    return sum(student > target for target, student in ends)


def steeper(slopes: Mapping[str, float]) -> str:
    """Whether the slope is steeper on train than on test."""
    return "yes" if slopes["train"] > slopes["test"] else "no"


EXERCISES = {
    "41.1": Exercise(
        amiss=word(steeper, ("yes", "no")),
        hint="Set `your_split` to both.",
        reason=lambda slopes: (
            f"{slopes['train']:.2f} on train, {slopes['test']:.2f} on test: on train the student is asked to match, "
            "and there the teachers' entropies differ in another measure."
        ),
    ),
    "41.2": Exercise(
        amiss=parts(
            equal_noise=number(0.5, within=0.03, seen={0.0: "Both axes subtract the same ERM entropy. Draw it."}),
            exact_ERM=number(0.0, within=0.03),
        ),
        hint="The covariance of the two axes is the ERM entropy's variance alone; the slope divides it by that of x.",
        reason="s_e^2 / (s_t^2 + s_e^2): one half with equal noise, 0 as the ERM entropy becomes exact. Only what "
        "lies within one student and seed is free of it.",
    ),
    "41.3": Exercise(
        amiss=parts(
            rungs_above=number(above),
            at_alpha_1=word(lambda ends: "the teacher's", ("the teacher's", "the label's", "log K")),
        ),
        hint="The lines of the cell have target and student. At alpha 1, what is left of the label in the target?",
        reason="A student above its target has not fitted it; one below has gone further than it was asked to, and no "
        "regulariser of the target can explain that.",
    ),
}
