"""A tokenizer out of a GGUF file: its vocabulary and merges by `tokenizers`, split as llama.cpp and the original do.

transformers converts one too, but as if every byte-level BPE were GPT-2's, and not the same in each of its versions:
SmolLM2's digits then stand together where the model was trained on each alone, and `\\n\\n2` gets other ids.
"""

from pathlib import Path
from typing import Any

from kdnb.studies.language_models.gguf_weights import value

_SPECIAL = (3, 4)  # GGUF's token types: control, user-defined
_NAMES = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}


def read(path: Path) -> Any:
    """The tokenizer of a GGUF file as one of transformers.

    Args:
        path: a GGUF file with a byte-level BPE whose text is split as SmolLM2's is: each digit alone, the rest as GPT-2
            splits it (`tokenizer.ggml.pre` is "smollm").
    Raises:
        ValueError: another kind of tokenizer.
    """
    from gguf import GGUFReader
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    reader = GGUFReader(path)
    if (kind := (value(reader, "tokenizer.ggml.model"), value(reader, "tokenizer.ggml.pre"))) != ("gpt2", "smollm"):
        raise ValueError(f"{path}: expected a tokenizer gpt2, split as smollm, got {kind[0]}, split as {kind[1]}")
    tokens, types = value(reader, "tokenizer.ggml.tokens"), value(reader, "tokenizer.ggml.token_type")
    merges = [tuple(merge.split(" ")) for merge in value(reader, "tokenizer.ggml.merges")]
    inner = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, merges))
    digits = pre_tokenizers.Digits(individual_digits=True)
    inner.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    inner.decoder = decoders.ByteLevel()
    special = [token for token, kind in zip(tokens, types, strict=True) if kind in _SPECIAL]
    inner.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    named = {ours: tokens[value(reader, f"tokenizer.ggml.{its}_token_id")] for its, ours in _NAMES.items()}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, clean_up_tokenization_spaces=False, **named)
    if reader.get_field("tokenizer.chat_template"):
        tokenizer.chat_template = value(reader, "tokenizer.chat_template")
    return tokenizer
