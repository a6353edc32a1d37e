"""A teacher's targets on disk: made once in shards, self-describing, checked, read by the number of an example.

    <folder>/manifest.json             what made them; another value of any field is another cache
             tokens.safetensors        the sequences (N, T)
             shard-00000.safetensors   the targets of some sequences, those of token i + 1 in row i
             shard-00000.json          its sha256

Every byte follows from the manifest: a shard is made again bit for bit on the same machine, whoever makes it and
whatever stopped the last attempt. A shard without its .json is not there.
"""

import functools
import itertools
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file
from safetensors.numpy import save as pack
from torch import Tensor

from kdnb import files, paths
from kdnb.core.config import Identity
from kdnb.errors import KdnbError, one_line
from kdnb.studies.language_models import sizes, sparse
from kdnb.studies.language_models.divergences import log_law
from kdnb.studies.language_models.sparse import Sparse
from kdnb.studies.language_models.text import Blocks

STORAGES = ("top_k", "sampled", "hidden")
ALIGNMENT = "row i is the law of token i + 1"
TOKENS = "tokens.safetensors"
SLACK = 0.01  # by which a law may be off in half precision
_UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)
BATCH = 8  # sequences of the teacher's forward pass: part of what decides the last bits
FOLDER = paths.OUTPUTS / "targets"


class CacheMismatch(KdnbError, ValueError):
    """A cache of targets is not what is asked for, or not whole; the message says in which field."""


class Overflow(KdnbError, ValueError):
    """What is to be stored is not finite in the precision it is stored in."""


@dataclass(frozen=True, kw_only=True)
class Manifest(Identity):
    """Everything that decides a cache's bytes. The name of its folder is the hash of this."""

    teacher: str  # where it came from: id@revision, or a folder's name
    teacher_weights: str  # sha256 of its weights
    tokenizer: str  # sha256 of its vocabulary and rules
    chat_template: str  # sha256 of the tokenizer's template, "" for none; none is applied to plain text
    vocabulary: int  # entries of the law: rows of the teacher's head
    tokenizer_size: int  # ids that the tokenizer has; the others are padding
    data: str  # fingerprint of the sequences
    rows: int  # sequences
    length: int  # tokens of each
    separator: int  # the token between two documents, -1 for none
    storage: str = "top_k"  # one of STORAGES
    kept: int = 64  # k, or draws; of hidden states their width
    exponent: float = 1.0  # of the proposal that draws come from
    tau: float = 1.0  # temperature the law was taken at
    seed: int = 0  # the draws of example e come from a generator seeded with (seed, e)
    precision: str = "fp32"  # of the teacher's forward pass
    dtype: str = "float16"  # of what is stored
    alignment: str = ALIGNMENT
    shard_rows: int = 64  # sequences of a shard
    format: int = 1

    def __post_init__(self):
        self._check_types()
        if self.format != 1:
            raise ValueError(f"format must be 1, got {self.format}")
        if self.storage not in STORAGES:
            raise ValueError(f"storage must be one of {', '.join(STORAGES)}, got {self.storage!r}")
        if self.storage == "top_k" and not 1 <= self.kept < self.vocabulary:
            raise ValueError(f"kept must be in 1..{self.vocabulary - 1}, got {self.kept}")
        for name in ("kept", "shard_rows", "rows", "length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")
        for name in ("exponent", "tau"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be > 0, got {getattr(self, name)}")
        if self.storage == "hidden" and self.tau != 1:
            raise ValueError("tau must be 1 for hidden states, of which the law is made at any temperature later")

    def _check_types(self) -> None:
        """Raise ValueError for a value of another type than its field has, or too large for anything."""
        for one in fields(self):
            value, kinds = getattr(self, one.name), (float, int) if one.type is float else one.type
            if not isinstance(value, kinds) or isinstance(value, bool):  # type: ignore[arg-type] # none is a name
                raise ValueError(f"{one.name} must be of type {one.type.__name__}, got {value!r}")  # type: ignore[union-attr]
            if isinstance(value, int) and abs(value) >= 2**63:
                raise ValueError(f"{one.name} must have 63 bits at most, got {value!r}")

    def prefix(self) -> str:
        """What the folder's name begins with."""
        return "targets"

    @property
    def shards(self) -> int:
        """How many there are."""
        return -(-self.rows // self.shard_rows)

    @property
    def folder(self) -> Path:
        """Where it lies unless told otherwise."""
        return FOLDER / self.run_id()

    def rows_of(self, shard: int) -> range:
        """The sequences of a shard."""
        return range(shard * self.shard_rows, min(self.rows, (shard + 1) * self.shard_rows))

    @property
    def bytes_per_token(self) -> int:
        """Of the targets on disk, their entropy included."""
        return bytes_per_token(self.storage, self.kept, self.vocabulary)


def bytes_per_token(storage: str, kept: int, vocabulary: int) -> int:
    """Of the targets on disk; kept is the k or the draws, of hidden states their width."""
    if storage == "hidden":
        return 2 * kept
    return sizes.bytes_per_token(kept, vocabulary, sampled=storage == "sampled")


@dataclass(frozen=True)
class Verified:
    """What a check of every byte found.

    missing: numbers of shards that are not there.
    corrupt: numbers of shards whose bytes are not what was written.
    foreign: names of files that do not belong there.
    """

    missing: list[int] = field(default_factory=list)
    corrupt: list[int] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether every shard is there and right."""
        return not (self.missing or self.corrupt)


def begin(manifest: Manifest, blocks: Blocks, folder: Path | None = None) -> Path:
    """The cache's folder, with its manifest and tokens; what is there already is checked and left.

    Args:
        manifest: what is to be made.
        blocks: the sequences.
        folder: another one than the manifest's own.
    Raises:
        CacheMismatch: the folder holds another cache, or the sequences are others than the manifest's.
        StoreError: the folder cannot be written.
    """
    folder = folder or manifest.folder
    if blocks.fingerprint != manifest.data:
        raise CacheMismatch(f"data: the sequences are {blocks.fingerprint}, the manifest says {manifest.data}")
    if (folder / "manifest.json").exists():
        _compare(read_manifest(folder), {**vars(manifest)}, folder)
    else:
        files.write_atomically(folder / TOKENS, pack({"ids": blocks.ids}), durable=True)
        files.write_atomically(folder / "manifest.json", manifest.to_json().encode(), durable=True)
    return folder


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a cache.

    Raises:
        CacheMismatch: there is none, or it is none of this format.
    """
    try:
        values = json.loads(files.ordinary(folder / "manifest.json"))
        kind = values.pop("kind")
        if kind != "targets":
            raise ValueError(f"kind is {kind!r}")
        return Manifest(**values)
    except FileNotFoundError:
        raise CacheMismatch(f"{folder}: no cache of targets there (no manifest.json)") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CacheMismatch(f"{folder}/manifest.json is no manifest of this format: {error}") from None


def tokens(folder: Path) -> Blocks:
    """The sequences of a cache; raises CacheMismatch if they are not the manifest's."""
    manifest = read_manifest(folder)
    try:
        files.check_ordinary(folder / TOKENS)
        ids = load_file(folder / TOKENS)["ids"]
        blocks = Blocks(ids, manifest.tokenizer, manifest.tokenizer_size, manifest.separator)
    except Exception as error:  # safetensors raises classes of its own
        raise CacheMismatch(f"{folder / TOKENS} cannot be read: {error}") from None
    if blocks.fingerprint != manifest.data or blocks.ids.shape != (manifest.rows, manifest.length):
        raise CacheMismatch(f"data: {folder / TOKENS} is not what was written")
    return blocks


def has(folder: Path, shard: int) -> bool:
    """Whether a shard is there, by its two files; `verify` reads every byte."""
    return _hash_file(folder, shard).exists() and _shard_file(folder, shard).exists()


def _right(folder: Path, shard: int) -> bool:
    """Whether a shard's bytes are those that were written."""
    try:
        return files.sha256(_shard_file(folder, shard)) == files.read_json(_hash_file(folder, shard)).get("sha256")
    except OSError:
        return False


def _good(folder: Path, manifest: Manifest, shard: int) -> bool:
    """Whether a shard's bytes are those that were written, and targets of its cache."""
    try:
        if right := _right(folder, shard):
            _check_targets(manifest, shard, dict(_memory_mapped(_shard_file(folder, shard))))
    except _UNREADABLE:
        return False
    return right


def make_shard(folder: Path, shard: int, ids: np.ndarray, passes: tuple[Callable, Callable]) -> None:
    """Make one shard and put it in place; asked twice, the same bytes twice.

    Args:
        folder: as `begin` gives it.
        shard: its number.
        ids: (N, T) of all sequences, as `tokens` gives them.
        passes: the teacher's body, ids (B, T) to last hidden states (B, T, d), in eval mode, without gradient; and its
            head, hidden states (n, d) to logits (n, V).
    Raises:
        Overflow: a target is not finite in the manifest's dtype; nothing is written.
    """
    manifest, (forward, head) = read_manifest(folder), passes
    rows = manifest.rows_of(shard)
    parts: dict[str, list[np.ndarray]] = {}
    with torch.no_grad():
        for start in range(rows.start, rows.stop, BATCH):
            examples = range(start, min(rows.stop, start + BATCH))
            states = forward(torch.from_numpy(ids[examples.start : examples.stop].astype(np.int64)))[:, :-1]
            for example, one in zip(examples, states, strict=True):
                for name, part in _encoded(manifest, example, one, head).items():
                    if part.dtype == np.float16 and not np.isfinite(part).all():
                        raise Overflow(
                            f"{name} of sequence {example} are no finite {manifest.dtype}: the teacher's own are none, "
                            "or too large for it (storage top_k keeps its law where hidden states do not fit)"
                        )
                    parts.setdefault(name, []).append(part)
    packed = pack({name: np.stack(part) for name, part in sorted(parts.items())})
    files.write_atomically(_shard_file(folder, shard), packed, durable=True)
    digest = files.sha256(_shard_file(folder, shard))
    files.write_json(_hash_file(folder, shard), {"rows": [rows.start, rows.stop], "sha256": digest}, durable=True)


def _encoded(manifest: Manifest, example: int, states: Tensor, head: Callable) -> dict[str, np.ndarray]:
    """What is stored of one example, from the teacher's states (T - 1, d)."""
    half = functools.partial(torch.Tensor.to, dtype=torch.float16)
    if manifest.storage == "hidden":
        return {"states": half(states).cpu().numpy()}
    logits = head(states).float()
    if manifest.storage == "top_k":
        target = sparse.top_k(logits, manifest.kept, manifest.tau)
    else:
        generator = sparse.generator(manifest.seed, example, device=logits.device)
        target = sparse.sample(logits, manifest.kept, generator, exponent=manifest.exponent, tau=manifest.tau)
    stored = {
        "ids": _packed_ids(target.ids.cpu().numpy(), manifest.vocabulary),
        "weights": half(target.weights).cpu().numpy(),
        "entropy": half(target.entropy).cpu().numpy(),
    }
    return stored if manifest.storage == "sampled" else stored | {"tail": half(target.tail).cpu().numpy()}


def _packed_ids(ids: np.ndarray, vocabulary: int) -> np.ndarray:
    """Ids in two bytes each, or in three where the vocabulary needs them: (..., k) uint16 or (..., k, 3) uint8."""
    if vocabulary <= 2**16:
        return ids.astype("<u2")
    return np.ascontiguousarray(ids.astype("<u4")[..., None].view(np.uint8)[..., :3])


def _unpacked_ids(packed: np.ndarray) -> np.ndarray:
    """What `_packed_ids` packed, int64."""
    if packed.dtype == np.uint8:
        return packed.astype(np.int64) @ np.array([1, 256, 65536])
    return packed.astype(np.int64)


def verify(folder: Path) -> Verified:
    """Read every byte of a cache."""
    manifest = read_manifest(folder)
    tokens(folder)
    known, result = {"manifest.json", TOKENS}, Verified()
    for shard in range(manifest.shards):
        known |= {_shard_file(folder, shard).name, _hash_file(folder, shard).name}
        if not has(folder, shard):
            result.missing.append(shard)
        elif not _good(folder, manifest, shard):
            result.corrupt.append(shard)
    result.foreign.extend(sorted(set(os.listdir(folder)) - known))
    return result


def left_out(folder: Path) -> dict[str, float]:
    """What the sparse targets of a whole cache leave out.

    Returns:
        mass_outside, its mean over tokens, and over_0.1 and over_0.5, the share of tokens with more (of top_k); and
        padding_ids, entries kept of ids that the tokenizer does not have. Empty for hidden states, which have it all.
    """
    reader = Reader(folder)
    manifest = reader.manifest
    if manifest.storage == "hidden":
        return {}
    tails, padding = [], 0
    for shard in range(manifest.shards):
        target = reader.take(np.array(manifest.rows_of(shard)))
        tails.append(target.tail.numpy())
        padding += int((target.ids[target.weights > 0] >= manifest.tokenizer_size).sum())
    tail, found = np.concatenate(tails), dict[str, float](padding_ids=padding)
    if manifest.storage == "sampled":
        return found
    return {"mass_outside": float(tail.mean()), **{f"over_{x}": float((tail > x).mean()) for x in (0.1, 0.5)}, **found}


class Reader:
    """Targets of any examples, in any order, of a whole cache; a shard's bytes are checked when it is first asked."""

    def __init__(self, folder: Path, expected: Mapping[str, Any] | None = None):
        """A cache, checked against what its user expects.

        Args:
            folder: the cache.
            expected: field of the manifest -> value, those that have to fit.
        Raises:
            CacheMismatch: a field differs, or shards are missing; the message says which.
        """
        self.folder, self.manifest = Path(folder), read_manifest(Path(folder))
        _compare(self.manifest, expected or {}, self.folder)
        first = next(shard for shard in itertools.count() if not has(self.folder, shard))
        if first < self.manifest.shards:
            there = {int(name[6:11]) for name in os.listdir(self.folder) if re.fullmatch(r"shard-\d{5}\.json", name)}
            missing = self.manifest.shards - sum(has(self.folder, shard) for shard in there)
            raise CacheMismatch(
                f"{folder}: {missing} of {self.manifest.shards} shards are missing, the first is "
                f"{first}; make them with kdnb lm cache make, which goes on where it stopped"
            )
        self._open = functools.lru_cache(maxsize=None)(self._mapped)

    def _mapped(self, shard: int) -> dict[str, np.ndarray]:
        """The arrays of a shard, mapped: its bytes are read once to check them."""
        path = _shard_file(self.folder, shard)
        if not _right(self.folder, shard):
            raise CacheMismatch(f"{path} is not what was written; delete it, and kdnb lm cache make makes it again")
        try:
            arrays = dict(_memory_mapped(path))
            _check_targets(self.manifest, shard, arrays)
        except _UNREADABLE as error:
            raise CacheMismatch(f"{path} holds no targets of this cache: {one_line(error)}") from None
        return arrays

    def arrays(self, rows: np.ndarray, name: str) -> np.ndarray:
        """One stored array of some examples: (len(rows), T - 1, ...)."""
        shards, places = np.divmod(np.asarray(rows), self.manifest.shard_rows)
        try:
            return np.stack([self._open(int(s))[name][p] for s, p in zip(shards, places, strict=True)])
        except (LookupError, ValueError) as error:
            if isinstance(error, CacheMismatch):
                raise
            raise CacheMismatch(f"{self.folder}: its shards lack {name} of some sequences") from None

    def take(self, rows: np.ndarray) -> Sparse:
        """Sparse targets of some examples' tokens, one example after the other: N = len(rows) x (T - 1)."""
        if self.manifest.storage == "hidden":
            raise CacheMismatch("storage: this cache holds hidden states, not sparse targets")
        ids = _unpacked_ids(self.arrays(rows, "ids"))

        def floats(name: str) -> Tensor:
            return torch.from_numpy(self.arrays(rows, name).astype(np.float32))

        entropy = floats("entropy").reshape(-1)
        tail = floats("tail").reshape(-1) if self.manifest.storage == "top_k" else torch.zeros_like(entropy)
        return Sparse(
            torch.from_numpy(ids).reshape(-1, ids.shape[-1]), floats("weights").reshape(len(tail), -1), tail, entropy
        )

    def states(self, rows: np.ndarray) -> Tensor:
        """The teacher's hidden states of some examples' tokens: (len(rows) x (T - 1), d) float32."""
        if self.manifest.storage != "hidden":
            raise CacheMismatch(f"storage: this cache holds {self.manifest.storage}, not hidden states")
        found = self.arrays(rows, "states").astype(np.float32)
        return torch.from_numpy(found).reshape(-1, found.shape[-1])


def _memory_mapped(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of a safetensors file, each read from disk when it is touched."""
    dtypes = {"F16": "<f2", "F32": "<f4", "U16": "<u2", "U8": "u1", "I64": "<i8"}
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > path.stat().st_size:
            raise ValueError(f"a header of {size} bytes")
        header = json.loads(file.read(size))
    header.pop("__metadata__", None)
    for name, entry in header.items():
        offset = 8 + size + entry["data_offsets"][0]
        yield name, np.memmap(path, dtypes[entry["dtype"]], "r", offset, tuple(entry["shape"]))


def _check_targets(manifest: Manifest, shard: int, arrays: Mapping[str, np.ndarray]) -> None:
    """Hold a shard to its manifest: hashes show that bytes are as written, not that a teacher gave them.

    Raises:
        ValueError: an array has another shape than it should, or values that no law has.
        KeyError: one is missing.
    """
    each = (len(manifest.rows_of(shard)), manifest.length - 1)
    shapes: dict[str, tuple[int, ...]] = {"states": (*each, manifest.kept)}
    if manifest.storage != "hidden":
        shapes = {"ids": (*each, manifest.kept), "weights": (*each, manifest.kept), "entropy": each}
    if manifest.storage == "top_k":
        shapes["tail"] = each
    found = {**arrays, **({"ids": _unpacked_ids(arrays["ids"])} if "ids" in shapes else {})}
    for name, shape in shapes.items():
        if found[name].shape != shape:
            raise ValueError(f"{name} of shape {found[name].shape}, expected {shape}")
        if not np.isfinite(found[name]).all():
            raise ValueError(f"{name} with values that are not finite")
        if name != "states" and found[name].min() < (-SLACK if name == "entropy" else 0):
            raise ValueError(f"{name} below 0")
    if "ids" in shapes and found["ids"].max() >= manifest.vocabulary:
        raise ValueError(f"ids up to {found['ids'].max()}, expected less than {manifest.vocabulary}")
    if "tail" in shapes:
        off = np.abs(found["weights"].sum(axis=-1, dtype=np.float32) + found["tail"] - 1).max()
        if off > SLACK:
            raise ValueError(f"weights and tail that add up to 1 but for {off:.2g}")


def _compare(manifest: Manifest, expected: Mapping[str, Any], folder: Path) -> None:
    for name, value in expected.items():
        if (has := getattr(manifest, name)) != value:
            raise CacheMismatch(f"{name}: the cache {folder} was made for {has!r}, but {value!r} is asked for")


def _shard_file(folder: Path, shard: int) -> Path:
    return folder / f"shard-{shard:05d}.safetensors"


def _hash_file(folder: Path, shard: int) -> Path:
    return folder / f"shard-{shard:05d}.json"


def reconstruction(teacher_logits: Tensor, target: Sparse) -> Tensor:
    """KL(q || law rebuilt from the k entries kept, the tail spread evenly) of each token [nats]: what is lost; (N,).

    Args:
        teacher_logits: (N, V) at the cache's temperature.
        target: what the cache gives back, of storage top_k.
    """
    log_q = log_law(teacher_logits)
    spread = (target.tail / (log_q.shape[-1] - target.ids.shape[-1]))[:, None].expand_as(log_q)
    rebuilt = spread.scatter(-1, target.ids, target.weights).clamp(min=torch.finfo(torch.float32).tiny)
    return (log_q.exp() * (log_q - (rebuilt / rebuilt.sum(dim=-1, keepdim=True)).log())).sum(dim=-1)
