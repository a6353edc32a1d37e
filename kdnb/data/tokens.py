"""Token ids of a split in flat arrays, and the batches made of them."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from kdnb.data.splits import Split

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast  # seconds to import

CHUNK = 4096  # examples tokenised at a time, so that memory grows only with the ids


@dataclass(frozen=True)
class Tokens:
    """Token ids of N examples, one after another.

    ids: (total,) int32.
    starts: (N + 1,) where each example begins.
    second: (N,) position, within the example, of the second text's first token; its length where there is none.
    pad_id: what pads a batch.
    unknown_id: what stands for words that the model does not know; -1 for none.
    cut: (N,) bool, whose text was longer; None where that is not known.
    """

    ids: np.ndarray
    starts: np.ndarray
    second: np.ndarray
    pad_id: int = 0
    unknown_id: int = -1
    cut: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.second)

    @property
    def lengths(self) -> np.ndarray:
        """(N,) tokens per example."""
        return np.diff(self.starts)

    def take(self, rows: np.ndarray) -> "Tokens":
        """The tokens of some rows, in their order."""
        lengths, starts = self.lengths[rows], self.starts[rows]
        ends = np.cumsum(lengths)
        places = np.arange(lengths.sum()) + np.repeat(starts - (ends - lengths), lengths)
        cut = None if self.cut is None else self.cut[rows]
        starts = np.concatenate([[0], ends])
        return Tokens(self.ids[places], starts, self.second[rows], self.pad_id, self.unknown_id, cut)

    def batch(self, rows: np.ndarray) -> dict[str, Tensor]:
        """The model's inputs for some rows, padded to the longest of them; each (B, L) int64."""
        lengths = self.lengths[rows]
        places = np.arange(lengths.max())
        real = places < lengths[:, None]
        ids = np.full(real.shape, self.pad_id, dtype=np.int64)
        ids[real] = self.ids[(self.starts[rows, None] + places)[real]]
        types = (places >= self.second[rows, None]) & real
        arrays = {"input_ids": ids, "attention_mask": real.astype(np.int64), "token_type_ids": types.astype(np.int64)}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


def tokenize(split: Split, tokenizer: "PreTrainedTokenizerFast", max_length: int) -> Tokens:
    """Token ids of a split, [CLS] text [SEP] (text2 [SEP]), cut to max_length.

    What a text holds is text: a "[SEP]" in it is the five signs, never the token.

    Args:
        split: N examples.
        tokenizer: a fast one.
        max_length: of a text or pair [tokens], >= 8.
    """
    ids, lengths, second, cut = [], [], [], []
    options = {"truncation": True, "max_length": max_length, "return_token_type_ids": True}
    for start in range(0, len(split), CHUNK):
        rows = slice(start, start + CHUNK)
        pair = split.text2[rows] if split.text2 is not None else None
        encoded = tokenizer(split.text[rows], pair, split_special_tokens=True, **options)
        cut += [bool(example.overflowing) for example in encoded.encodings]
        for example, types in zip(encoded["input_ids"], encoded["token_type_ids"], strict=True):
            ids.append(np.asarray(example, dtype=np.int32))
            lengths.append(len(example))
            second.append(types.index(1) if 1 in types else len(example))
    starts = np.concatenate([[0], np.cumsum(lengths)])
    unknown = -1 if tokenizer.unk_token_id is None else tokenizer.unk_token_id
    flat = np.concatenate(ids)
    return Tokens(flat, starts, np.asarray(second), tokenizer.pad_token_id, unknown, np.asarray(cut))


def takes_for_tokens(tokenizer: "PreTrainedTokenizerFast") -> bool:
    """Whether a special token's signs in a text become the token even where special tokens are to be split.

    They do in a unigram model (XLM-R's, DeBERTa's), which has them among its pieces, at the best score.
    """
    for token in {*tokenizer.all_special_tokens} - {tokenizer.unk_token}:
        ids = tokenizer(token, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        if len(token) > 1 and tokenizer.convert_tokens_to_ids(token) in ids:
            return True
    return False


def take_for_text(tokenizer: "PreTrainedTokenizerFast") -> None:
    """Have a tokenizer take the signs of its special tokens for text: texts are parted behind the first of them."""
    from tokenizers import Regex, pre_tokenizers

    if takes_for_tokens(tokenizer):
        tokens = [token for token in tokenizer.all_special_tokens if len(token) > 1]
        first = "|".join(f"{re.escape(token[0])}(?={re.escape(token[1:])})" for token in tokens)
        backend = tokenizer.backend_tokenizer
        before = [backend.pre_tokenizer] if backend.pre_tokenizer else []
        backend.pre_tokenizer = pre_tokenizers.Sequence([*before, pre_tokenizers.Split(Regex(first), "isolated")])
