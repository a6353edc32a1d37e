"""What is claimed of words, sequences and on-policy students, and how the stored records are tested: a value a seed."""

import pandas as pd

from kdnb.analysis.ledger import SIMULATED, Claim, RunlessTest
from kdnb.analysis.statistics import Effect, over_seeds
from kdnb.studies.language_models import prefixes
from kdnb.studies.language_models.prefixes import ERM, MODE, SAMPLES, WORD

_SOURCE = "Kim & Rush 2016"


def _claim(id: str, statement: str, test: str, words: str, side: int) -> Claim:
    return Claim(
        id=id,
        statement=statement,
        source=_SOURCE,
        test=test,
        test_words=words,
        evidence=SIMULATED,
        unit="nats",
        side=side,
    )


CLAIMS = {
    claim.id: claim
    for claim in (
        _claim(
            "H14.1a",
            "Sequence KD from the teacher's mode leaves a surer student than the text does",
            "mode entropy",
            "entropy on held-out text: sequence KD (mode) minus ERM < 0",
            -1,
        ),
        _claim(
            "H14.1b",
            "Beam search finds less beyond greedy decoding in it",
            "mode gap",
            "gap of beam search and greedy decoding: sequence KD (mode) minus ERM < 0",
            -1,
        ),
        _claim(
            "H14.1c",
            "It is worse on the text itself",
            "mode nll",
            "NLL on held-out text: sequence KD (mode) minus ERM > 0",
            1,
        ),
        _claim(
            "H14.1d",
            "From samples, not the mode, it keeps the teacher's doubt",
            "samples entropy",
            "|entropy - teacher's|: sequence KD (samples) minus sequence KD (mode) < 0",
            -1,
        ),
        _claim(
            "H14.1e",
            "Sequence KD smooths as label smoothing does",
            "smooths",
            "entropy: the smaller of LS 0.1 minus ERM and sequence KD (mode) minus ERM > 0",
            1,
        ),
        _claim(
            "H14.2",
            "The entropy of a word-KD student follows its teacher's",
            "word entropy",
            "|entropy - teacher's|: word KD minus ERM < 0",
            -1,
        ),
    )
}


def effects(rows: pd.DataFrame, teacher: pd.Series) -> dict[str, pd.Series]:
    """Claim id -> one value per seed.

    Args:
        rows: of `prefixes.table`.
        teacher: seed -> entropy of the teacher on held-out text [nats].
    """

    def wide(name: str) -> pd.DataFrame:
        return rows.pivot(index="seed", columns="arm", values=name)

    entropy, away = wide("entropy"), wide("entropy").sub(teacher, axis=0).abs()
    return {
        "H14.1a": entropy[MODE] - entropy[ERM],
        "H14.1b": wide("gap")[MODE] - wide("gap")[ERM],
        "H14.1c": wide("nll")[MODE] - wide("nll")[ERM],
        "H14.1d": away[SAMPLES] - away[MODE],
        "H14.1e": entropy[[prefixes.LS[0.1], MODE]].sub(entropy[ERM], axis=0).min(axis=1),
        "H14.2": away[WORD] - away[ERM],
    }


def teachers_entropy(found: dict) -> pd.Series:
    """Seed -> the teacher's entropy on held-out text [nats]."""
    return pd.Series({one.seed: record.metrics["teacher_entropy"] for one, record in found.items()}, dtype=float)


def _test(claim: Claim) -> Effect:
    found = prefixes.results("cpu")
    if not found:
        return Effect()
    values = effects(prefixes.table(found), teachers_entropy(found))[claim.id]
    return over_seeds(values, claim.sign, [one.run_id() for one in found])


RUNLESS: dict[str, RunlessTest] = {claim.test: _test for claim in CLAIMS.values()}
