"""The claims on drafts, cost and state-space students: each has a value a seed in the committed records, and the
differences that a few lines of pandas can make anew are the ledger's (H14.4a-H14.4d, H14.5a-H14.5d, H14.6a-H14.6g)."""

import functools

import numpy as np
import pytest

from kdnb.studies import registry
from kdnb.studies.language_models import (
    claims_cost,
    claims_speculative,
    claims_state_space,
    cost_records,
    drafts,
    stages,
)

SUBJECTS = (claims_speculative, claims_cost, claims_state_space)
IDS = (
    "H14.4a", "H14.4b", "H14.4c", "H14.4d", "H14.5a", "H14.5b", "H14.5c", "H14.5d",
    "H14.6a", "H14.6b", "H14.6c", "H14.6d", "H14.6e", "H14.6f", "H14.6g",
)  # fmt: skip


pytestmark = pytest.mark.usefixtures("reference")


@functools.cache
def ledger():
    return registry.simulated_ledger(("H14.",)).set_index("id")


def test_every_claim_is_listed_once():
    assert sorted(id for subject in SUBJECTS for id in subject.CLAIMS) == sorted(IDS)


@pytest.mark.slow
@pytest.mark.parametrize("name", IDS)
def test_a_claim_has_a_value_for_each_of_three_seeds(name):
    row = ledger().loc[name]
    assert row.n >= 3
    assert np.isfinite(row.effect)
    assert row.verdict in ("holds", "fails", "undecided")


def test_drafts():
    rows = drafts.table(drafts.results("cpu"))
    mean = rows.groupby("arm").acceptance.mean()
    for name, better, worse in (
        ("H14.4a", "forward KL, text", "ERM, text"),
        ("H14.4b", "forward KL, target's samples", "ERM, target's samples"),
    ):
        assert ledger().loc[name].effect == pytest.approx(mean[better] - mean[worse])


def test_state_space():
    found = stages.results("cpu")
    rows = stages.table(found)
    kl = rows[(rows.language == stages.MARKOV) & (rows.teacher == stages.ATTENTION)].groupby("arm").kl.mean()
    alone, all_three = stages.Arm(stages="3").name, stages.Arm().name
    assert ledger().loc["H14.6a"].effect == pytest.approx(kl[alone] - kl[all_three])


def test_cost():
    clocks = cost_records.clock_table(cost_records.results("cpu"))
    online = clocks[clocks.way == claims_cost.cost.ONLINE].measured
    half_way = (np.log(11) + np.log(1 + 10 / 3)) / 2
    assert ledger().loc["H14.5a"].effect == pytest.approx(half_way - np.log(online).mean(), abs=0.05)
