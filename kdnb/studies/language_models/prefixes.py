"""Word-level, sequence-level and on-policy distillation on a generated language: arms, records, tables.

What trains is in `kdnb.studies.language_models.prefix_trainings`; nothing here needs torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from kdnb.core.config import Identity
from kdnb.core.store import Record
from kdnb.experiment import records

ERM, WORD, MIXED = "ERM", "word KD", "word KD, half"
MODE, SAMPLES, BOTH = "sequence KD, mode", "sequence KD, samples", "sequence KD, mode and text"
ON_REVERSE, ON_FORWARD = "on-policy, reverse KL", "on-policy, forward KL"
ON_GJSD, ON_INTERP = "on-policy, gjsd", "on-policy, interp_jsd"
ON_SKEW, ON_TV = "on-policy, skew KL", "on-policy, TV"
LS_ALPHAS = (0.05, 0.1, 0.2, 0.3, 0.4)
LS = {alpha: f"LS {alpha:g}" for alpha in LS_ALPHAS}
PREFIXES = {  # arm -> whose prefixes it learns on
    ERM: "the text",
    **dict.fromkeys(LS.values(), "the text"),
    WORD: "the text",
    MIXED: "the text",
    MODE: "the teacher's mode",
    SAMPLES: "the teacher's samples",
    BOTH: "the teacher's mode, then the text",
    **dict.fromkeys((ON_REVERSE, ON_FORWARD, ON_GJSD, ON_INTERP, ON_SKEW, ON_TV), "the student's samples"),
}
ARMS = tuple(PREFIXES)
SHORT = (ERM, LS[0.1], WORD, MODE, SAMPLES, ON_REVERSE)
REUSED = (SAMPLES, WORD, ON_REVERSE)  # arms trained on the prompts of a fiftieth of the sequences too
FEWER = 50
MEASURES = ("nll", "entropy", "teacher_kl", "source_kl", "accuracy", "ece", "gap", "mode_share", "own_entropy")


@dataclass(frozen=True, kw_only=True)
class GeneratedLanguage(Identity):
    """A generated language, its text, and a teacher of it: what notebooks on it have in common."""

    vocabulary: int = 64
    scale: float = 2.5
    length: int = 64
    rows: int = 1600  # sequences of the students' text: some 100,000 tokens
    held_rows: int = 64
    teacher: str = "llama-4x128"
    teacher_tokens: int = 600_000
    teacher_lr: float = 2e-3
    student: str = "llama-1x64"
    student_lr: float = 3e-3
    tokens: int = 100_000  # budget of each student
    batch: int = 8
    seed: int


@dataclass(frozen=True, kw_only=True)
class Prefixes(GeneratedLanguage):
    """Students of one teacher, one for each arm, from one start and at one budget of tokens."""

    length: int = 32  # half of the others': six arms write, a token after another
    rows: int = 3200
    held_rows: int = 128
    batch: int = 16
    arms: tuple[str, ...] = ARMS
    prompt: int = 8  # tokens of the text before teacher or student go on
    beams: int = 5
    prompts: int = 64  # on which greedy and beam search are compared
    continued: int = 16  # tokens


def obtain(experiment: Prefixes) -> Record:
    """The record of an experiment, loaded or made: arrays `MEASURES`, each (A,) of the arms in their order, and the
    source's and the teacher's own in the metrics."""

    def make() -> records.Made:
        from kdnb.studies.language_models.prefix_trainings import make

        return make(experiment)

    return records.obtain(experiment, make)


_SIZES: dict[str, dict[str, Any]] = {
    "toy": {
        "rows": 64, "held_rows": 8, "teacher_tokens": 5_000, "tokens": 2_000, "arms": SHORT, "prompts": 4,
        "continued": 4, "teacher": "llama-1x32", "student": "llama-1x32", "length": 16,
    },
    "demo": {"rows": 1000, "held_rows": 32, "teacher_tokens": 300_000, "tokens": 40_000, "arms": SHORT, "prompts": 16},
}  # fmt: skip
SEEDS = {"toy": (0,), "demo": (0,)}  # of the rest: 0, 1, 2


def experiments(profile: str = "cpu") -> list[Prefixes]:
    """All experiments of a profile."""
    return [Prefixes(seed=seed, **_SIZES.get(profile, {})) for seed in SEEDS.get(profile, (0, 1, 2))]


def on_few(one: Prefixes) -> Prefixes:
    """The same experiment on a fiftieth of its sequences, each used again and again: the budget stays."""
    return replace(one, rows=max(1, one.rows // FEWER), arms=REUSED)


def results(profile: str, *, few: bool = False) -> dict[Prefixes, Record]:
    """A profile's experiments, or those `on_few`, with their records; for `cpu` those stored, else all, made now."""
    wanted = [on_few(one) if few else one for one in experiments(profile)]
    return records.those_stored(wanted) if profile == "cpu" else {one: obtain(one) for one in wanted}


def table(found: Mapping[Prefixes, Record]) -> pd.DataFrame:
    """A row for each seed and arm: prefixes, and MEASURES.

    nll, entropy, accuracy, ece are of held-out text [nats, nats, share, share]; teacher_kl and source_kl the KL of the
    teacher's and of the source's true law to the student's [nats]; gap the log-probability of beam search's
    continuation minus greedy's, under the student [nats], mode_share the probability of beam search's; own_entropy
    that on its own samples [nats].
    """
    rows = [
        {
            "seed": one.seed,
            "arm": arm,
            "prefixes": PREFIXES[arm],
            **{name: float(record.arrays[name][number]) for name in MEASURES},
        }
        for one, record in found.items()
        for number, arm in enumerate(one.arms)
    ]
    return pd.DataFrame(rows, columns=["seed", "arm", "prefixes", *MEASURES])


def cost_of_reuse(whole: Mapping[Prefixes, Record], few: Mapping[Prefixes, Record]) -> pd.DataFrame:
    """By seed and arm of REUSED: KL of the teacher's law on held-out text, on few prompts minus on all [nats]."""
    kl = [table(found).pivot(index="seed", columns="arm", values="teacher_kl") for found in (few, whole)]
    return (kl[0] - kl[1]).reindex(columns=list(REUSED)).dropna()


def matched_ls(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each seed the LS student whose entropy on held-out text is nearest to word KD's: the control."""
    smoothed = rows[rows.arm.isin(list(LS.values()))]
    target = rows[rows.arm == WORD].set_index("seed").entropy
    away = (smoothed.entropy - smoothed.seed.map(target)).abs()
    return smoothed.loc[away.groupby(smoothed.seed).idxmin()].reset_index(drop=True)
