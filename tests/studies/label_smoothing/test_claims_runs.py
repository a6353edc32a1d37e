"""Every run whose numbers make a claim's effect stands among the runs behind it, teachers and baselines too.

Which numbers these are is found by changing them: an effect that moves was made of that run.
"""

import numpy as np
import pandas as pd
import pytest

from kdnb.analysis.ledger import FIXED, TESTS, over_tasks
from kdnb.experiment import tables
from kdnb.experiment.arms import ARMS
from kdnb.studies import registry
from kdnb.studies.label_smoothing import claims
from kdnb.studies.label_smoothing.claims import CLAIMS

SEEDS = (0, 1, 2)
NUMBERS = (
    "entropy", "accuracy", "nll", "curve_entropy", "train_curve_entropy", "early_entropy", "train_entropy",
    "overconfidence",
)  # fmt: skip
ENTROPY = {  # such that standard KD's teacher is surer than ERM small, and reverse KD's less sure than ERM large
    "erm_small": 0.30, "erm_large": 0.20, "ls_small": 0.60, "ls_large": 0.50, "tfkd_small": 0.45, "kd_standard": 0.25,
    "kd_self": 0.28, "kd_reverse": 0.26,
}  # fmt: skip
ON_FIXED_ARMS = [claim for claim in CLAIMS.values() if claim.evidence == FIXED and claim.test not in claims.RUNLESS]


@pytest.fixture(scope="module")
def study():
    """The fixed arms at some seeds, with numbers that nobody measured."""
    rng, rows = np.random.default_rng(0), []
    for arm, entropy in ENTROPY.items():
        for seed in SEEDS:
            teacher = f"{ARMS[arm].teacher}-{seed}" if ARMS[arm].teacher else ""
            place = {"run_id": f"{arm}-{seed}", "arm": arm, "name": ARMS[arm].name, "seed": seed, "teacher": teacher}
            rows.append(place | {name: entropy + 0.01 * rng.random() for name in NUMBERS} | {"degenerate": False})
    return tables.Study("rt", "demo", pd.DataFrame(rows), {})


def effect_of(claim, study):
    return (TESTS | claims.TESTS)[claim.test](claim, study)


def makers(claim, study):
    """The runs that an effect, or the bound it is held against, moves with."""
    effect, found = effect_of(claim, study), set()
    for row, run_id in enumerate(study.table.run_id):
        table = study.table.copy()
        table.loc[row, list(NUMBERS)] *= 1.01
        moved = effect_of(claim, study.only(table))
        if not np.allclose([moved.effect, moved.bound], [effect.effect, effect.bound], 0, 1e-9, equal_nan=True):
            found.add(run_id)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("claim", ON_FIXED_ARMS, ids=lambda claim: claim.id)
def test_every_run_that_an_effect_is_made_of_stands_behind_it(study, claim):
    effect = effect_of(claim, study)
    assert effect.n
    assert len(set(effect.run_ids)) == len(effect.run_ids)
    moved_by = makers(claim, study)
    assert moved_by <= set(effect.run_ids)
    if len(claim.parts) < 2:  # of several parts one is shown, and all are tested
        assert moved_by == set(effect.run_ids)


@pytest.mark.parametrize(
    ("claim", "arms"),
    [
        ("H3.7", {"kd_standard", "kd_self", "kd_reverse", "erm_small", "erm_large"}),
        ("H3.7b", {"kd_standard", "erm_large", "erm_small"}),
        ("H3.7c", {"kd_reverse", "erm_small", "erm_large"}),
        ("H3.8a", {"kd_standard", "erm_small", "ls_small"}),
    ],
)
def test_a_claim_on_students_has_their_teachers_and_baselines_behind_it(study, claim, arms):
    found = effect_of(CLAIMS[claim], study).run_ids
    assert sorted(found) == sorted(f"{arm}-{seed}" for arm in arms for seed in SEEDS)


def test_a_task_whose_teachers_learnt_nothing_says_nothing_of_what_is_inherited(study):
    """H3.7c on reverse KD, whose teacher is ERM small: two of three teachers name one class, all students learn."""
    nothing = study.table.assign(degenerate=(study.table.arm == "erm_small") & (study.table.seed > 0))
    ledgers = {name: registry.ledger(one, ("H3.7c",)) for name, one in (("rt", study), ("mrpc", study.only(nothing)))}
    assert ledgers["mrpc"].degenerate.tolist() == [2]
    row = over_tasks(ledgers).iloc[0]
    assert (row.n, row.left_out) == (1, "mrpc")


def test_of_a_curve_stand_the_seeds_that_all_arms_have(study, monkeypatch):
    """H3.6i: LS small lacks the last seed, so nothing of that seed is compared."""
    arms = ["erm_small", "kd_standard", "ls_small"]
    table = study.table[~((study.table.arm == "ls_small") & (study.table.seed == SEEDS[-1]))]
    sampled = table[table.arm.isin(arms)].rename(columns={"entropy": "test_entropy"})
    monkeypatch.setattr(claims.tables, "curves", lambda *_: pd.concat([sampled.assign(step=1), sampled.assign(step=9)]))
    monkeypatch.setattr(claims, "_sampled_rows", lambda _: claims.CURVE_ROWS)
    found = effect_of(CLAIMS["H3.6i"], tables.Study("rt", "demo", table, dict.fromkeys(table.run_id)))
    assert found.n == len(SEEDS) - 1
    assert sorted(found.run_ids) == [f"{arm}-{seed}" for arm in arms for seed in SEEDS[:-1]]
