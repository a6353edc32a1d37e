"""Logits of a model over a split: the split's order, eval mode, float32."""

import torch
from torch import Tensor, nn

from kdnb.core.batches import Inputs, sorted_batches
from kdnb.core.device import autocast, device

MAX_TOKENS = 4096  # of one evaluation batch, padding included


def predict(model: nn.Module, inputs: Inputs, kind: str) -> Tensor:
    """Logits of every example, in the split's order.

    Args:
        model: a classifier; its training mode is restored afterwards.
        inputs: what the model reads of N examples.
        kind: "bf16" or "fp32".
    Returns:
        (N, K) float32 on the CPU.
    """
    was_training = model.training
    model.eval()
    rows_of, logits_of = [], []
    with torch.inference_mode(), autocast(kind):
        for rows in sorted_batches(inputs.lengths, MAX_TOKENS):
            batch = {name: part.to(device()) for name, part in inputs.batch(rows).items()}
            logits_of.append(model(**batch).float().cpu())
            rows_of.append(torch.from_numpy(rows))
    model.train(was_training)
    logits = torch.cat(logits_of)
    ordered = torch.empty_like(logits)
    ordered[torch.cat(rows_of)] = logits
    return ordered
