"""Any sequence classifier of transformers in its own forward pass."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kdnb.core.config import RunConfig
from kdnb.errors import ModelUnavailable
from kdnb.plain import quiet


class Whole(nn.Module):
    """A sequence classifier of transformers in its own forward pass, head and all; the head runs in float32.

    Its logits are transformers' own. Dropout is torch's, seeded with the run.
    """

    def __init__(self, model: nn.Module, order: list[int] | None = None):
        """A classifier around one of transformers.

        Args:
            model: AutoModelForSequenceClassification's.
            order: its class for each of ours, in our label order; None where they are the same.
        """
        super().__init__()
        self.model, self.order = model, order
        self.takes_types = takes_types(model)
        for name, part in model.named_children():
            if name != model.base_model_prefix:
                part.forward = functools.partial(_in_float32, part.forward)  # type: ignore[method-assign]

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """Logits (N, K) float32 from (N, L) token ids, mask and types, which not every model has."""
        types = {"token_type_ids": token_type_ids} if self.takes_types else {}
        logits = self.model(input_ids=input_ids, attention_mask=attention_mask, **types).logits.float()
        return logits if self.order is None else logits[:, self.order]


def _in_float32(forward: Callable, hidden: Tensor, *more: Any, **named: Any) -> Tensor:
    """A head's forward pass outside autocast: bf16 logits would have 8 bits."""
    with torch.autocast(hidden.device.type, enabled=False):
        return forward(hidden.float(), *more, **named)


def takes_types(model: nn.Module) -> bool:
    """Whether a model of transformers tells the first text's tokens from the second's by their types.

    It has a table of them then; GPT-2 and XLM, which take types too, look them up among their words.
    """
    types = getattr(model.config, "type_vocab_size", 1)
    return types > 1 and "token_type_ids" in inspect.signature(model.forward).parameters


@dataclass(frozen=True)
class Checkpoint:
    """Where a classifier or an encoder is read from.

    name: for messages.
    where: a folder, or a repository of the hub.
    pin: the hub's commit, for from_pretrained.
    config: transformers' configuration of it.
    """

    name: str
    where: str
    pin: dict[str, Any]
    config: Any

    def open(self, *, new_head: bool) -> tuple[nn.Module, set[str]]:
        """The classifier and the names of the weights that the checkpoint lacks."""
        from transformers import AutoModelForSequenceClassification

        with quiet("transformers"):
            model, told = AutoModelForSequenceClassification.from_pretrained(
                self.where,
                config=self.config,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=new_head,
                dtype=torch.float32,
                trust_remote_code=False,
                **self.pin,
            )
        return model, set(told["missing_keys"])


def finished(checkpoint: Checkpoint, order: list[int] | None) -> Whole:
    """A classifier as it is, its classes in our order; ModelUnavailable if it is not whole."""
    model, missing = checkpoint.open(new_head=False)
    check_whole(checkpoint.name, missing)
    return Whole(model, order)


def with_new_head(checkpoint: Checkpoint, num_classes: int, config: RunConfig) -> Whole:
    """A classifier to be trained: what its checkpoint lacks, and all of its head, from the run's seed.

    Args:
        checkpoint: of an encoder, a language model or a classifier.
        num_classes: K.
        config: its dropout and seed.
    Raises:
        ModelUnavailable: the checkpoint lacks parts of the encoder.
    """
    own = checkpoint.config
    own.num_labels, own.problem_type = num_classes, "single_label_classification"
    for field, value in list(vars(own).items()):
        if "dropout" in field and isinstance(value, int | float) and not isinstance(value, bool):
            setattr(own, field, config.dropout)
    model, missing = checkpoint.open(new_head=True)
    base = f"{model.base_model_prefix}."
    check_whole(checkpoint.name, {key for key in missing if key.startswith(base) and "pooler" not in key})
    head = {key for key, _ in model.named_parameters() if not key.startswith(base)}
    _draw_again(model, missing | head, config.seed)
    return Whole(model)


def check_whole(name: str, missing: set[str]) -> None:
    """Raise ModelUnavailable if a checkpoint lacks weights that are not to be drawn anew."""
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ModelUnavailable(f"{name}: its file of weights lacks {sorted(missing)[0]}{more}")


def _draw_again(model: nn.Module, names: set[str], seed: int) -> None:
    """New weights, from the seed alone, of the parts of a model that some parameters belong to."""
    generator = torch.Generator().manual_seed(seed)
    for path, part in model.named_modules():
        own = [key for key, _ in part.named_parameters(recurse=False) if f"{path}.{key}" in names]
        for key in own:
            weight = getattr(part, key)
            if weight.ndim > 1:
                nn.init.normal_(weight, std=0.02, generator=generator)
            else:
                nn.init.constant_(weight, 1.0 if key == "weight" else 0.0)  # of a normalisation; of a bias
