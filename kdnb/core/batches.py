"""Batches of row numbers: for training shuffled and of like lengths, for evaluation sorted by length."""

import numpy as np

BUCKET = 48  # batches whose examples are sorted by length among themselves


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
