"""The claims on drafts of speculative decoding, fixed before the records were made, and how these decide them."""

from collections.abc import Mapping

import pandas as pd

from kdnb.analysis.ledger import SIMULATED, Claim, RunlessTest, of_records
from kdnb.core.store import Record
from kdnb.studies.language_models import drafts
from kdnb.studies.language_models.drafts import ERM, OWN, SAMPLES, TEXT, Drafts

_WHERE = "generated languages, mean of sum min(p, q) on the target's samples"
_DRAFTS = "arXiv 2310.08461 (DistillSpec), on T5"


def _claim(id: str, statement: str, difference: str, **more) -> Claim:
    more = {"source": _DRAFTS, "unit": "points", "evidence": SIMULATED, **more}
    return Claim(id=id, statement=statement, test_words=f"{_WHERE}: {difference} > 0", test="drafts", **more)


_LIST = [
    _claim(
        "H14.4a", "A KD draft is accepted more often than an ERM draft of equal size",
        "forward KL minus ERM, both on the text",
    ),
    _claim(
        "H14.4b", "So it is where the ERM draft too has the target's own samples as its text",
        "forward KL minus ERM, both on the target's samples",
    ),
    _claim(
        "H14.4c", "TV, which is 1 - acceptance, makes a better draft than forward KL",
        "TV minus forward KL, both on the target's samples",
    ),
    _claim(
        "H14.4d", "The draft's own samples make a better draft than the text",
        "forward KL on the draft's own samples minus forward KL on the text",
    ),
]  # fmt: skip
CLAIMS: dict[str, Claim] = {claim.id: claim for claim in _LIST}
_PAIRS = {  # claim -> the better arm, the worse one
    "H14.4a": (f"forward KL, {TEXT}", f"{ERM}, {TEXT}"),
    "H14.4b": (f"forward KL, {SAMPLES}", f"{ERM}, {SAMPLES}"),
    "H14.4c": (f"TV, {SAMPLES}", f"forward KL, {SAMPLES}"),
    "H14.4d": (f"forward KL, {OWN}", f"forward KL, {TEXT}"),
}


def effects(found: Mapping[Drafts, Record]) -> dict[str, pd.Series]:
    """Claim id -> an effect for each seed [shares]."""
    values = drafts.wide(drafts.table(found))
    return {id: values[one] - values[other] for id, (one, other) in _PAIRS.items()}


RUNLESS: dict[str, RunlessTest] = {"drafts": of_records(lambda: drafts.results("cpu"), effects)}
