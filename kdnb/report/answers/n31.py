"""The exercises of notebook 31: another control, the label in place of the teacher's class."""

from collections.abc import Mapping

from kdnb.report.exercises import Exercise, number, parts, word


def nearer(gaps: Mapping[str, float]) -> str:
    """Whether the control of the student's own seed has a gap nearer to KD's than the other one's."""
    own, other = (abs(gaps[name] - gaps["Standard KD"]) for name in ("own seed", "another seed"))
    return "yes" if own < other else "no"


EXERCISES = {
    "31.1": Exercise(
        amiss=word(nearer, ("yes", "no")),
        hint="Set `your_control` to `small`, and hold both gaps against that of Standard KD.",
        reason=lambda gaps: (
            f"Gaps: KD {gaps['Standard KD']:+.3f}, own seed {gaps['own seed']:+.3f}, another seed "
            f"{gaps['another seed']:+.3f} log odds. The control of the own seed shares head and batches: what is left "
            "between the two is the teacher alone."
        ),
    ),
    "31.2": Exercise(
        amiss=parts(
            share=number(lambda errs, by_label, by_class: errs, within=0.002),
            gap=word(lambda errs, by_label, by_class: "rises" if by_label > by_class else "falls", ("rises", "falls")),
        ),
        hint="A point changes its class exactly where the teacher errs. And who errs less on just these examples?",
        reason=lambda errs, by_label, by_class: (
            f"{errs:.1%} change; the control's gap goes from {by_class:+.3f} to {by_label:+.3f} log odds. By label, "
            "the lowest quartile gathers the teacher's errors: the choice of class shapes what the plot says."
        ),
    ),
}
