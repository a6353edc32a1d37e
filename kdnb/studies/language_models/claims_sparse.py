"""What is claimed of sparse targets, and the value a seed that decides it."""

from collections.abc import Mapping

import pandas as pd

from kdnb.analysis.ledger import SIMULATED, Claim, RunlessTest, of_records
from kdnb.core.store import Record
from kdnb.studies.language_models import sparse_targets
from kdnb.studies.language_models.sparse_targets import WHOLE, SparseTargets

KEPT = 4  # entries of 64 at which the claims are tested


def _claim(id: str, statement: str, words: str, unit: str = "nats") -> Claim:
    return Claim(
        id=id,
        statement=statement,
        source="Anshumann et al. 2025",
        test="sparse targets",
        test_words=words,
        evidence=SIMULATED,
        unit=unit,
    )


_LIST = [
    _claim(
        "H14.3a", "Top-k targets without a tail leave a worse calibrated student than draws at equal bytes",
        f"ECE: the smaller of renorm and truncate minus sampled, {KEPT} entries > 0", "points",
    ),
    _claim(
        "H14.3b", "Draws leave a worse calibrated student than the whole law",
        f"ECE: sampled minus the whole law, {KEPT} entries > 0", "points",
    ),
    _claim(
        "H14.3c", "Top-k targets without a tail leave a surer student than the whole law",
        f"entropy: the whole law minus renorm, {KEPT} entries > 0",
    ),
    _claim(
        "H14.3d", "At equal bytes draws bring the student nearer to the teacher than top-k without a tail",
        f"KL to the teacher: renorm minus sampled, {KEPT} entries > 0",
    ),
    _claim(
        "H14.3e", "One number more, the tail's mass, is worth more than unbiased draws",
        f"KL to the teacher: sampled minus tail_bucket, {KEPT} entries > 0",
    ),
]  # fmt: skip
CLAIMS: dict[str, Claim] = {claim.id: claim for claim in _LIST}


def effects(found: Mapping[SparseTargets, Record]) -> dict[str, pd.Series]:
    """Claim id -> one value per seed; shares are not scaled to points."""
    rows = sparse_targets.table(found)
    ece, entropy, kl = (sparse_targets.wide(rows, name, KEPT) for name in ("ece", "entropy", "teacher_kl"))
    return {
        "H14.3a": ece[["renorm", "truncate"]].min(axis=1) - ece.sampled,
        "H14.3b": ece.sampled - ece[WHOLE],
        "H14.3c": entropy[WHOLE] - entropy.renorm,
        "H14.3d": kl.renorm - kl.sampled,
        "H14.3e": kl.sampled - kl.tail_bucket,
    }


RUNLESS: dict[str, RunlessTest] = {"sparse targets": of_records(lambda: sparse_targets.results("cpu"), effects)}
