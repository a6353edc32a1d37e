"""Posterior, entropy, cross-entropy and KL of softmax classifiers, in nats; torch only."""

import torch
import torch.nn.functional as F
from torch import Tensor


def log_posterior(logits: Tensor, tau: float = 1.0) -> Tensor:
    """Log posterior at temperature tau, log softmax(z / tau) [nats].

    Args:
        logits: (N, K) float, any scale, finite or -inf; K >= 2.
        tau: softmax temperature, > 0.
    Returns:
        (N, K), at least float32: half precision goes in, float32 comes out, double stays.
    Raises:
        ValueError: logits is not (N, K >= 2), or tau is not positive.
    """
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise ValueError(f"logits must be (N, K >= 2), got {tuple(logits.shape)}")
    if not tau > 0:
        raise ValueError(f"tau must be > 0, got {tau}")
    dtype = torch.promote_types(logits.dtype, torch.float32)
    scaled = logits.to(dtype) if tau == 1 else logits.to(dtype) / tau
    return F.log_softmax(scaled, dim=-1)


def posterior(logits: Tensor, tau: float = 1.0) -> Tensor:
    """Posterior p_tau = softmax(z / tau); shapes and errors as `log_posterior`."""
    return log_posterior(logits, tau).exp()


def posterior_entropy(logits: Tensor, tau: float = 1.0) -> Tensor:
    """Shannon entropy of each predicted posterior [nats].

    H(p) = -sum_k p_k log p_k with p = softmax(z / tau); the uncertainty measure of arXiv 2301.12609.

    Args:
        logits: (N, K) float, any scale, finite or -inf; K >= 2.
        tau: softmax temperature, > 0.
    Returns:
        (N,) in [0, log K]: 0 for one-hot, log K for uniform; at least float32.
    Raises:
        ValueError: logits is not (N, K >= 2), or tau is not positive.
    """
    log_p = log_posterior(logits, tau)
    return (-log_p.exp() * log_p.clamp(min=torch.finfo(log_p.dtype).min)).sum(dim=-1)  # 0 log 0 = 0


def entropy(distribution: Tensor) -> Tensor:
    """Shannon entropy of distributions that are given, not predicted [nats]; 0 log 0 = 0.

    Args:
        distribution: (..., K) non-negative, summing to 1 over K.
    Returns:
        (...,) in [0, log K].
    """
    return torch.special.entr(distribution).sum(dim=-1)


def cross_entropy(targets: Tensor, logits: Tensor, tau: float = 1.0) -> Tensor:
    """Cross-entropy H(t, p_tau) = -sum_k t_k log p_tau,k of each example [nats].

    Args:
        targets: (N, K) distributions, the first argument as everywhere in kdnb.
        logits: (N, K); K >= 2.
        tau: softmax temperature of the posterior, > 0.
    Returns:
        (N,), at least float32.
    Raises:
        ValueError: the shapes differ, or as `log_posterior`.
    """
    if targets.shape != logits.shape:
        raise ValueError(f"targets {tuple(targets.shape)} and logits {tuple(logits.shape)} must have one shape")
    return -torch.where(targets != 0, targets * log_posterior(logits, tau), 0.0).sum(dim=-1)  # 0 log 0 = 0


def kl_divergence(targets: Tensor, logits: Tensor, tau: float = 1.0) -> Tensor:
    """KL(t || p_tau) = H(t, p_tau) - H(t) of each example [nats], >= 0.

    Shapes and errors as `cross_entropy`; 0 exactly where posterior and target agree.
    """
    return cross_entropy(targets, logits, tau) - entropy(targets)
