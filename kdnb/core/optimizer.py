"""AdamW as the fine-tuning loop uses it: float32 masters of half-precision weights, clipping within the update."""

import torch
from torch import Tensor, nn

from kdnb.core.config import RunConfig
from kdnb.models.encoder import Encoder


class Optimizer:
    """AdamW with bias correction and gradient clipping; the result is that of torch's own, up to rounding.

    Autocast casts every weight matrix in every step, and every gradient back. In bf16 the encoder's linear layers
    therefore hold bf16 weights while they train, copied once a step from float32 masters that AdamW updates: the
    products are the same. Clipping divides within the update; the word table's gradient is kept from step to step
    and only the rows of the batch are written (`Encoder.word_gradient`).
    """

    def __init__(self, model: nn.Module, config: RunConfig, kind: str):
        """model: its encoder, if it has one, is put into bf16 for kind "bf16". kind: "bf16" or "fp32"."""
        self.encoder = next((part for part in model.modules() if isinstance(part, Encoder)), None)
        linear = [part for part in self.encoder.layers.modules() if isinstance(part, nn.Linear)] if self.encoder else []
        self.halves = [p for part in linear for p in part.parameters()] if kind == "bf16" else []
        half = {id(p) for p in self.halves}
        self.masters = [p.detach().clone() for p in self.halves]
        for master, p in zip(self.masters, self.halves, strict=True):
            master.grad = torch.empty_like(master)
            p.data = p.data.bfloat16()
        self.words = [self.encoder.words] if self.encoder else []
        self.full = [p for p in model.parameters() if id(p) not in half and not any(p is word for word in self.words)]
        self.clip, self.parameters = config.clip, [*self.full, *self.masters, *self.words]
        self.adamw = torch.optim.AdamW(
            self.parameters, lr=config.lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=config.weight_decay, fused=True
        )

    def step(self, lr: float) -> None:
        """Update all weights from their gradients at a learning rate, and forget the gradients."""
        self.adamw.param_groups[0]["lr"] = lr
        if self.halves:
            torch._foreach_copy_([master.grad for master in self.masters], [p.grad for p in self.halves])
        if self.clip:
            self.adamw.grad_scale = (self._norm() / self.clip).clamp(min=1.0)  # the fused update divides by it
        self.adamw.step()
        if self.halves:
            torch._foreach_copy_([p.data for p in self.halves], self.masters)
        for p in [*self.full, *self.halves]:
            p.grad = None
        if self.encoder:
            self.encoder.forget_word_gradient()

    def _norm(self) -> Tensor:
        """Norm of all gradients together; a scalar. Rows of words that are not in the batch are zero."""
        grads = [p.grad for p in [*self.full, *self.masters] if p.grad is not None]
        grads += [rows for _, rows in self.encoder.word_gradient] if self.encoder else []
        return torch.stack(torch._foreach_norm(grads)).norm()
