"""Constrained students: a deviation from the teacher made on purpose, or kept away; torch only.

Is a student's deviation from its teacher the cause of its gain? arXiv 2301.12923 raises the question; this way of
asking it is our reconstruction. X = phi(p_y) is a teacher's log odds of its own class y, phi(u) = ln(u / (1 - u)).
Since phi(p_y) = z_y - logsumexp of the other logits, taking delta off z_y takes exactly delta off X and leaves the
other classes' ratios alone: the target phi^-1(phi(p_y) - delta) with the rest rescaled, never leaving the logits.
What is made here are teacher logits (..., N, K) for `small_models`, to be learnt at alpha 1 and tau 1.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from kdnb.studies.deviations.toys import Toy

LOWEST = 0.25  # share of examples, those of lowest X, on which a student is made to underfit


def log_odds(logits: Tensor, chosen: Tensor | None = None) -> Tensor:
    """phi of a class's posterior [nats]: z_k - logsumexp of the others; (..., N, K) -> (..., N).

    Args:
        logits: K >= 2. chosen: (..., N) the classes; None for each row's largest logit.
    Raises:
        ValueError: fewer than two classes.
    """
    if logits.shape[-1] < 2:
        raise ValueError(f"logits must be (..., N, K >= 2), got {tuple(logits.shape)}")
    chosen = (logits.argmax(dim=-1) if chosen is None else chosen)[..., None]
    others = logits.scatter(-1, chosen, -torch.inf)
    return logits.gather(-1, chosen)[..., 0] - others.logsumexp(dim=-1)


def lowest(teacher_logits: Tensor, share: float = LOWEST) -> Tensor:
    """The round(share N) examples of lowest X, where the teacher is least sure; (..., N, K) -> (..., N) bool.

    Raises ValueError unless share is in (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be in (0, 1], got {share}")
    x = log_odds(teacher_logits)
    return _first(x, torch.full(x.shape[:-1], round(share * x.shape[-1])))


def at_random(where: Tensor, seeds: Sequence[int], outside: bool = False) -> Tensor:
    """The placebo's examples: as many as in `where`, drawn at random; (R, N) bool -> (R, N) bool.

    Args:
        where: the examples of the R students whose placebo it is. seeds: one per student.
        outside: draw among the others only; else among all, so that some are the same.
    Raises:
        ValueError: not one seed per student, or too few others.
    """
    if where.ndim != 2 or len(seeds) != len(where):
        raise ValueError(
            f"where must be (R, N) with a seed for each R, got {tuple(where.shape)} and {len(seeds)} seeds"
        )
    count = where.sum(dim=-1)
    if outside and (2 * count > where.shape[-1]).any():
        raise ValueError(f"{int(count.max())} of {where.shape[-1]} examples leave too few others to draw as many")
    drawn = [torch.rand(where.shape[-1], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return _first(torch.stack(drawn) + (where if outside else 0), count)


def _first(values: Tensor, count: Tensor) -> Tensor:
    """True for the `count` smallest of each row, the earlier one of equals."""
    rank = values.argsort(dim=-1, stable=True).argsort(dim=-1)
    return rank < count[..., None]


def lowered(teacher_logits: Tensor, where: Tensor, delta: float | Tensor) -> Tensor:
    """Teacher logits whose X is exactly delta lower on the examples in `where`, the others as they were.

    Args:
        teacher_logits: (..., N, K). where: (..., N) bool. delta: >= 0 [nats], a number or one per student (R,);
            0 changes no bit. Beyond z_y's lead over the second largest logit, the largest is another class.
    Raises:
        ValueError: delta is negative, or the shapes differ.
    """
    delta = torch.as_tensor(delta, dtype=teacher_logits.dtype)
    if not (delta >= 0).all():
        raise ValueError(f"delta must be >= 0 nats, got {delta.min():g}")
    if where.shape != teacher_logits.shape[:-1]:
        raise ValueError(f"where {tuple(where.shape)} must be teacher_logits' {tuple(teacher_logits.shape)} without K")
    chosen = teacher_logits.argmax(dim=-1, keepdim=True)
    off = (where * delta[..., None])[..., None].to(teacher_logits.dtype)
    return teacher_logits.scatter_add(-1, chosen, -off)


def sloped(teacher_logits: Tensor, m: float) -> Tensor:
    """m times the teacher logits, m > 0: for two classes a line of slope m in the scatter; 1 changes no bit."""
    if not m > 0:
        raise ValueError(f"m must be > 0, got {m}")
    return teacher_logits * m


def dose(teacher_logits: Tensor, where: Tensor, delta: float | Tensor) -> Tensor:
    """How far `lowered` moves the targets: mean over all N examples of KL(teacher || target) [nats]; (R, N, K) -> (R,).

    In closed form p_y delta + ln(1 - p_y + p_y e^-delta) on an example of `where`: for the same delta next to
    nothing where the teacher is sure.
    """
    p = log_odds(teacher_logits).double().sigmoid()
    delta = torch.as_tensor(delta, dtype=p.dtype)[..., None]
    moved = p * delta + torch.log1p(p * torch.expm1(-delta))
    return (where * moved).mean(dim=-1)


def same_dose(teacher_logits: Tensor, where: Tensor, wanted: Tensor, steps: int = 60) -> Tensor:
    """The delta (R,) at which `dose` on the examples in `where` is what is wanted, by bisection.

    Args:
        teacher_logits: (R, N, K). where: (R, N). wanted: (R,) > 0 [nats].
    Raises:
        ValueError: no delta up to 1,000 nats does it.
    """
    low, high = torch.zeros_like(wanted), torch.full_like(wanted, 1000.0)
    if (dose(teacher_logits, where, high) < wanted).any():
        raise ValueError(
            f"no delta up to 1000 moves the targets by {wanted.max():g} nats on {int(where.sum())} examples"
        )
    for _ in range(steps):
        middle = (low + high) / 2
        enough = dose(teacher_logits, where, middle) >= wanted
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    return high


def toward(start: list[Tensor], teacher: list[Tensor], share: float) -> list[Tensor]:
    """A student's start moved toward its teacher's weights: (1 - share) start + share teacher, part by part.

    Args:
        start, teacher: parameters of one architecture (`small_models.init_networks`). share: lambda, 0..1; 0 is
            the start and 1 the teacher, bit by bit.
    Raises:
        ValueError: share lies outside, or the architectures differ.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be in [0, 1], got {share}")
    if [part.shape for part in start] != [part.shape for part in teacher]:
        raise ValueError("start and teacher must be of one architecture: their shapes differ")
    return [(1 - share) * own + share * other for own, other in zip(start, teacher, strict=True)]


def with_unlabelled(toy: Toy, extra: Tensor) -> Toy:
    """The toy with M train inputs more, (M, D), which only a teacher answers.

    Class 0 fills the place of their labels: at alpha 1 no gradient comes from a label.
    """
    filler = toy.labels.new_zeros(len(extra))
    return replace(toy, inputs=torch.cat([toy.inputs, extra]), labels=torch.cat([toy.labels, filler]))


def hold_out(toy: Toy, count: int) -> tuple[Toy, Tensor]:
    """The toy without its first `count` test examples, and their inputs (count, D): the extra ones, unlabelled.

    Raises ValueError if that leaves nothing to test on.
    """
    if not 0 <= count < len(toy.test_labels):
        raise ValueError(f"count must be in 0..{len(toy.test_labels) - 1}, got {count}")
    rest = {name: getattr(toy, name)[count:] for name in ("test_inputs", "test_labels")}
    return replace(toy, **rest), toy.test_inputs[:count]
