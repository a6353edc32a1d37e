"""The exercises of notebook 54: another placebo, wrong labels, clean digits."""

from kdnb.report.exercises import Exercise, parts, word

SIDES = ("yes", "no", "undecided")
Lead = tuple[float, float]  # mean and half-width of its 95 % interval [points]


def side(lead: Lead) -> str:
    """Whether a difference lies above 0: yes, no (below) or undecided."""
    mean, half = lead
    return "yes" if mean - half > 0 else "no" if mean + half < 0 else "undecided"


EXERCISES = {
    "54.1": Exercise(
        amiss=parts(
            dose=word(lambda dose, lead: "smaller" if dose < 1 else "larger", ("smaller", "larger")),
            beaten=word(lambda dose, lead: side(lead), SIDES),
        ),
        hint="Set `my_outside` to True and run both cells. Where the teacher is sure, delta moves little.",
        reason=lambda dose, lead: (
            f"{dose:.2f} of underfit's dose: where the teacher is sure delta moves little. Underfit less it: "
            f"{lead[0]:+.2f} ± {lead[1]:.2f} points. So the rule's placebo draws from all."
        ),
    ),
    "54.2": Exercise(
        amiss=word(lambda lead: side(lead), SIDES),
        hint="Set `my_where` to `wrong`; an interval around 0 is undecided.",
        reason=lambda lead: (
            f"{lead[0]:+.2f} ± {lead[1]:.2f} points over KD. If it helps more than the quarter does, what the quarter "
            "stands for is wrong labels, and the deviation is a proxy."
        ),
    ),
    "54.3": Exercise(
        amiss=word(lambda gain_at: side(gain_at(0.0)), SIDES),
        hint="Set `my_noise` to 0.0 and read the first interval.",
        reason=lambda gain_at: (
            "KD less ERM without noise: {:+.1f} ± {:.1f} points. Where teacher and ERM student are equally good "
            "there is nothing to win, and forced underfit can only cost.".format(*gain_at(0.0))
        ),
    ),
}
