"""What counts and measures the cost of distillation: torch's FLOP counter, a clock on kdnb's loop, peak memory."""

import ctypes
import math
import multiprocessing
import os
import re
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from kdnb.core.device import device
from kdnb.experiment.records import Made
from kdnb.studies.language_models import caching, cost, losses, models, runs, target_cache, training
from kdnb.studies.language_models.caching import Wanted
from kdnb.studies.language_models.config import LMConfig
from kdnb.studies.language_models.cost import Transformer
from kdnb.studies.language_models.cost_records import LOSSES, WAYS, CostClock, CostPeak
from kdnb.studies.language_models.losses import Head, Objective
from kdnb.studies.language_models.models import Language
from kdnb.studies.language_models.sparse import Sparse
from kdnb.studies.language_models.text import Blocks
from kdnb.studies.language_models.training import Cached, NoTargets, Online, Targets, Watch


def language(shape: Transformer, seed: int = 0, attention: str = "sdpa") -> Language:
    """A Llama of a shape, with fresh weights."""
    values = {
        "model_type": "llama",
        "num_hidden_layers": shape.layers,
        "hidden_size": shape.width,
        "intermediate_size": shape.feed_forward,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads or shape.heads,
        "tie_word_embeddings": shape.tied,
        "attn_implementation": attention,
    }
    if shape.head_width:
        values["head_dim"] = shape.head_width
    return models.from_config(values, shape.vocabulary, seed)


def counted(one: Language, length: int, *, backward: bool = False) -> dict[str, int]:
    """FLOPs of a sequence as torch counts them: "layers", "attention" (scores and their mixture), "head", "embedding".

    On a CPU torch counts none of scaled_dot_product_attention (pytorch#195460): load with attention "eager".

    Args:
        one: a decoder whose layers are `base_model.layers`.
        length: tokens.
        backward: count the backward too.
    """
    ids = torch.arange(length, device=device())[None] % one.vocabulary
    with FlopCounterMode(display=False) as counter:
        total = one.logits(ids).sum()
        if backward:
            total.backward()
    one.model.zero_grad()
    modules, top = counter.get_flop_counts(), type(one.model).__name__
    products = {str(op).split(".")[1]: value for op, value in modules["Global"].items()}
    weighted = products.pop("mm", 0) + products.pop("addmm", 0)  # the rest are products of two activations
    parts = {
        name: sum(modules.get(f"{top}.{module}", {}).values())
        for name, module in (("head", "lm_head"), ("embedding", "model.embed_tokens"))
    }
    return {**parts, "attention": sum(products.values()), "layers": weighted - sum(parts.values())}


def clock(one: CostClock) -> Made:
    """Seconds of each way's training steps, (ways, rounds x (steps - 1)): of one CPU thread, or of the GPU's clock."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            ways = _ways(one, Path(folder))
            seconds: dict[str, list[float]] = {way: [] for way in WAYS}
            for _ in range(one.rounds):
                for way in WAYS:
                    seconds[way] += ways[way]()
            del ways  # a mapped cache cannot be removed everywhere
    finally:
        torch.set_num_threads(threads)
    return Made(arrays={"seconds": np.array([seconds[way] for way in WAYS])}, metrics={})


def _ways(one: CostClock, folder: Path) -> dict[str, Callable[[], list[float]]]:
    """Way -> what trains its steps and gives the seconds of each but the first."""
    ids = np.random.default_rng(one.seed).integers(one.vocabulary, size=(one.batch * one.steps, one.length))
    blocks = Blocks(ids, "uniform random ids", one.vocabulary)
    teacher = language(one.shape("teacher"), one.seed)
    manifest = caching.manifest_of(teacher, blocks, Wanted(kept=one.kept, precision="fp32"))
    target_cache.begin(manifest, blocks, folder)
    caching.make_here(folder, lambda: teacher, range(manifest.shards), lambda _: None)
    reader = target_cache.Reader(folder)
    online: Targets = Online(teacher, "fp32", one.vocabulary)
    kinds: dict[str, tuple[str, Targets]] = {
        cost.ERM: ("none", NoTargets()),
        cost.ONLINE: ("online", online),
        cost.SPARSE: ("cache", Cached(reader, None, "fp32", one.vocabulary)),
        cost.ON_POLICY: ("on_policy", online),
    }

    def timed(kind: str, targets: Targets) -> list[float]:
        student = language(one.shape("student"), one.seed)
        taught: dict[str, Any] = {} if kind == "none" else {"alpha": 0.5, "teacher_weights": manifest.teacher_weights}
        config = LMConfig(
            data=blocks.fingerprint,
            held_out="",
            vocabulary=one.vocabulary,
            length=one.length,
            student="llama",
            student_weights="",
            targets=kind,
            cache="c" if kind == "cache" else "",
            variant="renorm",
            prompt=one.prompt,
            batch_size=one.batch,
            tokens=one.steps * one.batch * (one.length - 1),
            precision="fp32",
            seed=one.seed,
            **taught,
        )
        times: list[float] = []
        training.fit(config, student, blocks, targets, Watch(on_step=lambda *_: times.append(_now())))
        return np.diff(times).tolist()

    return {way: lambda kind=kind, targets=targets: timed(kind, targets) for way, (kind, targets) in kinds.items()}  # type: ignore[misc]


def _now() -> float:
    """Seconds of this process, whatever else the machine does; with a GPU those that go by."""
    return time.process_time() if device().type == "cpu" else time.perf_counter()


def peaks(one: CostPeak) -> Made:
    """Peak memory of each loss [bytes], (losses,)."""
    return Made(arrays={"bytes": np.array([peak(one, how) for how in LOSSES], dtype=float)}, metrics={})


def peak(one: CostPeak, how: str) -> float:
    """Bytes that a process's resident size rises by, from before a loss to the peak of it and its backward.

    nan where the system does not let a process begin its peak anew, which Linux alone does.

    Args:
        one: sizes.
        how: one of LOSSES.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
        return fresh.submit(_risen, one, how).result() if resets() else math.nan


def _risen(one: CostPeak, how: str) -> int:
    runs.threads(1)
    if allocate := getattr(ctypes.CDLL(None), "mallopt", None):
        allocate(_MMAP_THRESHOLD, 2**20)  # else glibc keeps what is freed, and it is used again unseen
    step = loss_of(one, how)
    step(slice(0, 8))  # libraries that are loaded at first use are not the loss's
    _CLEAR.write_text("5", encoding="ascii")  # the peak begins anew, see proc(5)
    before = _peak_so_far()
    step(slice(None))
    return _peak_so_far() - before


def loss_of(one: CostPeak, how: str) -> Callable[[slice], None]:
    """What computes a loss of some tokens and its gradients, and drops them."""
    generator = torch.Generator().manual_seed(one.seed)
    hidden, taught = torch.randn(2, one.tokens, one.width, generator=generator)
    weight, teacher = torch.randn(2, one.vocabulary, one.width, generator=generator) / one.width**0.5
    hidden, weight = hidden.requires_grad_(), weight.requires_grad_()
    ids = torch.arange(one.kept).expand(one.tokens, -1)
    law = torch.full((one.tokens, one.kept), 0.9 / one.kept)
    target = Sparse(ids, law, torch.full((one.tokens,), 0.1), torch.zeros(one.tokens))
    rule = Objective(alpha=1.0, variant="renorm")

    def step(rows: slice) -> None:
        if how == cost.DENSE:
            loss = plain_kl(hidden[rows] @ weight.T, taught[rows] @ teacher.T)
        else:
            soft = target[rows] if how == cost.KEPT else lambda chunk: taught[rows][chunk] @ teacher.T
            loss = losses.from_hidden(rule, hidden[rows], Head(weight, chunk=one.chunk), ids[rows, 0], soft)
        loss.backward()
        weight.grad = hidden.grad = None

    return step


def plain_kl(logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Sum over tokens of KL(teacher || student) [nats] as most training loops write it."""
    log_q, log_p = teacher_logits.log_softmax(dim=-1), logits.log_softmax(dim=-1)
    return F.kl_div(log_p, log_q, log_target=True, reduction="sum")


_MMAP_THRESHOLD = -3  # malloc.h
_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def resets() -> bool:
    """Whether a process can begin its peak of resident memory anew."""
    return _CLEAR.exists() and os.access(_CLEAR, os.W_OK)


def _peak_so_far() -> int:
    return 1024 * int(re.findall(r"VmHWM:\s+(\d+)", _STATUS.read_text(encoding="ascii"))[0])
