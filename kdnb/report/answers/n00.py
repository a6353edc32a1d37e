"""The exercises of notebook 00: entropy on the splits, nats and bits, Table 2."""

import math

from kdnb.report.exercises import Exercise, number, parts, these, word
from kdnb.studies.label_smoothing import paper

SPLITS = ("train", "validation", "test")
ROWS = ("LS", "Standard KD", "Self-KD")


def one_sided() -> list[str]:
    """The rows of Table 2 whose entropy lies on one side of ERM's on all four tasks."""

    def signs(row: str) -> set[bool]:
        return {paper.value(2, row, task) > paper.value(2, "ERM", task) for task in ("mrpc", "qnli", "sst2", "mnli")}

    return [row for row in ROWS if len(signs(row)) == 1]


EXERCISES = {
    "00.1": Exercise(
        amiss=word(lambda entropies: min(entropies, key=entropies.get), SPLITS),
        hint="Set `split` to each of the three, run the cell, and look for the lowest entropy.",
        reason=lambda entropies: (
            f"{min(entropies.values()):.3f} nats is the lowest of the three. Usually it is train: those posteriors "
            "were pushed towards their targets. In a model that has hardly learnt there is no such gap."
        ),
    ),
    "00.2": Exercise(
        amiss=parts(
            in_nats=number(0.995 * math.log(2), within=5e-4, seen={0.995 / math.log(2): "Multiply, do not divide."}),
            largest=number(math.log(2), within=5e-4, seen={1.0: "One bit, yes; and in nats?"}),
        ),
        hint="A fair coin carries one bit, and that is ln 2 nats.",
        reason="A bit is ln 2 nats, and two classes carry at most one: .995 above .693 cannot be nats.",
    ),
    "00.3": Exercise(
        amiss=these(one_sided, ROWS),
        hint="Run the cell with each of the three rows. Which have a task above 1 and a task below 1?",
        reason="LS lies above ERM on all four tasks, standard KD below on all four; self-KD lies above on MNLI alone.",
    ),
}
