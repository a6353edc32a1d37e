"""What is claimed of sparse targets, and how the stored records are tested: a value a seed."""

import pandas as pd

from kdnb.analysis.ledger import SIMULATED, Claim, RunlessTest
from kdnb.analysis.statistics import Effect, over_seeds
from kdnb.studies.language_models import sparse_targets
from kdnb.studies.language_models.sparse_targets import WHOLE

KEPT = 4  # entries of 64 at which the claims are tested
_SOURCE = "Anshumann et al. 2025"


def _claim(id: str, statement: str, test: str, words: str, unit: str) -> Claim:
    return Claim(id=id, statement=statement, source=_SOURCE, test=test, test_words=words, evidence=SIMULATED, unit=unit)


CLAIMS = {
    claim.id: claim
    for claim in (
        _claim(
            "H14.3a",
            "Top-k targets without a tail leave a worse calibrated student than draws at equal bytes",
            "top-k ece",
            f"ECE: the smaller of renorm and truncate minus sampled, {KEPT} entries > 0",
            "points",
        ),
        _claim(
            "H14.3b",
            "Draws leave a worse calibrated student than the whole law",
            "sampled ece",
            f"ECE: sampled minus the whole law, {KEPT} entries > 0",
            "points",
        ),
        _claim(
            "H14.3c",
            "Top-k targets without a tail leave a surer student than the whole law",
            "top-k entropy",
            f"entropy: the whole law minus renorm, {KEPT} entries > 0",
            "nats",
        ),
        _claim(
            "H14.3d",
            "At equal bytes draws bring the student nearer to the teacher than top-k without a tail",
            "sampled kl",
            f"KL to the teacher: renorm minus sampled, {KEPT} entries > 0",
            "nats",
        ),
        _claim(
            "H14.3e",
            "One number more, the tail's mass, is worth more than unbiased draws",
            "bucket kl",
            f"KL to the teacher: sampled minus tail_bucket, {KEPT} entries > 0",
            "nats",
        ),
    )
}


def effects(rows: pd.DataFrame) -> dict[str, pd.Series]:
    """Claim id -> one value per seed, of a table of `sparse_targets.table`; shares are not scaled to points."""
    ece, entropy, kl = (sparse_targets.wide(rows, name, KEPT) for name in ("ece", "entropy", "teacher_kl"))
    return {
        "H14.3a": ece[["renorm", "truncate"]].min(axis=1) - ece.sampled,
        "H14.3b": ece.sampled - ece[WHOLE],
        "H14.3c": entropy[WHOLE] - entropy.renorm,
        "H14.3d": kl.renorm - kl.sampled,
        "H14.3e": kl.sampled - kl.tail_bucket,
    }


def _test(claim: Claim) -> Effect:
    found = sparse_targets.results("cpu")
    if not found:
        return Effect()
    values = effects(sparse_targets.table(found))[claim.id]
    return over_seeds(values, claim.sign, [one.run_id() for one in found])


RUNLESS: dict[str, RunlessTest] = {claim.test: _test for claim in CLAIMS.values()}
