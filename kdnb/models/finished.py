"""Finished classifiers in a folder, as transformers loads them: logits of new texts."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kdnb.core.device import device
from kdnb.core.predict import predict
from kdnb.data.splits import Split
from kdnb.data.tokens import Tokens, take_for_text, tokenize
from kdnb.errors import first_line
from kdnb.models.text import check_batches, check_tokenizer
from kdnb.models.whole import Whole
from kdnb.plain import quiet

_LONGEST = 512  # tokens of a text, where a tokenizer sets no bound


@dataclass(frozen=True)
class Finished:
    """A classifier and what it needs of a text.

    model: of transformers.
    tokenizer: a fast one.
    labels: names in label order.
    max_length: longer texts are cut [tokens].
    pairs: whether it was trained on pairs of texts, None where its folder does not say.
    """

    model: Any
    tokenizer: Any
    labels: tuple[str, ...]
    max_length: int
    pairs: bool | None = None

    def tokens(self, texts: list[str], seconds: list[str] | None = None) -> Tokens:
        """What it reads of texts, or of pairs with second ones."""
        tokens = tokenize(Split(texts, seconds, np.zeros(len(texts), dtype=np.int64)), self.tokenizer, self.max_length)
        if "token_type_ids" in self.tokenizer.model_input_names:
            return tokens
        return replace(tokens, second=tokens.lengths)

    def logits(self, tokens: Tokens) -> np.ndarray:
        """Logits (N, K) float32 of what it reads, in transformers' own forward pass."""
        return predict(Whole(self.model).to(device()), tokens, "fp32").numpy()


def read(folder: Path, max_length: int = 0) -> Finished:
    """The classifier in a folder.

    Args:
        folder: as `kdnb export` or transformers wrote it; weights as safetensors.
        max_length: longer texts are cut, 0 for what its tokenizer says [tokens].
    Raises:
        ValueError: there is no such folder, or no finished classifier in it.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from kdnb.data import checkpoints

    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    checkpoints.check_folder(folder)
    if not checkpoints.names_a_classifier(folder):
        raise ValueError(f"{folder}: expected a finished classifier (...ForSequenceClassification in its config.json)")
    checkpoints.check_kind(str(folder), checkpoints.read_config(folder))
    try:
        with quiet("transformers"):
            model = AutoModelForSequenceClassification.from_pretrained(
                folder, use_safetensors=True, dtype=torch.float32, trust_remote_code=False
            )
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # transformers, and what it reads with, raise classes of many kinds
        raise ValueError(f"{folder}: no classifier that can be loaded ({first_line(error)})") from None
    check_tokenizer(str(folder), tokenizer)
    take_for_text(tokenizer)
    labels = tuple(str(model.config.id2label[i]) for i in sorted(model.config.id2label))
    if len(labels) < 2:
        raise ValueError(f"{folder}: expected a classifier of two or more classes, got {len(labels)}")
    longest = max_length or min(tokenizer.model_max_length, _LONGEST)
    checkpoints.check_positions(str(folder), model.config.to_dict(), longest)
    check_batches(str(folder), model, tokenizer)
    return Finished(model.eval(), tokenizer, labels, longest, getattr(model.config, checkpoints.TEXT_PAIRS, None))
