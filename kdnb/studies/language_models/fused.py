"""Liger's fused kernel in place of our own walk over the tokens: optional, and held to ours before it is used.

`liger_kernel.transformers.LigerFusedLinearJSD` (tested with 0.8.5) differs in three things, undone here: it divides by
the number of tokens, it knows no tau squared, and its ends of beta are the two KLs, where `gjsd` vanishes. The label
term, which it has not, stays ours.
"""

import functools
import importlib.util
import os

import torch
from torch import Tensor

from kdnb.studies.language_models import divergences, losses
from kdnb.studies.language_models.losses import FromStates, Head, Objective, Teacher
from kdnb.studies.language_models.sparse import Sparse

BETAS = {"forward_kl": 0.0, "reverse_kl": 1.0, "gjsd": None}  # what Liger calls beta; None: our own
_NEAR = 1e-3  # relative difference in loss and gradients above which the kernel is refused


def missing(device: torch.device) -> str:
    """Why the kernel cannot run on a device; "" if it can."""
    if importlib.util.find_spec("liger_kernel") is None:
        return "liger-kernel is not installed: it is the extra [liger] of kdnb"
    if device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return f"it needs a CUDA device, got {device.type}"
    return ""


def from_hidden(
    objective: Objective, hidden: Tensor, head: Head, labels: Tensor, soft: Sparse | Teacher | None
) -> Tensor:
    """What `losses.from_hidden` gives, by Liger's kernel.

    Args:
        objective: with alpha > 0 and a divergence of BETAS.
        hidden: (N, d) the student's last hidden states.
        head: the student's, without a bias.
        labels: (N,) the tokens that came next.
        soft: the teacher's states and head.
    Raises:
        ValueError: the kernel cannot do that, or is not here.
    """
    if why := missing(hidden.device):
        raise ValueError(f"kernel liger: {why}")
    if not isinstance(soft, FromStates) or head.bias is not None or soft.head.bias is not None:
        raise ValueError(
            "kernel liger: expected heads without bias and the teacher's whole law: targets online, on_policy, or a "
            "cache of hidden states"
        )
    _held_to_ours(hidden.device)
    return _fused(objective, hidden, head, labels, soft)


def _fused(objective: Objective, hidden: Tensor, head: Head, labels: Tensor, soft: FromStates) -> Tensor:
    from liger_kernel.transformers.fused_linear_jsd import LigerFusedLinearJSD

    if not len(labels):
        return losses.from_hidden(objective, hidden, head, labels, soft)
    beta = BETAS[objective.divergence]
    if beta is None:
        default = divergences.DIVERGENCES[objective.divergence].beta
        beta = default if objective.beta is None else objective.beta
    if objective.divergence == "gjsd" and beta in (0.0, 1.0):
        raise ValueError(f"kernel liger: gjsd needs a beta between 0 and 1, got {beta:g}, which Liger takes for a KL")
    kind = hidden.dtype
    rule = LigerFusedLinearJSD(jsd_beta=beta, temperature=objective.tau)
    law = soft.head.weight[: soft.vocabulary].detach().to(kind)
    mean = rule(hidden, head.weight.to(kind), soft.states.to(kind), law, None)
    total = objective.alpha * objective.tau**2 * len(labels) * mean
    if objective.alpha < 1:
        total = total + (1 - objective.alpha) * losses.from_hidden(Objective(), hidden, head, labels)
    return total


@functools.cache
def _held_to_ours(device: torch.device) -> None:
    """Raise ValueError unless kernel and walk agree on drawn tokens, in loss and gradients; asked once in a process."""
    draw = torch.Generator().manual_seed(0)
    hidden, weight, states, table = (
        torch.randn(*shape, generator=draw).to(device) for shape in ((24, 16), (80, 16), (24, 8), (80, 8))
    )
    teacher = torch.nn.Linear(8, 80, bias=False, device=device)
    teacher.weight.data.copy_(table)
    labels, soft = torch.arange(24, device=device), FromStates(teacher, states, "fp32", 80)
    for name, beta in (("forward_kl", None), ("reverse_kl", None), ("gjsd", 0.3)):
        objective, found = Objective(alpha=0.7, divergence=name, beta=beta, tau=2.0), []
        for way in (losses.from_hidden, _fused):
            own = [one.clone().requires_grad_() for one in (hidden, weight)]
            loss = way(objective, own[0], Head(own[1]), labels, soft)
            found.append([loss.detach(), *torch.autograd.grad(loss, own)])
        for ours, theirs in zip(*found, strict=True):
            if not (off := float((ours - theirs).norm() / ours.norm())) < _NEAR:
                raise ValueError(f"kernel liger: {name} is off by {off:.1e} of our own on this device; leave it out")
