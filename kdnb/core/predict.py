"""Logits of a model over a split: the split's order, eval mode, float32. Also: device and precision."""

import contextlib

import torch
from torch import Tensor, nn

from kdnb.data.tokens import Tokens, sorted_batches

MAX_TOKENS = 4096  # of one evaluation batch, padding included


def device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def precision(wanted: str = "auto") -> str:
    """ "bf16" or "fp32": what "auto" means on this machine, or what was asked for.

    "auto" is bf16 where the hardware multiplies it natively (recent GPUs; CPUs with AVX512-BF16, AMX
    or Arm's BF16 instructions), since elsewhere it is emulated and slow.
    """
    if wanted != "auto":
        return wanted
    if device().type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        import platform

        x86 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        native = x86 or (platform.machine() == "aarch64" and torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return "bf16" if native else "fp32"


def autocast(kind: str) -> contextlib.AbstractContextManager:
    """Mixed precision on the current device: bfloat16 matrix products for "bf16", nothing for "fp32"."""
    return torch.autocast(device().type, dtype=torch.bfloat16, enabled=kind == "bf16")


def predict(model: nn.Module, tokens: Tokens, kind: str) -> Tensor:
    """Logits of every example, in the split's order.

    Args:
        model: a classifier; its training mode is restored afterwards.
        tokens: N examples. kind: "bf16" or "fp32".
    Returns:
        (N, K) float32 on the CPU.
    """
    was_training = model.training
    model.eval()
    rows_of, logits_of = [], []
    with torch.inference_mode(), autocast(kind):
        for rows in sorted_batches(tokens.lengths, MAX_TOKENS):
            inputs = {name: part.to(device()) for name, part in tokens.batch(rows).items()}
            logits_of.append(model(**inputs).float().cpu())
            rows_of.append(torch.from_numpy(rows))
    model.train(was_training)
    logits = torch.cat(logits_of)
    ordered = torch.empty_like(logits)
    ordered[torch.cat(rows_of)] = logits
    return ordered
