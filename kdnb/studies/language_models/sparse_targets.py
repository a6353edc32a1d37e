"""Six ways to learn from a few entries of a teacher's law, at equal bytes: arms, records, tables.

What trains is in `kdnb.studies.language_models.sparse_trainings`; nothing here needs torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from kdnb.core.store import Record
from kdnb.experiment import records
from kdnb.studies.language_models.config import VARIANT_NAMES as VARIANTS
from kdnb.studies.language_models.prefixes import GeneratedLanguage

WHOLE, ERM = "whole law", "ERM"
MEASURES = ("nll", "entropy", "teacher_kl", "ece", "accuracy")
GRADIENT = ("bias", "spread", "reconstruction", "bytes", "mass")


@dataclass(frozen=True, kw_only=True)
class SparseTargets(GeneratedLanguage):
    """Students of one teacher from one start, one for each variant and number of entries."""

    kept: tuple[int, ...] = (2, 4, 8)
    draws: int = 32  # samples of each law from which bias and spread of the gradient are told

    @property
    def arms(self) -> tuple[tuple[str, int], ...]:
        """(variant, entries kept); the two that keep no entries first."""
        return ((ERM, 0), (WHOLE, 0), *((variant, kept) for kept in self.kept for variant in VARIANTS))


def obtain(experiment: SparseTargets) -> Record:
    """The record of an experiment, loaded or made: arrays MEASURES and GRADIENT, each (A,) of the arms in their order;
    the teacher's own in the metrics."""

    def make() -> records.Made:
        from kdnb.studies.language_models.sparse_trainings import make

        return make(experiment)

    return records.obtain(experiment, make)


_SIZES: dict[str, dict[str, Any]] = {
    "toy": {
        "rows": 32, "held_rows": 8, "teacher_tokens": 5_000, "tokens": 1_000, "kept": (2, 4), "draws": 4,
        "teacher": "llama-1x32", "student": "llama-1x32", "length": 16,
    },
    "demo": {"rows": 1000, "held_rows": 32, "teacher_tokens": 300_000, "tokens": 40_000, "kept": (4,), "draws": 16},
}  # fmt: skip
SEEDS = {"toy": (0,), "demo": (0,)}  # of the rest: 0, 1, 2


def experiments(profile: str = "cpu") -> list[SparseTargets]:
    """All experiments of a profile."""
    return [SparseTargets(seed=seed, **_SIZES.get(profile, {})) for seed in SEEDS.get(profile, (0, 1, 2))]


def results(profile: str) -> dict[SparseTargets, Record]:
    """A profile's experiments with their records; for `cpu` those stored, else the others are made now."""
    wanted = experiments(profile)
    return records.those_stored(wanted) if profile == "cpu" else {one: obtain(one) for one in wanted}


def table(found: Mapping[SparseTargets, Record]) -> pd.DataFrame:
    """A row for each seed and arm.

    Returns:
        seed, variant, kept; nll, entropy, teacher_kl [nats], ece, accuracy [shares] on held-out text; of the gradient
        in the logits of an ERM student: bias, |mean - whole law's| over |whole law's|, and spread, the same of the
        standard deviation over draws; reconstruction, KL of the law to what is stored [nats]; bytes a token; mass,
        of the law that is kept.
    """
    rows = [
        {
            "seed": one.seed,
            "variant": variant,
            "kept": kept,
            **{name: float(record.arrays[name][number]) for name in (*MEASURES, *GRADIENT)},
        }
        for one, record in found.items()
        for number, (variant, kept) in enumerate(one.arms)
    ]
    return pd.DataFrame(rows, columns=["seed", "variant", "kept", *MEASURES, *GRADIENT])


def wide(rows: pd.DataFrame, name: str, kept: int) -> pd.DataFrame:
    """One column at a number of entries: a row per seed, a column per variant, with ERM and the whole law."""
    return rows[rows.kept.isin((0, kept))].pivot(index="seed", columns="variant", values=name)
