"""Divergences between a teacher's and a student's law of the next token, each under one name, in nats.

q is the teacher's law, p the student's. Two families are called "generalised JSD" in the literature: both are here and
neither is called that alone (`gjsd` vanishes at both ends of beta, `interp_jsd` runs from forward to reverse KL).
Naming and describing one needs no torch, computing it does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

Rule: TypeAlias = "Callable[[Tensor, Tensor, float], Tensor]"  # (log q (N, V), log p (N, V), beta) -> (N,) nats


@dataclass(frozen=True)
class Divergence:
    """One divergence and what has to be known to compare it with another library's.

    name: as `--divergence` takes it.
    formula: in q (teacher), p (student) and m.
    rule: computes it.
    beta: the default of its parameter; None where it has none.
    scales: whether tau**2 keeps its gradient's size at a temperature; False: it is taken at tau 1 alone.
    """

    name: str
    formula: str
    rule: Rule
    beta: float | None = None
    scales: bool = True

    def convention(self, tau: float = 1.0) -> dict[str, str]:
        """What a reader needs to compare a loss with another library's: T squared, reduction, where tau acts."""
        return {
            "formula": self.formula,
            "tau": f"in the loss, on both models: {tau:g}",
            "tau squared": "multiplies" if self.scales else "not needed: tau is 1",
            "over the vocabulary": "sum",
            "over tokens": "sum, divided once by the number of tokens",
        }


def _kl(log_a: Tensor, log_b: Tensor) -> Tensor:
    """KL(a || b) of rows (N, V) [nats], shape (N,)."""
    return (log_a.exp() * (log_a - log_b)).sum(dim=-1)


def _mixture(log_a: Tensor, log_b: Tensor, weight: float) -> Tensor:
    """log(weight a + (1 - weight) b), exact at both ends; (N, V)."""
    if weight in (0.0, 1.0):
        return log_a if weight else log_b
    import torch

    return torch.logaddexp(log_a + math.log(weight), log_b + math.log1p(-weight))


def _gjsd(log_q: Tensor, log_p: Tensor, beta: float) -> Tensor:
    log_m = _mixture(log_q, log_p, beta)
    return beta * _kl(log_q, log_m) + (1 - beta) * _kl(log_p, log_m)


def _interp_jsd(log_q: Tensor, log_p: Tensor, beta: float) -> Tensor:
    log_m = _mixture(log_q, log_p, beta)
    if beta in (0.0, 1.0):  # the other term is 0, and so is its gradient
        return _kl(log_p, log_m) if beta else _kl(log_q, log_m)
    return (1 - beta) * _kl(log_q, log_m) + beta * _kl(log_p, log_m)


def _overlap(log_q: Tensor, log_p: Tensor) -> Tensor:
    """log sum_v min(q_v, p_v): of speculative decoding's chance to accept; (N,)."""
    import torch

    return torch.minimum(log_q, log_p).logsumexp(dim=-1)


DIVERGENCES = {
    one.name: one
    for one in (
        Divergence("forward_kl", "KL(q || p)", lambda q, p, _: _kl(q, p)),
        Divergence("reverse_kl", "KL(p || q)", lambda q, p, _: _kl(p, q)),
        Divergence("gjsd", "beta KL(q || m) + (1 - beta) KL(p || m), m = beta q + (1 - beta) p", _gjsd, 0.5),
        Divergence(
            "interp_jsd", "(1 - beta) KL(q || m) + beta KL(p || m), m = beta q + (1 - beta) p", _interp_jsd, 0.5
        ),
        Divergence("skew_kl", "KL(q || beta q + (1 - beta) p)", lambda q, p, b: _kl(q, _mixture(q, p, b)), 0.1),
        Divergence("skew_reverse_kl", "KL(p || beta p + (1 - beta) q)", lambda q, p, b: _kl(p, _mixture(p, q, b)), 0.1),
        Divergence("tv", "sum |q - p| / 2", lambda q, p, _: (q.exp() - p.exp()).abs().sum(-1) / 2, scales=False),
        Divergence("nla", "-log sum min(q, p)", lambda q, p, _: -_overlap(q, p), scales=False),
    )
}


def convention_of(config: Mapping[str, Any]) -> dict[str, str]:
    """The convention of a stored training's soft term; {} for one of labels alone.

    Args:
        config: field -> value of an `LMConfig`.
    """
    name, alpha, tau = config["divergence"], config["alpha"], config["tau"]
    if not alpha:
        return {}
    soft = DIVERGENCES[name].convention(tau) if name in DIVERGENCES else {"formula": "H(u, p), u uniform: LS"}
    return {"alpha": f"weighs the soft term: {alpha:g}; the labels' has {1 - alpha:g}", **soft}


def log_law(logits: Tensor, tau: float = 1.0) -> Tensor:
    """Log of the law of the next token at temperature tau; at least float32, so that KL(p || p) is 0 in bf16 too.

    Args:
        logits: (..., V) float, finite.
        tau: > 0.
    """
    import torch

    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return (logits / tau if tau != 1 else logits).log_softmax(dim=-1)


def divergence(
    name: str, teacher_logits: Tensor, student_logits: Tensor, *, beta: float | None = None, tau: float = 1.0
) -> Tensor:
    """A divergence of each token's two laws [nats], times tau**2 where it scales.

    Args:
        name: a key of DIVERGENCES.
        teacher_logits: (N, V), no gradient flows into them.
        student_logits: (N, V).
        beta: of those that have one; None is their default.
        tau: temperature of both laws, > 0.
    Returns:
        (N,).
    Raises:
        ValueError: an unknown name, shapes that differ, a beta outside [0, 1] or given to one that has none, a tau
            other than 1 for one that does not scale.
    """
    one = check(name, beta, tau)
    if teacher_logits.shape != student_logits.shape:
        raise ValueError(
            f"teacher {tuple(teacher_logits.shape)} and student {tuple(student_logits.shape)} must have one shape"
        )
    return between(name, log_law(teacher_logits, tau), log_law(student_logits, tau), beta=beta) * (
        tau**2 if one.scales else 1.0
    )


def between(name: str, teacher: Tensor, student: Tensor, *, beta: float | None = None) -> Tensor:
    """A divergence of each row's two laws [nats], given as logs (N, V); shape (N,)."""
    one = DIVERGENCES[name]
    return one.rule(teacher.detach(), student, (one.beta or 0.0) if beta is None else float(beta))


def check(name: str, beta: float | None = None, tau: float = 1.0) -> Divergence:
    """The divergence of a name; raises as `divergence` if beta or tau make no sense for it."""
    if name not in DIVERGENCES:
        raise ValueError(f"divergence must be one of {', '.join(DIVERGENCES)}, got {name!r}")
    one = DIVERGENCES[name]
    if beta is not None and one.beta is None:
        raise ValueError(f"{name} has no beta, got {beta}")
    if beta is not None and not 0 <= beta <= 1:
        raise ValueError(f"beta must be in [0, 1], got {beta}")
    if not tau > 0:
        raise ValueError(f"tau must be > 0, got {tau}")
    if tau != 1 and not one.scales:
        raise ValueError(f"{name} is taken at tau 1, got tau {tau}")
    return one
