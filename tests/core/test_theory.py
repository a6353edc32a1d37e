"""Closed forms: optima, entropy facts, limits, virtual teachers (docs/experiments.md, T1.4-T1.7, T5.2, T5.3)."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from batches import logits_batches, random_batch
from hypothesis import given
from hypothesis import strategies as st

from kdnb.core import theory
from kdnb.core.entropy import entropy, kl_divergence, posterior_entropy
from kdnb.core.losses import kd_loss, ls_loss

SHARES = st.floats(0.01, 1.0)


def minimise(loss, num_classes: int) -> torch.Tensor:
    """The posterior at which an optimiser that knows no closed form ends."""
    logits = torch.zeros(1, num_classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [logits], lr=1, max_iter=300, tolerance_grad=1e-12, tolerance_change=1e-15, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        value = loss(logits)
        value.backward()
        return value

    optimizer.step(closure)
    return torch.softmax(logits.detach(), dim=1)


@pytest.mark.slow
@pytest.mark.parametrize(("num_classes", "alpha"), [(2, 0.9), (2, 0.1), (3, 0.8), (10, 0.4)])
def test_the_ls_optimum_is_where_an_optimiser_ends(num_classes, alpha):
    label = torch.tensor([1])
    found = minimise(lambda z: ls_loss(z, label, alpha), num_classes)
    torch.testing.assert_close(found, theory.ls_optimum(label, num_classes, alpha), atol=1e-6, rtol=0)
    gap = torch.log(found[0, 1] / found[0, 0]).item()
    assert gap == pytest.approx(theory.ls_logit_gap(alpha, num_classes), abs=1e-4)
    assert entropy(found).item() == pytest.approx(theory.ls_optimum_entropy(alpha, num_classes), abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.1, 0.6, 1.0])
def test_the_kd_optimum_is_where_an_optimiser_ends(alpha):
    teacher_logits, labels = random_batch(3, rows=1, scale=1.0)
    found = minimise(lambda z: kd_loss(z, labels, teacher_logits, alpha), 3)
    torch.testing.assert_close(found, theory.kd_optimum(labels, teacher_logits, alpha), atol=1e-5, rtol=0)


def test_binary_label_smoothing_at_alpha_point_9():
    optimum = theory.ls_optimum(torch.tensor([0]), 2, 0.9)
    torch.testing.assert_close(optimum, torch.tensor([[0.55, 0.45]], dtype=torch.float64))
    assert theory.ls_logit_gap(0.9, 2) == pytest.approx(math.log(1 + 0.2 / 0.9), abs=1e-12)
    assert theory.ls_logit_gap(0.9, 2) == pytest.approx(0.2007, abs=5e-5)


def test_both_kinds_of_smoothing_at_k_2_alpha_point_1():
    assert theory.ls_optimum_entropy(0.1, 2) == pytest.approx(0.199, abs=5e-4)
    assert theory.ls_optimum_entropy(0.1, 2, "exclude_target") == pytest.approx(0.325, abs=5e-4)
    excluded = theory.ls_optimum(torch.tensor([2]), 5, 0.2, "exclude_target")
    torch.testing.assert_close(excluded, torch.tensor([[0.05, 0.05, 0.8, 0.05, 0.05]], dtype=torch.float64))
    with pytest.raises(ValueError, match="'torch'"):
        theory.ls_optimum(torch.tensor([0]), 2, 0.1, "torch")


def test_entropy_of_the_smoothed_target_of_note_n1():
    assert theory.ls_optimum_entropy(0.8, 3) == pytest.approx(1.0606, abs=5e-5)


@pytest.mark.parametrize("num_classes", [2, 3, 10])
def test_full_smoothing_is_uniform_and_none_is_one_hot(num_classes):
    assert theory.ls_optimum_entropy(1.0, num_classes) == pytest.approx(math.log(num_classes))
    assert theory.ls_optimum_entropy(0.0, num_classes) == 0
    assert theory.ls_logit_gap(1.0, num_classes) == 0


@pytest.mark.parametrize("alpha", [0.0, -0.1, 1.1])
def test_the_logit_gap_needs_some_smoothing(alpha):
    with pytest.raises(ValueError, match=r"alpha must be in \(0, 1\]"):
        theory.ls_logit_gap(alpha, 2)


@pytest.mark.slow
@given(logits_batches(size=8), SHARES)
def test_smoothing_any_truth_has_at_least_the_entropy_of_the_smoothed_label(logits, alpha):
    """(1 - alpha) eta + alpha u is majorised by q_ls, so LS's population optimum cannot lie below H(q_ls)."""
    truth, num_classes = torch.softmax(logits, dim=1), logits.shape[1]
    optimum = (1 - alpha) * truth + alpha / num_classes
    assert (entropy(optimum) >= theory.ls_optimum_entropy(alpha, num_classes) - 1e-9).all()


@pytest.mark.slow
@given(logits_batches(size=8), SHARES)
def test_the_kd_optimum_keeps_at_least_its_share_of_the_teachers_entropy(teacher_logits, alpha):
    labels = torch.zeros(len(teacher_logits), dtype=torch.long)
    found = entropy(theory.kd_optimum(labels, teacher_logits, alpha))
    assert (found >= alpha * posterior_entropy(teacher_logits) - 1e-9).all()


def test_a_teachers_entropy_can_be_anything():
    """So a KD target may lie above or below any entropy: LS cannot."""
    scales = torch.tensor([[0.0], [1.0], [3.0], [50.0]], dtype=torch.float64)
    teachers = scales * torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64)
    values = entropy(theory.kd_optimum(torch.zeros(4, dtype=torch.long), teachers, 1.0))
    assert values[0].item() == pytest.approx(math.log(3))
    assert values[3].item() == pytest.approx(0, abs=1e-12)
    assert (values.diff() < 0).all()


@given(st.floats(0.5, 0.999), st.floats(0.5, 0.999))
def test_with_two_classes_less_kl_from_uniform_is_more_entropy(first, second):
    pair = torch.tensor([[first, 1 - first], [second, 1 - second]], dtype=torch.float64)
    kl = kl_divergence(torch.full_like(pair, 0.5), pair.log())
    assert torch.sign(kl[0] - kl[1]) == torch.sign(entropy(pair)[1] - entropy(pair)[0]) or abs(first - second) < 1e-6


def test_with_three_classes_it_need_not_be():
    """The counter-example to "unconditionally": both the KL from uniform and the entropy fall."""
    pair = torch.tensor([[0.49, 0.49, 0.02], [0.8, 0.1, 0.1]], dtype=torch.float64)
    kl, h = kl_divergence(torch.full_like(pair, 1 / 3), pair.log()), entropy(pair)
    np.testing.assert_allclose(kl, [0.6810, 0.5108], atol=5e-5)
    np.testing.assert_allclose(h, [0.7773, 0.6390], atol=5e-5)


def test_entropy_slope_of_the_worked_example_and_of_finite_differences():
    z = torch.tensor([[2.0, 0.5, -1.0]], dtype=torch.float64)
    assert theory.entropy_slope(z, 2.0).item() == pytest.approx(0.143847, abs=1e-6)
    step = 1e-5
    slope = (posterior_entropy(z, 2 + step) - posterior_entropy(z, 2 - step)) / (2 * step)
    torch.testing.assert_close(theory.entropy_slope(z, 2.0), slope, atol=1e-8, rtol=0)


@pytest.mark.slow
@given(logits_batches(size=20), st.floats(0.2, 20))
def test_the_entropy_slope_is_never_negative(logits, tau):
    assert (theory.entropy_slope(logits, tau) >= 0).all()


def soft_gradient(logits, teacher_logits, tau):
    """tau^2 times the gradient of each example's soft term, by autograd through the loss."""
    leaf = logits.clone().requires_grad_()
    labels = torch.zeros(len(logits), dtype=torch.long)
    (gradient,) = torch.autograd.grad(kd_loss(leaf, labels, teacher_logits, 1.0, tau), leaf)
    return gradient * len(logits)


def test_distillation_at_high_temperature_matches_logits():
    """Hinton et al. 2015, section 2.1: the relative error halves each time tau doubles."""
    z, v = random_batch(4, rows=6, seed=2, scale=1.0)[0], random_batch(4, rows=6, seed=3, scale=1.0)[0]
    limit = theory.logit_matching_gradient(z, v)
    torch.testing.assert_close(limit, ((z - v) - (z - v).mean(dim=1, keepdim=True)) / 4)
    taus = (8.0, 16.0, 32.0, 64.0, 128.0)
    errors = [((soft_gradient(z, v, tau) - limit).norm() / limit.norm()).item() for tau in taus]
    for before, after in itertools.pairwise(errors):
        assert after / before == pytest.approx(0.5, rel=0.1)
    assert errors[-1] < 0.02


@pytest.mark.parametrize(
    ("temper", "label_value", "other"), [("prob", 0.010502, 0.009995), ("logit", 0.015741, 0.009942)]
)
def test_the_virtual_teacher_of_the_paper_and_of_its_code(temper, label_value, other):
    target = theory.virtual_teacher(100, 0.99, 20.0, temper)
    assert target[0].item() == pytest.approx(label_value, abs=5e-7)
    assert target[1:].min().item() == pytest.approx(other, abs=5e-7)
    assert target.sum().item() == pytest.approx(1)
    if temper == "prob":
        assert entropy(target).item() == pytest.approx(4.605158, abs=5e-7)


def test_an_unknown_tempering_is_refused():
    with pytest.raises(ValueError, match="'log'"):
        theory.virtual_teacher(10, 0.9, 20.0, "log")


@pytest.mark.parametrize("confidence", [0.1, 0.05, 1.0])
def test_a_virtual_teacher_is_surer_than_chance_and_less_than_certain(confidence):
    with pytest.raises(ValueError, match=r"confidence must be in \(1/10, 1\), got"):
        theory.virtual_teacher(10, confidence, 20.0)


@pytest.mark.parametrize(("alpha", "multiplier"), [(0.95, 1.0), (0.1, 100.0), (0.4, 10.0)])
def test_teacher_free_kd_as_released_is_label_smoothing(alpha, multiplier):
    """(1 - a) CE + a m KL(u || p) / K has the gradient of LS at the equivalent alpha, times a constant."""
    logits, labels = random_batch(100, rows=5)
    leaf = logits.clone().requires_grad_()
    uniform = torch.full_like(logits, 1 / 100)
    kl = F.kl_div(F.log_softmax(leaf, dim=1), uniform, reduction="none").mean() * multiplier
    (gradient,) = torch.autograd.grad((1 - alpha) * F.cross_entropy(leaf, labels) + alpha * kl, leaf)
    same = logits.clone().requires_grad_()
    smoothing = theory.equivalent_ls_alpha(alpha, 100, multiplier)
    (wanted,) = torch.autograd.grad(F.cross_entropy(same, labels, label_smoothing=smoothing), same)
    torch.testing.assert_close(gradient / gradient.norm(), wanted / wanted.norm())


@pytest.mark.parametrize(
    ("model", "alpha", "tau", "multiplier", "wanted"),
    [("ResNet18", 0.1, 20, 100, 0.1000), ("MobileNetV2", 0.95, 40, 1, 0.1597), ("ShuffleNetV2", 0.95, 10, 1, 0.1597),
     ("GoogLeNet", 0.1, 40, 50, 0.0526)],
)  # fmt: skip
def test_the_equivalent_alphas_of_the_released_settings(model, alpha, tau, multiplier, wanted):
    """CIFAR-100: the high-temperature limit to four decimals, and what the finite tau takes off it: below 0.1 %."""
    limit = theory.equivalent_ls_alpha(alpha, 100, multiplier)
    assert limit == pytest.approx(wanted, abs=5e-5)
    exact = theory.equivalent_ls_alpha(alpha, 100, multiplier, 0.99, tau)
    assert limit * (1 - 0.0015) < exact < limit


def at_high_temperature(num_classes, alpha, tau2_scaling):
    """Random logits within +-3 and labels: z, labels, the teacher's z, the gradient of each example's KD loss."""
    z, labels = random_batch(num_classes, rows=40, seed=4)
    z, v = z.clamp(-3, 3), random_batch(num_classes, rows=40, seed=5)[0].clamp(-3, 3)
    leaf = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(kd_loss(leaf, labels, v, alpha, 64.0, tau2_scaling), leaf)
    return z, labels, v, gradient * len(z)


@pytest.mark.parametrize("num_classes", [2, 3, 5])
@pytest.mark.parametrize("alpha", [0.5, 0.75, 1.0])
def test_with_tau_squared_the_soft_gradient_at_tau_64_is_logit_matching(alpha, num_classes):
    z, labels, v, gradient = at_high_temperature(num_classes, alpha, tau2_scaling=True)
    soft = gradient - (1 - alpha) * (torch.softmax(z, dim=1) - F.one_hot(labels, num_classes))
    difference = z - v
    matching = alpha * (difference - difference.mean(dim=1, keepdim=True)) / num_classes
    torch.testing.assert_close(matching, alpha * theory.logit_matching_gradient(z, v))
    assert ((soft - matching).norm(dim=1) / matching.norm(dim=1)).max() < 0.05


@pytest.mark.parametrize("num_classes", [2, 3, 5])
def test_without_tau_squared_distillation_at_tau_64_is_half_of_erm(num_classes):
    z, labels, _, gradient = at_high_temperature(num_classes, 0.5, tau2_scaling=False)
    erm = torch.softmax(z, dim=1) - F.one_hot(labels, num_classes)
    wrong = erm.norm(dim=1) >= 0.1  # where the student has yet to learn its label
    assert wrong.sum() > 10
    error = (gradient - 0.5 * erm).norm(dim=1) / (0.5 * erm.norm(dim=1))
    assert error[wrong].max() < 0.01
