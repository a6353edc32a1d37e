"""The exercises of notebook 35: an alpha that fits, the tables without the hard task, how precise the print is."""

from kdnb.report.exercises import Exercise, number, parts
from kdnb.studies.label_smoothing import paper


def floor(alpha: float, num_classes: int) -> float:
    """H((1 - alpha) q + alpha u), the entropy of the smoothed target [nats]."""
    import math

    wrong = alpha / num_classes
    right = 1 - alpha + wrong
    return -right * math.log(right) - (num_classes - 1) * (wrong * math.log(wrong) if wrong else 0)


def largest() -> float:
    """The largest alpha of Table 1's grid whose floor lies below the printed LS cell of MNLI in Table 2."""
    return max(a for a in paper.grids()["table1"]["alpha"] if floor(a, 3) <= paper.value(2, "LS", "mnli"))


def without_mnli() -> float:
    """Correlation of teacher's and student's entropy over the nine cells of Tables 2 and 4 that are not MNLI's."""
    cells = paper.teacher_student_entropies((2, 4)).query("task != 'mnli'")
    return float(cells.teacher_entropy.corr(cells.student_entropy))


EXERCISES = {
    "35.1": Exercise(
        amiss=number(largest, seen={0.8: "That is the printed one, and its floor lies above the cell."}),
        hint="`theory.ls_optimum_entropy(alpha, 3)` is the floor; the grid has .1, .2, ... .9.",
        reason="There the excess is like that of the other cells; that makes a misprint possible, not certain.",
    ),
    "35.2": Exercise(
        amiss=number(without_mnli, within=0.005),
        hint="`.query(\"task != 'mnli'\")` leaves it out.",
        reason=lambda: (
            f"r = {without_mnli():.3f} over nine cells. MNLI stretches both axes; the others lie close together."
        ),
    ),
    "35.3": Exercise(
        amiss=parts(
            ties=number(lambda ties, unequal: ties, within=0.5), cells=number(lambda ties, unequal: unequal, within=0.5)
        ),
        hint="Set `digits` to 2 and read both counts.",
        reason="With two decimals a tie says nothing. (At three, N2 depends on how a final 5 is rounded.)",
    ),
}
