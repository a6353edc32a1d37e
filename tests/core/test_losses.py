"""ERM, LS and KD losses against torch's own, closed gradients and worked examples.

T1.1-T1.3, T1.8 and T3.3 of docs/experiments.md.
Each formula is written out once more here, from the paper and with torch's functions, so that a lost tau**2,
another reduction or an exchanged teacher and student fails.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from batches import logits_batches, random_batch
from hypothesis import given
from hypothesis import strategies as st

from kdnb.core import theory
from kdnb.core.entropy import posterior_entropy
from kdnb.core.losses import (
    check_alpha_tau,
    erm_loss,
    kd_loss,
    ls_loss,
    ls_targets,
    one_hot_targets,
    tfkd_released_loss,
    virtual_teacher_logits,
)

ALPHAS = [0.0, 0.1, 0.5, 0.9, 1.0]
TAUS = [1.0, 4.0, 64.0]
Q = torch.tensor([0])  # the label of the worked example
P = torch.tensor([[0.6, 0.3, 0.1]], dtype=torch.float64)
P_TEACHER = torch.tensor([[0.7, 0.2, 0.1]], dtype=torch.float64)


def torch_kd(logits, labels, teacher_logits, alpha, tau, scale=True):
    """(1 - alpha) CE + alpha tau^2 KL(p^t_tau || p_tau), Hinton et al. 2015, in torch's own functions."""
    soft = F.kl_div(F.log_softmax(logits / tau, dim=1), F.softmax(teacher_logits / tau, dim=1), reduction="batchmean")
    return (1 - alpha) * F.cross_entropy(logits, labels) + alpha * (tau**2 if scale else 1) * soft


def teacher_entropy(teacher_logits, tau):
    return torch.distributions.Categorical(logits=teacher_logits / tau).entropy().mean()


def test_worked_example_of_label_smoothing():
    objective, loss = theory.ls_objective(P.log(), Q, 0.3), ls_loss(P.log(), Q, 0.3)
    assert objective.item() == pytest.approx(0.429733, abs=1e-6)
    assert loss.item() == pytest.approx(0.759316, abs=1e-6)
    assert (loss - objective).item() == pytest.approx(0.3 * math.log(3), abs=1e-12)


def test_worked_example_of_distillation():
    logits = P.log().requires_grad_()
    objective = theory.kd_objective(logits, Q, P_TEACHER.log(), 0.6)
    assert objective.item() == pytest.approx(0.220418, abs=1e-6)
    (gradient,) = torch.autograd.grad(kd_loss(logits, Q, P_TEACHER.log(), 0.6), logits)
    torch.testing.assert_close(gradient, torch.tensor([[-0.22, 0.18, 0.04]], dtype=torch.float64))
    mixture = theory.kd_optimum(Q, P_TEACHER.log(), 0.6)
    torch.testing.assert_close(mixture, torch.tensor([[0.82, 0.12, 0.06]], dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("num_classes", [2, 3, 100])
def test_erm_is_torch_cross_entropy(num_classes, dtype):
    logits, labels = random_batch(num_classes, dtype=dtype)
    torch.testing.assert_close(erm_loss(logits, labels), F.cross_entropy(logits, labels))


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("num_classes", [2, 3, 100])
def test_ls_is_torch_label_smoothing(num_classes, alpha):
    logits, labels = random_batch(num_classes)
    torch.testing.assert_close(ls_loss(logits, labels, alpha), F.cross_entropy(logits, labels, label_smoothing=alpha))


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("num_classes", [2, 3, 100])
def test_kd_is_torch_kl_plus_a_constant(num_classes, alpha, tau, scale):
    logits, labels = random_batch(num_classes)
    teacher_logits, _ = random_batch(num_classes, seed=1)
    constant = alpha * (tau**2 if scale else 1) * teacher_entropy(teacher_logits, tau)
    ours = kd_loss(logits, labels, teacher_logits, alpha, tau, tau2_scaling=scale)
    torch.testing.assert_close(ours, torch_kd(logits, labels, teacher_logits, alpha, tau, scale) + constant)


@pytest.mark.parametrize("tau", TAUS)
def test_the_papers_objective_is_torch_kl(tau):
    logits, labels = random_batch(4)
    teacher_logits, _ = random_batch(4, seed=1)
    ours = theory.kd_objective(logits, labels, teacher_logits, 0.7, tau)
    torch.testing.assert_close(ours, torch_kd(logits, labels, teacher_logits, 0.7, tau))


@pytest.mark.parametrize("num_classes", [2, 3, 100])
def test_kd_from_a_uniform_teacher_is_label_smoothing(num_classes):
    logits, labels = random_batch(num_classes)
    ours = kd_loss(logits, labels, torch.zeros_like(logits), alpha=0.3, tau=1.0)
    torch.testing.assert_close(ours, F.cross_entropy(logits, labels, label_smoothing=0.3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("tau", TAUS)
def test_alpha_0_is_erm_to_the_last_bit(dtype, tau):
    logits, labels = random_batch(3, dtype=dtype)
    teacher_logits, _ = random_batch(3, seed=1, dtype=dtype)
    values, gradients = [], []
    for loss in (
        erm_loss,
        lambda z, y: ls_loss(z, y, 0.0),
        lambda z, y: kd_loss(z, y, teacher_logits, 0.0, tau),
    ):
        leaf = logits.clone().requires_grad_()
        values.append(loss(leaf, labels))
        gradients += torch.autograd.grad(values[-1], leaf)
    assert torch.equal(values[0], values[1])
    assert torch.equal(values[0], values[2])
    assert torch.equal(gradients[0], gradients[1])
    assert torch.equal(gradients[0], gradients[2])


@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("num_classes", [2, 5])
def test_a_student_equal_to_its_teacher_has_no_loss_and_no_gradient(num_classes, tau):
    logits, labels = random_batch(num_classes)
    leaf = logits.clone().requires_grad_()
    loss = kd_loss(leaf, labels, logits, alpha=1.0, tau=tau)
    (gradient,) = torch.autograd.grad(loss, leaf)
    assert gradient.abs().max() < 1e-13
    assert theory.kd_objective(logits, labels, logits, 1.0, tau).abs() < 1e-10
    torch.testing.assert_close(loss, tau**2 * teacher_entropy(logits, tau))


@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("alpha", ALPHAS)
def test_autograd_equals_the_closed_gradient(alpha, tau):
    """(1 - alpha)(p - q) + alpha tau (p_tau - p^t_tau) per example; the mean divides by N."""
    logits, labels = random_batch(4)
    teacher_logits, _ = random_batch(4, seed=1)
    leaf = logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(kd_loss(leaf, labels, teacher_logits, alpha, tau), leaf)
    soft = torch.softmax(logits / tau, dim=1) - torch.softmax(teacher_logits / tau, dim=1)
    hard = torch.softmax(logits, dim=1) - F.one_hot(labels, 4)
    torch.testing.assert_close(gradient * len(labels), (1 - alpha) * hard + alpha * tau * soft)
    torch.testing.assert_close(gradient * len(labels), theory.kd_gradient(logits, labels, teacher_logits, alpha, tau))


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_gradient_of_ls_is_posterior_minus_target(alpha):
    logits, labels = random_batch(4)
    leaf = logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(ls_loss(leaf, labels, alpha), leaf)
    target = (1 - alpha) * F.one_hot(labels, 4) + alpha / 4
    torch.testing.assert_close(gradient * len(labels), torch.softmax(logits, dim=1) - target)


@pytest.mark.parametrize("tau", [0.5, 1.0, 4.0])
def test_gradcheck(tau):
    logits, labels = random_batch(3, rows=4)
    teacher_logits, _ = random_batch(3, rows=4, seed=1)
    leaf = logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: erm_loss(z, labels), leaf)
    assert torch.autograd.gradcheck(lambda z: ls_loss(z, labels, 0.3), leaf)
    assert torch.autograd.gradcheck(lambda z: kd_loss(z, labels, teacher_logits, 0.6, tau), leaf)


@pytest.mark.slow
@given(logits_batches(most_rows=5, size=15), st.floats(0, 1), st.floats(0.5, 20))
def test_a_batch_has_the_mean_of_its_examples_losses(logits, alpha, tau):
    labels = torch.arange(len(logits)) % logits.shape[1]
    teacher_logits = logits.flip(0).roll(1, dims=1)
    for loss in (
        lambda i: ls_loss(logits[i], labels[i], alpha),
        lambda i: kd_loss(logits[i], labels[i], teacher_logits[i], alpha, tau),
    ):
        single = torch.stack([loss(slice(i, i + 1)) for i in range(len(logits))])
        torch.testing.assert_close(loss(slice(None)), single.mean())


def test_tau_squared_multiplies_the_soft_term_only():
    logits, labels = random_batch(3)
    teacher_logits, _ = random_batch(3, seed=1)
    hard = 0.5 * erm_loss(logits, labels)
    with_it, without = (kd_loss(logits, labels, teacher_logits, 0.5, 4.0, tau2_scaling=s) - hard for s in (True, False))
    torch.testing.assert_close(with_it, 16 * without)
    torch.testing.assert_close(kd_loss(logits, labels, teacher_logits, 0.5, 4.0), hard + with_it)  # it is the default


def test_no_gradient_flows_into_the_teacher():
    logits, labels = random_batch(3)
    teacher_logits = random_batch(3, seed=1)[0].requires_grad_()
    kd_loss(logits.requires_grad_(), labels, teacher_logits, 0.5, 2.0).backward()
    assert teacher_logits.grad is None
    assert logits.grad is not None


def test_teacher_and_student_are_not_interchangeable():
    """KL is not symmetric: the teacher is the target."""
    logits, labels = random_batch(3)
    teacher_logits, _ = random_batch(3, seed=1)
    ours = kd_loss(logits, labels, teacher_logits, 1.0, 2.0) - 4 * teacher_entropy(teacher_logits, 2.0)
    backwards = torch_kd(teacher_logits, labels, logits, 1.0, 2.0)
    torch.testing.assert_close(ours, torch_kd(logits, labels, teacher_logits, 1.0, 2.0))
    assert (ours - backwards).abs() > 0.1


def test_kl_with_torchs_default_reduction_times_k_is_batchmean():
    logits, teacher_logits = random_batch(5)[0], random_batch(5, seed=1)[0]
    legacy = theory.kl_loss(teacher_logits, logits, 2.0, "mean_legacy")
    right = theory.kl_loss(teacher_logits, logits, 2.0)
    torch.testing.assert_close(legacy * 5, right)
    log_p, p_teacher = F.log_softmax(logits / 2, dim=1), F.softmax(teacher_logits / 2, dim=1)
    torch.testing.assert_close(right, F.kl_div(log_p, p_teacher, reduction="batchmean"))
    torch.testing.assert_close(legacy, (p_teacher * (p_teacher.log() - log_p)).mean())
    with pytest.raises(ValueError, match="'sum'"):
        theory.kl_loss(teacher_logits, logits, reduction="sum")


def test_bfloat16_logits_have_a_float32_loss():
    logits, labels = random_batch(3, dtype=torch.bfloat16)
    teacher_logits, _ = random_batch(3, seed=1, dtype=torch.bfloat16)
    for got, wanted in (
        (erm_loss(logits, labels), F.cross_entropy(logits.float(), labels)),
        (ls_loss(logits, labels, 0.2), F.cross_entropy(logits.float(), labels, label_smoothing=0.2)),
        (
            kd_loss(logits, labels, teacher_logits, 0.6, 4.0),
            torch_kd(logits.float(), labels, teacher_logits.float(), 0.6, 4.0)
            + 0.6 * 16 * teacher_entropy(teacher_logits.float(), 4.0),
        ),
    ):
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, wanted)


def test_logits_of_ten_thousand_give_finite_losses_and_gradients():
    logits = torch.tensor([[1e4, -1e4], [-1e4, 1e4]]).requires_grad_()
    labels = torch.tensor([1, 1])
    assert erm_loss(logits, labels).item() == pytest.approx(1e4)  # 20,000 for the first, 0 for the second
    loss = kd_loss(logits, labels, -logits.detach(), 0.5, 2.0)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_targets_are_distributions_with_the_label_on_top():
    labels = torch.tensor([0, 2, 1, 2])
    assert torch.equal(one_hot_targets(labels, 3), torch.eye(3)[labels])
    targets = ls_targets(labels, 3, 0.3, torch.float64)
    assert torch.equal(targets.argmax(dim=1), labels)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(targets[0], torch.tensor([0.8, 0.1, 0.1], dtype=torch.float64))


def test_the_virtual_teacher_is_confident_in_the_label_and_equal_elsewhere():
    p = torch.softmax(virtual_teacher_logits(torch.tensor([1, 0]), 3, 0.9), dim=1)
    torch.testing.assert_close(p, torch.tensor([[0.05, 0.9, 0.05], [0.9, 0.05, 0.05]]))


@pytest.mark.parametrize("confidence", [1 / 3, 0.2, 1.0, 1.5])
def test_a_confidence_outside_1_over_k_to_1_is_refused(confidence):
    with pytest.raises(ValueError, match=r"confidence must be in \(1/3, 1\)"):
        virtual_teacher_logits(torch.tensor([0]), 3, confidence)


def released_code(logits, labels, alpha, confidence, tau, multiplier):
    """`loss_kd_regularization` of Yuan et al.'s repository, line by line; .mean() is KLDivLoss's "mean"."""
    num_classes = logits.shape[1]
    teacher_soft = torch.full_like(logits, (1 - confidence) / (num_classes - 1))
    teacher_soft[torch.arange(len(labels)), labels] = confidence
    log_p, target = F.log_softmax(logits, dim=1), F.softmax(teacher_soft / tau, dim=1)
    soft = F.kl_div(log_p, target, reduction="none").mean() * multiplier
    return (1 - alpha) * F.cross_entropy(logits, labels) + alpha * soft, target


RELEASED = [(0.95, 0.99, 20.0, 1.0), (0.1, 0.99, 20.0, 100.0), (0.6, 0.9, 1.0, 10.0), (0.0, 0.99, 6.0, 1.0)]


@pytest.mark.parametrize(("alpha", "confidence", "tau", "multiplier"), RELEASED)
@pytest.mark.parametrize("num_classes", [2, 3, 100])
def test_released_teacher_free_kd_is_the_code_of_its_authors(num_classes, alpha, confidence, tau, multiplier):
    logits, labels = random_batch(num_classes)
    wanted, _ = released_code(logits, labels, alpha, confidence, tau, multiplier)
    torch.testing.assert_close(tfkd_released_loss(logits, labels, alpha, confidence, tau, multiplier), wanted)


@pytest.mark.parametrize(("alpha", "confidence", "tau", "multiplier"), RELEASED)
@pytest.mark.parametrize("num_classes", [2, 3, 100])
def test_released_teacher_free_kd_is_label_smoothing(num_classes, alpha, confidence, tau, multiplier):
    """(w + 1 - alpha) LS at the equivalent alpha, less w H(s): in loss and in gradient, whatever the logits."""
    logits, labels = random_batch(num_classes)
    _, target = released_code(logits, labels, alpha, confidence, tau, multiplier)
    weight = alpha * multiplier / num_classes
    constant = weight * torch.distributions.Categorical(probs=target).entropy().mean()
    leaf, same = (logits.clone().requires_grad_() for _ in range(2))
    ours = tfkd_released_loss(leaf, labels, alpha, confidence, tau, multiplier)
    smoothing = theory.equivalent_ls_alpha(alpha, num_classes, multiplier, confidence, tau)
    smoothed = (weight + 1 - alpha) * F.cross_entropy(same, labels, label_smoothing=smoothing)
    torch.testing.assert_close(ours, smoothed - constant)
    (gradient,), (wanted,) = torch.autograd.grad(ours, leaf), torch.autograd.grad(smoothed, same)
    torch.testing.assert_close(gradient, wanted)


def test_the_two_forms_of_teacher_free_kd_lead_to_two_models():
    """alpha 1: the paper's form ends at the virtual teacher itself, the code's at its nearly uniform soft target."""
    labels = torch.tensor([0, 2])
    virtual = virtual_teacher_logits(labels, 3, 0.9, torch.float64)
    nearly_uniform = torch.log_softmax(virtual.exp() / 20, dim=1)
    forms = {
        "paper": (lambda z: kd_loss(z, labels, virtual, 1.0, 20.0), virtual),
        "released": (lambda z: tfkd_released_loss(z, labels, 1.0, 0.9, 20.0), nearly_uniform),
    }
    for loss, optimum in forms.values():
        for start in (virtual, nearly_uniform):
            leaf = start.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(loss(leaf), leaf)
            assert (gradient.abs().max() < 1e-12) == (start is optimum)


@pytest.mark.parametrize("label", [-1, 3, 255])
def test_a_label_outside_0_to_k_minus_1_is_refused(label):
    logits, labels = torch.zeros(2, 3), torch.tensor([0, label])
    for loss in (
        lambda: erm_loss(logits, labels),
        lambda: ls_loss(logits, labels, 0.1),
        lambda: kd_loss(logits, labels, logits, 0.1),
        lambda: virtual_teacher_logits(labels, 3, 0.9),
        lambda: tfkd_released_loss(logits, labels, 0.9, 0.99, 20.0),
    ):
        with pytest.raises(ValueError, match=rf"labels must be in 0\.\.2, got.*{label}"):
            loss()


@pytest.mark.parametrize("alpha", [-0.01, 1.01, float("nan")])
def test_an_alpha_outside_0_to_1_is_refused(alpha):
    logits, labels = random_batch(2)
    for loss in (
        lambda: ls_loss(logits, labels, alpha),
        lambda: kd_loss(logits, labels, logits, alpha),
        lambda: theory.ls_objective(logits, labels, alpha),
        lambda: theory.kd_objective(logits, labels, logits, alpha),
        lambda: theory.kd_optimum(labels, logits, alpha),
        lambda: tfkd_released_loss(logits, labels, alpha, 0.99, 20.0),
    ):
        with pytest.raises(ValueError, match=r"alpha must be in \[0, 1\]"):
            loss()


@pytest.mark.parametrize("tau", [0.0, -2.0, float("nan")])
def test_a_tau_that_is_not_positive_is_refused(tau):
    logits, labels = random_batch(2)
    with pytest.raises(ValueError, match="tau must be > 0"):
        kd_loss(logits, labels, logits, 0.5, tau)
    with pytest.raises(ValueError, match="tau must be > 0"):
        tfkd_released_loss(logits, labels, 0.5, 0.99, tau)
    with pytest.raises(ValueError, match="tau must be > 0"):
        check_alpha_tau(0.5, tau)


def test_a_teacher_with_other_classes_or_rows_is_refused():
    logits, labels = random_batch(3)
    for teacher_logits in (torch.zeros(len(logits), 2), torch.zeros(len(logits) - 1, 3)):
        with pytest.raises(ValueError, match="must have one shape"):
            kd_loss(logits, labels, teacher_logits, 0.5)


def test_a_logit_of_minus_infinity_costs_nothing_where_nothing_is_expected_of_it():
    """A class that is ruled out: torch's own loss and gradient, no nan."""
    logits = torch.tensor([[1.0, 0.0, -math.inf]], dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0])
    wanted = F.cross_entropy(logits, labels)
    (gradient,) = torch.autograd.grad(wanted, logits)
    assert wanted.item() == pytest.approx(0.3133, abs=1e-4)
    for loss in (erm_loss(logits, labels), ls_loss(logits, labels, 0.0)):
        torch.testing.assert_close(loss, wanted)
        torch.testing.assert_close(torch.autograd.grad(loss, logits)[0], gradient)
    taught = kd_loss(logits, labels, logits.detach(), 1.0)
    torch.testing.assert_close(taught, posterior_entropy(logits).sum())
    torch.testing.assert_close(torch.autograd.grad(taught, logits)[0], torch.zeros_like(logits))
    assert (
        ls_loss(logits, labels, 0.1).item() == F.cross_entropy(logits, labels, label_smoothing=0.1).item() == math.inf
    )
