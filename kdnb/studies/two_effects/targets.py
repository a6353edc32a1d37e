"""Teachers changed before they teach: scaled, hardened, swapped, shuffled, averaged, emptied. Logits in and out.

Each takes apart one of the two things that a posterior adds to a label: how soft it is, and which class it names.
"""

import numpy as np

TRANSFORMS = ("scale", "hard", "swap", "shuffle", "class_mean", "uniform")
FAR = 1e4  # below the largest logit: its softmax is exactly 0 in float32, at tau up to 90


def transformed(logits: np.ndarray, labels: np.ndarray, transform: str, sharpness: float, seed: int) -> np.ndarray:
    """A teacher's logits on the train rows, changed.

    scale: times `sharpness`, above 1 surer and below less sure, its predictions untouched.
    hard: its argmax as a one-hot target.
    swap: the largest entry and the true class's trade places, so that each target names the label and is as soft.
    shuffle: the rows of each class in a random order: its confidence without its knowledge of the instance.
    class_mean: the mean posterior of the rows of each class: label smoothing by class.
    uniform: 1/K each: label smoothing itself.

    Args:
        logits: (N, K).
        labels: (N,) in 0..K-1, of the train rows.
        transform: one of TRANSFORMS.
        sharpness: m > 0 of "scale".
        seed: of the order of "shuffle".
    Returns:
        (N, K) in the logits' dtype.
    Raises:
        ValueError: another transform.
    """
    if transform == "scale":
        return logits * logits.dtype.type(sharpness)
    if transform == "hard":
        return _one_hot(logits)
    if transform == "swap":
        return _swapped(logits, labels)
    if transform == "shuffle":
        return _shuffled(logits, labels, seed)
    if transform == "class_mean":
        return _class_means(logits, labels)
    if transform == "uniform":
        return np.zeros_like(logits)
    raise ValueError(f"transform must be one of {', '.join(TRANSFORMS)}, got {transform!r}")


def _one_hot(logits: np.ndarray) -> np.ndarray:
    hard = np.full_like(logits, -FAR)
    hard[np.arange(len(logits)), logits.argmax(axis=1)] = 0
    return hard


def _swapped(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    rows, top, swapped = np.arange(len(logits)), logits.argmax(axis=1), logits.copy()
    swapped[rows, labels], swapped[rows, top] = logits[rows, top], logits[rows, labels]
    return swapped


def _shuffled(logits: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    rng, shuffled = np.random.default_rng(seed), logits.copy()
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        shuffled[rows] = logits[rng.permutation(rows)]
    return shuffled


def _class_means(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    posteriors, means = powers / powers.sum(axis=1, keepdims=True), np.empty(logits.shape)
    for label in np.unique(labels):
        means[labels == label] = posteriors[labels == label].mean(axis=0)
    return np.log(np.maximum(means, np.exp(-FAR / 100))).astype(logits.dtype)
