"""Teacher-free zeroing: no gradient on the classes most similar to the label; torch only.

A summary of arXiv 2301.12923 names the idea as an open question. How the classes are chosen is our reconstruction.
"""

import torch
from torch import Tensor

from kdnb.core.losses import one_hot_targets


def confusion(posteriors: Tensor, labels: Tensor) -> Tensor:
    """Mean posterior by true class, the diagonal 0: how similar class j (column) looks to class i (row).

    Args:
        posteriors: (..., N, K). labels: (..., N).
    Returns:
        (..., K, K); a class with no example has a row of zeros.
    """
    one_hot = one_hot_targets(labels, posteriors.shape[-1], posteriors.dtype)
    mean = one_hot.mT @ posteriors / one_hot.sum(dim=-2).clamp(min=1)[..., None]
    return mean * (1 - torch.eye(posteriors.shape[-1], dtype=mean.dtype))


def most_similar(similarity: Tensor, m: int) -> Tensor:
    """Mask (..., K, K): the m classes most similar to each class, by `confusion`; never the class itself.

    Raises:
        ValueError: m is outside 0..K-1.
    """
    size = similarity.shape[-1]
    if not 0 <= m < size:
        raise ValueError(f"m must be in 0..{size - 1}, got {m}")
    others = similarity.masked_fill(torch.eye(size, dtype=torch.bool), -torch.inf)
    mask = torch.zeros(similarity.shape, dtype=torch.bool)
    return mask.scatter_(-1, others.topk(m, dim=-1).indices, True)


class RunningSimilarity:
    """Teacher-free zeroing's choice of classes: the m that the model itself has lately taken for the label's.

    Called with logits (..., N, K) and labels (..., N) of a batch, it takes their confusion into a running mean and
    answers with the mask (..., N, K) for `without_gradient`. Choice and decay are our reconstruction.
    """

    def __init__(self, m: int, decay: float = 0.95):
        self.m, self.decay, self.mean = m, decay, None

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mask for this batch, after its confusion has been taken in."""
        seen = confusion(logits.detach().softmax(dim=-1), labels)
        if self.mean is None:
            self.mean = torch.zeros_like(seen)
        present = seen.sum(dim=-1, keepdim=True) > 0
        self.mean = torch.where(present, self.decay * self.mean + (1 - self.decay) * seen, self.mean)
        return torch.take_along_dim(most_similar(self.mean, self.m), labels[..., None], dim=-2)


def without_gradient(logits: Tensor, mask: Tensor) -> Tensor:
    """The same logits, but no gradient flows back where the mask, of one shape, is True.

    Under cross-entropy the masked gradients are exactly 0 and the others stay p - q: the posterior is the same.
    """
    return torch.where(mask, logits.detach(), logits)
