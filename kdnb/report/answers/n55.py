"""The exercises of notebook 55: a control that is the teacher, two temperatures, three words."""

from collections.abc import Mapping

from kdnb.report.exercises import Exercise, number, parts, word

WORDS = ("exaggeration", "less sure of everything", "nothing beyond the control")


def deeper(depth: Mapping[float, float]) -> float:
    """The temperature whose students lie further below their controls; depth: tau -> student minus control."""
    return min(depth, key=lambda tau: depth[tau])


EXERCISES = {
    "55.1": Exercise(
        amiss=number(0, within=1e-9),
        hint="Who taught the self-distilled student?",
        reason="That model is the teacher: Y is X for every example. Held against it, any deviation at all counts.",
    ),
    "55.2": Exercise(
        amiss=number(deeper),
        hint="Student minus control: the lower of the two means lies deeper.",
        reason=lambda depth: (
            "Student minus control: "
            + ", ".join(f"{value:+.3f} nats at tau {tau:g}" for tau, value in depth.items())
            + ". Look at the high end, too, before you call it underfit: a student may be less sure of everything."
        ),
    ),
    "55.3": Exercise(
        amiss=parts(A=word(WORDS[0], WORDS), B=word(WORDS[1], WORDS), C=word(WORDS[2], WORDS)),
        hint="An end counts where both its intervals lie on the same side of 0. Then compare the ends.",
        reason="A sinks at one end alone, B at both, and C sinks as a stranger does.",
    ),
}
