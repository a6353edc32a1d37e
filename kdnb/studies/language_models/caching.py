"""Making a cache of targets: a shard is one task, here, in shares, or on Ray; made again after any end, it goes on."""

import functools
import shutil
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from kdnb import paths
from kdnb.core.device import autocast, precision, set_up
from kdnb.errors import Passing, Unfinished, one_line, retry_of
from kdnb.studies.language_models import models, target_cache
from kdnb.studies.language_models.models import Language
from kdnb.studies.language_models.target_cache import CacheMismatch, Manifest
from kdnb.studies.language_models.text import Blocks
from kdnb.sweeps import ray as cluster
from kdnb.sweeps.engines import How

Say = Callable[[str], None]

MOST = 1e18  # of anything that a cache is planned for


@dataclass(frozen=True)
class Wanted:
    """How targets are stored; the rest of a manifest follows from teacher and sequences."""

    storage: str = "top_k"
    kept: int = 64
    exponent: float = 1.0
    tau: float = 1.0
    seed: int = 0
    shard_rows: int = 64
    precision: str = "auto"


def manifest_of(teacher: Language, blocks: Blocks, wanted: Wanted, weights: str = "") -> Manifest:
    """The manifest of a teacher's targets on some sequences.

    Args:
        teacher: whose law is kept.
        blocks: the sequences.
        wanted: how it is stored.
        weights: `models.weights_hash` of the teacher, where it is known already.
    Raises:
        ValueError: a setting makes no sense, or the sequences are of another tokenizer than the teacher's.
    """
    own = models.tokenizer_hash(teacher.tokenizer) if teacher.tokenizer is not None else blocks.tokenizer
    if own != blocks.tokenizer:
        raise ValueError("tokenizer: the sequences were made with another one than the teacher's (their hashes differ)")
    width = teacher.head.weight.shape[1]
    return Manifest(
        teacher=teacher.name,
        teacher_weights=weights or models.weights_hash(teacher.model),
        tokenizer=own,
        chat_template=models.template_hash(teacher.tokenizer),
        vocabulary=teacher.vocabulary,
        tokenizer_size=blocks.vocabulary,
        data=blocks.fingerprint,
        rows=len(blocks),
        length=blocks.ids.shape[1],
        separator=blocks.separator,
        storage=wanted.storage,
        kept=width if wanted.storage == "hidden" else wanted.kept,
        exponent=wanted.exponent,
        tau=wanted.tau,
        seed=wanted.seed,
        precision=precision(wanted.precision),
        shard_rows=wanted.shard_rows,
    )


def obtain(teacher: Language, blocks: Blocks, wanted: Wanted, weights: str = "") -> Path:
    """The folder of a cache, whole: what is missing of it is made here; arguments as `manifest_of`, raises as
    `target_cache.begin`."""
    manifest = manifest_of(teacher, blocks, wanted, weights)
    folder = target_cache.begin(manifest, blocks)
    make_here(folder, lambda: teacher, range(manifest.shards), lambda _: None)
    return folder


def make(folder: Path, spec: str, how: How, say: Say) -> None:
    """Make what a cache lacks, on an engine.

    Args:
        folder: as `target_cache.begin` gives it.
        spec: of the teacher, see `models.load`.
        how: engine, share, workers; of several processes on one cache each takes the shards that nobody holds.
        say: hears a line per shard.
    Raises:
        CacheMismatch: the teacher is not the manifest's.
        Unfinished: shards failed on Ray.
    """
    shards = list(range(target_cache.read_manifest(folder).shards))
    i, n = how.shard
    if how.engine != "ray":
        if how.threads:
            torch.set_num_threads(how.threads)
        make_here(folder, lambda: _teacher(spec, folder), shards[i - 1 :: n], say)
        make_here(folder, lambda: _teacher(spec, folder), shards, say)  # what others left
        return
    missing = [shard for shard in shards if not target_cache.has(folder, shard)]
    if not missing:
        return
    failed = {}
    for (*_, shard), result in cluster.each(how, make_one, [(str(folder), spec, shard) for shard in missing]):
        if error := result.get("error", ""):
            failed[shard] = error
        say(f"shard {shard + 1} of {len(shards)}{': FAILED ' + error if error else ''}")
    if failed:
        raise Unfinished(f"{len(failed)} of {len(shards)} shards failed, the first: {next(iter(failed.values()))}")


def make_here(folder: Path, teacher: Callable[[], Language], shards: Any, say: Say) -> None:
    """Make those of some shards that are missing, in this process."""
    missing = [shard for shard in shards if not target_cache.has(folder, shard)]
    if not missing:
        return
    manifest, ids = target_cache.read_manifest(folder), target_cache.tokens(folder).ids
    for shard in missing:
        with _lock(folder, shard):
            if target_cache.has(folder, shard):
                continue
            started, language = time.perf_counter(), teacher()
            target_cache.make_shard(folder, shard, ids, _passes(language, manifest.precision))
            spent = time.perf_counter() - started
            rate = len(manifest.rows_of(shard)) * manifest.length / spent
            say(f"shard {shard + 1} of {manifest.shards}: {spent:.1f} s, {rate:,.0f} tokens/s")


def _lock(folder: Path, shard: int) -> FileLock:
    """What a process holds while it makes a shard, beside the cache; freed by the system when it dies."""
    path = paths.inside(folder.with_name(f".{folder.name}.locks"), str(shard))
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path)


def _passes(teacher: Language, kind: str) -> tuple[Callable, Callable]:
    """Body and head of a teacher, as `target_cache.make_shard` calls them."""
    set_up(kind)
    device = teacher.head.weight.device

    def forward(ids: torch.Tensor) -> torch.Tensor:
        with autocast(kind):
            return teacher.hidden(ids.to(device))

    def head(states: torch.Tensor) -> torch.Tensor:
        with autocast(kind):
            return teacher.head(states)

    return forward, head


@functools.lru_cache(maxsize=1)
def _teacher(spec: str, folder: Path) -> Language:
    """The teacher of a cache, loaded once in a process and checked against the manifest."""
    language = models.load(spec)
    models.check_head(language)
    wanted = target_cache.read_manifest(folder).teacher_weights
    if (found := models.weights_hash(language.model)) != wanted:
        raise CacheMismatch(f"teacher_weights: {spec} has {found[:16]}..., the cache was made for {wanted[:16]}...")
    return language


def make_one(folder: str, spec: str, shard: int) -> dict[str, str]:
    """What a worker of Ray does: one shard.

    Returns:
        {}, or "error" and "trace".
    Raises:
        Passing: an error that another attempt may not meet.
    """
    try:
        make_here(Path(folder), lambda: _teacher(spec, Path(folder)), [shard], lambda _: None)
        return {}
    except Exception as error:
        if retry_of(error) == "again":
            raise Passing(one_line(error)) from None
        return {"error": one_line(error), "trace": traceback.format_exc()}


def plan(rows: int, length: int, vocabulary: int, width: int, wanted: Wanted) -> dict[str, int]:
    """What a cache takes: tokens, bytes per token and in all, and the same of fp16 logits of every entry.

    Args:
        rows: sequences.
        length: tokens of each.
        vocabulary: entries of the law.
        width: of the teacher's hidden states.
        wanted: how targets are stored.
    Raises:
        ValueError: one of them is beyond 1e18.
    """
    tokens = rows * (length - 1)
    for name, value in {"tokens": tokens, "vocabulary": vocabulary, "width": width, "kept": wanted.kept}.items():
        if value > MOST:
            raise ValueError(f"{name} must be at most {MOST:g}, got {value}")
    each = target_cache.bytes_per_token(
        wanted.storage, width if wanted.storage == "hidden" else wanted.kept, vocabulary
    )
    paths.OUTPUTS.mkdir(parents=True, exist_ok=True)
    return {
        "tokens": tokens,
        "bytes_per_token": each,
        "bytes": tokens * each,
        "dense_bytes": tokens * 2 * vocabulary,
        "free_bytes": shutil.disk_usage(paths.OUTPUTS).free,
    }
