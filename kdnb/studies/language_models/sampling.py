"""Text out of a language model: samples from its own law, its mode by beam search."""

import torch
from torch import Tensor

from kdnb.studies.language_models import sparse
from kdnb.studies.language_models.models import Language


def sample(language: Language, prompts: Tensor, new: int, *, key: tuple[int, ...]) -> Tensor:
    """Prompts continued by draws from a model's own law: no top-k, no nucleus, which would bias every law on V > 50.

    Args:
        language: in eval mode.
        prompts: (B, P) int64, P >= 1.
        new: tokens drawn for each.
        key: integers that decide the draws, whatever else the process has drawn.
    Returns:
        (B, P + new); what follows an end-of-text token is drawn too, and for the caller to leave out.
    """
    generator = sparse.generator(*key, device=prompts.device)
    ids, cache, fed = prompts, None, prompts
    with torch.no_grad():
        for _ in range(new):
            out = language.model(input_ids=fed, past_key_values=cache, use_cache=True)
            cache = getattr(out, "past_key_values", None)
            law = out.logits[:, -1].float().softmax(dim=-1)
            token = torch.multinomial(law, 1, generator=generator)
            ids = torch.cat([ids, token], dim=1)
            fed = token if cache is not None else ids
    return ids


def mode(language: Language, prompts: Tensor, new: int, *, beams: int = 5) -> Tensor:
    """Prompts continued by the likeliest continuation that beam search finds (Kim & Rush 2016); beams 1 is greedy.

    Args:
        language: in eval mode.
        prompts: (B, P) int64.
        new: tokens of the continuation.
        beams: kept at each step.
    Returns:
        (B, P + new).
    """
    with torch.no_grad():
        return language.model.generate(  # type: ignore[operator]
            prompts,
            attention_mask=torch.ones_like(prompts),
            num_beams=beams,
            do_sample=False,
            max_new_tokens=new,
            min_new_tokens=new,
            eos_token_id=None,
            pad_token_id=0,
        )
