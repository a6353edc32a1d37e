"""The claims on state-space students, fixed before the records were made, and how these decide them."""

from collections.abc import Mapping

import pandas as pd

from kdnb.analysis.ledger import SIMULATED, Claim, RunlessTest, of_records
from kdnb.core.store import Record
from kdnb.studies.language_models import stages
from kdnb.studies.language_models.stages import ATTENTION, MARKOV, RECALL, STATE_SPACE, Arm, Experiment

_MOHAWK = "arXiv 2408.10189 (MOHAWK), Phi-1.5 to Phi-Mamba"


def _claim(id: str, statement: str, test_words: str, **more) -> Claim:
    more = {"source": _MOHAWK, "unit": "nats", "evidence": SIMULATED, "test": "state-space", **more}
    return Claim(id=id, statement=statement, test_words=test_words, **more)


_LIST = [
    _claim(
        "H14.6a", "Matrices and blocks first, then end to end, beats end to end alone at equal tokens: Markov language",
        "order-2 Markov language, KL to the teacher: stage 3 alone minus stages 1, 2 and 3 > 0",
    ),
    _claim(
        "H14.6b", "So where the teacher has to look things up: associative recall",
        "associative recall, KL to the teacher: stage 3 alone minus stages 1, 2 and 3 > 0",
    ),
    _claim(
        "H14.6c", "Copying the teacher's other weights helps",
        "Markov language, stage 3 alone, KL to the teacher: fresh minus copied > 0",
    ),
    _claim(
        "H14.6d", "Attention is not in the family of state-space mixers",
        "Markov language, relative matrix error after stage 1: attention minus a state-space teacher > 0",
        source="arXiv 2405.21060 (Mamba-2): attention's matrices are not semiseparable", unit="-",
    ),
    _claim(
        "H14.6e", "A larger state recalls more",
        "recall, stages 1, 2 and 3, share of right answers: N 16 minus N 2 > 0",
        source="arXiv 2312.04927 (Zoology)", unit="points",
    ),
    _claim(
        "H14.6f", "One attention layer kept brings recall back, if it is the one that stage 1 fits worst",
        "recall, N 4, share of right answers: that layer kept minus none kept > 0",
        source="arXiv 2408.15237 (Mamba in the Llama) keeps every second, fourth or eighth layer", unit="points",
    ),
    _claim(
        "H14.6g", "A transformer recalls more than a Mamba-2 of as many parameters",
        "recall, trained on labels: share of right answers, Llama minus Mamba-2 > 0",
        source="arXiv 2312.04927 (Zoology), of earlier models without attention", unit="points",
    ),
]  # fmt: skip
CLAIMS: dict[str, Claim] = {claim.id: claim for claim in _LIST}


def effects(found: Mapping[Experiment, Record]) -> dict[str, pd.Series]:
    """Claim id -> an effect for each seed; without the claims whose records are not there."""
    effects: dict[str, pd.Series] = {}
    rows, first, alone, all_three = stages.table(found), Arm(stages="1").name, Arm(stages="3").name, Arm().name
    languages = set(rows.language) if len(rows) else set()
    for letter, language in (("a", MARKOV), ("b", RECALL)):
        if language in languages:
            kl = stages.wide(rows, language, "kl")
            effects[f"H14.6{letter}"] = kl[alone] - kl[all_three]
    if MARKOV in languages:
        kl = stages.wide(rows, MARKOV, "kl")
        effects["H14.6c"] = kl[Arm(stages="3", copied=False).name] - kl[alone]
        error, family = (stages.wide(rows, MARKOV, "matrix_error", of) for of in (ATTENTION, STATE_SPACE))
        effects["H14.6d"] = error[first] - family[first]
    if RECALL in languages:
        recall, kept = stages.wide(rows, RECALL, "recall"), stages.kept_for_its_error(found)
        effects["H14.6e"] = recall[all_three] - recall[Arm(state=2).name]
        effects["H14.6f"] = kept.worst - kept.none
    if len(pair := stages.beside(found, "recall")):
        effects["H14.6g"] = pair.llama - pair.mamba2
    return effects


RUNLESS: dict[str, RunlessTest] = {"state-space": of_records(lambda: stages.results("cpu"), effects)}
