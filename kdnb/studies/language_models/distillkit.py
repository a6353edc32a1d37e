"""Captures of teachers as DistillKit writes them (github.com/arcee-ai/DistillKit), read as sparse targets.

A row of their Parquet files or data sets is a sequence: input_ids, and after each token the k most probable next ones,
falling: compressed_logprobs (exact values, coefficients of a curve, bins of a scale and quantised residuals, perhaps as
differences) and bytepacked_indices (ids of just enough bits, the highest first). Of packed data attention_mask numbers
the documents. What is compressed how is often not stored beside the data, so a capture that does not fit is refused;
yet another `d` of as many bits, dtype of as many bytes, as many other polynomial_terms, or values taken for
differences may pass.

Not read: their legacy form (packed_indices and coeffs: of centred logits the normaliser is lost), uncompressed
top_values, and ranks that the teacher's server left out. No capture tells its teacher, tokenizer and temperature, nor
the whole law's entropy (nan here). The last token told may be a padding token that their sampler appends.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdnb.studies.language_models.sparse import Sparse
from kdnb.studies.language_models.target_cache import CacheMismatch

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}
EXCESS = 0.05  # of mass over 1, from rounding and the curve; the weights are then scaled to 1


@dataclass(frozen=True, kw_only=True)
class Compression:
    """Their `logprob_compressor`, by its own names. Raises CacheMismatch, naming the field, where it makes no sense."""

    d: int  # vocabulary of the capture
    k: int
    exact_k: int
    exact_dtype: str = "float32"
    polynomial_terms: list[int | str] | None = None
    term_dtype: str = "float32"
    residual_bins: list[dict[str, Any]]
    delta_encoding: bool = True
    error_diffusion: bool = False  # matters in writing alone
    normalize_t: bool = False

    def __post_init__(self):
        bins = [(b["element_bits"], b["num_elements"], b["scale_dtype"]) for b in self.residual_bins]
        for name, fine in {
            "d": 2 <= self.d <= 2**20,
            "k": 1 <= self.k < self.d,
            "exact_k": 0 <= self.exact_k <= self.k,
            "exact_dtype": self.exact_dtype in DTYPES,
            "term_dtype": self.term_dtype in DTYPES,
            "polynomial_terms": all(isinstance(t, int) or t in ("sqrt", "exp") for t in self.polynomial_terms or ()),
            "residual_bins": sum(n for _, n, _ in bins) <= self.k - self.exact_k
            and all(1 <= bits <= 32 and n > 0 and dtype in DTYPES for bits, n, dtype in bins),
        }.items():
            if not fine:
                raise CacheMismatch(f"{name}: out of range, or unknown here: {getattr(self, name)!r} in {self}")

    @property
    def id_bits(self) -> int:
        """Bits of an id."""
        return (self.d - 1).bit_length()

    @property
    def sizes(self) -> list[int]:
        """Bytes of a token's exact values and coefficients, then of scale and elements of each bin."""
        size, terms = {name: dtype.itemsize for name, dtype in DTYPES.items()}, len(self.polynomial_terms or ())
        bins = ((size[b["scale_dtype"]], -(-b["element_bits"] * b["num_elements"] // 8)) for b in self.residual_bins)
        return [self.exact_k * size[self.exact_dtype], terms * size[self.term_dtype], *(n for one in bins for n in one)]


@dataclass(frozen=True, eq=False)
class Capture:
    """One sequence.

    ids: (T,) int64.
    target: laws after the first N tokens, N = T or T - 1.
    told: (N,) bool, whether the next token is there and of the same document.
    """

    ids: Tensor
    target: Sparse
    told: Tensor


def read(path: Path, how: Compression, vocabulary: int = 0) -> Iterator[Capture]:
    """The sequences of a Parquet file, or of all in a folder; see `sequence`."""
    from pyarrow import parquet

    for file in sorted(path.glob("*.parquet"), key=lambda p: (len(p.name), p.name)) if path.is_dir() else [path]:
        for batch in parquet.ParquetFile(file).iter_batches(batch_size=16):
            for row in batch.to_pandas().to_dict("records"):
                yield sequence(row, how, vocabulary)


def sequence(row: Mapping[str, Any], how: Compression, vocabulary: int = 0) -> Capture:
    """One row.

    Args:
        row: column -> list or array.
        how: it was compressed.
        vocabulary: of the student, where it is not the capture's d; every id has to be below it.
    Raises:
        CacheMismatch: data and config do not fit; the message begins with the field.
    """
    packed = _matrix(row, "bytepacked_indices", -(-how.k * how.id_bits // 8))
    log_p = _decoded(_matrix(row, "compressed_logprobs", sum(how.sizes)), how)
    entries = _unpacked(packed, how.id_bits, how.k, "bytepacked_indices")
    ids = torch.tensor(np.array(row["input_ids"], np.int64))
    mass, exact, below = log_p.exp().sum(dim=-1), log_p[:, : how.exact_k], vocabulary or how.d
    falls = log_p.isfinite().all() and (exact < 1e-3).all() and (exact.diff(dim=-1) < 1e-3).all()
    for message, wrong in {
        f"bytepacked_indices: of {len(entries)} tokens, the values of {len(log_p)}": len(entries) != len(log_p),
        f"input_ids: {len(ids)} tokens with the laws of {len(log_p)}": len(ids) - len(log_p) not in (0, 1),
        f"d: an id is not below the vocabulary of {below:,}": max(entries.max(), ids.max()) >= below,
        "bytepacked_indices: an id twice; another k or d?": (entries.sort(dim=-1).values.diff(dim=-1) == 0).any(),
        "compressed_logprobs: not finite, falling, below 0; another exact_k, dtype or delta_encoding?": not falls,
        f"compressed_logprobs: mass of {mass.max():.3g}; another config?": (mass > 1 + EXCESS).any(),
    }.items():
        if wrong:
            raise CacheMismatch(message)
    same = torch.tensor(np.diff(row.get("attention_mask", np.ones(len(ids))))) == 0
    weights = (log_p.exp() / mass.clamp(min=1)[:, None]).float()
    target = Sparse(entries, weights, (1 - mass).clamp(min=0).float(), torch.full_like(weights[:, 0], np.nan))
    return Capture(ids, target, torch.cat([same, same.new_zeros(1)])[: len(entries)])


def _decoded(packed: np.ndarray, how: Compression) -> Tensor:
    """Log probabilities (N, k) float64 of bytes (N, B)."""
    exact, coefficients, *bins = np.split(packed, np.cumsum(how.sizes)[:-1], axis=1)
    curve, start = torch.zeros(len(packed), how.k - how.exact_k, dtype=torch.float64), 0
    if terms := how.polynomial_terms:
        at = torch.arange(curve.shape[1]) / (max(1, curve.shape[1] - 1) if how.normalize_t else 1)
        powers = torch.stack([at**one if isinstance(one, int) else getattr(torch, one)(at) for one in terms])
        curve += _floats(coefficients, how.term_dtype) @ powers.to(DTYPES[how.term_dtype]).double()
    for one, scale, elements in zip(how.residual_bins, bins[::2], bins[1::2], strict=True):
        bits, stop = one["element_bits"], start + one["num_elements"]
        level = _unpacked(elements, bits, stop - start, "residual_bins").double()
        signed = 2 * level - 1 if bits == 1 else level - 2 ** (bits - 1)
        curve[:, start:stop] += _floats(scale, one["scale_dtype"]) * signed
        start = stop
    values = torch.cat([_floats(exact, how.exact_dtype), curve], dim=-1)
    return values.cumsum(dim=-1) if how.delta_encoding else values


def _unpacked(packed: np.ndarray, bits: int, count: int, name: str) -> Tensor:
    """Numbers (N, count) int64 of bits without gaps, each the highest first."""
    flat = np.unpackbits(packed, axis=-1)
    if flat[:, count * bits :].any():
        raise CacheMismatch(f"{name}: bits behind the {count} numbers of {bits} bits are not zero; another k or d?")
    each = torch.from_numpy(flat[:, : count * bits].reshape(len(packed), count, bits))
    return torch.stack([each[..., i].long() << (bits - 1 - i) for i in range(bits)]).sum(dim=0)


def _floats(packed: np.ndarray, dtype: str) -> Tensor:
    flat = torch.tensor(packed.reshape(-1)).view(DTYPES[dtype]).double()
    return flat.reshape(len(packed), packed.shape[1] // DTYPES[dtype].itemsize)


def _matrix(row: Mapping[str, Any], name: str, width: int) -> np.ndarray:
    """A column of bytes, (N, width)."""
    if name not in row:
        raise CacheMismatch(f"{name}: the capture has no such column, only {', '.join(row)}")
    if found := {len(one) for one in row[name]} - {width}:
        raise CacheMismatch(f"{name}: {min(found)} bytes a token, but {width} by the compression config")
    return np.stack([np.asarray(one, dtype=np.uint8) for one in row[name]])
