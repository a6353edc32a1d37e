"""What is claimed of words, sequences and on-policy students, and the value a seed that decides it."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from kdnb.analysis.ledger import SIMULATED, Claim, RunlessTest, of_records
from kdnb.core.store import Record
from kdnb.studies.language_models import prefixes
from kdnb.studies.language_models.prefixes import ERM, LS, MODE, ON_REVERSE, REUSED, SAMPLES, WORD, Prefixes


def _claim(id: str, statement: str, words: str, side: int, **more: Any) -> Claim:
    facts = {"source": "Kim & Rush 2016", "test": "prefixes", **more}
    return Claim(id=id, statement=statement, test_words=words, evidence=SIMULATED, unit="nats", side=side, **facts)


_LIST = [
    _claim(
        "H14.1a", "Sequence KD from the teacher's mode leaves a surer student than the text does",
        "entropy on held-out text: sequence KD (mode) minus ERM < 0", -1,
    ),
    _claim(
        "H14.1b", "Beam search finds less beyond greedy decoding in it",
        "gap of beam search and greedy decoding: sequence KD (mode) minus ERM < 0", -1,
    ),
    _claim(
        "H14.1c", "It is worse on the text itself",
        "NLL on held-out text: sequence KD (mode) minus ERM > 0", 1,
    ),
    _claim(
        "H14.1d", "From samples, not the mode, it keeps the teacher's doubt",
        "|entropy - teacher's|: sequence KD (samples) minus sequence KD (mode) < 0", -1,
    ),
    _claim(
        "H14.1e", "Sequence KD smooths as label smoothing does",
        "entropy: the smaller of LS 0.1 minus ERM and sequence KD (mode) minus ERM > 0", 1,
    ),
    _claim(
        "H14.2", "The entropy of a word-KD student follows its teacher's",
        "|entropy - teacher's|: word KD minus ERM < 0", -1,
    ),
    _claim(
        "H21.1", "Prompts used again cost a student of the teacher's samples more than one on its own prefixes",
        "KL to the teacher on held-out text, a fiftieth of the prompts minus all: samples minus on-policy > 0", 1,
        source="our question, asked when the other records were there", test="reuse",
    ),
]  # fmt: skip
CLAIMS: dict[str, Claim] = {claim.id: claim for claim in _LIST}


def effects(found: Mapping[Prefixes, Record]) -> dict[str, pd.Series]:
    """Claim id -> one value per seed."""
    entropy, gap, nll = (
        prefixes.table(found).pivot(index="seed", columns="arm", values=name) for name in ("entropy", "gap", "nll")
    )
    away = entropy.sub(teachers_entropy(found), axis=0).abs()
    return {
        "H14.1a": entropy[MODE] - entropy[ERM],
        "H14.1b": gap[MODE] - gap[ERM],
        "H14.1c": nll[MODE] - nll[ERM],
        "H14.1d": away[SAMPLES] - away[MODE],
        "H14.1e": entropy[[LS[0.1], MODE]].sub(entropy[ERM], axis=0).min(axis=1),
        "H14.2": away[WORD] - away[ERM],
    }


def teachers_entropy(found: Mapping[Prefixes, Record]) -> pd.Series:
    """Seed -> the teacher's entropy on held-out text [nats]."""
    return pd.Series({one.seed: record.metrics["teacher_entropy"] for one, record in found.items()}, dtype=float)


def of_reuse(found: Mapping[Prefixes, Record]) -> dict[str, pd.Series]:
    """The same of records on all prompts and on few; {} where no seed has both."""
    few = {one: record for one, record in found.items() if one.arms == REUSED}
    cost = prefixes.cost_of_reuse({one: record for one, record in found.items() if one not in few}, few)
    return {"H21.1": cost[SAMPLES] - cost[ON_REVERSE]} if len(cost) else {}


RUNLESS: dict[str, RunlessTest] = {
    "prefixes": of_records(lambda: prefixes.results("cpu"), effects),
    "reuse": of_records(lambda: prefixes.results("cpu") | prefixes.results("cpu", few=True), of_reuse),
}
