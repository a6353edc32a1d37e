"""kdnb's side of `lm.py`: training on cached and online targets, memory, making a cache, a billion, a small step."""

import functools
import shutil
import tempfile
from pathlib import Path

import hf
import lm_work
import torch
from safetensors.torch import save_file

from kdnb.core import device as gpu
from kdnb.core.device import autocast, precision
from kdnb.studies.language_models import caching, losses, models, sparse, staging, target_cache, training
from kdnb.studies.language_models.caching import Wanted
from kdnb.studies.language_models.config import LMConfig
from kdnb.studies.language_models.losses import Head, Objective
from kdnb.studies.language_models.models import Language
from kdnb.studies.language_models.sparse import Sparse
from kdnb.studies.language_models.target_cache import Manifest, Reader
from kdnb.studies.language_models.text import Blocks, smallest_dtype
from kdnb.studies.language_models.training import Cached, Online, Targets, Watch


def blocks_of(work: lm_work.Size) -> Blocks:
    """The sequences as kdnb has them."""
    return Blocks(lm_work.sequences(work).astype(smallest_dtype(work.vocabulary)), "drawn ids", work.vocabulary)


def fitted(work: lm_work.Size, student: Language, targets: Targets, kind: str, micro: int = 0) -> dict:
    """A round of `training.fit`: its rate, precision and last loss [nats]."""
    blocks, steps = blocks_of(work), work.warm + work.steps
    config = LMConfig(
        data=blocks.fingerprint,
        held_out="",
        vocabulary=work.vocabulary,
        length=work.length,
        student="llama",
        student_weights="",
        teacher_weights="drawn",
        targets=kind,
        cache="drawn" if kind == "cache" else "",
        alpha=lm_work.ALPHA,
        batch_size=work.batch,
        micro_batch=micro,
        tokens=steps * work.told,
        lr=lm_work.LR,
        clip=lm_work.CLIP,
        precision="auto",
    )
    clock = lm_work.Clock(work)
    history = training.fit(config, student, blocks, targets, Watch(on_step=clock))
    return {**clock.result(), "precision": precision(), "loss": history[-1]["loss"]}


def tokens(options, kind: str):
    """Training on the teacher's 64 likeliest tokens from disk, or on its whole law as it runs."""
    work = lm_work.size(options.tiny)
    teacher, student = (Language(model, None, "random Llama") for model in lm_work.pair(work))
    targets: Targets = Online(teacher, precision(), work.vocabulary)
    made = {}
    if kind == "cache":
        begun, folder = hf.synced(), Path(tempfile.mkdtemp())
        blocks = blocks_of(work)
        target_cache.begin(caching.manifest_of(teacher, blocks, Wanted(kept=lm_work.KEPT)), blocks, folder)
        caching.make_here(folder, lambda: teacher, range(target_cache.read_manifest(folder).shards), lambda _: None)
        made = {"cache_seconds": hf.synced() - begun, "cache_tokens": blocks.tokens}
        targets, teacher = Cached(Reader(folder), None, precision(), work.vocabulary), None
        torch.cuda.empty_cache() if hf.DEVICE == "cuda" else None
    return lambda: {**fitted(work, student, targets, kind), **made}


def memory(options):
    """A step of loss and gradient from hidden states, 512 tokens' logits at a time, and 64 entries of the teacher's."""
    work = lm_work.size(options.tiny)
    student = Language(lm_work.llama(work.shape, work.layers[1], options.vocabulary))
    told, cuda = work.told, hf.DEVICE == "cuda"
    ids = torch.arange(work.batch * work.length, device=gpu.device()).view(work.batch, -1) % options.vocabulary
    kept = torch.arange(lm_work.KEPT, device=gpu.device()).expand(told, -1)
    law, tail = torch.full((told, lm_work.KEPT), 0.9 / lm_work.KEPT, device=gpu.device()), kept[:, 0] * 0.0 + 0.1
    target, rule = Sparse(kept, law, tail, tail), Objective(alpha=lm_work.ALPHA)

    def step(count: int) -> None:
        length = max(2, count // work.batch)
        with autocast("bf16" if cuda else "fp32"):
            hidden, labels = losses.shifted(student.hidden(ids[:, :length]), ids[:, :length])
        loss = losses.from_hidden(rule, hidden, Head(student.head.weight), labels, target[: len(labels)])
        (loss / len(labels)).backward()
        student.model.zero_grad()

    return lambda: lm_work.risen(step, work.batch * work.length)


def making(options, engine: bool):
    """Seconds per shard of a cache: as `kdnb lm cache make` does it here or in shares, or a bare loop that writes."""
    work = lm_work.size(options.tiny)
    teacher = Language(lm_work.pair(work)[0].eval(), None, "random Llama")
    work = lm_work.Size(**{**vars(work), "rows": work.batch * work.shards})
    blocks = blocks_of(work)
    wanted = Wanted(kept=lm_work.KEPT, shard_rows=work.batch)
    manifest = caching.manifest_of(teacher, blocks, wanted)

    def measured() -> dict:
        folder = Path(tempfile.mkdtemp())
        target_cache.begin(manifest, blocks, folder)
        begun = hf.synced()
        if engine:
            caching.make_here(folder, lambda: teacher, range(manifest.shards), lambda _: None)
        else:
            bare(manifest, teacher, blocks, folder)
        seconds = (hf.synced() - begun) / work.shards
        shutil.rmtree(folder)
        return {"seconds": seconds, "shards": work.shards, "tokens": work.told, "precision": manifest.precision}

    return measured


def bare(manifest: Manifest, teacher: Language, blocks: Blocks, folder: Path) -> None:
    """What a script would do: the teacher over 8 sequences at a time, the largest entries of each law, a file."""
    gpu.set_up(manifest.precision)
    ids = torch.from_numpy(blocks.ids.astype("int64")).to(gpu.device())
    for shard in range(manifest.shards):
        rows, parts = manifest.rows_of(shard), []
        for start in range(rows.start, rows.stop, target_cache.BATCH):
            with torch.no_grad(), autocast(manifest.precision):
                states = teacher.hidden(ids[start : min(rows.stop, start + target_cache.BATCH)])[:, :-1]
                parts += [sparse.top_k(teacher.head(one).float(), manifest.kept) for one in states]
        named = {name: torch.stack([getattr(part, name) for part in parts]).cpu() for name in vars(parts[0])}
        half = {name: one.half() if one.is_floating_point() else one.to(torch.uint16) for name, one in named.items()}
        save_file(half, folder / f"{shard}.safetensors")


def billion(options):
    """`training.fit` on a Llama of 1.2 billion weights, from a cache of targets drawn at random."""
    work = lm_work.size(options.tiny, lm_work.BILLIONS)
    student = Language(lm_work.llama(work.shape, work.layers[1], work.vocabulary), None, "random Llama")
    blocks, folder = blocks_of(work), Path(tempfile.mkdtemp())
    draw = torch.Generator(hf.DEVICE).manual_seed(0)
    head = 4 * torch.randn(8, work.vocabulary, generator=draw, device=hf.DEVICE)
    manifest = caching.manifest_of(student, blocks, Wanted(kept=lm_work.KEPT), weights="none: drawn")
    target_cache.begin(manifest, blocks, folder)
    for shard in range(manifest.shards):
        target_cache.make_shard(
            folder,
            shard,
            blocks.ids,
            (lambda ids: torch.randn(*ids.shape, 8, generator=draw, device=hf.DEVICE), lambda states: states @ head),
        )
    targets = Cached(Reader(folder), None, precision(), work.vocabulary)
    weights = sum(p.numel() for p in student.model.parameters())
    flops = 6 * weights + 6 * work.layers[1] * work.shape["hidden_size"] * work.length  # causal attention: half of T^2

    def measured() -> dict:
        import gpu_work

        found, card = fitted(work, student, targets, "cache", work.batch // 2), gpu_work.card(tiny=options.tiny)
        reached = found["rate"] * flops / 1e12
        return {
            **found,
            "parameters": weights,
            "length": work.length,
            "batch": work.batch,
            "flops_per_token": flops,
            "targets": "64 entries a token, drawn at random",
            "tflops": reached,
            "card": card,
            "of_peak": reached / card["peak_tflops"],
        }

    return measured


def step(options, name: str):
    """CPU seconds of forward and backward on 8 sequences of 64 tokens: a model of two layers, 64 wide, V = 64."""
    return lambda: {"seconds": staging.seconds(models.CONFIGS[f"{name}-2x64"], 64, 2 if options.tiny else 50)}


if __name__ == "__main__":
    lm_work.serve(
        {
            "kdnb": lambda o: tokens(o, "cache"),
            "kdnb-online": lambda o: tokens(o, "online"),
            "memory": memory,
            "engine": lambda o: making(o, True),
            "bare": lambda o: making(o, False),
            "billion": billion,
            **{name: functools.partial(step, name=name) for name in ("llama", "mamba2")},
        }
    )
