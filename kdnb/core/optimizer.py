"""AdamW or SGD as the loop uses them: float32 masters of half-precision weights, clipping within the update."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from kdnb.core.config import RunConfig


def _nothing() -> list[tuple[Tensor, Tensor]]:
    return []


@dataclass(frozen=True)
class FastPath:
    """What a model offers to the loop beside being a module: it may offer all of this or nothing.

    halves: linear layers that may hold bf16 weights while they train.
    words: tables whose gradient is written by rows and kept from step to step.
    word_gradient: gives the rows written since they were last forgotten: (row numbers, their gradient).
    forget_word_gradient: zeroes what was written.
    compiled: parts that may be compiled where a compilation pays.
    """

    halves: list[nn.Linear] = field(default_factory=list)
    words: list[nn.Parameter] = field(default_factory=list)
    word_gradient: Callable[[], list[tuple[Tensor, Tensor]]] = _nothing
    forget_word_gradient: Callable[[], object] = _nothing
    compiled: list[nn.Module] = field(default_factory=list)


def fast_path(model: nn.Module) -> FastPath:
    """What a model offers; nothing where it has no `fast_path` of its own."""
    offers = getattr(model, "fast_path", None)
    return offers() if offers else FastPath()


class Optimizer:
    """AdamW with bias correction, or SGD, and gradient clipping; the result is torch's own, up to rounding.

    Autocast casts every weight matrix in every step, and every gradient back. In bf16 the linear layers that a model
    offers therefore hold bf16 weights while they train, copied once a step from float32 masters that AdamW updates:
    the products are the same. Clipping divides within the update; the gradient of a word table is kept from step to
    step and only the rows of the batch are written.
    """

    def __init__(self, model: nn.Module, config: RunConfig, kind: str, beside: nn.Module | None = None):
        """An optimizer of all weights of a model.

        Args:
            model: what it offers in halves is put into bf16 for kind "bf16".
            config: its optimizer, momentum, lr, clip and weight_decay.
            kind: "bf16" or "fp32".
            beside: more weights to train, in float32.
        """
        self.fast = fast_path(model)
        self.halves = [p for part in self.fast.halves for p in part.parameters()] if kind == "bf16" else []
        self.masters = [p.detach().clone() for p in self.halves]
        for master, p in zip(self.masters, self.halves, strict=True):
            master.grad = torch.empty_like(master)
            p.data = p.data.bfloat16()
        apart = {id(p) for p in [*self.halves, *self.fast.words]}
        self.full = [p for p in model.parameters() if id(p) not in apart]
        self.full += beside.parameters() if beside is not None else []
        self.clip, self.parameters = config.clip, [*self.full, *self.masters, *self.fast.words]
        common: Any = {"lr": config.lr, "weight_decay": config.weight_decay, "fused": True}
        if config.optimizer == "sgd":
            self.rule: Any = torch.optim.SGD(self.parameters, momentum=config.momentum, **common)
        else:
            self.rule = torch.optim.AdamW(self.parameters, betas=(0.9, 0.999), eps=1e-8, **common)

    def step(self, lr: float) -> None:
        """Update all weights from their gradients at a learning rate, and forget the gradients."""
        self.rule.param_groups[0]["lr"] = lr
        if self.halves:
            torch._foreach_copy_([master.grad for master in self.masters], [p.grad for p in self.halves])
        if self.clip:
            # The fused update divides by grad_scale, torch's own hook for loss scaling (torch 2.9 to 2.13); a pass
            # of its own over all gradients would cost more. tests/core hold the result to clip_grad_norm_.
            self.rule.grad_scale = (self._norm() / self.clip).clamp(min=1.0)
        self.rule.step()
        if self.halves:
            torch._foreach_copy_([p.data for p in self.halves], self.masters)
        for p in [*self.full, *self.halves]:
            p.grad = None
        self.fast.forget_word_gradient()

    def _norm(self) -> Tensor:
        """Norm of all gradients together; a scalar. Rows of words that are not in the batch are zero."""
        gradients = [p.grad for p in [*self.full, *self.masters] if p.grad is not None]
        gradients += [rows for _, rows in self.fast.word_gradient()]
        return torch.stack(torch._foreach_norm(gradients)).norm()
