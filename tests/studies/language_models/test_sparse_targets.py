"""Sparse targets on the generated language: gradients of the variants, and what the committed records say."""

import math

import pytest
import torch

from kdnb.studies.language_models import claims_sparse, sizes, sparse, sparse_targets, sparse_trainings, target_cache
from kdnb.studies.language_models.sparse_targets import ERM, WHOLE


def test_bytes_of_a_token():
    assert sizes.bytes_per_token(64, 32_000) == 64 * 4 + 4  # with ids of two bytes
    assert sizes.bytes_per_token(64, 151_936) == 64 * 5 + 4
    assert sizes.bytes_per_token(12, 32_000, sampled=True) == 12 * 4 + 2


def test_reconstruction_is_nothing_where_all_is_kept_and_grows_with_what_is_left_out():
    torch.manual_seed(0)
    logits = 3 * torch.randn(50, 20)
    lost = [target_cache.reconstruction(logits, sparse.top_k(logits, k)).mean().item() for k in (19, 8, 2)]
    assert lost[0] == pytest.approx(0, abs=1e-5)
    assert lost[0] < lost[1] < lost[2]


def test_one_draw_of_an_example_is_the_same_whenever_it_comes():
    laws = torch.randn(9, 3, 12)
    kept = sparse_trainings.Kept(laws, "sampled", 4, seed=5)
    both, alone = kept([2, 7], None, None), kept([7], None, None)
    for name in ("ids", "weights"):
        torch.testing.assert_close(getattr(both, name)[3:], getattr(alone, name))


@pytest.fixture(scope="module")
def committed(reference):
    return sparse_targets.results("cpu")


def test_the_committed_records_are_whole_and_the_claims_are_theirs(committed):
    """H14.3a-H14.3e, each effect computed anew from the arrays."""
    assert [one.seed for one in committed] == [0, 1, 2]
    values = claims_sparse.effects(committed)
    for one, record in committed.items():
        at = {arm: i for i, arm in enumerate(one.arms)}
        ece, entropy, kl = (record.arrays[name] for name in ("ece", "entropy", "teacher_kl"))
        renorm, truncate, draws, bucket = (at[v, 4] for v in ("renorm", "truncate", "sampled", "tail_bucket"))
        whole = at[WHOLE, 0]
        expected = {
            "H14.3a": min(ece[renorm], ece[truncate]) - ece[draws],
            "H14.3b": ece[draws] - ece[whole],
            "H14.3c": entropy[whole] - entropy[renorm],
            "H14.3d": kl[renorm] - kl[draws],
            "H14.3e": kl[draws] - kl[bucket],
        }
        assert {name: of[one.seed] for name, of in values.items()} == pytest.approx(expected)


def test_draws_are_unbiased_and_noisy_the_others_biased_and_quiet(committed):
    rows = sparse_targets.table(committed)
    rows = rows[~rows.variant.isin((ERM, WHOLE))]
    drawn, fixed = rows[rows.variant == "sampled"], rows[rows.variant != "sampled"]
    assert (fixed.spread == 0).all()
    assert (drawn.spread > 0).all()
    assert (drawn.bias < drawn.spread / math.sqrt(32)).all()
    assert (drawn.reconstruction == math.inf).all()
    kept = fixed[fixed.variant == "renorm"].groupby("kept").reconstruction.mean()
    assert kept.is_monotonic_decreasing
