"""What of the cost of distillation was measured: clocks and memory, what names them, their records and tables.

What measures is in `kdnb.studies.language_models.cost_measured`; nothing here needs torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from kdnb.core.config import Identity
from kdnb.core.store import Record
from kdnb.experiment import records
from kdnb.studies.language_models import cost
from kdnb.studies.language_models.cost import Transformer

WAYS = (cost.ERM, cost.ONLINE, cost.SPARSE, cost.ON_POLICY)  # whose steps are clocked
LOSSES = tuple(cost.TENSORS)  # whose peak is taken


@dataclass(frozen=True, kw_only=True)
class CostClock(Identity):
    """Seconds of a training step, each way, with kdnb's own loop; sizes such that N_t / N_s is 10, as of 70B to 7B."""

    student_layers: int = 2
    student_width: int = 192
    teacher_layers: int = 3
    teacher_width: int = 512
    heads: int = 4
    vocabulary: int = 512
    length: int = 128
    batch: int = 4
    prompt: int = 16  # on-policy: tokens before the student goes on
    kept: int = 64  # of the sparse targets
    steps: int = 6  # in a row; the first of them is not counted
    rounds: int = 3  # in which all ways take their turn
    seed: int

    def shape(self, who: str) -> Transformer:
        """Of "student" or "teacher"."""
        width = getattr(self, f"{who}_width")
        return Transformer(
            layers=getattr(self, f"{who}_layers"),
            width=width,
            feed_forward=4 * width,
            vocabulary=self.vocabulary,
            heads=self.heads,
            tied=True,
        )

    @property
    def weights(self) -> tuple[int, int]:
        """N_t and N_s."""
        return self.shape("teacher").multiplied, self.shape("student").multiplied

    def predicted(self) -> dict[str, float]:
        """FLOPs of a step over those of an ERM step, each way; of the cache once it is there."""
        teacher, student = self.weights
        plan = cost.Plan(teacher=teacher, student=student, tokens=1, generated=1 - self.prompt / self.length)
        total = cost.cost(plan)
        return {way: 1.0 if way == cost.SPARSE else total.ratio(way) for way in WAYS}


@dataclass(frozen=True, kw_only=True)
class CostPeak(Identity):
    """Peak memory of a loss and its backward over random hidden states, each in a process of its own."""

    vocabulary: int = 49_152
    tokens: int = 256
    width: int = 64
    chunk: int = 64
    kept: int = 64
    seed: int

    def predicted(self) -> dict[str, float]:
        """Bytes, by loss."""
        return {
            how: cost.loss_memory(how, self.tokens if how == cost.DENSE else self.chunk, self.vocabulary, self.width)
            for how in LOSSES
        }


Measurement = CostClock | CostPeak


def obtain(experiment: Measurement) -> Record:
    """The record of a measurement, loaded or made. One array: seconds (ways, steps), or bytes (losses,)."""

    def make() -> records.Made:
        from kdnb.studies.language_models import cost_measured

        return cost_measured.clock(experiment) if isinstance(experiment, CostClock) else cost_measured.peaks(experiment)

    return records.obtain(experiment, make)


_TOY: dict[str, Any] = {
    "student_width": 16, "teacher_width": 32, "vocabulary": 32, "length": 16, "prompt": 4, "kept": 4, "batch": 2,
    "steps": 2, "rounds": 1,
}  # fmt: skip


def experiments(profile: str = "cpu") -> list[Measurement]:
    """All measurements of a profile: five clocks and three peaks; fewer and smaller ones in demo and toy."""
    if profile == "toy":
        return [CostClock(seed=0, **_TOY), CostPeak(seed=0, vocabulary=4096, tokens=64, chunk=16)]
    clocks, peaks, rounds = (2, 1, 1) if profile == "demo" else (5, 3, 3)
    return [
        *(CostClock(seed=seed, rounds=rounds) for seed in range(clocks)),
        *(CostPeak(seed=seed) for seed in range(peaks)),
    ]


def results(profile: str) -> dict[Measurement, Record]:
    """A profile's measurements with their records; for `cpu` those stored, else the others are made now."""
    wanted = experiments(profile)
    return records.those_stored(wanted) if profile == "cpu" else {one: obtain(one) for one in wanted}


def clock_table(found: Mapping[Measurement, Record]) -> pd.DataFrame:
    """A row for each way and seed: seconds (median step), measured and predicted (over ERM), gflops (a second)."""
    rows = []
    for one, record in found.items():
        if isinstance(one, CostClock):
            seconds = dict(zip(WAYS, pd.DataFrame(record.arrays["seconds"]).median(axis=1), strict=True))
            erm = 6 * one.weights[1] * one.batch * (one.length - 1)
            rows += [
                {
                    "seed": one.seed,
                    "way": way,
                    "seconds": seconds[way],
                    "measured": seconds[way] / seconds[cost.ERM],
                    "predicted": predicted,
                    "gflops": erm * predicted / seconds[way] / 1e9,
                }
                for way, predicted in one.predicted().items()
            ]
    return pd.DataFrame(rows)


def peak_table(found: Mapping[Measurement, Record]) -> pd.DataFrame:
    """A row for each loss and seed: predicted and measured [bytes], off, their relative difference."""
    rows = [
        {"seed": one.seed, "loss": how, "predicted": predicted, "measured": float(measured)}
        for one, record in found.items()
        if isinstance(one, CostPeak)
        for (how, predicted), measured in zip(one.predicted().items(), record.arrays["bytes"], strict=True)
    ]
    table = pd.DataFrame(rows, columns=["seed", "loss", "predicted", "measured"])
    return table.assign(off=table.measured / table.predicted - 1)
