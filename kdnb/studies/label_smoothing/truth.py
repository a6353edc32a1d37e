"""What the paper's own tables say of each claim: counted from `kdnb.studies.label_smoothing.paper`, never typed in."""

import numpy as np

from kdnb.catalog import TASKS
from kdnb.experiment.arms import ARMS
from kdnb.studies.label_smoothing import paper
from kdnb.studies.label_smoothing.claims import LARGE_ALPHA, Claim, Part

GLUE = ("mrpc", "qnli", "sst2", "mnli")
TABLES = {  # by a claim's evidence: (student, metric) -> the printed table it is counted in
    "study": paper.RESULT_TABLES,
    "smoothing": paper.RESULT_TABLES,
    "temperature": {
        ("small", "entropy"): 8, ("small", "accuracy"): 9, ("large", "entropy"): 10, ("large", "accuracy"): 11,
    },
}  # fmt: skip


def published_count(claim: Claim, tasks: tuple[str, ...] = GLUE) -> str:
    """On how many of the paper's tasks its own tables bear the claim out, "3/4"; or why there is no count.

    Claims of inheritance have a correlation over the printed KD cells instead, "r = 0.915 (n = 12)".
    """
    if claim.published:
        return claim.published
    if not claim.parts:
        cells = paper.teacher_student_entropies((8, 10) if claim.evidence == "temperature" else (2, 4))
        x, y, slope = cells.teacher_entropy, cells.student_entropy, ""
        if claim.test == "inherited change":
            cells = cells[cells.row != "Self-KD"]
            x, y = cells.teacher_entropy - cells.erm_entropy, cells.student_entropy - cells.erm_entropy
            slope = f", slope {np.polyfit(x, y, 1)[0]:.2f}"
        return f"r = {np.corrcoef(x, y)[0, 1]:.3f}{slope} (n = {len(x)})"
    if claim.evidence == "smoothing":
        tasks = [task for task in tasks if _alpha(claim.parts[0].arm, task) >= LARGE_ALPHA]
    true = sum(all(part.sign * _printed(part, claim.evidence, task) > 0 for part in claim.parts) for task in tasks)
    return f"{true}/{len(tasks)}"


def smoothed_confidence(alpha: float, num_classes: int) -> float:
    """Confidence at the optimum of LS where the label is certain: 1 - alpha + alpha / K."""
    return 1 - alpha + alpha / num_classes


def _printed(part: Part, evidence: str, task: str) -> float:
    """metric(arm) - metric(than) as printed; for overconfidence the optimum's confidence minus printed accuracy."""
    tables = TABLES[evidence]

    def value(arm: str, metric: str) -> float:
        return paper.value(tables[(ARMS[arm].student, metric)], ARMS[arm].paper_row, task)

    if part.metric == "overconfidence":
        confidence = smoothed_confidence(_alpha(part.arm, task), TASKS[task].num_classes)
        return confidence - value(part.arm, "accuracy") / 100
    return value(part.arm, part.metric) - value(part.than, part.metric)


def _alpha(arm: str, task: str) -> float:
    """The alpha of Table 7."""
    return paper.optima(7)[ARMS[arm].student][ARMS[arm].paper_row][task]["alpha"]
