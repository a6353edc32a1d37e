"""The exercises of notebook 40: train or test, what the teacher alone changes, the same with a temperature."""

from collections.abc import Mapping

from kdnb.report.exercises import Exercise, number, parts, word
from kdnb.studies.label_smoothing import paper


def further(gaps: Mapping[str, float]) -> str:
    """The split on which Reverse KD lies further from ERM large."""
    return max(gaps, key=lambda split: abs(gaps[split]))


def relative() -> tuple[float, float]:
    """Slope and r of student on teacher, both minus ERM's, over Tables 2 and 4 without self-KD."""
    import numpy as np

    cells = paper.teacher_student_entropies((2, 4)).query("row != 'Self-KD'")
    x, y = cells.teacher_entropy - cells.erm_entropy, cells.student_entropy - cells.erm_entropy
    return float(np.polyfit(x, y, 1)[0]), float(x.corr(y))


def stronger() -> str:
    """Whether r over Tables 8 and 10 is larger than over Tables 2 and 4."""
    cold, hot = (paper.teacher_student_entropies(tables) for tables in ((2, 4), (8, 10)))
    r = [cells.teacher_entropy.corr(cells.student_entropy) for cells in (cold, hot)]
    return "stronger" if r[1] > r[0] else "weaker"


def inside() -> str:
    """Whether the reverse-KD student on QNLI lies between ERM and its teacher in Table 10."""
    cells = paper.teacher_student_entropies((8, 10)).query("row == 'Reverse KD' and task == 'qnli'").iloc[0]
    return "yes" if cells.erm_entropy < cells.student_entropy < cells.teacher_entropy else "no"


EXERCISES = {
    "40.1": Exercise(
        amiss=word(further, ("train", "test")),
        hint="Look at both columns, and at the size of the gap, not at its sign.",
        reason=lambda gaps: (
            "; ".join(f"{split} {gap:+.3f} nats" for split, gap in gaps.items())
            + ". The student's targets are the teacher's posteriors on train examples, which the teacher has seen too."
        ),
    ),
    "40.2": Exercise(
        amiss=parts(slope=number(lambda: relative()[0], within=0.01), r=number(lambda: relative()[1], within=0.01)),
        hint="Leave self-KD out of `paper`, and subtract the column `erm_entropy` from both.",
        reason="The slope hardly moves: the self-KD cells sit at 0, amid the others. A caution: both axes subtract "
        "the same ERM entropy, so noise in it alone makes a positive slope.",
    ),
    "40.3": Exercise(
        amiss=parts(r=word(stronger, ("weaker", "stronger")), QNLI=word(inside, ("yes", "no"))),
        hint="Set `your_tables` to (8, 10).",
        reason="Stronger, and QNLI still lies below ERM, by less, though Table 12 trains both arms for 2 epochs: "
        "training time can explain part of the exception, not all of it (tau is 64 there: no clean test either).",
    ),
}
