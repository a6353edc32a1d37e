"""What is read off logits, by hand, by scikit-learn and against kdnb.core.entropy.

T2.3-T2.4 and T15.1-T15.2 of docs/experiments.md.
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from batches import logits_batches, random_batch
from hypothesis import given
from sklearn import metrics as sklearn_metrics

from kdnb.core import entropy, metrics

POSTERIORS = np.array([[0.8, 0.2], [0.4, 0.6], [0.3, 0.7], [0.9, 0.1]])
LOGITS, LABELS = np.log(POSTERIORS), np.array([0, 0, 1, 1])


def test_four_examples_by_hand():
    values = metrics.summary(LOGITS, LABELS)
    assert values["accuracy"] == 0.5
    assert values["f1"] == pytest.approx(0.5)  # one hit, two predicted, two there
    assert values["nll"] == pytest.approx(-(math.log(0.8) + math.log(0.4) + math.log(0.7) + math.log(0.1)) / 4)
    assert values["brier"] == pytest.approx((0.08 + 0.72 + 0.18 + 1.62) / 4)
    assert values["confidence"] == pytest.approx((0.8 + 0.6 + 0.7 + 0.9) / 4)
    assert values["majority_share"] == 0.5
    entropies = [-(p * math.log(p) + (1 - p) * math.log(1 - p)) for p in (0.8, 0.6, 0.7, 0.9)]
    assert values["entropy"] == pytest.approx(sum(entropies) / 4)
    # Each confidence has a bin of its own: |.8 - 1| + |.6 - 0| + |.7 - 1| + |.9 - 0|, over four examples.
    assert values["ece"] == pytest.approx((0.2 + 0.6 + 0.3 + 0.9) / 4)


@pytest.mark.parametrize("num_classes", [2, 3, 7])
def test_scikit_learn_agrees(num_classes):
    logits, labels = (x.numpy() for x in random_batch(num_classes, rows=200, scale=1.5))
    values, p = metrics.summary(logits, labels), torch.softmax(torch.from_numpy(logits), dim=1).numpy()
    predicted = p.argmax(axis=1)
    average = "binary" if num_classes == 2 else "macro"
    assert values["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(labels, predicted))
    assert values["f1"] == pytest.approx(sklearn_metrics.f1_score(labels, predicted, average=average))
    assert values["nll"] == pytest.approx(sklearn_metrics.log_loss(labels, p, labels=range(num_classes)))
    one_hot = np.eye(num_classes)[labels]
    assert values["brier"] == pytest.approx(num_classes * sklearn_metrics.mean_squared_error(one_hot, p))


def test_f1_of_a_class_never_met_or_predicted_is_0():
    logits, labels = np.array([[2.0, 1, 0], [0, 2, 1]]), np.array([0, 1])
    wanted = sklearn_metrics.f1_score(labels, [0, 1], average="macro", labels=[0, 1, 2], zero_division=0)
    assert metrics.f1(logits, labels) == pytest.approx(wanted) == pytest.approx(2 / 3)


@pytest.mark.slow
@given(logits_batches())
def test_entropies_are_those_of_the_torch_side(logits):
    np.testing.assert_allclose(metrics.entropies(logits.numpy()), entropy.posterior_entropy(logits), atol=1e-12)
    np.testing.assert_allclose(metrics.posterior(logits.numpy(), 2.5), entropy.posterior(logits, 2.5), atol=1e-12)


def test_float32_logits_are_measured_in_float64():
    logits = random_batch(3, rows=50)[0].to(torch.float32)
    wanted = entropy.posterior_entropy(logits.double()).mean().item()
    assert metrics.mean_entropy(logits.numpy()) == pytest.approx(wanted, abs=1e-14)


def test_likelihood_and_divergence_are_torchs():
    (logits, labels), teacher = random_batch(4, rows=30), random_batch(4, rows=30, seed=1)[0]
    assert metrics.nll(logits.numpy(), labels.numpy()) == pytest.approx(F.cross_entropy(logits, labels).item())
    wanted = F.kl_div(F.log_softmax(logits, dim=1), F.softmax(teacher, dim=1), reduction="batchmean").item()
    values = metrics.summary(logits.numpy(), labels.numpy(), teacher.numpy())
    assert values["kl_to_teacher"] == pytest.approx(wanted)
    assert values["agreement"] == (logits.argmax(1) == teacher.argmax(1)).double().mean().item()


def test_a_student_equal_to_its_teacher_agrees_and_has_no_divergence():
    logits, labels = (x.numpy() for x in random_batch(3, rows=20))
    values = metrics.summary(logits, labels, logits)
    assert values["agreement"] == 1
    assert values["kl_to_teacher"] == pytest.approx(0, abs=1e-12)
    assert "agreement" not in metrics.summary(logits, labels)


def test_ece_of_smoothed_predictions_on_mrpc():
    """Confidence .55, the LS optimum at alpha .9, with accuracy .803: under-confident by .253."""
    assert metrics.ece(np.full(1000, 0.55), np.arange(1000) < 803) == pytest.approx(0.253)


def test_ece_of_a_calibrated_sample_is_small():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1, 100_000)
    assert metrics.ece(confidence, rng.random(100_000) < confidence) < 0.02


def test_ece_does_not_lose_confidence_1_nor_0():
    assert metrics.ece(np.ones(4), np.array([1, 1, 0, 0])) == 0.5
    assert metrics.ece(np.zeros(4), np.array([1, 1, 1, 0])) == 0.75
    assert metrics.ece(np.array([1.0, 0.55]), np.array([0, 1])) == pytest.approx((1.0 + 0.45) / 2)


def test_ece_cancels_within_a_bin_and_not_across():
    same, apart = np.array([0.61, 0.65]), np.array([0.59, 0.65])  # edges of 15 bins: .6, .6667
    assert metrics.ece(same, np.array([1, 0])) == pytest.approx(abs(0.61 - 1 + 0.65) / 2)
    assert metrics.ece(apart, np.array([1, 0])) == pytest.approx((0.41 + 0.65) / 2)
    assert metrics.ece(apart, np.array([1, 0]), bins=1) == pytest.approx(abs(0.59 - 1 + 0.65) / 2)


@pytest.mark.parametrize("confidence", [[0.5, 1.1], [-0.1, 0.5], [0.5, float("nan")]])
def test_ece_refuses_what_is_no_confidence(confidence):
    with pytest.raises(ValueError, match=r"confidence must be in \[0, 1\]"):
        metrics.ece(np.array(confidence), np.array([1, 0]))


def test_ece_refuses_different_shapes():
    with pytest.raises(ValueError, match="one shape"):
        metrics.ece(np.array([0.5]), np.array([1, 0]))


def test_temperature_scaling_finds_the_temperature_and_keeps_accuracy():
    """Labels drawn from softmax(z) while the model says 3 z: the temperature is 3."""
    z = random_batch(3, rows=20_000, scale=1.0)[0]
    labels = torch.multinomial(torch.softmax(z, 1), 1, generator=torch.Generator().manual_seed(9))[:, 0].numpy()
    overconfident = 3 * z.numpy()
    tau = metrics.fit_temperature(overconfident, labels)
    assert tau == pytest.approx(3, rel=0.05)
    assert metrics.nll(overconfident / tau, labels) < metrics.nll(overconfident, labels) - 0.1
    assert metrics.accuracy(overconfident / tau, labels) == metrics.accuracy(overconfident, labels)


def test_temperature_scaling_never_raises_validation_nll():
    logits, labels = (x.numpy() for x in random_batch(2, rows=40))
    for z in (logits, -logits, 1e-3 * logits):
        tau = metrics.fit_temperature(z, labels)
        assert metrics.nll(z / tau, labels) <= metrics.nll(z, labels)


def test_a_constant_predictor_has_the_majoritys_accuracy():
    labels = np.array([1, 1, 0, 1])
    logits = np.tile([0.0, 1.0], (4, 1))
    values = metrics.summary(logits, labels)
    assert values["majority_share"] == 1
    assert values["accuracy"] == 0.75
    assert values["f1"] == pytest.approx(2 * 3 / (4 + 3))


@pytest.mark.parametrize("labels", [[0, -1], [0, 2], []])
def test_hidden_or_foreign_labels_are_never_scored(labels):
    with pytest.raises(ValueError, match="hidden labels"):
        metrics.summary(np.zeros((len(labels), 2)), np.array(labels, dtype=np.int64))


def test_logits_of_ten_thousand_give_finite_metrics():
    logits = np.array([[1e4, -1e4], [-1e4, 1e4]], dtype=np.float32)
    values = metrics.summary(logits, np.array([0, 0]), logits)
    assert all(np.isfinite(list(values.values())))
    assert values["nll"] == pytest.approx(1e4)
    assert values["entropy"] == 0


def test_reliability_bins_by_hand():
    """Three bins: (0, 1/3], (1/3, 2/3], (2/3, 1]; the first stays empty."""
    count, confidence, accuracies = metrics.reliability(np.array([0.5, 0.6, 0.9, 1.0]), np.array([1, 0, 1, 1]), bins=3)
    assert count.tolist() == [0, 2, 2]
    assert np.isnan(confidence[0])
    assert np.isnan(accuracies[0])
    np.testing.assert_allclose(confidence[1:], [0.55, 0.95])
    np.testing.assert_allclose(accuracies[1:], [0.5, 1.0])


@pytest.mark.parametrize("num_classes", [2, 4])
def test_metrics_are_means_over_examples(num_classes):
    logits, labels = (x.numpy() for x in random_batch(num_classes, rows=60))
    values = metrics.summary(logits, labels)
    for name in ("entropy", "accuracy", "nll", "brier"):
        each = metrics.per_example(name, logits, labels)
        assert each.shape == (60,)
        assert each.mean() == pytest.approx(values[name])
    surplus = metrics.per_example("overconfidence", logits, labels).mean()
    assert surplus == pytest.approx(values["confidence"] - values["accuracy"])
    with pytest.raises(ValueError, match="f1 is no mean"):
        metrics.per_example("f1", logits, labels)


def test_a_run_is_degenerate_that_predicts_one_class_or_is_no_better_than_that():
    labels = np.array([0, 0, 0, 1])
    assert metrics.majority_floor(labels) == 0.75
    right = np.eye(2)[labels]
    assert not metrics.is_degenerate(right, labels)
    assert metrics.is_degenerate(np.tile([1.0, 0.0], (4, 1)), labels)  # always the majority
    assert metrics.is_degenerate(np.tile([0.0, 1.0], (4, 1)), labels)  # always the other class
    one_wrong = np.eye(2)[np.array([1, 0, 0, 1])]  # both classes predicted, accuracy at the floor
    assert metrics.accuracy(one_wrong, labels) == 0.75
    assert metrics.is_degenerate(one_wrong, labels)


@pytest.mark.slow
def test_smoothing_at_alpha_point_9_is_under_confident():
    """H15.1's arithmetic: the LS optimum's confidence .55 at K = 2 against MRPC's accuracy .803 (Table 3)."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 100_000)
    predicted = np.where(rng.random(100_000) < 0.803, labels, 1 - labels)
    logits = math.log(1 + 0.2 / 0.9) * np.eye(2)[predicted]  # the optimal gap, T1.4
    values = metrics.summary(logits, labels)
    assert values["confidence"] == pytest.approx(0.55)
    assert values["ece"] == pytest.approx(0.253, abs=0.005)
    tau = metrics.fit_temperature(logits, labels)
    assert tau < 1  # scaling makes it surer
    assert metrics.summary(logits / tau, labels)["ece"] < 0.005
