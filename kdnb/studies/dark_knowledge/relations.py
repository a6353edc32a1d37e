"""Relational distillation: distances and angles between the examples of a batch, instead of the examples' states.

Park et al. 2019 (RKD). Neither needs a projection: (N, N) distances have no width. Differences are taken directly and
in float32, since |a|^2 + |b|^2 - 2ab loses two near embeddings in their own length; no root is taken of a zero, whose
gradient is infinite; angles are summed over a few apexes at a time, so that memory grows with N d and N^2 and not with
N^2 d and N^3.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import smooth_l1_loss

APEXES = 4  # whose angles are in memory at a time


def distances(embeddings: Tensor) -> Tensor:
    """Euclidean distances between all rows, in float32 at least.

    Args:
        embeddings: (N, d).
    Returns:
        (N, N), 0 on the diagonal; the gradient where two rows are equal is 0.
    """
    x = _wide(embeddings)
    with torch.autocast(x.device.type, enabled=False):
        return torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")


def distance_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """RKD-D: smooth L1 (delta 1) of all pairs' distances, each side's over the mean of its positive ones.

    Args:
        student: (N, d_s), with gradient.
        teacher: (N, d_t), without.
    Returns:
        A scalar, mean over all N^2 pairs; 0 for one example, and where all are equal on both sides.
    """
    with torch.no_grad():
        target = _over_mean(distances(teacher))
    return smooth_l1_loss(_over_mean(distances(student)).to(target.dtype), target)


def angle_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """RKD-A: smooth L1 (delta 1) of the cosines of (x_i - x_j, x_k - x_j) over all triples.

    Args:
        student: (N, d_s), with gradient.
        teacher: (N, d_t), without.
    Returns:
        A scalar, mean over all N^3 triples, a triple with two equal examples among them as 0; exactly 0, with a
        gradient of 0, for fewer than three examples.
    """
    student, teacher = _wide(student), _wide(teacher.detach())
    n = len(student)
    if n < 3:
        return student.sum() * 0
    return _Angles.apply(student, teacher) / n**3


def rkd_loss(student: Tensor, teacher: Tensor, distance_weight: float = 1.0, angle_weight: float = 2.0) -> Tensor:
    """Weighted sum of `distance_loss` and `angle_loss`; 1 and 2 are the weights of the paper's CUB experiments."""
    loss = student.new_zeros((), dtype=_wide(student).dtype)
    if distance_weight:
        loss = loss + distance_weight * distance_loss(student, teacher)
    return loss + angle_weight * angle_loss(student, teacher) if angle_weight else loss


class _Angles(torch.autograd.Function):
    """Sum over all triples of the smooth L1 of the cosines' difference; its gradient is found on the way forward.

    With u the unit vectors from an apex, C = u u^T and S = clip(C - C^t, -1, 1), which is symmetric: dL/du = 2 S u.
    So a few apexes at a time are in memory, nothing is computed twice, and one product is spared.
    """

    @staticmethod
    def forward(ctx, student: Tensor, teacher: Tensor) -> Tensor:  # type: ignore[override]
        total, gradient = student.new_zeros(()), torch.zeros_like(student)
        with torch.autocast(student.device.type, enabled=False):
            for apexes in torch.arange(len(student), device=student.device).split(APEXES):
                unit, scale = _units_from(student, apexes)
                target = _units_from(teacher, apexes)[0]
                off = unit @ unit.transpose(1, 2) - (target @ target.transpose(1, 2)).to(unit.dtype)
                total += smooth_l1_loss(off, torch.zeros_like(off), reduction="sum")
                if ctx.needs_input_grad[0]:
                    turn = off.clamp_(-1, 1) @ unit
                    turn -= (turn * unit).sum(dim=-1, keepdim=True) * unit
                    turn *= 2 * scale
                    gradient += turn.sum(dim=0)
                    gradient[apexes] -= turn.sum(dim=1)
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx, outer: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return outer * ctx.saved_tensors[0], None


def _units_from(x: Tensor, apexes: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors (A, N, d) from some apexes, (A,) row numbers, to all rows, and 1 / length (A, N, 1).

    Both are 0 where a row lies on the apex: masked before the root, or there would be 0 * inf.
    """
    arms = x - x[apexes, None]
    squares = arms.square().sum(dim=-1, keepdim=True)
    apart = squares > 0
    scale = torch.where(apart, squares, 1).rsqrt() * apart
    return arms.mul_(scale), scale


def _over_mean(d: Tensor) -> Tensor:
    """Distances over the mean of the positive ones; all 0 where none is."""
    count = (d > 0).sum()
    return d / torch.where(count > 0, d.sum() / count.clamp(min=1), 1)


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
