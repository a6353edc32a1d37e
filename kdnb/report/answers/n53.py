"""The exercises of notebook 53: the push on the similar class, groups, a late teacher's temperature."""

from collections.abc import Mapping

from kdnb.report.exercises import Exercise, number, parts, word


def first_above_half(shares: Mapping[float, float]) -> float:
    """The smallest temperature at which the similar class lies above 1/K on more than half of the examples, else 0."""
    return next((tau for tau in sorted(shares) if shares[tau] > 0.5), 0)


EXERCISES = {
    "53.1": Exercise(
        amiss=parts(
            turns=word("no", ("yes", "no")),
            push=number(0.5, within=0.005, seen={-0.5: "As a multiple of the one-hot push: is the sign another one?"}),
        ),
        hint="The smoothed target gives the similar class alpha / K. Put it into (t_s - 1/K) rho.",
        reason="The push is -(1 - alpha) rho / K: it fades with alpha and never turns.",
    ),
    "53.2": Exercise(
        amiss=number(lambda leads: max(leads, key=leads.get)),
        hint="Compare zeroing minus ERM over the lines. One seed: a picture, no verdict.",
        reason="With no structure the class to leave alone differs from example to example, and a table by label "
        "cannot know it; the lines say what a structure is worth here, for one seed.",
    ),
    "53.3": Exercise(
        amiss=number(first_above_half, seen={1.0: "At tau 1 a late teacher has learnt the labels."}),
        hint="Set `my_tau` to 2, 4, 8, 16 and watch the share pass one half; 0 if none does.",
        reason="A temperature keeps the order of the logits and pulls them together: a class that comes second rises "
        "above 1/K. What a late teacher knows of similarity is in its small posteriors.",
    ),
}
