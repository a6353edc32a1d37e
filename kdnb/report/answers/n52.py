"""The exercises of notebook 52: a longer chain, the theorem's limit, a start of its own."""

from collections.abc import Callable, Mapping

from kdnb.report.exercises import Exercise, called, number, parts, word


def chain(answer: Callable, *, first_time: float, second_time: float) -> str:
    """A function (eigenvalue, time) -> progress of a student's student, stages before it of the given times."""
    import numpy as np

    from kdnb.studies.deviations.spectral import gf_progress

    times = np.array([0.5, 2.0, 20.0])
    for eigenvalue in (1.0, 0.1):
        mine = np.asarray(called(answer, eigenvalue, times), dtype=float)
        child = gf_progress(eigenvalue, times) * gf_progress(eigenvalue, first_time)
        if np.allclose(mine, child) or np.allclose(mine, child / gf_progress(eigenvalue, first_time)):
            return "A grandchild has three filters: its own, its teacher's, and that of its teacher's teacher."
        if not np.allclose(mine, child * gf_progress(eigenvalue, second_time)):
            return f"Along eigenvalue {eigenvalue:g} it is not the product of the three filters."
    return ""


def more_often(below: Mapping[str, float]) -> str:
    """Whether the student lies below its teacher over a larger share of the way than the control."""
    return "yes" if below["student"] > below["control"] else "no"


EXERCISES = {
    "52.1": Exercise(
        amiss=chain,
        hint="gf_progress(eigenvalue, t) is one filter. What does the student's student get to see?",
        reason="Filters multiply. So the inequality holds for the child as the teacher of the pair: a grandchild "
        "is further behind at equal progress along the top, as the solution shows.",
    ),
    "52.2": Exercise(
        amiss=parts(
            step=number(1.0, seen={4.0: "The slope is derived from what step 1 has named; look earlier."}),
            top=number(1.6, within=1e-6, seen={-0.6: "That is what is left undone: 1 - 1.6."}),
        ),
        hint="What is left undone after one step is 1 - h lambda; name it a, and take a power of it.",
        reason="a = 1 - 1.6 is negative, so a^r is no number. The top is overdone by 60 % and swings back with "
        "the next step, so that equal progress along the top is no longer one time.",
    ),
    "52.3": Exercise(
        amiss=word(more_often, ("yes", "no")),
        hint="Read the second line: the share of the way, mean over seeds, for student and for control.",
        reason=lambda below: (
            f"Student below at {below['student']:.0%}, control at {below['control']:.0%} of the way, two seeds. "
            "A control with a start of its own may lie anywhere: compare the student with it, not with one half."
        ),
    ),
}
