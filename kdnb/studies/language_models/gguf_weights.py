"""A Llama model out of a GGUF file, through `gguf` alone: dequantised weights under transformers' names."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_PARTS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Settings of a `LlamaConfig`, the licence too if it is told, and the state of a `LlamaForCausalLM`, float32.

    Args:
        path: a GGUF file of architecture "llama", quantised or not.
    Raises:
        ValueError: another architecture, or a tensor that a Llama model does not have.
    """
    from gguf import GGUFReader, dequantize

    reader = GGUFReader(path)
    if (kind := value(reader, "general.architecture")) != "llama":
        raise ValueError(f"{path}: expected a GGUF of architecture llama, got {kind!r}")
    heads, key_heads = (value(reader, f"llama.attention.{name}") for name in ("head_count", "head_count_kv"))
    state = {}
    for tensor in reader.tensors:
        weights = torch.from_numpy(np.array(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32))
        name = _name(tensor.name, path)
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            weights = _unpermuted(weights, heads if "q_proj" in name else key_heads)
        state[name] = weights
    tied = "lm_head.weight" not in state
    if tied:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    settings = {
        "vocab_size": len(state["model.embed_tokens.weight"]),
        "hidden_size": value(reader, "llama.embedding_length"),
        "intermediate_size": value(reader, "llama.feed_forward_length"),
        "num_hidden_layers": value(reader, "llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "max_position_embeddings": value(reader, "llama.context_length"),
        "rms_norm_eps": value(reader, "llama.attention.layer_norm_rms_epsilon"),
        "rope_theta": value(reader, "llama.rope.freq_base"),
        "bos_token_id": value(reader, "tokenizer.ggml.bos_token_id"),
        "eos_token_id": value(reader, "tokenizer.ggml.eos_token_id"),
        "tie_word_embeddings": tied,
    }
    if reader.get_field("general.license"):
        settings["license"] = value(reader, "general.license")
    return settings, state


def value(reader: Any, key: str) -> Any:
    """What a GGUF says under a key; ValueError where it says nothing."""
    field = reader.get_field(key)
    if field is None:
        raise ValueError(f"the GGUF has no {key}")
    content = field.contents()
    return float(content) if isinstance(content, float) else content


def _name(name: str, path: Path) -> str:
    """transformers' name of a tensor."""
    if name in _NAMES:
        return _NAMES[name]
    block, number, part, *rest = [*name.split("."), "", ""]
    if block != "blk" or part not in _PARTS:
        raise ValueError(f"{path}: a Llama model has no tensor {name!r}")
    return f"model.layers.{number}.{_PARTS[part]}.{rest[0]}"


def _unpermuted(weights: Tensor, heads: int) -> Tensor:
    """Rows in transformers' order: GGUF has the two halves of each head's rotary pairs side by side."""
    rows, columns = weights.shape
    return weights.view(heads, rows // heads // 2, 2, columns).transpose(1, 2).reshape(rows, columns).contiguous()
