"""What the contestants of `lm.py` share: shapes, sequences, a clock, a process that measures when asked. No kdnb."""

import argparse
import ctypes
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import hf
import numpy as np
import torch

ALPHA, LR, CLIP, KEPT = 0.5, 1e-4, 1.0, 64
SMOLLM2 = {"hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9, "num_key_value_heads": 3}
BILLION = {"hidden_size": 2048, "intermediate_size": 8192, "num_attention_heads": 32, "num_key_value_heads": 8}
TINY_SHAPE = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1}
CLEAR = Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Size:
    """How much work there is.

    layers: of teacher and student.
    vocabulary: rows of their heads.
    batch: sequences of a step; with `length` tokens each.
    steps: timed ones of a round, after `warm`.
    rows: sequences in all, over and over again.
    shards: of the cache that `engine` makes, each of `batch` sequences.
    """

    shape: dict
    layers: tuple[int, int]
    vocabulary: int
    batch: int
    length: int
    steps: int
    warm: int
    rows: int
    shards: int

    @property
    def told(self) -> int:
        """Tokens told in a step."""
        return self.batch * (self.length - 1)


SIZES = {
    "cuda": Size(SMOLLM2, (30, 6), 49152, batch=16, length=512, steps=20, warm=5, rows=128, shards=6),
    "cpu": Size(SMOLLM2, (30, 6), 49152, batch=4, length=256, steps=3, warm=1, rows=16, shards=3),
    "tiny": Size(TINY_SHAPE, (3, 1), 512, batch=2, length=16, steps=2, warm=1, rows=4, shards=2),
}
BILLIONS = {
    "cuda": Size(BILLION, (0, 16), 128256, batch=8, length=1024, steps=20, warm=4, rows=32, shards=0),
    "tiny": Size(TINY_SHAPE, (0, 1), 512, batch=2, length=16, steps=2, warm=1, rows=4, shards=0),
}


def size(tiny: bool, sizes: dict[str, Size] = SIZES) -> Size:
    """The work on this device."""
    return sizes["tiny" if tiny else hf.DEVICE]


def llama(shape: dict, layers: int, vocabulary: int, seed: int = 0) -> torch.nn.Module:
    """A Llama with random weights, made where it is used; embeddings and head are one table, as SmolLM2's."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        num_hidden_layers=layers,
        vocab_size=vocabulary,
        tie_word_embeddings=True,
        max_position_embeddings=2048,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
        attn_implementation="sdpa",
        **shape,
    )
    with torch.device(hf.DEVICE):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).eval()


def pair(work: Size) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Teacher, whose weights ask for no gradient, and student."""
    teacher, student = (llama(work.shape, layers, work.vocabulary, i) for i, layers in enumerate(work.layers))
    return teacher.requires_grad_(False), student


def sequences(work: Size) -> np.ndarray:
    """Token ids (rows, length), drawn: what they are changes no time."""
    return np.random.default_rng(0).integers(work.vocabulary, size=(work.rows, work.length))


class Clock:
    """Seconds of the steps after the warm-up; call it with each finished step's number, 1 and up."""

    def __init__(self, work: Size):
        self.work, self.marks = work, []
        self.ends = (work.warm, work.warm + work.steps)

    def __call__(self, step: int, *_) -> None:
        """Note the time at both ends."""
        if step in self.ends:
            self.marks.append(hf.synced())

    def result(self) -> dict:
        """Rate [tokens/s] and the process's peak memory [MiB]."""
        seconds = self.marks[1] - self.marks[0]
        return {"rate": self.work.steps * self.work.told / seconds, "seconds": seconds, **hf.peak_memory()}


def risen(step: Callable[[int], object], tokens: int) -> dict:
    """MiB by which a step on some tokens raises memory, above what model and targets take; tensors alone on a GPU."""
    if hf.DEVICE == "cuda":
        step(16)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(tokens)
        return {"mib": (torch.cuda.max_memory_allocated() - before) / 2**20, "tokens": tokens}
    if allocate := getattr(ctypes.CDLL(None), "mallopt", None):
        allocate(-3, 2**20)  # M_MMAP_THRESHOLD: what is freed goes back, and is not used again unseen
    step(16)
    CLEAR.write_text("5", encoding="ascii")  # the peak begins anew, see proc(5)
    before = hf.machine.peak_mib()
    step(tokens)
    return {"mib": hf.machine.peak_mib() - before, "tokens": tokens}


def serve(parts: dict[str, Callable]) -> None:
    """A process of one contestant: it loads its libraries, then measures a round for each line that comes in.

    Args:
        parts: name -> options to what measures a round; models are made then.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=parts)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--vocabulary", type=int, default=0, help="of memory")
    options = parser.parse_args()
    import transformers.models.llama.modeling_llama  # noqa: F401 - seconds, before it is asked for anything

    answers, sys.stdout, rounds = sys.stdout, sys.stderr, None  # what a library prints is no answer
    name = torch.cuda.get_device_name() if hf.DEVICE == "cuda" else hf.machine.facts()["cpu"]
    print(json.dumps({"device": name}), file=answers, flush=True)
    for _ in sys.stdin:
        rounds = rounds or parts[options.what](options)
        print(json.dumps(rounds()), file=answers, flush=True)


if __name__ == "__main__":
    print(json.dumps({} if hf.DEVICE == "cuda" else {"absent": f"torch {torch.__version__} sees no CUDA device"}))
