"""Sparse targets: a few entries of a teacher's law for each token, six ways to learn from them, and their bias.

With S the entries kept, m = q(S) their mass and p the student's law, the minimum of each loss over p is

    renorm        q_S / m            over-confident by 1 / m, nothing outside S
    truncate      q_S / m            the same, its gradient scaled by m; the loss may be negative
    tail_bucket   q on S, 1 - m in all outside; a lower bound of the full KL
    uniform_tail  q on S, (1 - m) / (V - k) on each entry outside
    conditional   any p whose p_S / p(S) is q_S / m: nothing pulls p(S) towards m
    sampled       q, in expectation: target and gradient are unbiased
"""

import math
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from kdnb.studies.language_models.divergences import log_law

TOP_K_VARIANTS = ("renorm", "truncate", "tail_bucket", "uniform_tail", "conditional")
VARIANTS = (*TOP_K_VARIANTS, "sampled")
SMALLEST = 2.0**-25  # below it a mass is 0 in the half precision of a cache, where no law has a 0
LINEAR = ("renorm", "truncate", "uniform_tail", "sampled")  # losses linear in log p: closed form, see `linear`


@dataclass(frozen=True)
class Sparse:
    """Some entries of each token's law.

    ids: (N, k) int64, distinct in each row; entries of weight 0 only fill it up.
    weights: (N, k) float32: the law on them, or of a sample what estimates it.
    tail: (N,) float32, mass of the law outside; of a sample 0.
    entropy: (N,) float32, of the whole law [nats].
    """

    ids: Tensor
    weights: Tensor
    tail: Tensor
    entropy: Tensor

    def __getitem__(self, rows: slice | Tensor) -> Self:
        return replace(self, **{one.name: getattr(self, one.name)[rows] for one in fields(self)})

    def to(self, device: torch.device) -> Self:
        """The same on a device."""
        return replace(self, **{one.name: getattr(self, one.name).to(device) for one in fields(self)})


@dataclass(frozen=True)
class Linear:
    """Targets t_v = rest + (weights where v is one of ids); the loss is -sum_v t_v log p_v - constant.

    ids: (N, k) int64; an id may come twice, its weights then add up.
    weights: (N, k) float32.
    rest: (N,) float32 on every entry of the vocabulary.
    constant: (N,) float32, what makes a divergence of a cross-entropy [nats].
    """

    ids: Tensor
    weights: Tensor
    rest: Tensor
    constant: Tensor


def top_k(teacher_logits: Tensor, k: int, tau: float = 1.0) -> Sparse:
    """The k largest entries of each law.

    Args:
        teacher_logits: (N, V), V > k.
        k: entries kept.
        tau: temperature the law is taken at.
    Raises:
        ValueError: k is not in 1..V-1.
    """
    if not 1 <= k < teacher_logits.shape[-1]:
        raise ValueError(f"k must be in 1..{teacher_logits.shape[-1] - 1}, got {k}")
    log_q = log_law(teacher_logits, tau)
    values, ids = log_q.topk(k, dim=-1)
    weights, full = values.exp(), log_q.exp()
    entropy = -(full * log_q).sum(dim=-1)
    tail = full.scatter(-1, ids, 0.0).sum(dim=-1)  # of what is outside: 1 - m would lose the small ones
    return Sparse(ids, weights, tail, entropy)


def sample(
    teacher_logits: Tensor, draws: int, generator: torch.Generator, *, exponent: float = 1.0, tau: float = 1.0
) -> Sparse:
    """Draws from each law, an unbiased estimate of it: E[weights scattered to ids] = q.

    From a proposal r proportional to q^exponent each draw weighs q / (draws r); at exponent 1 that is 1 / draws.

    Args:
        teacher_logits: (N, V).
        draws: from each law; equal ones are put together, so k is at most this.
        generator: of the draws.
        exponent: of the proposal, > 0; below 1 draws more of the tail.
        tau: temperature the law is taken at.
    Raises:
        ValueError: draws is below 1, or exponent not positive.
    """
    if draws < 1 or not exponent > 0:
        raise ValueError(f"draws must be >= 1 and exponent > 0, got {draws} and {exponent}")
    log_q = log_law(teacher_logits, tau)
    log_r = log_q if exponent == 1 else (exponent * log_q).log_softmax(dim=-1)
    drawn = torch.multinomial(log_r.exp(), draws, replacement=True, generator=generator).sort(dim=-1).values
    each = (log_q - log_r).gather(-1, drawn).exp() / draws
    first = torch.ones_like(drawn, dtype=torch.bool)
    first[:, 1:] = drawn[:, 1:] != drawn[:, :-1]
    place = first.cumsum(dim=-1) - 1  # of a draw among the distinct ones of its row
    weights = torch.zeros_like(each).scatter_add_(-1, place, each)
    ids = torch.zeros_like(drawn).scatter_(-1, place, drawn)
    entropy = -(log_q.exp() * log_q).sum(dim=-1)
    return Sparse(ids, weights, torch.zeros_like(entropy), entropy)


def generator(*key: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator of its own for a key, such as (seed, example); any difference of keys is one of its draws.

    (Seeding with seed * 2**40 + example would not do: torch's CPU generator reads the last 32 bits of a seed.)
    """
    return torch.Generator(device).manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))


def linear(variant: str, target: Sparse, vocabulary: int) -> Linear:
    """What a linear variant asks a student to learn.

    Args:
        variant: one of LINEAR.
        target: N tokens.
        vocabulary: V, entries of the student's law.
    """
    weights, zero = target.weights, torch.zeros_like(target.tail)
    if variant == "sampled":  # the entropy of the law itself: the loss is an unbiased estimate of the full KL
        return Linear(target.ids, weights, zero, target.entropy)
    mass = weights.sum(dim=-1)
    if variant == "renorm":
        weights = weights / mass[:, None]
        return Linear(target.ids, weights, zero, torch.special.entr(weights).sum(dim=-1))
    if variant == "truncate":
        return Linear(target.ids, weights, zero, torch.special.entr(weights).sum(dim=-1))
    outside = vocabulary - weights.shape[-1]
    rest = target.tail / outside
    constant = torch.special.entr(weights).sum(dim=-1) + outside * torch.special.entr(rest)
    return Linear(target.ids, weights - rest[:, None], rest, constant)


def sparse_divergence(variant: str, target: Sparse, student_logits: Tensor) -> Tensor:
    """The loss of each token [nats], shape (N,).

    Args:
        variant: one of VARIANTS; of a sample "sampled" alone.
        target: N tokens; no gradient flows into it.
        student_logits: (N, V).
    Raises:
        ValueError: an unknown variant.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant must be one of {', '.join(VARIANTS)}, got {variant!r}")
    log_p = log_law(student_logits)
    if variant in LINEAR:
        wanted = linear(variant, target, log_p.shape[-1])
        hit = (wanted.weights * log_p.gather(-1, wanted.ids)).sum(dim=-1)
        spread = wanted.rest * log_p.sum(dim=-1) if variant == "uniform_tail" else 0.0
        return -hit - spread - wanted.constant
    log_q, log_p_coarse = coarse(target, log_p)
    if variant == "tail_bucket":
        return (log_q.exp() * (log_q - log_p_coarse)).sum(dim=-1)
    log_q, log_p_s = log_q[:, :-1].log_softmax(dim=-1), log_p_coarse[:, :-1].log_softmax(dim=-1)
    return (log_q.exp() * (log_q - log_p_s)).sum(dim=-1)


def coarse(target: Sparse, log_p: Tensor) -> tuple[Tensor, Tensor]:
    """Both laws with everything outside S as one entry: any divergence of them is at most that of the whole laws.

    Args:
        target: N tokens, of `top_k`.
        log_p: (N, V) log of the student's law.
    Returns:
        log q and log p, each (N, k + 1), the last entry that of the tail.
    """
    outside = log_p.scatter(-1, target.ids, -math.inf).logsumexp(dim=-1, keepdim=True)
    log_q = torch.cat([target.weights, target.tail[:, None]], dim=-1).clamp(min=SMALLEST).log()
    return log_q, torch.cat([log_p.gather(-1, target.ids), outside], dim=-1)
