"""Batches of row numbers: for training shuffled and of like lengths, for evaluation sorted by length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

BUCKET = 48  # batches whose examples are sorted by length among themselves


class Inputs(Protocol):
    """What a model reads of N examples: token ids or pixels."""

    def __len__(self) -> int: ...

    @property
    def lengths(self) -> np.ndarray:
        """(N,) length of each example, for batches of like lengths."""
        ...

    def take(self, rows: np.ndarray) -> Self:
        """The inputs of some rows, in their order."""
        ...

    def batch(self, rows: np.ndarray) -> dict[str, Tensor]:
        """The model's keyword arguments for some rows."""
        ...


def plan_batches(lengths: np.ndarray, batch_size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """One epoch's batches of row numbers: shuffled, then of like lengths, so that little is padded.

    Rows are shuffled, sorted by length within buckets of BUCKET batches, cut into batches, and the
    batches shuffled. Every row appears once; one batch may be short.
    """
    order = rng.permutation(len(lengths))
    batches = []
    for start in range(0, len(order), BUCKET * batch_size):
        bucket = order[start : start + BUCKET * batch_size]
        bucket = bucket[np.argsort(lengths[bucket], kind="stable")]
        batches += [bucket[i : i + batch_size] for i in range(0, len(bucket), batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))]


def sorted_batches(lengths: np.ndarray, max_tokens: int) -> list[np.ndarray]:
    """Batches for evaluation: rows by length, each batch at most `max_tokens` with its padding."""
    batches, start = [], 0
    order = np.argsort(lengths, kind="stable")
    for end in range(1, len(order) + 1):
        if end == len(order) or (end + 1 - start) * lengths[order[end]] > max_tokens:
            batches.append(order[start:end])
            start = end
    return batches
