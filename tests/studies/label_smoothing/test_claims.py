"""The ledger as data: every hypothesis is there, and the paper's own tables give the known counts (T4.2)."""

import math

import pytest
import torch
import torch.nn.functional as F
from batches import random_batch

from kdnb.analysis.ledger import METRICS, TESTS
from kdnb.core import theory
from kdnb.experiment.arms import ARMS
from kdnb.studies import registry
from kdnb.studies.label_smoothing import claims
from kdnb.studies.label_smoothing.claims import CLAIMS, GLUE, published_count

# Worked out by hand from Tables 2-5 and 8-11, and Tables 3 and 7 for H15.1.
COUNTS = {
    "H1.1": "no number", "H1.2": "no number",
    "H3.1": "4/4", "H3.2": "4/4", "H3.3": "3/4", "H3.4": "4/4", "H3.5a": "4/4", "H3.5b": "4/4", "H3.5c": "3/4",
    "H3.5d": "3/4", "H3.5e": "3/4", "H3.5f": "3/4", "H3.6a": "figure only", "H3.6b": "figure only",
    "H3.6c": "figure only", "H3.6d": "figure only", "H3.6e": "figure only", "H3.6f": "figure only",
    "H3.6g": "figure only", "H3.6h": "figure only", "H3.6i": "figure only", "H3.6j": "figure only",
    "H3.7": "r = 0.915 (n = 12)", "H3.7b": "4/4", "H3.7c": "3/4", "H3.8a": "figure only", "H3.8b": "figure only",
    "H4.1": "4/4", "H4.2": "3/4", "H4.3": "4/4", "H4.4": "4/4", "H4.5a": "4/4", "H4.5b": "3/4", "H4.5c": "3/4",
    "H4.6": "3/4", "H4.7a": "figure only", "H4.7b": "figure only", "H4.7c": "figure only", "H4.7d": "figure only",
    "H4.8": "4/4",
    "H5.1a": "4/4", "H5.1b": "4/4", "H5.2": "3/4", "H5.3a": "3/4", "H5.3b": "4/4", "H5.4a": "3/4", "H5.4b": "3/4",
    "H5.4c": "3/4", "H5.4d": "4/4", "H5.4e": "4/4", "H5.5": "no number", "H5.6": "r = 0.964 (n = 12)",
    "H5.6b": "4/4", "H5.6c": "3/4",
    "H15.1a": "4/4", "H15.1b": "3/3", "H15.2a": "no number", "H15.2b": "no number",
}  # fmt: skip
EXCEPTIONS = {
    "H3.3": "mnli", "H3.5c": "sst2", "H3.5d": "sst2", "H3.5e": "sst2", "H3.5f": "qnli", "H4.2": "qnli",
    "H4.5b": "mrpc", "H4.5c": "mrpc", "H4.6": "qnli", "H5.2": "mrpc", "H5.3a": "qnli", "H5.4a": "mrpc", "H5.4b": "sst2",
    "H5.4c": "sst2",
}  # fmt: skip


def test_every_claim_has_its_count():
    assert {name: published_count(claim) for name, claim in CLAIMS.items()} == COUNTS


@pytest.mark.parametrize(("claim", "exception"), EXCEPTIONS.items())
def test_the_exception_is_the_task_it_should_be(claim, exception):
    assert {task: claims.bears_out(CLAIMS[claim], task) for task in GLUE} == {task: task != exception for task in GLUE}


def test_claims_are_whole():
    for name, claim in CLAIMS.items():
        assert name == claim.id
        assert claim.statement
        assert claim.source
        assert claim.words != claim.test, "the test in words"
        assert claim.test in TESTS | claims.TESTS | claims.RUNLESS
        assert claim.evidence in registry.evidence_kinds()
        assert bool(claim.parts) == (claim.test == "difference")
        for part in claim.parts:
            assert part.metric in METRICS
            assert part.arm in ARMS
            assert part.than in ("", *ARMS)
            assert part.sign in (1, -1)
    assert len({claim.statement for claim in CLAIMS.values()}) == len(CLAIMS)


def test_a_statement_says_what_its_part_tests():
    claim = CLAIMS["H3.2"]
    assert claim.statement == "Standard KD has lower entropy than ERM small"
    assert claim.words == "Standard KD's entropy minus ERM small's < 0"
    assert (claim.sign, claim.family, claim.metric) == (-1, "H3", "entropy")


def test_confidence_at_the_optimum_of_smoothing():
    """MRPC .9 of two classes: .55; MNLI .8 of three: .4667."""
    assert claims.smoothed_confidence(0.9, 2) == pytest.approx(0.55)
    assert claims.smoothed_confidence(0.8, 3) == pytest.approx(1.4 / 3)
    optimum = theory.ls_optimum(torch.tensor([0]), 3, 0.8)
    assert claims.smoothed_confidence(0.8, 3) == pytest.approx(optimum.max().item())


@pytest.mark.parametrize("num_classes", [2, 3, 100])
def test_teacher_free_kd_as_released_is_smoothing_up_to_a_constant(num_classes):
    """H1.1 on the losses themselves, as released: torch's KL "mean", probabilities tempered, student at tau 1."""
    alpha, confidence, tau = 0.95, 0.99, 20.0
    target = theory.virtual_teacher(num_classes, confidence, tau, "prob")
    smoothing = theory.equivalent_ls_alpha(alpha, num_classes)
    weight = 1 - alpha + alpha / num_classes
    constant = alpha / num_classes * (target * target.log()).sum().item()  # of KL, which has no part in p
    for seed in range(20):
        logits, label = random_batch(num_classes, rows=1, seed=seed, scale=2.0)[0], torch.tensor([0])
        released = (1 - alpha) * F.cross_entropy(logits, label)
        released += alpha * F.kl_div(logits.log_softmax(dim=1), target[None], reduction="none").mean()
        smoothed = weight * F.cross_entropy(logits, label, label_smoothing=smoothing)
        bound = alpha / num_classes * confidence / (2 * tau) * (logits.max() - logits.min()).item()
        assert abs((released - smoothed).item() - constant) <= bound


def test_the_released_target_is_that_of_theory():
    for size, confidence, tau in ((2, 0.9, 6.0), (10, 0.99, 20.0), (100, 0.99, 100.0)):
        expected = theory.virtual_teacher(size, confidence, tau, "prob").numpy()
        assert claims.released_target(size, confidence, tau) == pytest.approx(expected, abs=1e-15)


def test_the_closed_form_claim_needs_no_runs():
    row = registry.ledger(None).set_index("id").loc["H1.1"]
    assert row.verdict == "holds"
    assert row.effect < 0
    assert row.n == 48
    assert row.unit == "mass over bound"


def test_the_ls_optimum_of_mrpc_has_an_ece_of_a_quarter():
    """H15.1: confidence .55 at the accuracy .803 that Table 3 prints for LS at Table 7's alpha."""
    from kdnb.studies.label_smoothing import paper

    alpha = paper.optima(7)["small"]["LS"]["mrpc"]["alpha"]
    gap = paper.value(3, "LS", "mrpc") / 100 - claims.smoothed_confidence(alpha, 2)
    assert gap == pytest.approx(0.253)
    assert math.isclose(alpha, 0.9)
