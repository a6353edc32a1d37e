"""Targets made of a teacher's posterior: its confidence alone, its classes shuffled, labels smoothed to its entropy."""

import math

import torch
from torch import Tensor

from kdnb.core.entropy import posterior_entropy

STEPS = 40  # halvings of [0, 1] until a smoothing weight has its entropy: 1e-12


def confidence_weights(teacher_logits: Tensor) -> Tensor:
    """w_s = max p^t_s / sum_b max p^t_b of a batch (Furlanello et al. 2018, CWTM).

    Args:
        teacher_logits: (B, K).
    Returns:
        (B,) positive, of sum 1; 1/B each where the teacher is equally sure of all.
    """
    confidence = teacher_logits.softmax(dim=-1).amax(dim=-1)
    return confidence / confidence.sum()


def permuted(teacher_logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Each row with its non-argmax entries in a random order of its own (Furlanello et al. 2018, DKPP).

    Largest entry, sum and entropy of every posterior stay as they are, and no entry leaves its row.

    Args:
        teacher_logits: (B, K).
        generator: of the orders; torch's own for None.
    Returns:
        (B, K). At K = 2 the same logits.
    """
    top = teacher_logits.argmax(dim=-1, keepdim=True)
    keys = torch.rand(teacher_logits.shape, generator=generator, device=teacher_logits.device)
    shuffled = keys.scatter(1, top, -1.0).argsort(dim=-1)  # of each row: its argmax first, the others as drawn
    others = torch.ones_like(teacher_logits).scatter(1, top, 0.0).argsort(dim=-1, stable=True)  # argmax, then in order
    return torch.empty_like(teacher_logits).scatter(1, others, teacher_logits.gather(1, shuffled))


def smoothing_weight(entropy: Tensor, num_classes: int) -> Tensor:
    """The a in [0, 1] at which (1 - a) q + a u has a given entropy; it rises with a, so halving finds it.

    Args:
        entropy: (B,) in [0, ln K] [nats]; values outside are taken at the nearer end.
        num_classes: K >= 2.
    Returns:
        (B,) in the entropy's dtype.
    """
    low, high = torch.zeros_like(entropy), torch.ones_like(entropy)
    for _ in range(STEPS):
        middle = (low + high) / 2
        below = smoothed_entropy(middle, num_classes) < entropy
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return torch.where(entropy <= 0, torch.zeros_like(low), (low + high) / 2)


def smoothed_entropy(weight: Tensor, num_classes: int) -> Tensor:
    """Entropy of (1 - a) q + a u [nats].

    Args:
        weight: a, any shape, in [0, 1].
        num_classes: K >= 2.
    Returns:
        The same shape, in [0, ln K].
    """
    other = weight / num_classes
    true = 1 - (num_classes - 1) * other
    return -(torch.xlogy(true, true) + (num_classes - 1) * torch.xlogy(other, other)).clamp(max=0.0)


def drawn_confidences(teacher_logits: Tensor) -> Tensor:
    """Confidences from the Beta law with the mean and variance that a teacher's have over the batch.

    As diverse as the teacher's, and independent of which example is which (after Zhang and Sabuncu 2020, whose own
    assignment to examples is not read; reconstructed). Drawn by torch's own generator.

    Args:
        teacher_logits: (B, K).
    Returns:
        (B,) in [1/K, 1], in the dtype of the logits.
    """
    confidence = teacher_logits.softmax(dim=-1).amax(dim=-1)
    mean = confidence.mean().clamp(max=1 - 1e-6)  # the law has none at 1
    variance = confidence.var(unbiased=False).clamp(min=1e-9)
    total = (mean * (1 - mean) / variance - 1).clamp(min=1e-3)
    drawn = torch.distributions.Beta(mean * total, (1 - mean) * total).sample(confidence.shape)
    return drawn.clamp(1 / teacher_logits.shape[1], 1)


def drawn_targets(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    """Labels smoothed example by example to `drawn_confidences`: targets (B, K).

    Args:
        teacher_logits: (B, K).
        labels: (B,).
    """
    num_classes = teacher_logits.shape[1]
    return _smoothed(labels, (1 - drawn_confidences(teacher_logits)) * num_classes / (num_classes - 1), num_classes)


def matched_targets(teacher_logits: Tensor, labels: Tensor, *, by_instance: bool) -> Tensor:
    """Labels smoothed to a teacher's entropy: targets (B, K) with the softness of its posteriors and not its classes.

    Args:
        teacher_logits: (B, K).
        labels: (B,).
        by_instance: whether each target has the entropy of its own posterior, or all the batch's mean of it.
    """
    num_classes = teacher_logits.shape[1]
    entropy = posterior_entropy(teacher_logits)
    entropy = entropy if by_instance else entropy.mean().expand_as(entropy)
    return _smoothed(labels, smoothing_weight(entropy.clamp(0, math.log(num_classes)), num_classes), num_classes)


def _smoothed(labels: Tensor, weight: Tensor, num_classes: int) -> Tensor:
    """(1 - a) q + a u with an a (B,) for each label: (B, K)."""
    one_hot = torch.nn.functional.one_hot(labels, num_classes).to(weight.dtype)
    return (1 - weight[:, None]) * one_hot + weight[:, None] / num_classes
