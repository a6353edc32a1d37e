"""From attention to a state-space mixer in stages: which students there are, what names an experiment, its records.

What trains is in `kdnb.studies.language_models.staging`; nothing here needs torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from kdnb.core.config import Identity
from kdnb.core.store import Record
from kdnb.experiment import records
from kdnb.studies.language_models.text import Blocks, smallest_dtype

MARKOV, RECALL = "markov", "recall"
ATTENTION, STATE_SPACE = "attention", "state space"
ABLATION = ("1", "2", "3", "12", "13", "23", "123")
MODELS = ("llama", "mamba2")


def recall_blocks(rows: int, length: int, keys: int, vocabulary: int, seed: int) -> Blocks:
    """Associative recall: each sequence tells a value of every key, then asks for keys and answers.

    A pair of key and value is one token, so is a question; the answer repeats the pair. Order and values are drawn
    anew for each sequence, so the answer is nowhere but in its beginning.

    Args:
        rows: sequences.
        length: of each; what the keys leave is questions and answers.
        keys: how many; each is told once.
        vocabulary: keys x (values + 1), the questions last.
        seed: of the draws.
    Raises:
        ValueError: the vocabulary is no multiple of the keys, or the length leaves no pairs of question and answer.
    """
    values = vocabulary // keys - 1
    if vocabulary % keys or values < 1:
        raise ValueError(f"vocabulary must be a multiple of {keys} keys with a value each, got {vocabulary}")
    if length <= keys or (length - keys) % 2:
        raise ValueError(f"length must be {keys} keys and pairs of question and answer, got {length}")
    rng = np.random.default_rng((seed, rows, length, keys, vocabulary))
    asked = (length - keys) // 2
    told, *questions = (
        rng.permuted(np.tile(np.arange(keys), (rows, 1)), axis=1) for _ in range(1 + -(-asked // keys))
    )  # each key once before any comes again
    question = np.concatenate(questions, axis=1)[:, :asked]
    value = rng.integers(0, values, size=(rows, keys))
    ids = np.empty((rows, length), dtype=smallest_dtype(vocabulary))
    ids[:, :keys] = told * values + np.take_along_axis(value, told, axis=1)
    ids[:, keys::2] = keys * values + question
    ids[:, keys + 1 :: 2] = question * values + np.take_along_axis(value, question, axis=1)
    return Blocks(ids, f"recall of {keys} keys", vocabulary)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """How a student is made of a teacher.

    stages: some of 1 (matrices), 2 (block outputs) and 3 (end to end), in this order.
    copied: whether all weights but the matrix's own come from the teacher; else the student is fresh.
    state: N of each head.
    kept: layers that keep the teacher's attention, from 0.
    shares: of the steps that each stage has, as any numbers; equal ones where none are given.
    """

    stages: str = "123"
    copied: bool = True
    state: int = 16
    kept: tuple[int, ...] = ()
    shares: tuple[int, ...] = ()

    def __post_init__(self):
        if self.stages not in ABLATION:
            raise ValueError(f"stages must be one of {', '.join(ABLATION)}, got {self.stages!r}")
        if self.kept and not self.copied:
            raise ValueError("layers that keep the teacher's attention need copied weights")
        if self.shares and len(self.shares) != len(self.stages):
            raise ValueError(f"shares must be one for each of the stages {self.stages}, got {self.shares}")

    def steps(self, total: int) -> list[int]:
        """Steps of each stage; their sum is the total, whatever the shares."""
        edges = np.cumsum(self.shares or (1,) * len(self.stages)) / sum(self.shares or (1,) * len(self.stages))
        return np.diff(np.round(total * edges).astype(int), prepend=0).tolist()

    @property
    def name(self) -> str:
        """For tables."""
        kept = "".join(f", layer {layer + 1} kept" for layer in self.kept)
        shares = f" as {':'.join(map(str, self.shares))}" if self.shares else ""
        return f"{'+'.join(self.stages)}{shares}, N {self.state}{'' if self.copied else ', fresh'}{kept}"


@dataclass(frozen=True, kw_only=True)
class Conversion(Identity):
    """Students of one teacher, one for each arm, all on the same number of tokens.

    language: "markov", order 2, or "recall".
    teacher: its mixer: "attention", or "state space" for one in the students' own family.
    teacher_state: N of such a teacher.
    rates: peak learning rates of the stages.
    """

    language: str
    teacher: str = ATTENTION
    teacher_state: int = 16
    arms: tuple[Arm, ...]
    vocabulary: int = 64
    keys: int = 8
    length: int = 32
    layers: int = 1
    width: int = 64
    heads: int = 4
    rows: int = 8192
    held_out: int = 128
    batch: int = 16
    teacher_steps: int = 800
    teacher_rate: float = 4e-3
    steps: int = 240
    rates: tuple[float, float, float] = (1e-2, 4e-3, 2e-3)
    seed: int

    def values(self) -> dict[str, Any]:
        """Field -> value."""
        return {**super().values(), "arms": [vars(arm) for arm in self.arms]}


@dataclass(frozen=True, kw_only=True)
class Beside(Identity):
    """A Llama and a Mamba-2 of equal numbers of parameters, both trained on labels alone.

    llama_layers: of the Llama, whose feed-forward width is what makes the numbers equal.
    mamba_layers: of Mamba-2, which has no feed-forward layers.
    state: N of Mamba-2.
    """

    language: str = RECALL
    vocabulary: int = 64
    keys: int = 8
    length: int = 32
    width: int = 64
    heads: int = 4
    llama_layers: int = 2
    mamba_layers: int = 4
    state: int = 16
    rows: int = 8192
    held_out: int = 128
    batch: int = 16
    steps: int = 600
    rate: float = 4e-3
    timed: int = 5  # steps of each that are timed
    seed: int


Experiment = Conversion | Beside


def obtain(experiment: Experiment) -> Record:
    """The record of an experiment, loaded or made.

    Of a Conversion, A arms in their order, L layers, H heads and T tokens: nll, kl, agreement, recall (A,) on held-out
    sequences [nats, nats, shares]; matrix_error, block_error (A, L) relative to the teacher's, NaN where attention is
    kept; teacher_matrix and, of the first arm, student_matrix (L, H, T, T) of one sequence. Metrics: the teacher's
    nll, its recall or its source's entropy, its parameters; the students' tokens. History: arm, stage, step, loss.
    Of a Beside, both models: nll, recall, parameters (2,); seconds (3,), CPU time of a step of Llama, Mamba-2 and Mamba
    of two layers each on 8 sequences of 64 tokens.
    """

    def make() -> records.Made:
        from kdnb.studies.language_models.staging import make

        return make(experiment)

    return records.obtain(experiment, make)


MOHAWK_SHARES = (8, 16, 276)  # 80M, 160M and 2.76B tokens of stages 1, 2 and 3
_ON_MARKOV = (
    *(Arm(stages=stages) for stages in ABLATION), Arm(shares=MOHAWK_SHARES), Arm(stages="3", copied=False),
)  # fmt: skip
_ON_RECALL = (
    Arm(stages="1"), Arm(stages="3"), Arm(), Arm(state=4), Arm(state=2),
    Arm(state=4, kept=(0,)), Arm(state=4, kept=(1,)),
)  # fmt: skip
_SIZES: dict[str, dict[str, Any]] = {  # what smaller profiles change
    "toy": {"rows": 64, "held_out": 16, "teacher_steps": 4, "steps": 20, "batch": 2, "width": 16},
    "demo": {"teacher_steps": 300, "steps": 60, "rows": 4096},
}
_SEEDS = {"toy": 1, "demo": 1}  # the rest has 3


def experiments(profile: str = "cpu") -> list[Experiment]:
    """All experiments of a profile: "toy", "demo", or any other for the whole."""
    size = _SIZES.get(profile, {})
    common = {name: value for name, value in size.items() if name not in ("teacher_steps", "steps")}
    few = {"steps": size["teacher_steps"], "timed": 1} if size else {}
    return [
        one
        for seed in range(_SEEDS.get(profile, 3))
        for one in (
            Conversion(language=MARKOV, arms=_ON_MARKOV, seed=seed, **size),
            Conversion(
                language=MARKOV,
                teacher=STATE_SPACE,
                arms=(Arm(stages="1"),),
                seed=seed,
                **{"teacher_steps": 400, **size},
            ),
            Conversion(language=RECALL, layers=2, arms=_ON_RECALL, seed=seed, **size),
            Beside(seed=seed, **common, **few),
        )
    ]


def results(profile: str) -> dict[Experiment, Record]:
    """A profile's experiments with their records; for `cpu` those stored, else the others are made now."""
    wanted = experiments(profile)
    return records.those_stored(wanted) if profile == "cpu" else {one: obtain(one) for one in wanted}


def table(found: Mapping[Experiment, Record]) -> pd.DataFrame:
    """A row for each student of a conversion.

    Returns:
        language, teacher, seed, arm (its name), stages, copied, state, kept (-1 for none); nll, kl [nats], agreement,
        recall [shares]; matrix_error, block_error (the largest of the layers that were converted).
    """
    rows = []
    for one, record in found.items():
        if not isinstance(one, Conversion):
            continue
        for i, arm in enumerate(one.arms):
            told = {name: float(record.arrays[name][i]) for name in ("nll", "kl", "agreement", "recall")}
            worst = {name: float(np.nanmax(record.arrays[name][i])) for name in ("matrix_error", "block_error")}
            rows.append(
                {
                    "language": one.language,
                    "teacher": one.teacher,
                    "seed": one.seed,
                    "arm": arm.name,
                    "stages": arm.stages,
                    "copied": arm.copied,
                    "state": arm.state,
                    "kept": arm.kept[0] if arm.kept else -1,
                    **told,
                    **worst,
                }
            )
    return pd.DataFrame(rows)


def wide(rows: pd.DataFrame, language: str, column: str, teacher: str = ATTENTION) -> pd.DataFrame:
    """One column of the students of one kind of teacher: a row for each seed, a column for each arm."""
    some = rows[(rows.language == language) & (rows.teacher == teacher)]
    return some.pivot(index="seed", columns="arm", values=column)[list(dict.fromkeys(some.arm))]


def beside(found: Mapping[Experiment, Record], column: str) -> pd.DataFrame:
    """Of Llama and Mamba-2: a row for each seed, a column for each."""
    rows = {one.seed: record.arrays[column][:2] for one, record in found.items() if isinstance(one, Beside)}
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(MODELS)).rename_axis("seed").astype(float)


def kept_for_its_error(found: Mapping[Experiment, Record]) -> pd.DataFrame:
    """Recall where one layer keeps its attention: that whose block stage 1 alone brings least near, and the other.

    Returns:
        A row for each seed; columns worst, other, none (no attention kept, the same state) [shares].
    """
    rows = {}
    for one, record in found.items():
        if isinstance(one, Conversion) and one.language == RECALL:
            worst = int(np.argmax(record.arrays["block_error"][one.arms.index(Arm(stages="1"))]))
            kept = {arm.kept: float(record.arrays["recall"][i]) for i, arm in enumerate(one.arms) if arm.state == 4}
            rows[one.seed] = {"worst": kept[(worst,)], "other": kept[(1 - worst,)], "none": kept[()]}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("seed")
