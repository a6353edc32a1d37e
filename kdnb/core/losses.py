"""The three targets (one-hot, smoothed, teacher) and the losses ERM, LS and KD on them; torch only.

alpha is always the weight of the soft target, so alpha 0 is ERM in LS and KD alike. The soft term is
a cross-entropy; the KL of the paper's Eqs. 1-2 differs from it by a constant (`kdnb.core.theory`).
Sum over classes, mean over examples.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdnb.core.entropy import cross_entropy, kl_divergence, posterior


def check_alpha_tau(alpha: float, tau: float = 1.0) -> None:
    """Raise ValueError unless alpha is in [0, 1] and tau > 0."""
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be in [0, 1], got {alpha}")
    if not tau > 0:
        raise ValueError(f"tau must be > 0, got {tau}")


def one_hot_targets(labels: Tensor, num_classes: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """The one-hot targets q of ERM.

    Args:
        labels: (N,) integers in 0..K-1.
        num_classes: K >= 2.
        dtype: float type of the result.
    Returns:
        (N, K) with a single 1 per row: entropy 0.
    Raises:
        ValueError: a label lies outside 0..K-1 (GLUE's hidden labels are -1).
    """
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        raise ValueError(f"labels must be in 0..{num_classes - 1}, got {int(labels.min())}..{int(labels.max())}")
    return F.one_hot(labels.long(), num_classes).to(dtype)


def ls_targets(labels: Tensor, num_classes: int, alpha: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """Label-smoothing targets q_ls = (1 - alpha) q + alpha u, u = 1/K (arXiv 2301.12609, section 2).

    Args:
        labels: (N,) integers in 0..K-1.
        num_classes: K >= 2.
        alpha: weight of the uniform part, 0..1.
        dtype: float type of the result.
    Returns:
        (N, K) with 1 - alpha + alpha/K on the label and alpha/K elsewhere.
    Raises:
        ValueError: a label or alpha is out of range.
    """
    check_alpha_tau(alpha)
    return (1 - alpha) * one_hot_targets(labels, num_classes, dtype) + alpha / num_classes


def virtual_teacher_logits(
    labels: Tensor, num_classes: int, confidence: float, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Logits of the virtual teacher of teacher-free KD (Yuan et al. 2020, Eq. 9).

    p^d gives `confidence` to the label and shares the rest equally; the logits are log p^d.

    Args:
        labels: (N,) integers in 0..K-1.
        num_classes: K >= 2.
        confidence: c in (1/K, 1); the paper asks for c >= 0.9.
        dtype: float type of the result.
    Returns:
        (N, K).
    Raises:
        ValueError: confidence or a label is out of range.
    """
    if not 1 / num_classes < confidence < 1:
        raise ValueError(f"confidence must be in (1/{num_classes}, 1), got {confidence}")
    rest = (1 - confidence) / (num_classes - 1)
    return (one_hot_targets(labels, num_classes, dtype) * (confidence - rest) + rest).log()


def erm_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy to the labels [nats]: L_ERM = H(q, p). logits (N, K), labels (N,); a scalar."""
    return cross_entropy(one_hot_targets(labels, logits.shape[-1], _float(logits)), logits).mean()


def ls_loss(logits: Tensor, labels: Tensor, alpha: float) -> Tensor:
    """Mean cross-entropy to the smoothed labels [nats]: H(q_ls, p) = L_LS of Eq. 1 + alpha log K.

    Args:
        logits: (N, K).
        labels: (N,) in 0..K-1.
        alpha: weight of the uniform part, 0..1.
    Returns:
        A scalar; equal to torch's `F.cross_entropy(label_smoothing=alpha)`.
    Raises:
        ValueError: a label or alpha is out of range.
    """
    return cross_entropy(ls_targets(labels, logits.shape[-1], alpha, _float(logits)), logits).mean()


def kd_loss(  # noqa: PLR0913 - the symbols of its formula
    logits: Tensor,
    labels: Tensor,
    teacher_logits: Tensor,
    alpha: float,
    tau: float = 1.0,
    tau2_scaling: bool = True,
) -> Tensor:
    """Distillation loss [nats]: (1 - alpha) H(q, p) + alpha tau^2 H(p^t_tau, p_tau).

    Eq. 2 of arXiv 2301.12609 plus alpha tau^2 H(p^t_tau), which does not depend on the student.

    Args:
        logits: (N, K) of the student.
        labels: (N,) in 0..K-1.
        teacher_logits: (N, K); no gradient flows into them.
        alpha: weight of the soft target, 0..1; 0 is ERM.
        tau: softmax temperature of both models, > 0.
        tau2_scaling: multiply the soft term by tau^2 (Hinton et al. 2015, section 2).
    Returns:
        A scalar, mean over examples.
    Raises:
        ValueError: shapes differ, or a label, alpha or tau is out of range.
    """
    check_alpha_tau(alpha, tau)
    hard = erm_loss(logits, labels)
    targets = posterior(teacher_logits.detach(), tau).to(_float(logits))
    soft = cross_entropy(targets, logits, tau).mean()
    return (1 - alpha) * hard + alpha * (tau**2 if tau2_scaling else 1) * soft


def tfkd_released_loss(  # noqa: PLR0913 - the symbols of its formula
    logits: Tensor, labels: Tensor, alpha: float, confidence: float, tau: float, multiplier: float = 1.0
) -> Tensor:
    """Teacher-free KD as its released code computes it [nats]: (1 - alpha) H(q, p) + alpha m / K KL(s || p).

    s = softmax(p^d / tau) softens the virtual teacher's probabilities, not their logarithms as Eq. 9 of Yuan et
    al. 2020 does; the student stays at tau 1; no tau^2; 1/K is torch's reduction "mean"
    (`loss_kd_regularization` of github.com/yuanli2333/Teacher-free-Knowledge-Distillation). s has equal mass on
    all wrong classes, so this is LS in disguise: see `kdnb.core.theory.equivalent_ls_alpha`.
    The form of Eq. 9 is `kd_loss` with `virtual_teacher_logits` for a teacher.

    Args:
        logits: (N, K).
        labels: (N,) in 0..K-1.
        alpha: weight of the soft term, 0..1; 0 is ERM.
        confidence: c in (1/K, 1), 0.99 in the code.
        tau: > 0.
        multiplier: m > 0; 1, 50 or 100 in the code.
    Returns:
        A scalar, mean over examples.
    Raises:
        ValueError: a label, alpha, tau or confidence is out of range.
    """
    check_alpha_tau(alpha, tau)
    num_classes = logits.shape[-1]
    virtual = virtual_teacher_logits(labels, num_classes, confidence, _float(logits)).exp()
    soft = kl_divergence(posterior(virtual, tau), logits).mean() / num_classes
    return (1 - alpha) * erm_loss(logits, labels) + alpha * multiplier * soft


def _float(logits: Tensor) -> torch.dtype:
    return torch.promote_types(logits.dtype, torch.float32)
