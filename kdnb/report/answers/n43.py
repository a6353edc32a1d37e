"""The exercises of notebook 43: smoothing by class, what a shuffle keeps, the mean of many."""

from kdnb.report.exercises import Amiss, Exercise, number, parts, word

KEPT = {"mean entropy": True, "entropy of each example": False, "share that names the label": True}


def truth(name: str) -> Amiss:
    """A judge of True or False."""

    def amiss(answer: object, **facts: object) -> str:
        if answer not in (True, False):
            return f"True or False, got {answer!r}."
        return "" if answer == KEPT[name] else "Look at what a row keeps when it goes to another example of its class."

    return amiss


def higher(gap: float) -> str:
    """Which target has the higher mean entropy; gap: class means' minus the shuffled posteriors' [nats]."""
    return "equal" if abs(gap) < 1e-6 else "class means" if gap > 0 else "shuffled"


EXERCISES = {
    "43.1": Exercise(
        amiss=number(
            0.18, within=1e-6, seen={0.9: "LS gives the other class half of its weight.", 0.09: "Half of it!"}
        ),
        hint="KD's target is .1 (1, 0) + .9 (.9, .1). How much does the other class get, and from which LS weight?",
        reason="KD's target is (.91, .09); LS gives class 1 half of its weight.",
    ),
    "43.2": Exercise(
        amiss=parts(**{name.replace(" ", "_"): truth(name) for name in KEPT}),
        hint="Rows trade places within a class, and no row is changed.",
        reason="Means and shares over a class do not know whose row it is; the entropy of an example does.",
    ),
    "43.3": Exercise(
        amiss=word(higher, ("class means", "shuffled", "equal")),
        hint="Entropy is concave.",
        reason=lambda gap: (
            f"By {abs(gap):.3f} nats: the entropy of a mean is at least the mean of the entropies, for every teacher."
        ),
    ),
}
