"""Dropout whose masks come from a generator of its own: seeded by the run, cheap to draw."""

import torch
from torch import Tensor, nn

LANES = 4  # 16-bit numbers in one 64-bit draw


class Dropout(nn.Module):
    """Sets each element to zero with probability p and scales the others by 1 / (1 - p), in train mode.

    torch's own dropout draws one random number per element from the global generator, a fifth of a
    fine-tuning step on a CPU. Here a 64-bit draw serves four elements, each kept where its 16 bits reach a
    threshold: p is met to 2**-17, and the scale is that of the p which is met, so that the mean is kept
    exactly. One instance serves a whole model; equal seeds give equal masks whatever else draws numbers.
    """

    def __init__(self, p: float, seed: int):
        super().__init__()
        self.p, self.seed, self.generator = p, seed, None
        kept = max(1, round((1 - p) * 2**16))
        self.threshold, self.scale = 2**15 - kept, 2**16 / kept  # of signed 16-bit numbers

    @property
    def active(self) -> bool:
        return self.training and self.p > 0

    def forward(self, x: Tensor) -> Tensor:
        """x with dropout; any shape."""
        return x * self.mask(x.shape, x) * self.scale if self.active else x

    def add(self, residual: Tensor, x: Tensor) -> Tensor:
        """residual + x with dropout on x; equal shapes; the residual's dtype."""
        return torch.addcmul(residual, x, self.mask(x.shape, x), value=self.scale) if self.active else residual + x

    def mask(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Zeros and ones of a shape, in the dtype and on the device of `like`."""
        if self.generator is None or self.generator.device != like.device:
            self.generator = torch.Generator(like.device).manual_seed(self.seed)
        count = torch.Size(shape).numel()
        draws = torch.empty(-(-count // LANES), dtype=torch.int64, device=like.device)
        draws.random_(-(2**63), None, generator=self.generator)
        return draws.view(torch.int16)[:count].ge_(self.threshold).to(like.dtype).view(shape)
