"""Closed forms: the paper's Eqs. 1-2, gradients, optima, entropy facts, virtual teachers; torch only."""

import math

import torch
from torch import Tensor

from kdnb.core.entropy import cross_entropy, entropy, kl_divergence, log_posterior, posterior
from kdnb.core.losses import check_alpha_tau, ls_targets, one_hot_targets, virtual_teacher_logits


def ls_objective(logits: Tensor, labels: Tensor, alpha: float) -> Tensor:
    """Eq. 1 as printed [nats]: (1 - alpha) H(q, p) + alpha KL(u || p), mean over examples.

    `losses.ls_loss` equals it plus alpha log K. logits (N, K), labels (N,), alpha in [0, 1].
    """
    check_alpha_tau(alpha)
    hard = cross_entropy(one_hot_targets(labels, logits.shape[1], logits.dtype), logits)
    uniform = torch.full_like(logits, 1 / logits.shape[1])
    return ((1 - alpha) * hard + alpha * kl_divergence(uniform, logits)).mean()


def kd_objective(logits: Tensor, labels: Tensor, teacher_logits: Tensor, alpha: float, tau: float = 1.0) -> Tensor:
    """Eq. 2 [nats]: (1 - alpha) H(q, p) + alpha tau^2 KL(p^t_tau || p_tau), mean over examples.

    `losses.kd_loss` equals it plus alpha tau^2 H(p^t_tau). Shapes as `kd_loss`.
    """
    check_alpha_tau(alpha, tau)
    hard = cross_entropy(one_hot_targets(labels, logits.shape[1], logits.dtype), logits)
    soft = kl_divergence(posterior(teacher_logits, tau), logits, tau)
    return ((1 - alpha) * hard + alpha * tau**2 * soft).mean()


def kl_loss(teacher_logits: Tensor, logits: Tensor, tau: float = 1.0, reduction: str = "batchmean") -> Tensor:
    """KL(p^t_tau || p_tau) reduced over the batch [nats].

    "batchmean" sums over classes and averages over examples; "mean_legacy" also divides by K, as torch's
    default `KLDivLoss()` does and some released distillation code with it. Raises ValueError otherwise.
    """
    per_example = kl_divergence(posterior(teacher_logits, tau), logits, tau)
    if reduction not in ("batchmean", "mean_legacy"):
        raise ValueError(f"reduction must be 'batchmean' or 'mean_legacy', got {reduction!r}")
    return per_example.mean() / (logits.shape[1] if reduction == "mean_legacy" else 1)


def kd_gradient(logits: Tensor, labels: Tensor, teacher_logits: Tensor, alpha: float, tau: float = 1.0) -> Tensor:
    """Gradient of each example's KD loss in its logits: (1 - alpha)(p - q) + alpha tau (p_tau - p^t_tau); (N, K).

    alpha 0 is ERM's p - q; a uniform teacher at tau 1 is LS's p - q_ls.
    """
    hard = posterior(logits) - one_hot_targets(labels, logits.shape[1], logits.dtype)
    return (1 - alpha) * hard + alpha * tau * (posterior(logits, tau) - posterior(teacher_logits, tau))


def ls_optimum(labels: Tensor, num_classes: int, alpha: float, variant: str = "uniform") -> Tensor:
    """The posterior (N, K) that minimises the LS loss on each example: the smoothed target itself.

    variant "uniform" puts alpha/K on every class, as torch and the paper; "exclude_target" puts
    1 - alpha on the label and alpha/(K - 1) elsewhere, as some released code. ValueError otherwise.
    """
    if variant == "uniform":
        return ls_targets(labels, num_classes, alpha, torch.float64)
    if variant == "exclude_target":
        return ls_targets(labels, num_classes, alpha * num_classes / (num_classes - 1), torch.float64)
    raise ValueError(f"variant must be 'uniform' or 'exclude_target', got {variant!r}")


def ls_optimum_entropy(alpha: float, num_classes: int, variant: str = "uniform") -> float:
    """H(q_ls) [nats]: a lower bound on the entropy of LS's population optimum at every point."""
    label = torch.zeros(1, dtype=torch.long)
    return float(entropy(ls_optimum(label, num_classes, alpha, variant)))


def ls_logit_gap(alpha: float, num_classes: int) -> float:
    """Logit gap between label and other classes at the LS optimum, ln(1 + K (1 - alpha) / alpha); alpha in (0, 1]."""
    if not 0 < alpha <= 1:
        raise ValueError(f"alpha must be in (0, 1], got {alpha}")
    return math.log1p(num_classes * (1 - alpha) / alpha)


def kd_optimum(labels: Tensor, teacher_logits: Tensor, alpha: float) -> Tensor:
    """The posterior (N, K) that minimises the KD loss at tau 1 on each example: (1 - alpha) q + alpha p^t."""
    check_alpha_tau(alpha)
    one_hot = one_hot_targets(labels, teacher_logits.shape[1], teacher_logits.dtype)
    return (1 - alpha) * one_hot + alpha * posterior(teacher_logits)


def entropy_slope(logits: Tensor, tau: float) -> Tensor:
    """dH(p_tau)/dtau = Var_{p_tau}(z) / tau^3 >= 0 [nats per unit of tau]; (N, K) -> (N,)."""
    p = posterior(logits, tau)
    mean = (p * logits).sum(dim=-1, keepdim=True)
    return (p * (logits - mean) ** 2).sum(dim=-1) / tau**3


def logit_matching_gradient(logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """The limit of tau^2 times the soft gradient as tau -> infinity: the centred (z - z^t) / K; (N, K).

    Hinton et al. 2015, section 2.1: distillation at high temperature matches logits.
    """
    difference = logits - teacher_logits
    return (difference - difference.mean(dim=-1, keepdim=True)) / logits.shape[1]


def virtual_teacher(num_classes: int, confidence: float, tau: float, temper: str = "logit") -> Tensor:
    """The soft target (K,) of teacher-free KD for label 0 (Yuan et al. 2020, Eq. 9).

    temper "logit" softens log p^d, as the paper writes it; "prob" takes softmax(p^d / tau) of the
    probabilities, as the released code does, which at tau 20 is almost uniform. ValueError otherwise, and for a
    confidence outside (1/K, 1).
    """
    log_p = virtual_teacher_logits(torch.zeros(1, dtype=torch.long), num_classes, confidence, torch.float64)
    if temper not in ("logit", "prob"):
        raise ValueError(f"temper must be 'logit' or 'prob', got {temper!r}")
    return log_posterior(log_p if temper == "logit" else log_p.exp(), tau).exp()[0]


def equivalent_ls_alpha(
    alpha: float, num_classes: int, multiplier: float = 1.0, confidence: float = 0.99, tau: float = math.inf
) -> float:
    """The LS alpha that the released Tf-KD code amounts to: K s_0 w / (w + 1 - alpha), w = alpha multiplier / K.

    s_0 is what its soft target leaves for each wrong class, 1/K in the limit of a high tau: w / (w + 1 - alpha).
    `losses.tfkd_released_loss` is w + 1 - alpha times `losses.ls_loss` at this alpha, less a constant, w H(s).
    """
    weight = alpha * multiplier / num_classes
    share = num_classes * float(virtual_teacher(num_classes, confidence, tau, "prob")[1])
    return share * weight / (weight + 1 - alpha)
