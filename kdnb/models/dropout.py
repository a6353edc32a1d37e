"""Dropout whose masks come from a generator of its own: seeded by the run, cheap to draw."""

import numpy as np
import torch
from torch import Tensor, nn

LANES = 4  # 16-bit numbers in one 64-bit draw


class Dropout(nn.Module):
    """Sets each element to zero with probability p and scales the others by 1 / (1 - p), in train mode.

    torch's own dropout draws one random number per element from the global generator, a fifth of a
    fine-tuning step on a CPU. Here a 64-bit draw of numpy's SFC64 serves four elements, each kept where its
    16 bits reach a threshold: p is met to 2**-17, and the scale is that of the p which is met, so that the mean
    is kept exactly. One instance serves a whole model; equal seeds give equal masks whatever else draws numbers.
    On a GPU torch's own is as cheap, and seeded with the run.
    """

    def __init__(self, p: float, seed: int):
        super().__init__()
        self.p, self.bits = p, np.random.SFC64(seed)
        kept = max(1, round((1 - p) * 2**16))
        self.threshold, self.scale = 2**15 - kept, 2**16 / kept  # of signed 16-bit numbers

    @property
    def active(self) -> bool:
        return self.training and self.p > 0

    def forward(self, x: Tensor) -> Tensor:
        """x with dropout; any shape."""
        if not self.active:
            return x
        if x.is_cuda:
            return nn.functional.dropout(x, self.p)
        return x * self.mask(x.shape, x) * self.scale

    def add(self, residual: Tensor, x: Tensor) -> Tensor:
        """residual + x with dropout on x; equal shapes; the residual's dtype."""
        if not self.active or x.is_cuda:
            return residual + self(x)
        return torch.addcmul(residual, x, self.mask(x.shape, x), value=self.scale)

    def mask(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Zeros and ones of a shape, in the dtype of `like`; on the CPU."""
        count = torch.Size(shape).numel()
        draws = torch.from_numpy(self.bits.random_raw(-(-count // LANES)).view(np.int16))
        return draws[:count].ge_(self.threshold).to(like.dtype).view(shape)
